//! The events of a session: the lines of its client, and the end of the object that it moves.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::error::Result;
use crate::local::partial_download;
use crate::threads;
use crate::units::MIB;

/// Most bytes of a line of the protocol; a longer line is refused. git-lfs's own are below 10 KiB.
pub(crate) const PROTOCOL_LINE_BYTES: usize = MIB;

/// An event of a session.
pub(super) enum Event {
    Line(Vec<u8>),
    /// A line that was too long, and was dropped.
    Oversized,
    End,
    /// The result of an object.
    Done(Result<Option<Download>>),
}

/// A finished download that git-lfs does not know of yet. If git-lfs never
/// hears about the file, it is kept for the next download or removed.
pub(super) struct Download(PathBuf);

impl Download {
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.0.clone()
    }

    /// Notes that git-lfs knows of the file, which belongs to git-lfs from now on.
    pub(super) fn was_told(mut self) {
        self.0.clear();
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        partial_download::give_back(&self.0);
    }
}

/// The events of one session, in the order in which they came.
pub(super) struct Inbox<R> {
    /// The input, while no other thread reads it.
    input: Option<BufReader<R>>,
    sender: Sender<Event>,
    receiver: Receiver<Event>,
    /// Events that came while an object was under way.
    waiting: VecDeque<Event>,
}

impl<R: Read + Send + 'static> Inbox<R> {
    pub(super) fn new(input: R) -> Self {
        let (sender, receiver) = unbounded();
        Self { input: Some(BufReader::new(input)), sender, receiver, waiting: VecDeque::new() }
    }

    /// Returns a sender for events from other threads.
    pub(super) fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// Waits for the next event. Reads lines on this thread as long as no other thread reads them.
    pub(super) fn next(&mut self) -> Event {
        match (self.waiting.pop_front(), &mut self.input) {
            (Some(event), _) => event,
            (None, Some(input)) => read_event(input),
            (None, None) => self.receiver.recv().unwrap_or(Event::End),
        }
    }

    /// Waits until `deadline` for an event from another thread. That includes lines if another thread reads
    /// them.
    pub(super) fn next_before(&self, deadline: Instant) -> Option<Event> {
        self.receiver.recv_deadline(deadline).ok()
    }

    /// Keeps an event until the object under way is done.
    pub(super) fn put_off(&mut self, event: Event) {
        self.waiting.push_back(event);
    }

    /// Lets another thread read from now on. Nothing changes if the system refuses one.
    pub(super) fn read_elsewhere(&mut self) -> Result<()> {
        if self.input.is_none() {
            return Ok(());
        }
        let (to_thread, from_session) = bounded(1);
        let events = self.sender();
        let read = move || {
            let reader = Reader { events };
            if let Ok(input) = from_session.recv() {
                reader.read(input);
            }
        };
        threads::spawn("input", read).map_err(|refused| refused.error)?;
        // only now, because a refused thread would take the input with it
        if let Some(input) = self.input.take() {
            let _ = to_thread.send(input);
        }
        Ok(())
    }
}

/// The thread that reads. However it ends, it tells the session.
struct Reader {
    events: Sender<Event>,
}

impl Reader {
    fn read(&self, mut input: impl BufRead) {
        loop {
            let event = read_event(&mut input);
            let is_last = matches!(event, Event::End);
            if is_last || self.events.send(event).is_err() {
                return;
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.events.send(Event::End);
    }
}

/// Reads the next line, or the end.
fn read_event(input: &mut impl BufRead) -> Event {
    let mut line = Vec::new();
    let limit = PROTOCOL_LINE_BYTES as u64;
    let read = input.by_ref().take(limit + 1).read_until(b'\n', &mut line);
    match line.last() {
        _ if !matches!(read, Ok(1..)) => Event::End,
        Some(b'\n') => Event::Line(line),
        _ if line.len() as u64 > limit => match input.skip_until(b'\n') {
            Ok(_) => Event::Oversized,
            Err(_) => Event::End,
        },
        // the last line has no end: the request may have been cut off, and git-lfs waits for no answer
        _ => Event::End,
    }
}
