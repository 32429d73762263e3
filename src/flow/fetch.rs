//! Fetching the terms of an object: neighbouring ranges of a block merged into one request, several
//! requests under way, in the memory that all downloads share. A range that another download is fetching, or
//! has just fetched, is taken from there.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, bounded};

use super::Settings;
use super::buffers::{Buffers, Share};
use super::index::Found;
use super::progress::{Moving, Progress};
use super::unpack::{self, Decoders, Failed};
use super::windows::{Arrival, Source, Wanted, Window, Windows};
use crate::error::{Error, Kind, Result};
use crate::format::block::Summary;
use crate::format::recipe::Term;
use crate::id::Oid;
use crate::limit;
use crate::local::scratch::ScratchFile;
use crate::store::{Reach, Store};

/// A term, and where it begins in the object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub term: Term,
    pub start: u64,
}

/// One request: a range of a block, and the terms that it serves.
pub(super) struct Fetch {
    block: Summary,
    pub range: Range<u32>,
    content_bytes: u64,
    pub terms: Vec<Placed>,
    /// What others fetched could not be used: this time by itself.
    is_alone: bool,
}

/// What the downloads of an engine share.
pub(super) struct Shared {
    buffers: Arc<Buffers>,
    windows: Windows,
    decoders: Decoders,
}

impl Shared {
    pub(super) fn new(reach: Reach, settings: &Settings) -> Self {
        let memory_bytes = settings.memory_bytes - settings.memory_bytes / limit::MEMORY_RESERVE_SHARE;
        // as much as fills a link: what is on its way when downloads are interrupted is fetched again
        let on_its_way = reach.fetches_in_flight as u64 * u64::from(reach.fetch_bytes);
        let most_bytes = memory_bytes.min(on_its_way);
        let windows = Windows::new(reach, most_bytes / limit::WINDOWS_SHARE);
        Self { buffers: Buffers::new(most_bytes), windows, decoders: Decoders::default() }
    }

    /// The most memory that fetched bytes ever took.
    #[cfg(test)]
    pub(super) fn peak_bytes(&self) -> u64 {
        self.buffers.peak_bytes()
    }
}

/// The terms of an object, in their order.
pub(super) fn terms(found: &Found) -> Vec<Placed> {
    let mut end = 0;
    let place = |term: &Term| {
        let start = end;
        end += u64::from(term.content_bytes);
        Placed { term: *term, start }
    };
    found.record.terms.iter().map(place).collect()
}

/// Orders terms by block and place, and merges what lies close together.
fn plan(found: &Found, mut terms: Vec<Placed>, reach: Reach) -> VecDeque<Fetch> {
    terms.sort_by_key(|Placed { term, start }| (term.block, term.frames_offset, term.skip_bytes, *start));
    let mut fetches: Vec<Fetch> = Vec::new();
    for placed in terms {
        let term = placed.term;
        let block = found.blocks[term.block as usize];
        match fetches.last_mut() {
            Some(last)
                if last.block.id == block.id
                    && term.frames_offset <= last.range.end.saturating_add(reach.fetch_gap_bytes)
                    && last.range.len() < reach.fetch_bytes as usize
                    && last.content_bytes < limit::FETCH_CONTENT_BYTES =>
            {
                last.range.end = last.range.end.max(term.frames_end());
                last.terms.push(placed);
                last.content_bytes += u64::from(term.content_bytes);
            }
            _ => {
                let range = term.frames_offset..term.frames_end();
                let content_bytes = u64::from(term.content_bytes);
                fetches.push(Fetch { block, range, content_bytes, terms: vec![placed], is_alone: false });
            }
        }
    }
    // in the order of the object, so that progress is steady
    fetches.sort_by_key(|fetch| fetch.terms.iter().map(|placed| placed.start).min());
    fetches.into()
}

/// Fetches `terms` of an object into `file`.
pub(super) fn fetch(
    (store, shared): (&Store, &Shared),
    found: &Found,
    terms: Vec<Placed>,
    file: &ScratchFile,
    progress: &Progress,
) -> Result<()> {
    let reach = store.reach();
    let mut fetches = plan(found, terms, reach);
    let job = Job { store, shared, reach, found, file, progress, outcome: Mutex::default() };
    while !fetches.is_empty() {
        job.run(fetches);
        let mut outcome = job.outcome();
        if let Some(error) = outcome.failed.take() {
            return Err(error);
        }
        fetches = std::mem::take(&mut outcome.again);
    }
    Ok(())
}

/// One object's fetches.
struct Job<'a> {
    store: &'a Store,
    shared: &'a Shared,
    reach: Reach,
    found: &'a Found,
    file: &'a ScratchFile,
    progress: &'a Progress,
    outcome: Mutex<Outcome>,
}

#[derive(Default)]
struct Outcome {
    failed: Option<Error>,
    /// Fetches that are made once more, alone.
    again: VecDeque<Fetch>,
}

/// A fetch that is on its way.
struct Coming {
    fetch: Fetch,
    moving: Arc<Moving>,
    window: Arc<Window>,
    /// Whether the request was made for this fetch, and for nothing else.
    is_own: bool,
}

impl Job<'_> {
    fn oid(&self) -> Oid {
        self.found.record.oid
    }

    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends requests, and has what comes of them unpacked on all cores. Returns when all is done, or one has
    /// failed and no more is under way.
    fn run(&self, mut fetches: VecDeque<Fetch>) {
        let workers = rayon::current_num_threads().clamp(1, self.reach.fetches_in_flight);
        let (slot, slots) = bounded(workers);
        rayon::in_place_scope_fifo(|scope| {
            let mut under_way = VecDeque::new();
            loop {
                let next = self.progress.check().and_then(|()| {
                    self.send(&mut fetches, &mut under_way)?;
                    let Some(coming) = under_way.pop_front() else { return Ok(None) };
                    self.receive(coming)
                });
                let coming = match next {
                    Ok(Some(coming)) => coming,
                    // what is left is made again, or nothing is
                    Ok(None) if under_way.is_empty() && fetches.is_empty() => return,
                    Ok(None) => continue,
                    Err(error) => return self.fail(error),
                };
                // as many as there are cores: the others keep their memory until it is their turn
                let slots: Receiver<()> = slots.clone();
                if self.outcome().failed.is_some() || slot.send(()).is_err() {
                    return;
                }
                scope.spawn_fifo(move |_| {
                    // rayon would unwind in the thread that waits for it
                    let work = std::panic::AssertUnwindSafe(|| self.unpack(coming));
                    if std::panic::catch_unwind(work).is_err() {
                        self.fail(Error::internal("unpacking an object panicked"));
                    }
                    let _ = slots.recv();
                });
            }
        });
    }

    /// Sends as many requests as may be under way; one at least, when there is memory for it.
    fn send(&self, fetches: &mut VecDeque<Fetch>, under_way: &mut VecDeque<Coming>) -> Result<()> {
        while under_way.len() < self.reach.fetches_in_flight
            && let Some(fetch) = fetches.front()
        {
            let Some(source) = self.source(fetch, under_way.is_empty())? else { break };
            let Some(fetch) = fetches.pop_front() else { break };
            under_way.push_back(self.begin(fetch, source));
        }
        Ok(())
    }

    /// Where a fetch's bytes are to come from. Nothing if there is no memory for it now, unless `waits`.
    fn source(&self, fetch: &Fetch, waits: bool) -> Result<Option<Source>> {
        let Shared { buffers, windows, .. } = self.shared;
        let source = |take: &dyn Fn(usize) -> Option<(Vec<u8>, Share)>| {
            if fetch.is_alone {
                let (buffer, share) = take(fetch.range.len())?;
                return Some(Source::New(Window::new(fetch.range.clone(), share), buffer));
            }
            let most = self.reach.fetch_gap_bytes;
            let is_small =
                self.found.record.size_bytes <= u64::from(most) && fetch.range.len() <= most as usize;
            let (block, range) = (&fetch.block, fetch.range.clone());
            windows.source(&Wanted { block, range, object: self.oid(), is_small }, take)
        };
        let source_now = source(&|bytes| buffers.try_take(bytes));
        if source_now.is_some() || !waits {
            return Ok(source_now);
        }
        // others may fetch the same meanwhile, and then it is given back
        let reserved = Cell::new(Some(buffers.take(fetch.range.len(), self.progress)?));
        let take = |bytes: usize| match bytes == fetch.range.len() {
            true => reserved.take(),
            false => buffers.try_take(bytes),
        };
        Ok(source(&take))
    }

    fn begin(&self, fetch: Fetch, source: Source) -> Coming {
        let (window, buffer) = match source {
            Source::Shared(window) => (window, None),
            Source::New(window, buffer) => (window, Some(buffer)),
        };
        let (is_own, stored_bytes) = (buffer.is_some() && window.range == fetch.range, window.range.len());
        let moving = self.progress.depart(fetch.content_bytes, stored_bytes as u64, window.moved.clone());
        if let Some(buffer) = buffer {
            let (arrival, range) = (Arrival::of(&window), window.range.clone());
            let pending = self.store.get_block_range(&fetch.block.id, range, buffer, &window.moved);
            pending.hand_to(|answer| arrival.arrive(answer));
        }
        Coming { fetch, moving, window, is_own }
    }

    /// Waits for a fetch's bytes. Nothing if it is to be made again.
    fn receive(&self, coming: Coming) -> Result<Option<Coming>> {
        let came = coming.window.wait(&coming.fetch.range, self.progress).map(drop);
        self.progress.arrive(&coming.moving);
        match came {
            Ok(()) => {
                tracing::debug!("{}: {} bytes are here", self.names(&coming.fetch), coming.fetch.range.len());
                Ok(Some(coming))
            }
            Err(e) => {
                self.progress.check()?;
                // of a part that is not ours, perhaps
                if !coming.is_own && matches!(e.kind(), Kind::Corrupt | Kind::Internal) {
                    self.make_again(coming);
                    return Ok(None);
                }
                Err(e.context(self.names(&coming.fetch)))
            }
        }
    }

    fn unpack(&self, coming: Coming) {
        let Coming { fetch, window, is_own, .. } = &coming;
        let mut written_bytes = 0;
        let written = |bytes| {
            written_bytes += bytes;
            self.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        };
        let unpacked = window.bytes(&fetch.range).and_then(|bytes| {
            let decoders = &self.shared.decoders;
            decoders.lend(|decoder| Ok(unpack::unpack(fetch, bytes, decoder, self.file, written)))
        });
        let error = match unpacked {
            Ok(Ok(())) => return,
            Ok(Err(Failed::Damaged(_))) if !is_own => {
                self.progress.bytes.fetch_sub(written_bytes, Ordering::Relaxed);
                self.shared.windows.forget(&fetch.block.id, window);
                return self.make_again(coming);
            }
            Ok(Err(Failed::Damaged(e))) => {
                self.shared.windows.forget(&fetch.block.id, window);
                e.context(self.names(fetch))
                    .remedy("the block is damaged in the store: restore it from a backup")
            }
            Ok(Err(Failed::Unwritten(e))) | Err(e) => e,
        };
        self.fail(error);
    }

    fn make_again(&self, coming: Coming) {
        tracing::debug!("{}: fetched once more, alone", self.names(&coming.fetch));
        self.outcome().again.push_back(Fetch { is_alone: true, ..coming.fetch });
    }

    /// The first error counts.
    fn fail(&self, error: Error) {
        self.outcome().failed.get_or_insert(error);
    }

    fn names(&self, fetch: &Fetch) -> String {
        format!("object {}, block {}", self.oid(), fetch.block.id)
    }
}
