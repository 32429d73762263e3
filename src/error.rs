//! The one error type of the program: a kind that says how a caller can react, and a message of one line.

use std::fmt;

use crate::text;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of errors, by the reaction that they leave to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The thing is not there.
    NotFound,
    /// The name is taken.
    Exists,
    /// The store or the system forbids it.
    Denied,
    /// The store can't be reached, or has no room. Another try later may help.
    Unreachable,
    /// Bytes differ from those that were written.
    Corrupt,
    /// Another process holds it, or it changed too often meanwhile.
    Busy,
    /// The caller's input is wrong.
    Invalid,
    /// A newer version of this program has written the data.
    TooNew,
    /// A fault of this program, or of the machine it runs on.
    Internal,
}

impl Kind {
    /// Returns the remedy for errors of this kind that name none themselves.
    fn remedy(self) -> Option<&'static str> {
        match self {
            Self::NotFound => Some("check that nothing was removed from the store"),
            Self::Denied => Some("check the permissions"),
            Self::Unreachable => Some("check that the store is mounted and has room, and try again"),
            Self::Corrupt => Some("restore it from a backup of the store"),
            Self::Busy => Some("try again"),
            Self::Internal => Some("try again, and if that doesn't help, report it with the log"),
            // the message of such an error says how to correct it
            Self::Exists | Self::Invalid | Self::TooNew => None,
        }
    }
}

/// The remedy of an error.
#[derive(Clone, Debug)]
enum Remedy {
    /// The general remedy of the error's kind, if it has one.
    OfKind,
    /// A remedy for this error.
    Named(String),
    /// The message already contains the remedy.
    InMessage,
}

/// An error: the failed step, the cause and the remedy, in one line.
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    remedy: Remedy,
    /// True if it was tried again, and failed for the same passing reason until the time was over.
    is_lasting: bool,
}

impl Error {
    /// Makes an error of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: one_line(message.into()), remedy: Remedy::OfKind, is_lasting: false }
    }

    /// Makes an error from the whole line that another process has shown for its error. The line includes the
    /// remedy.
    pub(crate) fn handed_on(kind: Kind, line: impl Into<String>) -> Self {
        Self { remedy: Remedy::InMessage, ..Self::new(kind, line) }
    }

    /// [`Kind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// [`Kind::Corrupt`].
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(Kind::Corrupt, message)
    }

    /// [`Kind::Busy`].
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(Kind::Busy, message)
    }

    /// [`Kind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// [`Kind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// Makes a [`Kind::TooNew`] error with its only remedy.
    pub fn too_new(what: impl fmt::Display) -> Self {
        Self::new(Kind::TooNew, format!("{what} was written by a newer version of git-lfs-cdc"))
            .remedy("update git-lfs-cdc on this machine")
    }

    /// Makes an error of the file system during `what`. Its kind follows from the cause.
    pub fn io(what: impl fmt::Display, cause: &std::io::Error) -> Self {
        use std::io::ErrorKind as E;
        let kind = match cause.kind() {
            E::NotFound => Kind::NotFound,
            E::AlreadyExists => Kind::Exists,
            E::PermissionDenied | E::ReadOnlyFilesystem => Kind::Denied,
            E::StorageFull
            | E::QuotaExceeded
            | E::StaleNetworkFileHandle
            | E::TimedOut
            | E::HostUnreachable
            | E::NetworkUnreachable
            | E::NotConnected
            | E::ResourceBusy => Kind::Unreachable,
            _ => Kind::Internal,
        };
        let error = Self::new(kind, format!("{what}: {cause}"));
        match cause.kind() {
            E::StorageFull | E::QuotaExceeded => error.remedy("free some space and try again"),
            E::NotFound => error.remedy("check that path, and that it is mounted"),
            E::PermissionDenied => error.remedy("check the permissions of that path"),
            E::ReadOnlyFilesystem => error.remedy("make it writable and try again"),
            _ if kind == Kind::Internal => {
                error.remedy("check the disk or the mount it is on, and try again")
            }
            _ => error,
        }
    }

    /// Adds a remedy, unless there is one already.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        if matches!(self.remedy, Remedy::OfKind) {
            self.remedy = Remedy::Named(one_line(remedy.into()));
        }
        self
    }

    /// Adds the step that failed.
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = one_line(format!("{doing}: {}", self.message));
        self
    }

    /// Adds the number of tries, and the time that they took.
    pub fn tried(mut self, times: u32, time: std::time::Duration) -> Self {
        self.is_lasting = true;
        if times > 1 {
            self.message = format!("{} (tried {times} times in {} s)", self.message, time.as_secs().max(1));
        }
        self
    }

    /// Returns true if it was tried until the time was over. The next request to the same place will fail
    /// too.
    pub fn is_lasting(&self) -> bool {
        self.is_lasting
    }

    /// Returns the kind, which says how a caller can react.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

/// Joins several lines to one, and escapes characters that a terminal would obey.
fn one_line(text: String) -> String {
    if !text.contains(text::is_hidden) {
        return text;
    }
    let lines: Vec<&str> = text.split(['\n', '\r', '\t']).filter(|line| !line.is_empty()).collect();
    text::visible(&lines.join(" ")).into_owned()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let remedy = match &self.remedy {
            Remedy::OfKind => self.kind.remedy(),
            Remedy::Named(remedy) => Some(remedy.as_str()),
            Remedy::InMessage => None,
        };
        match remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_that_a_terminal_shows_as_it_is() {
        let error =
            Error::invalid("git: one\ntwo\r\n\u{1b}[2Jall is well").context("x\u{202e}y").remedy("do\nthis");
        assert_eq!(error.to_string(), r"x\u{202e}y: git: one two \u{1b}[2Jall is well; do this");
    }
}
