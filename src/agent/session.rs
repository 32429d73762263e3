//! A session: a state machine between the lines of git-lfs and an engine.
//!
//! Every line but `terminate` gets exactly one final answer, even a damaged one, so that the stream never
//! falls out of step.
//!
//! Until the first object comes, one thread does everything: it waits for lines. From then on one thread
//! reads, one writes, and one moves the object. So the session notices the end of the input even if the store
//! doesn't answer. If the system refuses these threads, the session's own thread moves the object, and
//! notices the end after it.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::inbox::{Download, Event, Inbox};
use super::message::{self, Complete, Failure, Init, Reply, Request};
use crate::agent::inbox::PROTOCOL_LINE_BYTES;
use crate::engine::Transfer;
use crate::error::{Error, Result};
use crate::id::Oid;
use crate::progress::{PROGRESS_INTERVAL_MS, Progress};
use crate::repo::Direction;
use crate::threads;

/// Time for a transfer to clean up after the end of the input.
const CANCEL_GRACE: Duration = Duration::from_millis(500);
/// Time for an engine to finish after git-lfs has said that it has no more objects. git-lfs itself waits for
/// 30 s.
const FINISH: Duration = Duration::from_secs(15);

/// The reason for the end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// git-lfs has no more objects.
    Asked,
    /// git-lfs is gone, or was interrupted.
    Left,
}

/// The state of a session.
enum State<T> {
    /// No line has come yet.
    New,
    /// `init` was answered.
    Ready { direction: Direction, engine: Arc<T> },
}

/// Serves git-lfs until it says `terminate` or closes its end of the pipe. `engine` makes the object that
/// moves git-lfs's objects. It must not wait, because `init` is answered after it. Fails only if answers
/// can't be written any more.
pub fn run<T: Transfer + 'static>(
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    engine: impl Fn(Init) -> Arc<T>,
) -> std::io::Result<()> {
    let mut session = Session::new(input, output, engine);
    let served = session.serve();
    if matches!(served, Ok(Ending::Asked)) {
        session.finish();
    }
    if let State::Ready { engine, .. } = &session.state {
        engine.leave();
    }
    served.map(drop)
}

/// Serves a client that begins with `init`, which [`welcome`] has answered already. Does everything on this
/// thread. Its objects are moved to their end even if the client leaves meanwhile, unless the engine cancels
/// them.
pub fn run_here<T: Transfer + 'static>(
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    direction: Direction,
    engine: Arc<T>,
) -> std::io::Result<()> {
    let unasked = |_| engine.clone();
    let mut session = Session::new(input, output, unasked);
    session.is_alone = true;
    match session.inbox.next() {
        Event::Line(_) => session.state = State::Ready { direction, engine: engine.clone() },
        _ => return Ok(()),
    }
    session.serve().map(drop)
}

/// Answers `init`, even before it has come.
pub fn welcome(output: &mut impl Write) -> std::io::Result<()> {
    write_line(output, &Reply::Ready {})
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_line(output: &mut impl Write, reply: &Reply<'_>) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}

struct Session<T, R, W, F> {
    inbox: Inbox<R>,
    output: Arc<Mutex<W>>,
    engine: F,
    state: State<T>,
    /// True if the session must not start threads.
    is_alone: bool,
}

impl<T, R, W, F> Session<T, R, W, F>
where
    T: Transfer + 'static,
    R: Read + Send + 'static,
    W: Write + Send + 'static,
    F: Fn(Init) -> Arc<T>,
{
    fn new(input: R, output: W, engine: F) -> Self {
        Self {
            inbox: Inbox::new(input),
            output: Arc::new(Mutex::new(output)),
            engine,
            state: State::New,
            is_alone: false,
        }
    }

    fn serve(&mut self) -> std::io::Result<Ending> {
        loop {
            match self.inbox.next() {
                Event::Line(line) => match Request::parse(&line) {
                    Ok(Request::Terminate) => return Ok(Ending::Asked),
                    Ok(request) => {
                        if self.answer(request)?.is_break() {
                            return Ok(Ending::Left);
                        }
                    }
                    Err(error) => self.reject(&Request::oid_of(&line), &error)?,
                },
                Event::Oversized => {
                    let limit = PROTOCOL_LINE_BYTES;
                    let error = Error::invalid(format!("git-lfs sent a line of more than {limit} bytes"));
                    self.reject("", &error)?;
                }
                Event::End => return Ok(Ending::Left),
                // no transfer is under way
                Event::Done(_) => {}
            }
        }
    }

    /// Answers one request. Breaks if the session has ended meanwhile.
    fn answer(&mut self, request: Request) -> std::io::Result<ControlFlow<()>> {
        match (request, &self.state) {
            (Request::Init(init), State::New) => {
                let direction = init.direction;
                let engine = (self.engine)(init);
                self.state = State::Ready { direction, engine: engine.clone() };
                self.say(&Reply::Ready {})?;
                // if the system refuses a thread, the first object prepares the engine
                let _ = threads::spawn("prepare", move || engine.prepare());
            }
            (Request::Init(_), State::Ready { .. }) => {
                self.reject("", &Error::invalid("git-lfs sent init twice"))?;
            }
            (Request::Upload { oid, size_bytes, path }, _) => {
                return self.transfer(Wanted { oid, size_bytes, path: Some(path) });
            }
            (Request::Download { oid, size_bytes }, _) => {
                return self.transfer(Wanted { oid, size_bytes, path: None });
            }
            (Request::Terminate, _) => return Ok(ControlFlow::Break(())),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Moves one object. Reports progress at once and then now and again, and gives one final answer. Breaks
    /// if the session has ended meanwhile.
    fn transfer(&mut self, wanted: Wanted) -> std::io::Result<ControlFlow<()>> {
        let oid = wanted.oid.to_string();
        let size_bytes = wanted.size_bytes;
        let reported = Reported { oid: oid.clone(), size_bytes, bytes: 0, at: Instant::now() };
        let reported = Arc::new(Mutex::new(reported));
        // git-lfs holds the other agents back until it sees progress above zero
        self.report(&reported, 1)?;
        let progress = Arc::new(Progress::default());
        let done = match self.start(wanted, &progress, &reported) {
            Ok(()) => match self.follow(&progress, &reported)? {
                Some(done) => done,
                None => return Ok(ControlFlow::Break(())),
            },
            Err(error) => Err(error),
        };
        match done {
            Ok(download) => {
                self.report(&reported, size_bytes)?;
                let path = download.as_ref().map(Download::path);
                self.say(&Reply::Complete(Complete { oid: &oid, path, error: None }))?;
                if let Some(download) = download {
                    download.was_told();
                }
            }
            Err(error) => self.reject(&oid, &error)?,
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Starts the work on a new thread, because the store may not answer. Does the work here if the system
    /// refuses a thread.
    fn start(
        &mut self,
        wanted: Wanted,
        progress: &Arc<Progress>,
        reported: &Arc<Mutex<Reported>>,
    ) -> Result<()> {
        let State::Ready { direction, engine } = &self.state else {
            return Err(Error::invalid("git-lfs asked for an object before init"));
        };
        if *direction != wanted.direction() {
            let error = format!("git-lfs asked for {:?} in a session for {direction:?}", wanted.direction());
            return Err(Error::invalid(error));
        }
        let work =
            Work { wanted, engine: engine.clone(), progress: progress.clone(), events: self.inbox.sender() };
        let work = move || work.run();
        let mut started = Err(Error::busy("this session has one thread"));
        if !self.is_alone {
            started = self.inbox.read_elsewhere();
        }
        let started = match started {
            Ok(()) => threads::spawn("object", work),
            Err(error) => Err(threads::Refused { work, error }),
        };
        let Err(refused) = started else { return Ok(()) };
        tracing::debug!("an object is moved on the thread that waits for it: {}", refused.error);
        let output = self.output.clone();
        let reported = reported.clone();
        progress.tell_to(move |bytes| report(&output, &reported, bytes).is_ok());
        (refused.work)();
        progress.tell_nobody();
        Ok(())
    }

    /// Reports progress until the transfer is done. Returns None if git-lfs has ended the session. Then, and
    /// if a report can't be written, the transfer is told to stop, and gets a moment to clean up.
    fn follow(
        &mut self,
        progress: &Progress,
        reported: &Mutex<Reported>,
    ) -> std::io::Result<Option<Result<Option<Download>>>> {
        let mut said = Ok(());
        while said.is_ok() {
            let soon = Instant::now() + Duration::from_millis(PROGRESS_INTERVAL_MS);
            match self.inbox.next_before(soon) {
                Some(Event::Done(done)) => return Ok(Some(done)),
                Some(Event::End) => break,
                Some(Event::Line(line)) if matches!(Request::parse(&line), Ok(Request::Terminate)) => break,
                // git-lfs waits for our answer before it asks again; lines of a client that doesn't wait are
                // served in turn
                Some(event) => self.inbox.put_off(event),
                None => said = self.report(reported, progress.done()),
            }
        }
        progress.cancel();
        let deadline = Instant::now() + CANCEL_GRACE;
        while let Some(event) = self.inbox.next_before(deadline) {
            if matches!(event, Event::Done(_)) {
                break;
            }
        }
        said.map(|()| None)
    }

    /// Lets the engine finish, for [`FINISH`] at most. No object waits for its work then.
    fn finish(&mut self) {
        let State::Ready { engine, .. } = &self.state else { return };
        let engine = engine.clone();
        let (done, finished) = crossbeam_channel::bounded(1);
        let finish = move || {
            engine.finish();
            let _ = done.send(());
        };
        match threads::spawn("finish", finish) {
            Ok(()) => {
                let _ = finished.recv_timeout(FINISH);
            }
            Err(refused) => (refused.work)(),
        }
    }

    /// Gives the final answer to a line that can't be served.
    fn reject(&mut self, oid: &str, error: &Error) -> std::io::Result<()> {
        tracing::error!("object {oid:?}: {error}");
        let log = match &self.state {
            State::Ready { engine, .. } => engine.log(),
            State::New => None,
        };
        let error = Failure::new(error, log.as_deref());
        match self.state {
            State::New if oid.is_empty() => self.say(&Reply::Refused { error }),
            _ => self.say(&Reply::Complete(Complete { oid, path: None, error: Some(error) })),
        }
    }

    /// Reports the progress of an object, if it is news.
    fn report(&self, reported: &Mutex<Reported>, bytes: u64) -> std::io::Result<()> {
        report(&self.output, reported, bytes)
    }

    fn say(&self, reply: &Reply<'_>) -> std::io::Result<()> {
        write_line(&mut *locked(&self.output), reply)
    }
}

fn report<W: Write>(output: &Mutex<W>, reported: &Mutex<Reported>, bytes: u64) -> std::io::Result<()> {
    let mut reported = locked(reported);
    let news = reported.advance(bytes);
    news.map_or(Ok(()), |news| write_line(&mut *locked(output), &news))
}

/// An object that git-lfs asks for.
struct Wanted {
    oid: Oid,
    size_bytes: u64,
    /// The file to upload. None for a download.
    path: Option<PathBuf>,
}

impl Wanted {
    fn direction(&self) -> Direction {
        if self.path.is_some() { Direction::Upload } else { Direction::Download }
    }
}

/// The work on one object. It may run on a thread of its own.
struct Work<T> {
    wanted: Wanted,
    engine: Arc<T>,
    progress: Arc<Progress>,
    events: Sender<Event>,
}

impl<T: Transfer> Work<T> {
    /// Moves the object, and sends the result to the session. A panic becomes an error.
    fn run(self) {
        let moved = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.move_object()));
        let done = moved
            .unwrap_or_else(|_| Err(Error::internal("the transfer panicked, which is a bug of git-lfs-cdc")));
        let _ = self.events.send(Event::Done(done.map(|path| path.map(Download::at))));
    }

    fn move_object(&self) -> Result<Option<PathBuf>> {
        let Wanted { oid, size_bytes, path } = &self.wanted;
        match path {
            Some(path) => self.engine.upload(oid, *size_bytes, path, &self.progress).map(|()| None),
            None => self.engine.download(oid, *size_bytes, &self.progress).map(Some),
        }
    }
}

/// The progress of an object as git-lfs knows it.
struct Reported {
    oid: String,
    size_bytes: u64,
    bytes: u64,
    at: Instant,
}

impl Reported {
    /// Returns the line that reports `bytes`, unless they are no news. The bytes are never more than the
    /// size, and never fewer than before.
    fn advance(&mut self, bytes: u64) -> Option<Reply<'_>> {
        let bytes = bytes.min(self.size_bytes);
        let since = bytes.checked_sub(self.bytes).filter(|since| *since > 0)?;
        let soon = self.at.elapsed() < Duration::from_millis(PROGRESS_INTERVAL_MS);
        if soon && self.bytes > 0 && bytes < self.size_bytes {
            return None;
        }
        (self.bytes, self.at) = (bytes, Instant::now());
        Some(Reply::Progress(message::Progress {
            oid: &self.oid,
            bytes_so_far: bytes,
            bytes_since_last: since,
        }))
    }
}
