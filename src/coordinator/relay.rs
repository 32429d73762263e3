//! An agent that hands its objects on to the coordinator, in git-lfs's own protocol: there each connection is a
//! session like the one with git-lfs itself.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use interprocess::local_socket::Stream;
use interprocess::local_socket::traits::Stream as _;

use crate::agent::{Answer, Client, Object};
use crate::flow::Progress;
use crate::limit;
use crate::repo::Direction;

/// One direction of a connection.
pub(super) struct Half(Arc<Stream>);

/// What is read from a connection, and what is written to it.
pub(super) fn halves(connection: Arc<Stream>) -> (Half, Half) {
    (Half(connection.clone()), Half(connection))
}

/// Ends a connection for both sides.
#[cfg(unix)]
pub(super) fn close(connection: &Stream) {
    let Stream::UdSocket(connection) = connection;
    let _ = connection.inner().shutdown(std::net::Shutdown::Both);
}

/// Nothing does this to a pipe that is being read; it ends with this process.
#[cfg(windows)]
pub(super) fn close(_: &Stream) {}

impl Read for Half {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(buffer)
    }
}

impl Write for Half {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self.0).flush()
    }
}

/// A connection to the coordinator, for one object at a time.
pub(super) struct Relay {
    /// None once it is out of step.
    client: Mutex<Option<Client<Half, Half>>>,
}

impl Relay {
    /// Sees that it is a coordinator that answers there, before nobody `goes_on` waiting for it.
    pub(super) fn greet(
        connection: Stream,
        direction: Direction,
        goes_on: impl Fn() -> bool,
    ) -> io::Result<Self> {
        // where reads can't time out, what nobody wants any more ends with this process
        let _ = connection.set_recv_timeout(Some(Duration::from_millis(limit::PROGRESS_INTERVAL_MS)));
        let (input, output) = halves(Arc::new(connection));
        let client = Client::begin(input, output, direction, goes_on)?;
        Ok(Self { client: Mutex::new(Some(client)) })
    }

    /// Has an object moved by the coordinator.
    pub(super) fn ask(&self, object: Object<'_>, progress: &Progress) -> Answer {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = client.as_mut().map_or(Answer::Lost, |client| client.ask(object, progress));
        if matches!(answer, Answer::Lost) || progress.check().is_err() {
            *client = None;
        }
        answer
    }
}
