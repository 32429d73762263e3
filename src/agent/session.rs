//! One session: a state machine between the lines of git-lfs and an engine.
//!
//! Every line but `terminate` gets exactly one final answer, whatever is in it, so that the stream
//! never falls out of step. One thread writes, one reads, and one opens the store and moves objects; so
//! the end of the input is noticed whatever the store is doing.

use std::collections::VecDeque;
use std::io::{BufRead, Read, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::message::{self, Complete, Failure, Init, Reply, Request};
use crate::error::{Error, Result};
use crate::flow::{Progress, Transfer};
use crate::id::Oid;
use crate::limit;
use crate::local::scratch;
use crate::repo::Direction;

/// How long a transfer may take to clean up when the input has ended.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long an engine may take to finish when git-lfs has said that it has no more objects; git-lfs itself
/// waits for 30 s.
const FINISH: Duration = Duration::from_secs(15);

/// What the main thread waits for.
enum Event {
    Line(Vec<u8>),
    /// A line that was too long to be kept.
    Oversized,
    End,
    /// What came of an object.
    Done(Result<Option<Download>>),
}

/// A finished download that git-lfs was not told of yet: if it never is, nobody will come for it.
struct Download(PathBuf);

impl Drop for Download {
    fn drop(&mut self) {
        scratch::give_back(&self.0);
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// git-lfs has no more objects.
    Asked,
    /// git-lfs is gone, or was interrupted.
    Left,
}

/// Where the session stands.
enum State<T> {
    /// Nothing was said yet.
    New,
    /// `init` was answered.
    Ready { direction: Direction, engine: Arc<T> },
}

/// Serves git-lfs until it says `terminate` or its end of the pipe closes. `engine` makes what moves its objects; it
/// must not wait for anything, as `init` is answered after it. Fails only if answers can't be written any more.
pub fn run<T: Transfer + 'static>(
    input: impl Read + Send + 'static,
    output: impl Write,
    engine: impl Fn(Init) -> Arc<T>,
) -> std::io::Result<()> {
    let (events, received) = unbounded();
    let lines = events.clone();
    std::thread::spawn(move || read_lines(std::io::BufReader::new(input), &lines));
    let mut session =
        Session { output, events, received, waiting: VecDeque::new(), engine, state: State::New };
    let served = session.serve();
    if matches!(served, Ok(Ending::Asked)) {
        session.finish();
    }
    if let State::Ready { engine, .. } = &session.state {
        engine.leave();
    }
    served.map(drop)
}

/// Sends each line as an event, then the end.
fn read_lines(mut input: impl BufRead, events: &Sender<Event>) {
    loop {
        let mut line = Vec::new();
        let limit = limit::PROTOCOL_LINE_BYTES as u64;
        let read = input.by_ref().take(limit + 1).read_until(b'\n', &mut line);
        let ended = !matches!(read, Ok(1..));
        let event = match line.last() {
            _ if ended => Event::End,
            Some(b'\n') => Event::Line(line),
            _ if line.len() as u64 > limit => match input.skip_until(b'\n') {
                Ok(_) => Event::Oversized,
                Err(_) => Event::End,
            },
            // the last line has no end: a request may have been cut off, so nobody waits for it
            _ => Event::End,
        };
        let last = matches!(event, Event::End);
        if events.send(event).is_err() || last {
            return;
        }
    }
}

struct Session<T, W, F> {
    output: W,
    events: Sender<Event>,
    received: Receiver<Event>,
    /// What came while an object was under way.
    waiting: VecDeque<Event>,
    engine: F,
    state: State<T>,
}

impl<T, W, F> Session<T, W, F>
where
    T: Transfer + 'static,
    W: Write,
    F: Fn(Init) -> Arc<T>,
{
    fn serve(&mut self) -> std::io::Result<Ending> {
        loop {
            let event = match self.waiting.pop_front() {
                Some(event) => event,
                None => self.received.recv().unwrap_or(Event::End),
            };
            match event {
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
                    let limit = limit::PROTOCOL_LINE_BYTES;
                    let error = Error::invalid(format!("git-lfs sent a line of more than {limit} bytes"));
                    self.reject("", &error)?;
                }
                Event::End => return Ok(Ending::Left),
                // no transfer is under way
                Event::Done(_) => {}
            }
        }
    }

    /// Answers one request. Breaks when the session ended meanwhile.
    fn answer(&mut self, request: Request) -> std::io::Result<ControlFlow<()>> {
        match (request, &self.state) {
            (Request::Init(init), State::New) => {
                let direction = init.direction;
                let engine = (self.engine)(init);
                self.state = State::Ready { direction, engine: engine.clone() };
                self.say(&Reply::Ready {})?;
                std::thread::spawn(move || engine.prepare());
            }
            (Request::Init(_), State::Ready { .. }) => {
                self.reject("", &Error::invalid("git-lfs sent init twice"))?;
            }
            (Request::Upload { oid, size_bytes, path }, _) => {
                let work = move |engine: &T, progress: &Arc<Progress>| {
                    engine.upload(&oid, size_bytes, &path, progress).map(|()| None)
                };
                return self.transfer(Direction::Upload, oid, size_bytes, work);
            }
            (Request::Download { oid, size_bytes }, _) => {
                let work = move |engine: &T, progress: &Arc<Progress>| {
                    engine.download(&oid, size_bytes, progress).map(Some)
                };
                return self.transfer(Direction::Download, oid, size_bytes, work);
            }
            (Request::Terminate, _) => return Ok(ControlFlow::Break(())),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Moves one object: progress at once and then now and again, and one final answer. Breaks when
    /// the session ended meanwhile.
    fn transfer(
        &mut self,
        wanted: Direction,
        oid: Oid,
        size_bytes: u64,
        work: impl FnOnce(&T, &Arc<Progress>) -> Result<Option<PathBuf>> + Send + 'static,
    ) -> std::io::Result<ControlFlow<()>> {
        let oid = oid.to_string();
        let mut reported = Reported { oid: &oid, size_bytes, bytes: 0, at: Instant::now() };
        // git-lfs holds the other agents back until it sees progress above zero
        if let Some(first) = reported.advance(1) {
            self.say(&first)?;
        }
        let progress = Arc::new(Progress::default());
        let done = match self.start(wanted, progress.clone(), work) {
            Ok(()) => match self.follow(&progress, &mut reported)? {
                Some(done) => done,
                None => return Ok(ControlFlow::Break(())),
            },
            Err(error) => Err(error),
        };
        match done {
            Ok(download) => {
                if let Some(last) = reported.advance(size_bytes) {
                    self.say(&last)?;
                }
                let path = download.as_ref().map(|download| download.0.clone());
                self.say(&Reply::Complete(Complete { oid: &oid, path, error: None }))?;
                download.into_iter().for_each(|mut told| told.0.clear());
            }
            Err(error) => self.reject(&oid, &error)?,
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Starts the work on a thread of its own: it takes a store that may not answer.
    fn start(
        &mut self,
        wanted: Direction,
        progress: Arc<Progress>,
        work: impl FnOnce(&T, &Arc<Progress>) -> Result<Option<PathBuf>> + Send + 'static,
    ) -> Result<()> {
        let State::Ready { direction, engine } = &self.state else {
            return Err(Error::invalid("git-lfs asked for an object before init"));
        };
        if *direction != wanted {
            let error = format!("git-lfs asked for {wanted:?} in a session for {direction:?}");
            return Err(Error::invalid(error));
        }
        let (engine, events) = (engine.clone(), self.events.clone());
        std::thread::spawn(move || {
            let work = std::panic::AssertUnwindSafe(|| work(&engine, &progress));
            let panicked = Error::internal("the transfer panicked, which is a bug of ours");
            let done = std::panic::catch_unwind(work).unwrap_or(Err(panicked));
            let _ = events.send(Event::Done(done.map(|path| path.map(Download))));
        });
        Ok(())
    }

    /// Reports progress until the transfer is done. Nothing comes of it if git-lfs has ended the session, or
    /// hears nothing any more: then the transfer is asked to stop, and gets a moment to clean up.
    fn follow(
        &mut self,
        progress: &Progress,
        reported: &mut Reported<'_>,
    ) -> std::io::Result<Option<Result<Option<Download>>>> {
        let mut said = Ok(());
        while said.is_ok() {
            match self.received.recv_timeout(Duration::from_millis(limit::PROGRESS_INTERVAL_MS)) {
                Ok(Event::Done(done)) => return Ok(Some(done)),
                Ok(Event::End) => break,
                Ok(Event::Line(line)) if matches!(Request::parse(&line), Ok(Request::Terminate)) => break,
                // git-lfs waits for our answer before it asks again; whoever doesn't is served in turn
                Ok(event) => self.waiting.push_back(event),
                Err(_) => said = reported.advance(progress.done()).map_or(Ok(()), |now| self.say(&now)),
            }
        }
        progress.cancel();
        let farewell = Instant::now() + FAREWELL;
        while let Ok(event) = self.received.recv_deadline(farewell) {
            if matches!(event, Event::Done(_)) {
                break;
            }
        }
        said.map(|()| None)
    }

    /// Lets the engine finish, for a while: nobody waits for what it does then.
    fn finish(&mut self) {
        let State::Ready { engine, .. } = &self.state else { return };
        let (engine, (done, finished)) = (engine.clone(), crossbeam_channel::bounded(1));
        std::thread::spawn(move || {
            engine.finish();
            let _ = done.send(());
        });
        let _ = finished.recv_timeout(FINISH);
    }

    /// The final answer to a line that can't be served.
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

    fn say(&mut self, reply: &Reply<'_>) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(reply)?;
        line.push(b'\n');
        self.output.write_all(&line)?;
        self.output.flush()
    }
}

/// What git-lfs was told of an object's progress.
struct Reported<'a> {
    oid: &'a str,
    size_bytes: u64,
    bytes: u64,
    at: Instant,
}

impl<'a> Reported<'a> {
    /// The line that reports `bytes`, unless that is no news. Never more than the size, never less
    /// than before.
    fn advance(&mut self, bytes: u64) -> Option<Reply<'a>> {
        let bytes = bytes.min(self.size_bytes);
        let since = bytes.checked_sub(self.bytes).filter(|since| *since > 0)?;
        let soon = self.at.elapsed() < Duration::from_millis(limit::PROGRESS_INTERVAL_MS);
        if soon && self.bytes > 0 && bytes < self.size_bytes {
            return None;
        }
        (self.bytes, self.at) = (bytes, Instant::now());
        Some(Reply::Progress(message::Progress {
            oid: self.oid,
            bytes_so_far: bytes,
            bytes_since_last: since,
        }))
    }
}
