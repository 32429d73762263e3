//! The lines of the protocol (git-lfs, docs/custom-transfers.md).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::id::Oid;
use crate::repo::Direction;
use crate::text;

/// The beginning of a session, as git-lfs sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init {
    /// The direction in which objects go.
    pub direction: Direction,
    /// The remote's name, or its URL.
    pub remote: String,
    /// The number of objects that git-lfs asks for at a time, from all agents of the command.
    pub transfers: usize,
}

/// A request of git-lfs.
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

/// Returns true if git-lfs may send this line. For tests of untrusted lines.
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

    /// Returns the oid in a line that is no valid request, as far as it can be read. An answer for the wrong
    /// object would put git-lfs out of step.
    pub(super) fn oid_of(line: &[u8]) -> String {
        let value: Option<serde_json::Value> = serde_json::from_slice(line).ok();
        let oid = value.as_ref().and_then(|v| v.get("oid")?.as_str());
        oid.unwrap_or_default().to_owned()
    }
}

/// An answer to git-lfs.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Reply<'a> {
    /// The answer to `init`.
    Ready {},
    /// The answer to an `init` that can't be served.
    Refused { error: Failure },
    /// Progress of an object.
    Progress(Progress<'a>),
    /// The final answer for an object.
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

/// A request of a client to a session, as git-lfs sends it, with only the fields that a session needs.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum ClientRequest<'a> {
    Init { operation: &'a str, remote: &'a str },
    Upload { oid: &'a str, size: u64, path: &'a Path },
    Download { oid: &'a str, size: u64 },
}

/// An answer as a client reads it: any [`Reply`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServerReply {
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
    /// Makes a failure from the error's line and the place of the log.
    pub(super) fn new(error: &Error, log: Option<&std::path::Path>) -> Self {
        let message = match log {
            Some(log) => format!("{PREFIX}{error} (log: {})", text::visible(&log.to_string_lossy())),
            None => format!("{PREFIX}{error}"),
        };
        Self { code: code(error.kind()), message }
    }

    /// Returns the error that this failure shows.
    pub(super) fn into_error(self) -> Error {
        let kind = KINDS.iter().find(|kind| code(**kind) == self.code).copied().unwrap_or(Kind::Internal);
        let message = self.message.strip_prefix(PREFIX).unwrap_or(&self.message);
        Error::handed_on(kind, message)
    }
}

/// The beginning of each message, so that users see which program speaks.
const PREFIX: &str = "git-lfs-cdc: ";

/// All kinds.
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

/// Returns the code for a kind. git-lfs prints it in brackets, and does not interpret it.
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
                let code = shown.code;
                let message = shown.message.clone();
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
