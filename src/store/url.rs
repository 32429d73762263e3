//! The URL that names a store, as it stands behind `cdc::` in git-lfs's configuration.

use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::error::{Error, Result};
use crate::limit;

/// What git-lfs knows our URLs by.
pub const SCHEME: &str = "cdc::";
const RIGHT_FORM: &str = "the form is cdc::/path/to/store?repository=NAME, or cdc::file:///path, or a \
                          path relative to the top of the work tree";
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'&').add(b'#').add(b'?').add(b'+');

/// A store's place, and whose objects are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUrl {
    /// The directory, as written: perhaps relative.
    directory: PathBuf,
    /// Whose objects these are.
    repository: Option<String>,
}

impl StoreUrl {
    /// Reads a URL, with or without `cdc::` in front.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::invalid(format!("{text:?} is not the URL of a store: {why}")).remedy(RIGHT_FORM)
        };
        let bare = text.strip_prefix(SCHEME).unwrap_or(text);
        let (place, query) = match bare.split_once('?') {
            Some((place, query)) => (place, query),
            None => (bare, ""),
        };
        let directory = match place.split_once("://") {
            None => place.to_owned(),
            Some(("file", rest)) => {
                let path = rest.strip_prefix("localhost").unwrap_or(rest);
                if !path.starts_with('/') {
                    return Err(wrong("file:// takes an absolute path and no host"));
                }
                let decoded = percent_decode_str(path).decode_utf8();
                decoded.map_err(|_| wrong("its path is not UTF-8"))?.into_owned()
            }
            Some((scheme, _)) => {
                return Err(wrong(&format!("this version knows directories only, not {scheme}://")));
            }
        };
        if directory.is_empty() || directory.contains(char::is_control) {
            return Err(wrong("it names no path, or one with control characters"));
        }
        let mut repository = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("repository", name)) => {
                    let name = percent_decode_str(name).decode_utf8();
                    let name = name.map_err(|_| wrong("the repository's name is not UTF-8"))?;
                    repository = Some(check_repository(&name)?);
                }
                _ => return Err(wrong(&format!("{pair:?} is not known"))),
            }
        }
        Ok(Self { directory: PathBuf::from(directory), repository })
    }

    /// The same place for the objects of repository `name`.
    pub fn with_repository(mut self, name: &str) -> Result<Self> {
        self.repository = Some(check_repository(name)?);
        Ok(self)
    }

    /// Whose objects these are; the empty name if the URL doesn't say.
    pub fn repository(&self) -> &str {
        self.repository.as_deref().unwrap_or_default()
    }

    /// The directory, taken from `top` if it is relative. `~/` is the user's home.
    pub fn directory(&self, top: &Path) -> PathBuf {
        if let Ok(rest) = self.directory.strip_prefix("~")
            && let Some(user) = directories::BaseDirs::new()
        {
            return user.home_dir().join(rest);
        }
        top.join(&self.directory)
    }
}

/// A name is one line of readable characters, and not too long.
fn check_repository(name: &str) -> Result<String> {
    let sound = !name.is_empty()
        && name.len() <= limit::REPOSITORY_NAME_BYTES
        && !name.contains(|c: char| c.is_control() || c.is_whitespace());
    if sound {
        return Ok(name.to_owned());
    }
    Err(Error::invalid(format!("{name:?} can't be a repository's name"))
        .remedy(format!("take 1 to {} characters without spaces", limit::REPOSITORY_NAME_BYTES)))
}

impl fmt::Display for StoreUrl {
    /// As git-lfs's configuration has it, `cdc::` in front.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.directory.to_string_lossy();
        if path.contains(['?', '%']) || path.contains("://") {
            const PATH: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b' ');
            write!(f, "{SCHEME}file://{}", utf8_percent_encode(&path, PATH))?;
        } else {
            write!(f, "{SCHEME}{path}")?;
        }
        match &self.repository {
            Some(name) => write!(f, "?repository={}", utf8_percent_encode(name, QUERY)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_printed_alike() {
        for (text, directory, repository, printed) in [
            ("/srv/lfs", "/srv/lfs", "", "cdc::/srv/lfs"),
            ("cdc::../lfs?repository=game-1f", "../lfs", "game-1f", "cdc::../lfs?repository=game-1f"),
            ("file:///srv/my%20lfs", "/srv/my lfs", "", "cdc::/srv/my lfs"),
            ("cdc::file://localhost/a%3Fb", "/a?b", "", "cdc::file:///a%3Fb"),
            ("/a?repository=caf%C3%A9", "/a", "café", "cdc::/a?repository=caf%C3%A9"),
        ] {
            let url = StoreUrl::parse(text).unwrap();
            assert_eq!(url.directory, Path::new(directory), "{text}");
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
            "ftp://a/b",
            "/a?repo=x",
            "/a?repository=",
            "/a?repository=a b",
        ] {
            let error = StoreUrl::parse(text).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Invalid, "{text}");
            assert!(error.to_string().contains("; "), "{text}: {error}");
        }
    }
}
