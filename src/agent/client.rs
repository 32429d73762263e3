//! The client of a session: it asks as git-lfs does. An agent without an engine of its own uses it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::message::{ClientRequest, ServerReply};
use crate::agent::inbox::PROTOCOL_LINE_BYTES;
use crate::error::Result;
use crate::id::Oid;
use crate::progress::Progress;
use crate::repo::Direction;

/// An object that a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// Its SHA-256.
    pub oid: &'a Oid,
    /// Its size.
    pub size_bytes: u64,
    /// The file to upload; none for a download.
    pub path: Option<&'a Path>,
}

/// The result of a request.
#[derive(Debug)]
pub enum Answer {
    /// The session's answer; for a download, the finished file.
    Final(Result<Option<PathBuf>>),
    /// The session is gone, or the other side is no session. Nothing is known about the object.
    Lost,
}

/// A client's side of a session. Reads may time out now and again. Then the client checks if the answer is
/// still wanted.
pub struct Client<R, W> {
    input: BufReader<R>,
    output: W,
    line: Vec<u8>,
}

impl<R: Read, W: Write> Client<R, W> {
    /// Begins a session. Waits for its answer as long as `goes_on` returns true.
    pub fn begin(input: R, output: W, direction: Direction, goes_on: impl Fn() -> bool) -> io::Result<Self> {
        let mut client = Self { input: BufReader::new(input), output, line: Vec::new() };
        let operation = match direction {
            Direction::Upload => "upload",
            Direction::Download => "download",
        };
        client.say(&ClientRequest::Init { operation, remote: "" })?;
        loop {
            match client.hear()? {
                Some(ServerReply { event: None, error: None, .. }) => return Ok(client),
                Some(_) => return Err(io::ErrorKind::InvalidData.into()),
                None if goes_on() => {}
                None => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }

    /// Asks for one object, and follows its progress. After [`Answer::Lost`], or if the object is not wanted
    /// any more, the session is out of step. It can't be used again.
    pub fn ask(&mut self, object: Object<'_>, progress: &Progress) -> Answer {
        self.try_ask(object, progress).unwrap_or_else(|e| {
            tracing::debug!("the session is lost: {e}");
            Answer::Lost
        })
    }

    fn try_ask(&mut self, object: Object<'_>, progress: &Progress) -> io::Result<Answer> {
        let Object { oid, size_bytes: size, path } = object;
        let oid = oid.to_string();
        self.say(&match path {
            Some(path) => ClientRequest::Upload { oid: &oid, size, path },
            None => ClientRequest::Download { oid: &oid, size },
        })?;
        loop {
            if let Some(ServerReply { event, oid: of, bytes_so_far, path, error }) = self.hear()? {
                match event.as_deref() {
                    Some("progress") if of == oid => {
                        progress.bytes.fetch_max(bytes_so_far, Ordering::Relaxed);
                    }
                    Some("complete") if of == oid => {
                        let answer = error.map_or(Ok(path), |failure| Err(failure.into_error()));
                        return Ok(Answer::Final(answer));
                    }
                    _ => return Err(io::ErrorKind::InvalidData.into()),
                }
            }
            if let Err(e) = progress.check() {
                return Ok(Answer::Final(Err(e)));
            }
        }
    }

    fn say(&mut self, request: &ClientRequest<'_>) -> io::Result<()> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.output.write_all(&line)?;
        self.output.flush()
    }

    /// Reads the next line. Returns None if it is not here yet.
    fn hear(&mut self) -> io::Result<Option<ServerReply>> {
        let left = (PROTOCOL_LINE_BYTES + 1).saturating_sub(self.line.len()) as u64;
        match self.input.by_ref().take(left).read_until(b'\n', &mut self.line) {
            Ok(_) if self.line.ends_with(b"\n") => {
                let reply = serde_json::from_slice(&self.line);
                self.line.clear();
                Ok(Some(reply?))
            }
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(None),
            Err(e) => Err(e),
        }
    }
}
