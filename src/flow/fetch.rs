//! Fetching the terms of an object: neighbouring ranges of a block merged into one request, several
//! requests under way, every frame unpacked once, every term verified.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::Xxh3;

use super::Progress;
use super::index::Found;
use crate::error::{Error, Result};
use crate::format::frame::{Decoder, Frame};
use crate::format::recipe::Term;
use crate::id::{BlockId, Oid};
use crate::limit;
use crate::local::scratch::ScratchFile;
use crate::store::{Pending, Store};

/// One request: a range of a block, and the terms that it serves, each with its offset in the object.
struct Fetch {
    block: BlockId,
    range: Range<u32>,
    terms: Vec<(Term, u64)>,
}

/// Orders the terms of an object by block and place, and merges what lies close together.
fn plan(found: &Found) -> Vec<Fetch> {
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
                    && term.frames_offset <= last.range.end.saturating_add(limit::FETCH_GAP_BYTES)
                    && last.range.len() < limit::FETCH_BYTES as usize =>
            {
                last.range.end = last.range.end.max(term.frames_end());
                last.terms.push((term, start));
            }
            _ => {
                let range = term.frames_offset..term.frames_end();
                fetches.push(Fetch { block, range, terms: vec![(term, start)] });
            }
        }
    }
    // in the order of the object, so that progress is steady
    fetches.sort_by_key(|fetch| fetch.terms.iter().map(|(_, start)| *start).min());
    fetches
}

/// Fetches every term of a record into `file`.
pub(super) fn fetch(store: &Store, found: &Found, file: &ScratchFile, progress: &Progress) -> Result<()> {
    let fetches = plan(found);
    let workers = rayon::current_num_threads().clamp(1, limit::FETCHES_IN_FLIGHT).min(fetches.len());
    let ahead = (limit::FETCHES_IN_FLIGHT / workers.max(1)).max(1);
    let queue = Mutex::new(fetches.into_iter());
    let failed = AtomicBool::new(false);
    let job = Job { store, oid: &found.record.oid, file, progress, queue: &queue, failed: &failed };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(|| job.work(ahead))).collect();
        let panicked = |_| Err(Error::internal("unpacking an object panicked"));
        // all are joined before the first error counts
        let results: Vec<Result<()>> =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(panicked)).collect();
        results.into_iter().collect()
    })
}

struct Job<'a> {
    store: &'a Store,
    oid: &'a Oid,
    file: &'a ScratchFile,
    progress: &'a Progress,
    queue: &'a Mutex<std::vec::IntoIter<Fetch>>,
    failed: &'a AtomicBool,
}

impl<'a> Job<'a> {
    /// Takes fetches until none is left, with `ahead` of them under way.
    fn work(&self, ahead: usize) -> Result<()> {
        let mut decoder = Decoder::new()?;
        let mut under_way: VecDeque<(Fetch, Pending<'a, Vec<u8>>)> = VecDeque::new();
        let mut buffers = Vec::new();
        loop {
            while under_way.len() < ahead
                && let Some(fetch) = self.queue.lock().unwrap_or_else(PoisonError::into_inner).next()
            {
                let buffer = buffers.pop().unwrap_or_default();
                let pending = self.store.get_block_range(&fetch.block, fetch.range.clone(), buffer);
                under_way.push_back((fetch, pending));
            }
            let Some((fetch, pending)) = under_way.pop_front() else { return Ok(()) };
            let done = self.progress.check().and_then(|()| {
                let bytes = pending.wait().map_err(|e| e.context(self.names(&fetch)))?;
                self.unpack(&fetch, &bytes, &mut decoder)?;
                buffers.push(bytes);
                Ok(())
            });
            if let Err(error) = done {
                self.failed.store(true, Ordering::Relaxed);
                return Err(error);
            }
            if self.failed.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    fn names(&self, fetch: &Fetch) -> String {
        format!("object {}, block {}", self.oid, fetch.block)
    }

    /// Unpacks each frame of the range that a term needs, once, and writes what the terms take of it.
    fn unpack(&self, fetch: &Fetch, bytes: &[u8], decoder: &mut Decoder) -> Result<()> {
        let mut waiting = fetch.terms.iter().peekable();
        let mut open: Vec<OpenTerm> = Vec::new();
        let mut position = fetch.range.start;
        while let Some((next, _)) = waiting.peek().copied() {
            // between terms may lie frames that nobody wants
            if open.is_empty() {
                position = position.max(next.frames_offset);
            }
            self.unpack_frame(fetch, bytes, decoder, &mut position, &mut waiting, &mut open)?;
        }
        while !open.is_empty() {
            self.unpack_frame(fetch, bytes, decoder, &mut position, &mut waiting, &mut open)?;
        }
        Ok(())
    }

    /// Unpacks the frame at `position`, opens the terms that begin in it, and closes those that end.
    fn unpack_frame<'t>(
        &self,
        fetch: &Fetch,
        bytes: &[u8],
        decoder: &mut Decoder,
        position: &mut u32,
        waiting: &mut std::iter::Peekable<impl Iterator<Item = &'t (Term, u64)>>,
        open: &mut Vec<OpenTerm>,
    ) -> Result<()> {
        let at = *position;
        let damaged = |e: Error| {
            e.context(format!("{}, frame at byte {at}", self.names(fetch))).remedy(
                "the block is damaged in the store: restore it from a backup, or push the object again \
                 from a clone that has it after removing it from the store",
            )
        };
        let rest = bytes.get((at - fetch.range.start) as usize..).unwrap_or_default();
        let frame = Frame::first(rest).map_err(damaged)?;
        let content = decoder.decode(&frame).map_err(damaged)?;
        while let Some((term, start)) = waiting.next_if(|(term, _)| term.frames_offset <= at) {
            if term.frames_offset < at {
                return Err(damaged(Error::corrupt("a term begins inside a frame")));
            }
            open.push(OpenTerm {
                term: *term,
                skip: term.skip_bytes,
                start: *start,
                done: 0,
                checksum: Xxh3::new(),
            });
        }
        for term in open.iter_mut() {
            let piece = term.take(content).map_err(damaged)?;
            self.file.write_at(piece, term.start + u64::from(term.done) - piece.len() as u64)?;
            self.progress.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        *position += frame.stored.len() as u32;
        let end = *position;
        for term in open.iter().filter(|term| end >= term.term.frames_end()) {
            term.verify().map_err(damaged)?;
        }
        open.retain(|term| end < term.term.frames_end());
        Ok(())
    }
}

/// A term whose frames are being unpacked.
struct OpenTerm {
    term: Term,
    /// Bytes of the next frame that do not belong to it.
    skip: u32,
    /// Where it begins in the object.
    start: u64,
    done: u32,
    checksum: Xxh3,
}

impl OpenTerm {
    /// What of a frame's content belongs to the term.
    fn take<'c>(&mut self, content: &'c [u8]) -> Result<&'c [u8]> {
        let from = self.skip as usize;
        let wanted = (self.term.content_bytes - self.done) as usize;
        let to = content.len().min(from.saturating_add(wanted));
        let piece = content.get(from..to);
        let piece = piece.ok_or_else(|| Error::corrupt("a term begins behind its frame"))?;
        self.skip = 0;
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
