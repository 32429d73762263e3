//! The fetches of an object's terms, in memory that all downloads share.
//!
//! Neighbouring ranges of a block are one request, and several requests are under way. A range that another
//! download fetches, or has just fetched, is taken from its window. Kept ranges are read from this
//! machine's disk.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, bounded};
use rayon::ThreadPool;

use super::block_sources::{BlockSources, SharedFetches};
use super::buffer_pool::Share;
use super::decode::{self, Failed};
use super::delta::{Patcher, RESTORE_BLOCK};
use super::plan::{self, Extent, Fetch, Origin};
use super::single_flight::{Arrival, Source, Wanted, Window};
use super::spill::Spill;
use crate::download::plan::FETCH_CONTENT_BYTES;
use crate::error::{Error, Kind, Result};
use crate::id::{BlockId, Oid};
use crate::index::Found;
use crate::index::placed::{self, Placed};
use crate::local::partial_download::ScratchFile;
use crate::progress::{Moving, Progress};
use crate::store::Reach;
use crate::threads;
use crate::units::MIB;

/// Bytes of content in one piece of the delta frames that are unpacked together.
const DELTA_FETCH_CONTENT_BYTES: u64 = MIB as u64;
/// Fetches `terms` of an object into `file`. Takes bases from objects on this machine where they have them.
pub(super) fn fetch(
    sources: BlockSources<'_>,
    found: &Found,
    terms: Vec<Placed>,
    file: &ScratchFile,
    progress: &Progress,
) -> Result<()> {
    let BlockSources { store, shared, .. } = sources;
    let is_dependent = |placed: &Placed| !found.blocks[placed.term.block as usize].dependencies.is_empty();
    let is_all = terms.len() == placed::terms(found).len();
    let (dependent, mut others): (Vec<_>, Vec<_>) = terms.into_iter().partition(is_dependent);
    if !store.is_directory() && !dependent.is_empty() {
        // If no term of the object was here, its bases are not here either. Otherwise other local objects
        // mostly have the bases, except the small delta frames between.
        let bases = found.record.terms.iter().filter(|term| term.is_base());
        let bases = bases.map(|term| Placed { term: *term, start: 0 });
        others.extend(bases.filter(|placed| is_all || is_dependent(placed)));
        // fetched block by block, unpacked later
        others.extend(dependent.iter().map(Placed::without_content));
    }
    let spills = !dependent.is_empty() && !store.is_directory() && !shared.ranges.is_on();
    let spill = if spills { Some(Spill::new(file.beside()?)) } else { None };
    let patcher = Patcher::new(sources, spill, progress);
    let job = Job {
        sources,
        reach: store.reach(),
        found,
        file,
        progress,
        patcher,
        outcome: Mutex::default(),
        kept_bytes: AtomicU64::new(0),
        fetched_bytes: AtomicU64::new(0),
    };
    job.fetch(others, FETCH_CONTENT_BYTES)?;
    // A little of each block after the other, in the order of the object, because neighbours in an object
    // often have the same bases.
    job.fetch(dependent, DELTA_FETCH_CONTENT_BYTES)?;
    tracing::debug!(
        "object {}: {} bytes of blocks were kept on this machine, {} came from the store, {} for delta frames alone",
        job.oid(),
        job.kept_bytes.into_inner(),
        job.fetched_bytes.into_inner(),
        job.patcher.fetched_bytes.into_inner()
    );
    Ok(())
}

/// The fetches of one object.
struct Job<'a> {
    sources: BlockSources<'a>,
    reach: Reach,
    found: &'a Found,
    file: &'a ScratchFile,
    progress: &'a Progress,
    patcher: Patcher<'a>,
    outcome: Mutex<Outcome>,
    /// The bytes that were read from kept ranges.
    kept_bytes: AtomicU64,
    /// The bytes that were used of the store's answers.
    fetched_bytes: AtomicU64,
}

#[derive(Default)]
struct Outcome {
    failed: Option<Error>,
    /// The fetches that are made once more.
    again: VecDeque<Fetch>,
}

/// A fetch in flight.
struct Coming {
    fetch: Fetch,
    moving: Arc<Moving>,
    window: Arc<Window>,
    /// True if the request was made for this fetch.
    is_first: bool,
    /// The buffer for a kept range, which is read when its turn comes.
    to_fill: Option<Vec<u8>>,
}

impl Coming {
    /// Returns true if the request was made for this fetch alone.
    fn is_own(&self) -> bool {
        self.is_first && self.window.range == self.fetch.range
    }
}

impl Job<'_> {
    fn oid(&self) -> Oid {
        self.found.record.oid
    }

    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches terms, and again the terms that came damaged. `content_bytes` bounds the content of one
    /// fetch from a disk.
    fn fetch(&self, terms: Vec<Placed>, content_bytes: u64) -> Result<()> {
        let mut from_store = Extent::of(self.reach);
        if self.sources.store.is_directory() {
            from_store.content_bytes = content_bytes;
        }
        let from_disk = Extent { content_bytes, ..Extent::of_kept() };
        let kept = |block: &BlockId| self.patcher.kept(block);
        let cores = threads::cores()?;
        let mut fetches = plan::fetches(self.found, terms, from_store, (kept, from_disk));
        while !fetches.is_empty() {
            self.run(fetches, cores);
            let mut outcome = self.outcome();
            if let Some(error) = outcome.failed.take() {
                return Err(error);
            }
            fetches = std::mem::take(&mut outcome.again);
        }
        Ok(())
    }

    /// Sends requests, and unpacks the answers on all cores. Returns when all fetches are done, or when one
    /// has failed and no work is under way.
    fn run(&self, mut fetches: VecDeque<Fetch>, cores: &ThreadPool) {
        let workers = cores.current_num_threads().clamp(1, self.reach.fetches_in_flight);
        let (slot, slots) = bounded(workers);
        cores.in_place_scope_fifo(|scope| {
            let mut under_way = VecDeque::new();
            loop {
                let next = self.progress.check().and_then(|()| {
                    self.send(&mut fetches, &mut under_way)?;
                    let Some(coming) = under_way.pop_front() else { return Ok(None) };
                    self.receive(coming)
                });
                let coming = match next {
                    Ok(Some(coming)) => coming,
                    // the next round makes the remaining fetches again, if there are any
                    Ok(None) if under_way.is_empty() && fetches.is_empty() => return,
                    Ok(None) => continue,
                    Err(error) => return self.fail(error),
                };
                // one job for each core; the other fetches keep their memory until their turn
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

    /// Sends as many requests as may be under way, and at least one as soon as there is memory for it.
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

    /// Returns the source of a fetch's bytes. Returns `None` if there is no memory for it now; with `waits`
    /// it waits for memory.
    fn source(&self, fetch: &Fetch, waits: bool) -> Result<Option<Source>> {
        let SharedFetches { buffers, windows, .. } = self.sources.shared;
        let source = |take: &dyn Fn(usize) -> Option<(Vec<u8>, Share)>| {
            if fetch.origin != Origin::Store {
                let (buffer, share) = take(fetch.range.len())?;
                return Some(Source::New(Window::new(fetch.range.clone(), share), buffer));
            }
            let most = self.reach.fetch_gap_bytes;
            let is_small =
                self.found.record.size_bytes <= u64::from(most) && fetch.range.len() <= most as usize;
            let block = &fetch.block;
            let range = fetch.range.clone();
            windows.source(&Wanted { block, range, object: self.oid(), is_small }, take)
        };
        let source_now = source(&|bytes| buffers.try_take(bytes));
        if source_now.is_some() || !waits {
            return Ok(source_now);
        }
        // another download may fetch the same range meanwhile; then this memory is given back
        let reserved = Cell::new(Some(buffers.take(fetch.range.len(), self.progress)?));
        let take =
            |bytes: usize| if bytes == fetch.range.len() { reserved.take() } else { buffers.try_take(bytes) };
        Ok(source(&take))
    }

    fn begin(&self, fetch: Fetch, source: Source) -> Coming {
        let (window, buffer) = match source {
            Source::Shared(window) => (window, None),
            Source::New(window, buffer) => (window, Some(buffer)),
        };
        let is_first = buffer.is_some();
        let stored_bytes = window.range.len() as u64;
        let moving = self.progress.depart(fetch.content_bytes, stored_bytes, window.moved.clone());
        let to_fill = match buffer {
            Some(buffer) if fetch.origin != Origin::Kept => {
                let arrival = Arrival::of(&window);
                let range = window.range.clone();
                let pending = self.sources.get_block_range(&fetch.block.id, range, buffer, &window.moved);
                pending.hand_to(|answer| arrival.arrive(answer));
                None
            }
            buffer => buffer,
        };
        Coming { fetch, moving, window, is_first, to_fill }
    }

    /// Waits for a fetch's bytes. Returns `None` if nothing is to be unpacked now: the fetch is made again,
    /// or it was only a base's.
    fn receive(&self, coming: Coming) -> Result<Option<Coming>> {
        let came = match coming.to_fill {
            Some(_) => Ok(()),
            None => coming.window.wait(&coming.fetch.range, self.progress).map(drop),
        };
        self.progress.arrive(&coming.moving);
        match came {
            Ok(()) => Ok(Some(coming)),
            Err(e) => {
                self.progress.check()?;
                // the error may be about a part that this fetch doesn't need
                if !coming.is_own() && matches!(e.kind(), Kind::Corrupt | Kind::Internal) {
                    self.make_again(coming);
                    return Ok(None);
                }
                let e = e.context(format!("block {}", coming.fetch.block.id));
                // the delta frame asks once more, unless a local object has its base
                if coming.fetch.terms.iter().all(|placed| placed.term.is_base()) {
                    tracing::debug!("not fetched ahead: {e}");
                    return Ok(None);
                }
                Err(e)
            }
        }
    }

    fn unpack(&self, mut coming: Coming) {
        if let Some(buffer) = coming.to_fill.take() {
            let Fetch { block, range, .. } = &coming.fetch;
            match self.patcher.read(&block.id, range, buffer) {
                Some(bytes) => Arrival::of(&coming.window).arrive(Ok(bytes)),
                None => return self.make_again(coming),
            }
        }
        let Coming { fetch, window, .. } = &coming;
        let mut written_bytes = 0;
        let written = |bytes| {
            written_bytes += bytes;
            self.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        };
        let unpacked = window.bytes(&fetch.range).and_then(|bytes| {
            let decoders = &self.sources.shared.decoders;
            decoders
                .lend(|decoder| Ok(decode::unpack(fetch, bytes, decoder, &self.patcher, self.file, written)))
        });
        let error = match unpacked {
            Ok(Ok(())) => return self.is_unpacked(&coming),
            Ok(Err(Failed::Damaged(e))) if fetch.origin == Origin::Kept => {
                tracing::warn!("{}: what was kept of it is fetched again: {e}", self.names(fetch));
                self.progress.bytes.fetch_sub(written_bytes, Ordering::Relaxed);
                self.patcher.forget(&fetch.block.id, &fetch.range);
                return self.make_again(coming);
            }
            Ok(Err(Failed::Damaged(_))) if !coming.is_own() => {
                self.progress.bytes.fetch_sub(written_bytes, Ordering::Relaxed);
                self.sources.shared.windows.forget(&fetch.block.id, window);
                return self.make_again(coming);
            }
            Ok(Err(Failed::Damaged(e))) => {
                self.sources.shared.windows.forget(&fetch.block.id, window);
                e.context(format!("block {}", fetch.block.id)).remedy(RESTORE_BLOCK)
            }
            Ok(Err(Failed::Unwritten(e))) | Err(e) => e,
        };
        self.fail(error);
    }

    /// Keeps the range for later downloads, because its terms were right.
    fn is_unpacked(&self, coming: &Coming) {
        let Coming { fetch, window, .. } = coming;
        let (count, what) = match fetch.origin {
            Origin::Kept => (&self.kept_bytes, "were kept here"),
            Origin::Store | Origin::StoreAlone => (&self.fetched_bytes, "have come"),
        };
        count.fetch_add(fetch.range.len() as u64, Ordering::Relaxed);
        tracing::debug!("{}: {} bytes {what}", self.names(fetch), fetch.range.len());
        // Another download's request is kept by that download, unless each download keeps its own.
        let range = if coming.is_first { &window.range } else { &fetch.range };
        if fetch.origin != Origin::Kept
            && (coming.is_first || self.patcher.spills())
            && let Ok(bytes) = window.bytes(range)
        {
            self.patcher.keep(&fetch.block.id, range, bytes);
        }
    }

    fn make_again(&self, coming: Coming) {
        let (origin, how) = match coming.fetch.origin {
            Origin::Kept => (Origin::Store, "from the store"),
            Origin::Store | Origin::StoreAlone => (Origin::StoreAlone, "once more, alone"),
        };
        tracing::debug!("{}: fetched {how}", self.names(&coming.fetch));
        self.outcome().again.push_back(Fetch { origin, ..coming.fetch });
    }

    /// Notes an error. Only the first one counts.
    fn fail(&self, error: Error) {
        self.outcome().failed.get_or_insert(error);
    }

    fn names(&self, fetch: &Fetch) -> String {
        format!("object {}, block {}", self.oid(), fetch.block.id)
    }
}
