//! Fetching the terms of an object: neighbouring ranges of a block merged into one request, several
//! requests under way, every frame unpacked once, every term verified.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::Xxh3;

use super::index::Found;
use super::progress::{Moving, Progress};
use crate::error::{Error, Result};
use crate::format::frame::{Decoder, Frame};
use crate::format::recipe::Term;
use crate::id::{BlockId, Oid};
use crate::limit;
use crate::local::scratch::ScratchFile;
use crate::store::{Moved, Pending, Reach, Store};

/// One request: a range of a block, and the terms that it serves, each with its offset in the object.
struct Fetch {
    block: BlockId,
    range: Range<u32>,
    content_bytes: u64,
    terms: Vec<(Term, u64)>,
}

/// Orders the terms of an object by block and place, and merges what lies close together.
fn plan(found: &Found, reach: Reach) -> Vec<Fetch> {
    let mut offset = 0;
    let place = |term: &Term| {
        let start = offset;
        offset += u64::from(term.content_bytes);
        (*term, start)
    };
    let mut terms: Vec<(Term, u64)> = found.record.terms.iter().map(place).collect();
    terms.sort_by_key(|(term, start)| (term.block, term.frames_offset, term.skip_bytes, *start));
    let mut fetches: Vec<Fetch> = Vec::new();
    for (term, start) in terms {
        let block = found.blocks[term.block as usize].id;
        match fetches.last_mut() {
            Some(last)
                if last.block == block
                    && term.frames_offset <= last.range.end.saturating_add(reach.fetch_gap_bytes)
                    && last.range.len() < reach.fetch_bytes as usize
                    && last.content_bytes < limit::FETCH_CONTENT_BYTES =>
            {
                last.range.end = last.range.end.max(term.frames_end());
                last.terms.push((term, start));
                last.content_bytes += u64::from(term.content_bytes);
            }
            _ => {
                let range = term.frames_offset..term.frames_end();
                let content_bytes = u64::from(term.content_bytes);
                fetches.push(Fetch { block, range, content_bytes, terms: vec![(term, start)] });
            }
        }
    }
    // in the order of the object, so that progress is steady
    fetches.sort_by_key(|fetch| fetch.terms.iter().map(|(_, start)| *start).min());
    fetches
}

/// Fetches every term of a record into `file`.
pub(super) fn fetch(store: &Store, found: &Found, file: &ScratchFile, progress: &Progress) -> Result<()> {
    let reach = store.reach();
    let fetches = plan(found, reach);
    let workers = rayon::current_num_threads().clamp(1, reach.fetches_in_flight).min(fetches.len());
    let queue = Queue { waiting: fetches.into_iter(), under_way: VecDeque::new(), buffers: Vec::new() };
    let job = Job {
        store,
        oid: &found.record.oid,
        file,
        progress,
        in_flight: reach.fetches_in_flight,
        queue: Mutex::new(queue),
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(|| job.work())).collect();
        let panicked = |_| Err(Error::internal("unpacking an object panicked"));
        // all are joined before the first error counts
        let results: Vec<Result<()>> =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(panicked)).collect();
        results.into_iter().collect()
    })
}

/// What the workers share: whoever is ready takes the oldest request, so that none waits while another
/// has work in store.
struct Queue<'a> {
    waiting: std::vec::IntoIter<Fetch>,
    under_way: VecDeque<(Fetch, Coming<'a>)>,
    /// Buffers to be used again.
    buffers: Vec<Vec<u8>>,
}

/// A request that was sent.
struct Coming<'a> {
    moving: Arc<Moving>,
    bytes: Pending<'a, Vec<u8>>,
}

struct Job<'a> {
    store: &'a Store,
    oid: &'a Oid,
    file: &'a ScratchFile,
    progress: &'a Progress,
    in_flight: usize,
    queue: Mutex<Queue<'a>>,
}

impl<'a> Job<'a> {
    fn queue(&self) -> MutexGuard<'_, Queue<'a>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest request; as many as may be are sent before it is taken.
    fn next(&self) -> Option<(Fetch, Coming<'a>)> {
        let mut queue = self.queue();
        while queue.under_way.len() < self.in_flight
            && let Some(fetch) = queue.waiting.next()
        {
            let buffer = queue.buffers.pop().unwrap_or_default();
            let (content_bytes, stored_bytes) = (fetch.content_bytes, fetch.range.len() as u64);
            let moving = self.progress.depart(content_bytes, stored_bytes, Moved::default());
            let range = fetch.range.clone();
            let bytes = self.store.get_block_range(&fetch.block, range, buffer, &moving.moved);
            queue.under_way.push_back((fetch, Coming { moving, bytes }));
        }
        queue.under_way.pop_front()
    }

    /// Takes requests until none is left, or one has failed.
    fn work(&self) -> Result<()> {
        let mut decoder = Decoder::new()?;
        while let Some((fetch, coming)) = self.next() {
            let done = self.progress.check().and_then(|()| {
                let bytes = coming.bytes.wait().map_err(|e| e.context(self.names(&fetch)))?;
                self.progress.arrive(&coming.moving);
                self.unpack(&fetch, &bytes, &mut decoder)?;
                self.queue().buffers.push(bytes);
                Ok(())
            });
            if done.is_err() {
                // nothing is left for the others
                let mut queue = self.queue();
                queue.waiting = Vec::new().into_iter();
                queue.under_way.clear();
                return done;
            }
        }
        Ok(())
    }

    fn names(&self, fetch: &Fetch) -> String {
        format!("object {}, block {}", self.oid, fetch.block)
    }

    /// Unpacks each frame of the range that a term needs, once, and writes what the terms take of it.
    fn unpack(&self, fetch: &Fetch, bytes: &[u8], decoder: &mut Decoder) -> Result<()> {
        let mut waiting = fetch.terms.iter().peekable();
        // terms that go on in the next frame
        let mut open: Vec<OpenTerm> = Vec::new();
        let mut position = fetch.range.start;
        loop {
            self.progress.check()?;
            match waiting.peek() {
                None if open.is_empty() => return Ok(()),
                // between terms may lie frames that nobody wants
                Some((next, _)) if open.is_empty() => position = position.max(next.frames_offset),
                _ => {}
            }
            let damaged = |e: Error| {
                e.context(format!("{}, frame at byte {position}", self.names(fetch)))
                    .remedy("the block is damaged in the store: restore it from a backup")
            };
            let rest = bytes.get((position - fetch.range.start) as usize..).unwrap_or_default();
            let frame = Frame::first(rest).map_err(damaged)?;
            let content = decoder.decode(&frame).map_err(damaged)?;
            let end = position + frame.stored.len() as u32;
            let mut still_open = Vec::new();
            let begins_here = |(term, _): &&(Term, u64)| term.frames_offset <= position;
            let beginning = std::iter::from_fn(|| waiting.next_if(begins_here)).map(OpenTerm::new);
            for mut term in open.into_iter().chain(beginning) {
                let piece = term.take(content, position).map_err(damaged)?;
                self.file.write_at(piece, term.start + u64::from(term.done) - piece.len() as u64)?;
                self.progress.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
                match end >= term.term.frames_end() {
                    true => term.verify().map_err(damaged)?,
                    false => still_open.push(term),
                }
            }
            open = still_open;
            position = end;
        }
    }
}

/// A term whose frames are being unpacked.
struct OpenTerm {
    term: Term,
    /// Where it begins in the object.
    start: u64,
    done: u32,
    checksum: Xxh3,
}

impl OpenTerm {
    fn new((term, start): &(Term, u64)) -> Self {
        Self { term: *term, start: *start, done: 0, checksum: Xxh3::new() }
    }

    /// What belongs to the term of the content of the frame at `position`.
    fn take<'c>(&mut self, content: &'c [u8], position: u32) -> Result<&'c [u8]> {
        let begins_here = self.term.frames_offset == position;
        if !begins_here && self.done == 0 {
            return Err(Error::corrupt("a term begins inside a frame"));
        }
        let from = if begins_here { self.term.skip_bytes as usize } else { 0 };
        let wanted = (self.term.content_bytes - self.done) as usize;
        let to = content.len().min(from.saturating_add(wanted));
        let piece = content.get(from..to).filter(|piece| !piece.is_empty());
        let piece = piece.ok_or_else(|| Error::corrupt("a term ends before its frames"))?;
        self.done += piece.len() as u32;
        self.checksum.update(piece);
        Ok(piece)
    }

    fn verify(&self) -> Result<()> {
        if self.done == self.term.content_bytes && self.checksum.digest() == self.term.checksum {
            return Ok(());
        }
        Err(Error::corrupt("a term's content fails its checksum"))
    }
}
