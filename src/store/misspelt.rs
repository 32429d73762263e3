//! Misspelt URLs and paths. The answer to each names the form that the user most likely means.

use super::url::SCHEME;

/// The answer to a URL with a name or password in it.
pub(super) const NO_SECRETS: &str = "names and passwords don't belong in it";

/// Returns true if a user's name stands before the host.
pub(super) fn has_user(behind_scheme: &str) -> bool {
    behind_scheme.split('/').next().is_some_and(|authority| authority.contains('@'))
}

const SCHEMES: [&str; 6] = ["s3", "gs", "az", "https", "http", "file"];

/// Returns our scheme for a name that other programs use.
fn meant_scheme(scheme: &str) -> Option<&'static str> {
    match scheme {
        "s3a" | "s3n" | "minio" | "r2" | "b2" | "aws" => Some("s3"),
        "gcs" | "google" | "gcp" => Some("gs"),
        "azure" | "azblob" | "azblobs" | "wasb" | "wasbs" | "abfs" | "abfss" => Some("az"),
        known => SCHEMES.into_iter().find(|scheme| *scheme == known),
    }
}

/// Returns an answer to a text that would be a folder with a strange name, and is hardly meant as one.
/// Examples are a URL with a slash or a colon too few, and a URL with another scheme's name. Others are a
/// folder of another machine, and a path of another system.
pub(super) fn misspelt(text: &str) -> Option<String> {
    let place = text.split('?').next().unwrap_or_default();
    if let Some((word, rest)) = text.split_once(':')
        && word.eq_ignore_ascii_case("cdc")
    {
        let rest = rest.trim_start_matches(':');
        let rest = rest.strip_prefix('/').filter(|path| path.starts_with('/')).unwrap_or(rest);
        return Some(format!("did you mean {SCHEME}{rest}?"));
    }
    let name = place.trim_start();
    let word = &name[..name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len())];
    let rest = &text.trim_start()[word.len()..];
    let is_url = rest.starts_with(':') || rest.starts_with("//");
    if is_url && let Some(scheme) = meant_scheme(&word.to_ascii_lowercase()) {
        let is_right = text.starts_with(word) && rest.starts_with("://");
        return if is_right && scheme.eq_ignore_ascii_case(word) { None } else { Some(meant(scheme, rest)) };
    }
    if let Some(named) = place.strip_prefix('~').filter(|rest| !rest.is_empty() && !rest.starts_with('/')) {
        return Some(format!("~{named} is not looked up; write the path of that user's folder"));
    }
    if place.starts_with('$') || place.starts_with('%') {
        return Some("variables have no value here; write the path itself".into());
    }
    if place.contains("://") { None } else { foreign_path(place) }
}

/// Returns the question if the user means `scheme` with the text `behind` it.
fn meant(scheme: &str, behind: &str) -> String {
    let behind = behind.trim_start_matches([':', '/']);
    if has_user(behind) {
        return NO_SECRETS.into();
    }
    let root = if scheme == "file" { "/" } else { "" };
    format!("did you mean {scheme}://{root}{behind}?")
}

/// Returns an answer to a path that names another machine, or is one of Windows.
fn foreign_path(place: &str) -> Option<String> {
    let first = place.split('/').next().unwrap_or_default();
    let has_drive = first.len() >= 2 && first.as_bytes()[1] == b':';
    let is_of_windows = has_drive || first.contains('\\');
    if !first.contains([':', '@', '\\']) || (cfg!(windows) && is_of_windows) {
        return None;
    }
    Some(if is_of_windows {
        format!("that is a path of Windows; a folder of that name would be ./{place}")
    } else {
        format!(
            "nothing is stored over SSH, nor on another machine by its name; mount the folder, or write ./{place}"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::store::StoreUrl;

    #[test]
    fn urls_with_typos_are_answered_with_what_was_meant() {
        for (text, meant) in [
            ("s3:/team/x", "s3://team/x?"),
            ("s3:team/x?region=eu-1", "s3://team/x?region=eu-1?"),
            ("s3//team/x", "s3://team/x"),
            ("cdc::s3:team/x", "s3://team/x"),
            ("S3:///team/x", "can't be the name"),
            ("s3a://team/x", "s3://team/x"),
            ("Gs:/team", "gs://team"),
            ("gcs://team/x", "gs://team/x"),
            ("azure://box/x?account=acme1", "az://box/x"),
            ("http:/host/x", "http://host/x"),
            ("HTTPS:host/x", "https://host/x"),
            ("https//host/x", "https://host/x"),
            ("file:/srv/x", "file:///srv/x"),
            ("cdc:s3://team/x", "cdc::s3://team/x"),
            ("cdc:/srv/x", "cdc::/srv/x"),
            ("cdc://srv/x", "cdc::/srv/x"),
            ("CDC::/srv/x", "cdc::/srv/x"),
            (" s3://team/x", "s3://team/x"),
            ("git@host:team/x", "SSH"),
            ("me@host:/srv/x", "SSH"),
            ("nas:/srv/x", "mount"),
            ("localhost:9000/team", "./localhost:9000/team"),
            ("~bob/lfs", "~bob"),
            ("$HOME/lfs", "variables"),
            ("%USERPROFILE%/lfs", "variables"),
        ] {
            let error = StoreUrl::parse(text).unwrap_err().to_string();
            let answer = error.split_once("a store: ").unwrap().1;
            assert!(answer.contains(meant), "{text}: {error}");
        }
        #[cfg(unix)]
        for text in [r"C:\lfs", "c:/lfs", r"\\nas\lfs", r"..\lfs"] {
            let error = StoreUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains("Windows") && error.contains("./"), "{text}: {error}");
        }
        for folder in
            ["./nas:/x", "./a@b", "/a:b", "../a:b", "~/a:b", "x/a:b", "s3", "s3/x", "file", "azure-x"]
        {
            assert!(StoreUrl::parse(folder).unwrap().directory(Path::new("/")).is_some(), "{folder}");
        }
        let url = StoreUrl::parse("S3://team/X").unwrap();
        assert_eq!((url.to_string().as_str(), url.shown().as_str()), ("cdc::s3://team/X", "s3://team/X"));
        let url = StoreUrl::parse("HTTPS://host/X?repository=r").unwrap();
        assert_eq!(url.shown(), "https://host/X");
    }
}
