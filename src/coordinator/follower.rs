//! A follower: an agent that hands its objects to the coordinator, in git-lfs's own protocol. Each connection
//! is a session for one object, like the session with git-lfs itself.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use interprocess::local_socket::Stream;
use interprocess::local_socket::traits::Stream as _;

use super::rendezvous::Meeting;
use crate::agent::{Answer, Client, Object};
use crate::progress::{PROGRESS_INTERVAL_MS, Progress};
use crate::repo::Direction;

/// One direction of a connection.
pub(super) struct Half(Arc<Stream>);

/// Returns the reading and the writing half of a connection.
pub(super) fn halves(connection: Arc<Stream>) -> (Half, Half) {
    (Half(connection.clone()), Half(connection))
}

/// Ends a connection for both sides.
#[cfg(unix)]
pub(super) fn close(connection: &Stream) {
    let Stream::UdSocket(connection) = connection;
    let _ = connection.inner().shutdown(std::net::Shutdown::Both);
}

/// Does nothing, because no call ends a pipe that is being read. It ends with this process.
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

/// The way of an agent to the coordinator. Each object has a connection of its own, so that an idle agent
/// takes no resources from the coordinator.
pub(super) struct Relay {
    meeting: Meeting,
    /// The connection by which the coordinator was found, for the first object.
    first: Mutex<Option<Connection>>,
}

/// A connection on which a coordinator has answered.
pub(super) type Connection = Client<Half, Half>;

/// Checks that a coordinator answers at the other end. Waits as long as `goes_on` returns true.
pub(super) fn greet(
    connection: Stream,
    direction: Direction,
    goes_on: impl Fn() -> bool,
) -> io::Result<Connection> {
    // where reads can't time out, a session that is not wanted any more ends with this process
    let _ = connection.set_recv_timeout(Some(Duration::from_millis(PROGRESS_INTERVAL_MS)));
    let (input, output) = halves(Arc::new(connection));
    Client::begin(input, output, direction, goes_on)
}

impl Relay {
    pub(super) fn new(meeting: Meeting, first: Connection) -> Self {
        Self { meeting, first: Mutex::new(Some(first)) }
    }

    /// Lets the coordinator move an object. Waits for a coordinator that is stopped, as git-lfs waits for an
    /// agent that is stopped.
    pub(super) fn ask(&self, object: Object<'_>, progress: &Progress) -> Answer {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let wanted = || progress.check().is_ok();
        let connection = first.map_or_else(|| self.meeting.connect_again(wanted), Ok);
        match connection {
            Ok(mut connection) => connection.ask(object, progress),
            Err(e) => {
                tracing::debug!("the coordinator is lost: {e}");
                Answer::Lost
            }
        }
    }
}
