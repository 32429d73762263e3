//! A request in the words of the store: its verb, and the kind of file.

use super::http::Head;

/// Kinds of files in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Thing {
    StoreJson,
    Block,
    Shard,
    Segment,
    Manifest,
    Condemned,
    Probe,
    Other,
}

#[derive(Clone, Debug)]
pub struct Request {
    /// The method, but `LIST` for a GET that lists.
    pub verb: &'static str,
    pub thing: Thing,
    pub path: String,
    pub query: String,
    pub range: Option<String>,
    /// The length of its body, as its head says.
    pub body_bytes: u64,
    /// `If-None-Match: *`: only if nothing is there.
    pub only_new: bool,
    /// Its whole head, as it came.
    pub head: String,
    /// This proxy saw the upstream store something under that name.
    pub stored_before: bool,
}

impl Request {
    pub(super) fn of(head: &Head) -> Request {
        let mut words = head.first.split(' ');
        let method = words.next().unwrap_or_default();
        let target = words.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let parameters = || query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let lists = parameters().any(|pair| matches!(pair, ("list-type", _) | ("comp", "list")));
        let verb = match method {
            "GET" if lists => "LIST",
            "GET" => "GET",
            "HEAD" => "HEAD",
            "PUT" => "PUT",
            "POST" => "POST",
            "DELETE" => "DELETE",
            _ => "other",
        };
        let prefix = parameters().find(|(name, _)| *name == "prefix").map_or("", |(_, value)| value);
        let named = if verb == "LIST" { prefix.replace("%2F", "/") } else { path.to_owned() };
        Request {
            verb,
            thing: Thing::named(&named),
            path: path.to_owned(),
            query: query.to_owned(),
            range: head.field("range").map(str::to_owned),
            body_bytes: head.field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0),
            only_new: head.field("if-none-match") == Some("*"),
            head: String::from_utf8_lossy(&head.raw).into_owned(),
            stored_before: false,
        }
    }

    /// Returns true if it carries a signature, a token, or the name of a key.
    pub fn has_credentials(&self) -> bool {
        let head = self.head.to_ascii_lowercase();
        let words =
            ["authorization:", "x-amz-security-token", "x-amz-signature", "x-amz-credential", "cookie:"];
        words.iter().any(|word| head.contains(word))
    }
}

impl Thing {
    /// By the folder; the prefixes of the tests' stores don't have such names.
    fn named(path: &str) -> Thing {
        let parts: Vec<_> = path.split('/').collect();
        if parts.ends_with(&["store.json"]) {
            return Thing::StoreJson;
        }
        if parts.ends_with(&["index", "manifest"]) {
            return Thing::Manifest;
        }
        let folders = [
            ("blocks", Thing::Block),
            ("shards", Thing::Shard),
            ("index", Thing::Segment),
            ("condemned", Thing::Condemned),
            ("probes", Thing::Probe),
        ];
        let found = folders.iter().find(|(folder, _)| parts.contains(folder));
        found.map_or(Thing::Other, |(_, thing)| *thing)
    }
}
