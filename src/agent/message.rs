//! The lines of the protocol (git-lfs, docs/custom-transfers.md).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::id::Oid;
use crate::repo::Direction;
use crate::text;

/// How git-lfs begins a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init {
    /// Which way objects go.
    pub direction: Direction,
    /// The remote's name, or its URL.
    pub remote: String,
    /// For how many objects it asks at a time, of this agent and others of the same command.
    pub transfers: usize,
}

/// What git-lfs asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Begins a session.
    Init(Init),
    /// Asks for one object to be sent.
    Upload { oid: Oid, size_bytes: u64, path: PathBuf },
    /// Asks for one object to be fetched.
    Download { oid: Oid, size_bytes: u64 },
    /// Ends the session.
    Terminate,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line {
    Init {
        operation: String,
        remote: String,
        #[serde(default)]
        concurrent: bool,
        #[serde(default)]
        concurrenttransfers: i64,
    },
    Upload {
        oid: String,
        size: u64,
        path: PathBuf,
    },
    Download {
        oid: String,
        size: u64,
    },
    Terminate,
}

/// Whether a line is one that git-lfs may send: for tests of untrusted lines.
#[doc(hidden)]
pub fn is_understood(line: &[u8]) -> bool {
    let oid = Request::oid_of(line);
    Request::parse(line).is_ok_and(|request| match request {
        Request::Upload { oid: read, .. } | Request::Download { oid: read, .. } => read.to_string() == oid,
        Request::Init(_) | Request::Terminate => true,
    })
}

impl Request {
    /// Reads one line. Unknown fields are ignored.
    pub(super) fn parse(line: &[u8]) -> Result<Self> {
        let wrong =
            |e: serde_json::Error| Error::invalid(format!("git-lfs sent a line that is not understood: {e}"));
        Ok(match serde_json::from_slice(line).map_err(wrong)? {
            Line::Init { operation, remote, concurrent, concurrenttransfers } => {
                let direction = match operation.as_str() {
                    "upload" => Direction::Upload,
                    "download" => Direction::Download,
                    other => return Err(Error::invalid(format!("git-lfs asks for the operation {other:?}"))),
                };
                let transfers = usize::try_from(concurrenttransfers).ok().filter(|_| concurrent);
                Self::Init(Init { direction, remote, transfers: transfers.unwrap_or(1).max(1) })
            }
            Line::Upload { oid, size, path } => {
                Self::Upload { oid: Oid::parse(&oid)?, size_bytes: size, path }
            }
            Line::Download { oid, size } => Self::Download { oid: Oid::parse(&oid)?, size_bytes: size },
            Line::Terminate => Self::Terminate,
        })
    }

    /// The oid in a line that could not be read as a request, as far as it can be made out: an answer
    /// for the wrong object would put git-lfs out of step.
    pub(super) fn oid_of(line: &[u8]) -> String {
        let value: Option<serde_json::Value> = serde_json::from_slice(line).ok();
        let oid = value.as_ref().and_then(|v| v.get("oid")?.as_str());
        oid.unwrap_or_default().to_owned()
    }
}

/// What we answer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Reply<'a> {
    /// To `init`.
    Ready {},
    /// To an `init` that can't be served.
    Refused { error: Failure },
    /// Meanwhile.
    Progress(Progress<'a>),
    /// At the end of each object.
    Complete(Complete<'a>),
}

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "progress", rename_all = "camelCase")]
pub(super) struct Progress<'a> {
    pub oid: &'a str,
    pub bytes_so_far: u64,
    pub bytes_since_last: u64,
}

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "complete")]
pub(super) struct Complete<'a> {
    pub oid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// What a client says to a session: as git-lfs does, and no more than a session needs.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Asked<'a> {
    Init { operation: &'a str, remote: &'a str },
    Upload { oid: &'a str, size: u64, path: &'a Path },
    Download { oid: &'a str, size: u64 },
}

/// What a client hears: any [`Reply`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answered {
    /// None in the answer to `init`.
    pub event: Option<String>,
    #[serde(default)]
    pub oid: String,
    #[serde(default)]
    pub bytes_so_far: u64,
    pub path: Option<PathBuf>,
    pub error: Option<Failure>,
}

/// An error as git-lfs shows it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Failure {
    code: u32,
    message: String,
}

impl Failure {
    /// The error's line, and where more is to be found.
    pub(super) fn new(error: &Error, log: Option<&std::path::Path>) -> Self {
        let message = match log {
            Some(log) => format!("{PREFIX}{error} (log: {})", text::visible(&log.to_string_lossy())),
            None => format!("{PREFIX}{error}"),
        };
        Self { code: code(error.kind()), message }
    }

    /// The error that is shown like this. What to do about it stands behind the last semicolon.
    pub(super) fn into_error(self) -> Error {
        let kind = KINDS.iter().find(|kind| code(**kind) == self.code).copied().unwrap_or(Kind::Internal);
        let message = self.message.strip_prefix(PREFIX).unwrap_or(&self.message);
        match message.rsplit_once("; ") {
            Some((message, remedy)) => Error::new(kind, message).remedy(remedy),
            None => Error::new(kind, message),
        }
    }
}

/// So that users see who speaks.
const PREFIX: &str = "git-lfs-cdc: ";

/// All of them.
const KINDS: [Kind; 9] = [
    Kind::NotFound,
    Kind::Exists,
    Kind::Denied,
    Kind::Unreachable,
    Kind::Corrupt,
    Kind::Busy,
    Kind::Invalid,
    Kind::TooNew,
    Kind::Internal,
];

/// git-lfs prints the code in brackets; it means nothing to it.
fn code(kind: Kind) -> u32 {
    match kind {
        Kind::NotFound => 404,
        Kind::Exists => 409,
        Kind::Denied => 403,
        Kind::Unreachable => 503,
        Kind::Corrupt => 422,
        Kind::Busy => 423,
        Kind::Invalid => 400,
        Kind::TooNew => 505,
        Kind::Internal => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_was_handed_on_is_shown_as_before() {
        for kind in KINDS {
            for error in [Error::new(kind, "it; failed"), Error::new(kind, "it failed").remedy("do; this")] {
                let log = Path::new(".git/lfs/cdc/log");
                let shown = Failure::new(&error, Some(log));
                let (code, message) = (shown.code, shown.message.clone());
                let again = Failure::new(&shown.into_error(), None);
                assert_eq!((again.code, again.message), (code, message));
            }
        }
    }

    #[test]
    fn how_many_objects_git_lfs_asks_for_is_one_unless_it_says_more() {
        let transfers = |rest: &str| {
            let line = format!(r#"{{"event":"init","operation":"upload","remote":"origin"{rest}}}"#);
            match Request::parse(line.as_bytes()).unwrap() {
                Request::Init(init) => init.transfers,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(transfers(r#","concurrent":true,"concurrenttransfers":100"#), 100);
        for one in [
            "",
            r#","concurrent":true"#,
            r#","concurrent":false,"concurrenttransfers":8"#,
            r#","concurrent":true,"concurrenttransfers":0"#,
            r#","concurrent":true,"concurrenttransfers":-3"#,
        ] {
            assert_eq!(transfers(one), 1, "{one}");
        }
    }

    #[test]
    fn replies_are_what_git_lfs_reads() {
        let json = |reply: &Reply<'_>| serde_json::to_string(reply).unwrap();
        assert_eq!(json(&Reply::Ready {}), "{}");
        let progress = Progress { oid: "ab", bytes_so_far: 3, bytes_since_last: 2 };
        assert_eq!(
            json(&Reply::Progress(progress)),
            r#"{"event":"progress","oid":"ab","bytesSoFar":3,"bytesSinceLast":2}"#
        );
        let complete = Complete { oid: "ab", path: Some("/tmp/x".into()), error: None };
        assert_eq!(json(&Reply::Complete(complete)), r#"{"event":"complete","oid":"ab","path":"/tmp/x"}"#);
        let failure = Failure::new(&Error::not_found("no").remedy("look"), None);
        let complete = Complete { oid: "", path: None, error: Some(failure) };
        assert_eq!(
            json(&Reply::Complete(complete)),
            r#"{"event":"complete","oid":"","error":{"code":404,"message":"git-lfs-cdc: no; look"}}"#
        );
    }
}
