//! The store URL: the address of a store. It stands behind `cdc::` in git-lfs's configuration.

use std::fmt;
use std::path::{Path, PathBuf};

use object_store::path::Path as Prefix;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::misspelt::{NO_SECRETS, has_user, misspelt};
use super::names;
use super::network::endpoint;
use crate::error::{Error, Result};
use crate::format::limits;

/// The prefix by which git-lfs recognises URLs for this agent.
pub const SCHEME: &str = "cdc::";
const RIGHT_FORM: &str = "the form is cdc::/path/to/store, cdc::s3://bucket/prefix?region=R&endpoint=URL, \
                          cdc::gs://bucket/prefix, cdc::az://container/prefix?account=NAME or, to read only, \
                          cdc::https://host/path; each may end in repository=NAME";
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'&').add(b'#').add(b'?').add(b'+');
const PATH: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b' ');

/// A store's place, and the repository of the objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUrl {
    target: Target,
    /// The repository of the objects.
    repository: Option<String>,
}

/// A store's place in a URL. The URL may come from a repository that another person has written. So it may
/// choose a place, but neither a program nor the receiver of secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A directory, as written. The path may be relative.
    Directory(PathBuf),
    S3(Bucket),
    Google {
        bucket: String,
        prefix: Prefix,
    },
    Azure {
        container: String,
        prefix: Prefix,
        account: Option<String>,
    },
    /// Any web server: `http(s)://host/path`.
    Web(String),
}

/// A bucket of S3 or of a service that speaks its protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    pub name: String,
    pub prefix: Prefix,
    pub region: Option<String>,
    pub endpoint: Option<String>,
    pub path_style: Option<bool>,
}

impl StoreUrl {
    /// Reads a URL, with or without `cdc::` in front.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: String| {
            Error::invalid(format!("{:?} is not the URL of a store: {why}", without_secrets(text)))
                .remedy(RIGHT_FORM)
        };
        let bare = text.strip_prefix(SCHEME).unwrap_or(text);
        if let Some(answer) = misspelt(bare) {
            return Err(Error::invalid(format!(
                "{:?} is not the URL of a store: {answer}",
                without_secrets(text)
            )));
        }
        let (place, query) = bare.split_once('?').unwrap_or((bare, ""));
        let mut target = parse_place(place).map_err(wrong)?;
        let mut repository = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value).map_err(wrong)?;
            match key {
                "repository" => repository = Some(check_repository(&value)?),
                _ => target.set(key, value).map_err(wrong)?,
            }
        }
        Ok(Self { target, repository })
    }

    /// Returns the same place for the objects of repository `name`.
    pub fn with_repository(mut self, name: &str) -> Result<Self> {
        self.repository = Some(check_repository(name)?);
        Ok(self)
    }

    /// Returns the repository of the objects. The name is empty if the URL doesn't say.
    pub fn repository(&self) -> &str {
        self.repository.as_deref().unwrap_or_default()
    }

    /// Returns the place alone, without the repository.
    pub fn place(&self) -> Self {
        Self { target: self.target.clone(), repository: None }
    }

    /// Returns the place in the form that a person would type.
    pub fn shown(&self) -> String {
        self.place().to_string().trim_start_matches(SCHEME).to_owned()
    }

    /// Returns true if both name the same place, for any repository.
    pub fn is_same_place(&self, other: &Self, top: &Path) -> bool {
        match (self.directory(top), other.directory(top)) {
            (Some(one), Some(two)) => one == two,
            _ => self.target == other.target,
        }
    }

    /// Returns the directory, if the place is one. A relative path is taken from `top`. `~/` is the user's
    /// home.
    pub fn directory(&self, top: &Path) -> Option<PathBuf> {
        let Target::Directory(path) = &self.target else { return None };
        if let Ok(rest) = path.strip_prefix("~")
            && let Some(user) = directories::BaseDirs::new()
        {
            return Some(user.home_dir().join(rest));
        }
        Some(top.join(path))
    }

    /// Returns the origin of the endpoint that the URL names, in the form of `lfs-cdc.trustedEndpoint`.
    /// Returns none if the endpoint is one of AWS's own.
    pub fn foreign_endpoint(&self) -> Option<String> {
        let Target::S3(Bucket { endpoint: Some(endpoint), .. }) = &self.target else { return None };
        endpoint::foreign_origin(endpoint)
    }

    /// Returns true if the place is a directory relative to the top of a work tree.
    pub fn is_relative(&self) -> bool {
        matches!(&self.target, Target::Directory(path) if path.is_relative() && !path.starts_with("~"))
    }

    /// Returns true if nothing can be written there.
    pub fn is_read_only(&self) -> bool {
        matches!(self.target, Target::Web(_))
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }
}

fn parse_place(place: &str) -> Result<Target, String> {
    let Some((scheme, rest)) = place.split_once("://") else {
        return directory(place.to_owned());
    };
    let scheme = scheme.to_ascii_lowercase();
    if has_user(rest) {
        return Err(NO_SECRETS.into());
    }
    let bucket = || -> Result<(String, Prefix), String> {
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if !names::is_bucket_name(name, &scheme) {
            return Err(format!("{name:?} can't be the name of a bucket"));
        }
        let prefix = match Prefix::parse(decode(prefix)?) {
            Ok(parsed) if !prefix.starts_with('/') => parsed,
            _ => return Err(format!("{prefix:?} can't be a prefix")),
        };
        Ok((name.to_owned(), prefix))
    };
    match scheme.as_str() {
        "file" => {
            let path = rest.strip_prefix("localhost").unwrap_or(rest);
            if !path.starts_with('/') {
                return Err("file:// takes an absolute path and no host".into());
            }
            directory(decode(path)?)
        }
        "s3" => {
            let (name, prefix) = bucket()?;
            Ok(Target::S3(Bucket { name, prefix, ..Bucket::default() }))
        }
        "gs" => bucket().map(|(bucket, prefix)| Target::Google { bucket, prefix }),
        "az" => bucket().map(|(container, prefix)| Target::Azure { container, prefix, account: None }),
        "http" | "https" => match rest.split('/').next() {
            None | Some("") => Err("it names no host".into()),
            Some(_) => Ok(Target::Web(format!("{scheme}://{rest}").trim_end_matches('/').to_owned())),
        },
        _ => Err(format!("{scheme}:// is not known")),
    }
}

fn directory(path: String) -> Result<Target, String> {
    if path.is_empty() || path.contains(char::is_control) {
        return Err("it names no path, or one with control characters".into());
    }
    // for such a path, Windows sends the user's credentials to the host in the path
    if path.starts_with(['/', '\\']) && path[1..].starts_with(['/', '\\']) {
        return Err("a path with two slashes in front may lead to another machine; give a share a drive letter, or mount \
                    it, and name that"
            .into());
    }
    Ok(Target::Directory(PathBuf::from(path)))
}

fn decode(text: &str) -> Result<String, String> {
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) if !decoded.contains(char::is_control) => Ok(decoded.into_owned()),
        _ => Err(format!("{text:?} is not readable text")),
    }
}

/// Returns true if a setting for the store URL `key` also holds for the service of `url`. Then both name the
/// same endpoint, or neither names one. Both URLs have the form of the configuration.
pub fn is_same_endpoint(url: &str, key: &str) -> bool {
    match (endpoint_in(url), endpoint_in(key)) {
        (None, None) => true,
        (Some(one), Some(two)) => endpoint::is_same_origin(&one, &two),
        _ => false,
    }
}

/// Returns the endpoint that a URL names. The other parts of the URL may be wrong.
fn endpoint_in(url: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    // the last one counts, like in `StoreUrl::parse`
    let value = query.split('&').filter_map(|pair| pair.strip_prefix("endpoint=")).next_back()?;
    Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
}

/// Returns the part of a wrong URL that may be shown, because the URL may hold a password.
fn without_secrets(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        (None, Some((secret, host))) if secret.contains(':') => format!("…@{host}"),
        _ => text.to_owned(),
    }
}

impl Target {
    /// Sets a parameter of the query.
    fn set(&mut self, key: &str, value: String) -> Result<(), String> {
        if value.is_empty() {
            return Err(format!("{key} is empty"));
        }
        match (self, key) {
            (Self::S3(bucket), "region") => {
                if !names::is_region(&value) {
                    return Err(format!("{value:?} can't be the name of a region"));
                }
                bucket.region = Some(value);
            }
            (Self::S3(bucket), "endpoint") => {
                if value.split('/').any(|part| part.contains('@')) {
                    return Err("names and passwords don't belong in it".into());
                }
                bucket.endpoint = Some(value);
            }
            (Self::S3(bucket), "pathStyle") => {
                bucket.path_style = Some(value.parse().map_err(|_| "pathStyle is true or false")?);
            }
            (Self::Azure { account, .. }, "account") => {
                if !names::is_account(&value) {
                    return Err(format!("{value:?} can't be the name of a storage account"));
                }
                *account = Some(value);
            }
            _ => return Err(format!("{key:?} is not known here")),
        }
        Ok(())
    }

    /// Returns the parameters that [`set`](Self::set) takes.
    fn parameters(&self) -> Vec<(&str, String)> {
        match self {
            Self::S3(bucket) => {
                let path_style = bucket.path_style.map(|yes| yes.to_string());
                [("region", &bucket.region), ("endpoint", &bucket.endpoint), ("pathStyle", &path_style)]
                    .into_iter()
                    .filter_map(|(key, value)| Some((key, value.clone()?)))
                    .collect()
            }
            Self::Azure { account: Some(account), .. } => vec![("account", account.clone())],
            _ => Vec::new(),
        }
    }
}

/// Fails unless a repository's name is one line of readable characters, and not too long.
fn check_repository(name: &str) -> Result<String> {
    let sound = !name.is_empty()
        && name.len() <= limits::REPOSITORY_NAME_BYTES
        && !name.contains(|c: char| c.is_control() || c.is_whitespace());
    if sound {
        return Ok(name.to_owned());
    }
    Err(Error::invalid(format!("{name:?} can't be a repository's name"))
        .remedy(format!("take 1 to {} characters without spaces", limits::REPOSITORY_NAME_BYTES)))
}

impl fmt::Display for Target {
    /// Writes the place without parameters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, name, prefix) = match self {
            Self::Directory(path) => {
                let path = path.to_string_lossy();
                return if path.contains('?') || path.contains("://") {
                    write!(f, "file://{}", utf8_percent_encode(&path, PATH))
                } else {
                    f.write_str(&path)
                };
            }
            Self::Web(url) => return f.write_str(url),
            Self::S3(bucket) => ("s3", &bucket.name, &bucket.prefix),
            Self::Google { bucket, prefix } => ("gs", bucket, prefix),
            Self::Azure { container, prefix, .. } => ("az", container, prefix),
        };
        write!(f, "{scheme}://{name}")?;
        match prefix.as_ref() {
            "" => Ok(()),
            prefix => write!(f, "/{}", utf8_percent_encode(prefix, PATH)),
        }
    }
}

impl fmt::Display for StoreUrl {
    /// Writes the form of git-lfs's configuration, with `cdc::` in front.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.target)?;
        let repository = self.repository.iter().map(|name| ("repository", name.clone()));
        let parameters = self.target.parameters().into_iter().chain(repository);
        parameters.enumerate().try_for_each(|(number, (key, value))| {
            let mark = if number == 0 { '?' } else { '&' };
            write!(f, "{mark}{key}={}", utf8_percent_encode(&value, QUERY))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_printed_alike() {
        for (text, place, repository, printed) in [
            ("/srv/lfs", "/srv/lfs", "", "cdc::/srv/lfs"),
            ("cdc::../lfs?repository=game-1f", "../lfs", "game-1f", "cdc::../lfs?repository=game-1f"),
            ("file:///srv/my%20lfs", "/srv/my lfs", "", "cdc::/srv/my lfs"),
            ("cdc::file://localhost/a%3Fb", "file:///a%3Fb", "", "cdc::file:///a%3Fb"),
            ("/a?repository=caf%C3%A9", "/a", "café", "cdc::/a?repository=caf%C3%A9"),
            ("s3://team/", "s3://team", "", "cdc::s3://team"),
            (
                "cdc::s3://team/a/b?repository=r&pathStyle=false&endpoint=http://localhost:9000&region=eu-1",
                "s3://team/a/b",
                "r",
                "cdc::s3://team/a/b?region=eu-1&endpoint=http://localhost:9000&pathStyle=false&repository=r",
            ),
            ("s3://tenant:bucket/a", "s3://tenant:bucket/a", "", "cdc::s3://tenant:bucket/a"),
            ("gs://team/my%20models", "gs://team/my models", "", "cdc::gs://team/my%20models"),
            ("az://team/x?account=acme1", "az://team/x", "", "cdc::az://team/x?account=acme1"),
            (
                "https://cdn.example.com/lfs/",
                "https://cdn.example.com/lfs",
                "",
                "cdc::https://cdn.example.com/lfs",
            ),
        ] {
            let url = StoreUrl::parse(text).unwrap();
            assert_eq!(url.target.to_string().replace("%20", " "), place, "{text}");
            assert_eq!(url.repository(), repository, "{text}");
            assert_eq!(url.to_string(), printed, "{text}");
            assert_eq!(StoreUrl::parse(printed).unwrap(), url, "{text}");
        }
    }

    #[test]
    fn wrong_urls_name_the_right_form() {
        for text in [
            "",
            "cdc::",
            "cdc::file://host/a",
            // Windows would ask another machine
            "cdc:://host/share",
            "cdc:://host/share?repository=a",
            "//host/share",
            r"\\host\share",
            r"cdc::/\host/share",
            r"\\?\UNC\host\share",
            r"\\.\pipe\x",
            "file:////host/share",
            "file:///%2Fhost/share",
            "file://localhost//host/share",
            "ftp://a/b",
            "/a?repo=x",
            "/a?repository=",
            "/a?repository=a b",
            "/a?region=eu-1",
            "s3://",
            "s3://a b/c",
            "s3://team//a",
            "s3://team/../a",
            "s3://team?pathStyle=perhaps",
            "s3://team?region=x@localhost:39444/",
            "s3://team?region=EU",
            "gs://tenant:bucket/x",
            "s3://team?profile=admin",
            "s3://team?endpoint=",
            "gs://team?endpoint=http://evil.example",
            "az://team?account=evil.example/",
            "az://team?account=a",
            "https:///x",
            "s3://te%0aam",
        ] {
            let error = StoreUrl::parse(text).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Invalid, "{text}");
            assert!(error.to_string().contains("; "), "{text}: {error}");
        }
    }

    #[test]
    fn passwords_are_refused_and_not_repeated() {
        for text in [
            "https://me:hunter2@host/lfs",
            "s3://AKIA:hunter2@bucket/x",
            "https:me:hunter2@host/lfs",
            "cdc::s3//AKIA:hunter2@bucket/x",
            "s3a://AKIA:hunter2@bucket/x",
            "s3://bucket?endpoint=https://me:hunter2@host",
        ] {
            let error = StoreUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains("passwords") && !error.contains("hunter2"), "{error}");
        }
    }
}
