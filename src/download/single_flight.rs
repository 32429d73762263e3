//! Windows: parts of blocks that are in flight or were fetched a moment ago. Each download that wants a
//! range inside a window takes it from there.
//!
//! This module also decides how far a request reads ahead for other small objects.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use super::buffer_pool::Share;
use crate::error::{Error, Result};
use crate::format::block::Summary;
use crate::id::{BlockId, Oid};
use crate::progress::{PROGRESS_INTERVAL_MS, Progress};
use crate::store::{Moved, Reach};
use crate::units::{KIB, MIB};

/// Unused bytes that read-ahead may read at first. Each saved request adds [`NETWORK_FETCH_GAP_BYTES`], the
/// cost of a request.
const READ_AHEAD_CREDIT_BYTES: u64 = 16 * MIB as u64;
/// Credit from which the first small object of a block is reason enough to read ahead. It shows that small
/// objects are wanted together.
const READ_AHEAD_PLENTY_BYTES: u64 = 32 * MIB as u64;
/// Most credit that read-ahead ever has, however many requests it has saved.
const READ_AHEAD_CREDIT_AT_MOST_BYTES: u64 = 48 * MIB as u64;
/// Least bytes that a kept part of a block counts, so that there are never many.
const WINDOW_COST_BYTES: u64 = 64 * KIB as u64;

/// A part of a block, which one request fetches for all downloads that wait for it.
pub(super) struct Window {
    pub range: Range<u32>,
    /// The bytes that have come so far.
    pub moved: Moved,
    answer: OnceLock<Result<Vec<u8>>>,
    /// Locked while the answer is set, so that no waiting download misses it.
    arriving: Mutex<()>,
    arrived: Condvar,
    share: Option<Share>,
}

impl Window {
    pub(super) fn new(range: Range<u32>, share: Share) -> Arc<Self> {
        Arc::new(Self {
            range,
            moved: Moved::default(),
            answer: OnceLock::new(),
            arriving: Mutex::default(),
            arrived: Condvar::new(),
            share: Some(share),
        })
    }

    /// Sets the answer for all downloads that wait.
    fn arrive(&self, answer: Result<Vec<u8>>) {
        let _arriving = self.arriving.lock().unwrap_or_else(PoisonError::into_inner);
        // only the first answer counts
        let _ = self.answer.set(answer);
        self.arrived.notify_all();
    }

    /// Waits for the bytes of `range`, which must lie in the window. Fails if the download is cancelled.
    pub(super) fn wait(&self, range: &Range<u32>, progress: &Progress) -> Result<&[u8]> {
        let mut arriving = self.arriving.lock().unwrap_or_else(PoisonError::into_inner);
        while self.answer.get().is_none() {
            progress.check()?;
            let wait = Duration::from_millis(PROGRESS_INTERVAL_MS);
            arriving = self.arrived.wait_timeout(arriving, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(arriving);
        self.bytes(range)
    }

    /// Returns the bytes of `range`, if they are there.
    pub(super) fn bytes(&self, range: &Range<u32>) -> Result<&[u8]> {
        let outside = || Error::internal("a range was looked for where it is not");
        let bytes = self.answer.get().ok_or_else(outside)?.as_ref().map_err(Error::clone)?;
        let start = range.start.checked_sub(self.range.start).ok_or_else(outside)? as usize;
        bytes.get(start..start + range.len()).ok_or_else(outside)
    }

    fn has_failed(&self) -> bool {
        matches!(self.answer.get(), Some(Err(_)))
    }

    fn covers(&self, range: &Range<u32>) -> bool {
        self.range.start <= range.start && range.end <= self.range.end
    }

    /// Returns the cost of keeping the window, with a minimum that also bounds the number of kept windows.
    fn cost_bytes(&self) -> u64 {
        self.share.as_ref().map_or(0, Share::bytes).max(WINDOW_COST_BYTES)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        if let (Some(share), Some(Ok(buffer))) = (self.share.take(), self.answer.take()) {
            share.give_back(buffer);
        }
    }
}

/// The duty to set the answer of a window. When it is dropped without an answer, it sets an error.
pub(super) struct Arrival(Arc<Window>);

impl Arrival {
    pub(super) fn of(window: &Arc<Window>) -> Self {
        Self(window.clone())
    }

    pub(super) fn arrive(self, answer: Result<Vec<u8>>) {
        self.0.arrive(answer);
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if self.0.answer.get().is_none() {
            self.0.arrive(Err(Error::internal("a request of the store stopped")));
        }
    }
}

/// A range that a download wants.
pub(super) struct Wanted<'a> {
    pub block: &'a Summary,
    pub range: Range<u32>,
    pub object: Oid,
    /// True for a small object. Other small objects may lie beside it.
    pub is_small: bool,
}

/// The windows of an engine's downloads.
pub(super) struct Windows {
    reach: Reach,
    /// The most bytes that kept windows may take.
    most_bytes: u64,
    state: Mutex<State>,
}

struct State {
    blocks: HashMap<BlockId, Block>,
    kept_bytes: u64,
    uses: u64,
    /// The bytes that read-ahead may still read in vain. Each saved request adds the bytes that one request
    /// is worth.
    credit_bytes: u64,
}

/// The windows of a block.
#[derive(Default)]
struct Block {
    /// The first small object that a range was fetched for.
    asked_for: Option<Oid>,
    windows: Vec<Known>,
}

struct Known {
    window: Weak<Window>,
    /// The window itself, kept while there is room, even if no download waits for it.
    kept: Option<Arc<Window>>,
    opened_for: Oid,
    last_use: u64,
}

/// The source of a range.
pub(super) enum Source {
    /// The range lies in this existing window.
    Shared(Arc<Window>),
    /// The range needs a request for this new window, into this buffer.
    New(Arc<Window>, Vec<u8>),
}

impl Windows {
    pub(super) fn new(reach: Reach, most_bytes: u64) -> Self {
        let credit_bytes = READ_AHEAD_CREDIT_BYTES;
        let state = State { blocks: HashMap::new(), kept_bytes: 0, uses: 0, credit_bytes };
        Self { reach, most_bytes, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the source of a range: a window that has it, or a new one. A new window uses memory that
    /// `take` gives for a number of bytes. Returns `None` if `take` gives none.
    pub(super) fn source(
        &self,
        wanted: &Wanted<'_>,
        take: impl Fn(usize) -> Option<(Vec<u8>, Share)>,
    ) -> Option<Source> {
        let mut state = self.state();
        state.uses += 1;
        if let Some(window) = state.find(wanted, self.reach) {
            return Some(Source::Shared(window));
        }
        let wider = state.read_ahead(wanted, self.reach);
        let extra_bytes = (wider.len() - wanted.range.len()) as u64;
        let (range, (buffer, share)) = match take(wider.len()) {
            Some(memory) => {
                state.credit_bytes -= extra_bytes;
                (wider, memory)
            }
            None => (wanted.range.clone(), take(wanted.range.len())?),
        };
        let window = Window::new(range, share);
        let is_kept = wanted.is_small && self.reach.read_ahead_bytes > 0;
        state.add(wanted, &window, is_kept.then_some(self.most_bytes));
        Some(Source::New(window, buffer))
    }

    /// Forgets a window with damaged bytes, so that it serves no further download.
    pub(super) fn forget(&self, block: &BlockId, window: &Arc<Window>) {
        let mut state = self.state();
        let State { blocks, kept_bytes, .. } = &mut *state;
        if let Some(block) = blocks.get_mut(block) {
            block.windows.retain(|known| {
                let stays = !std::ptr::eq(known.window.as_ptr(), Arc::as_ptr(window));
                if !stays && known.kept.is_some() {
                    *kept_bytes -= window.cost_bytes();
                }
                stays
            });
        }
    }
}

impl State {
    /// Returns a window that has the range or soon will.
    fn find(&mut self, wanted: &Wanted<'_>, reach: Reach) -> Option<Arc<Window>> {
        let block = self.blocks.get_mut(&wanted.block.id)?;
        for known in &mut block.windows {
            let window = known.window.upgrade().filter(|w| w.covers(&wanted.range) && !w.has_failed());
            if let Some(window) = window {
                known.last_use = self.uses;
                if known.opened_for != wanted.object && known.kept.is_some() {
                    let earned = self.credit_bytes + u64::from(reach.fetch_gap_bytes);
                    self.credit_bytes = earned.min(READ_AHEAD_CREDIT_AT_MOST_BYTES);
                }
                return Some(window);
            }
        }
        None
    }

    /// Returns the range to fetch. It is wider than the wanted range when other downloads probably want the
    /// bytes beside it.
    fn read_ahead(&mut self, wanted: &Wanted<'_>, reach: Reach) -> Range<u32> {
        let range = wanted.range.clone();
        if !wanted.is_small || reach.read_ahead_bytes == 0 {
            return range;
        }
        let block = self.blocks.entry(wanted.block.id).or_default();
        let first = *block.asked_for.get_or_insert(wanted.object);
        if first == wanted.object && self.credit_bytes < READ_AHEAD_PLENTY_BYTES {
            return range;
        }
        let frames_end = wanted.block.frames_bytes.max(range.end);
        let mut wider = if frames_end <= reach.read_ahead_bytes {
            0..frames_end
        } else {
            // objects behind this one are wanted soon, and some before it as well
            let start = range.start.saturating_sub(reach.read_ahead_bytes / 8);
            start..frames_end.min(start.saturating_add(reach.read_ahead_bytes)).max(range.end)
        };
        // leaves out the ranges of other windows
        for window in block.windows.iter().filter_map(|known| known.window.upgrade()) {
            if window.range.end <= range.start {
                wider.start = wider.start.max(window.range.end);
            }
            if window.range.start >= range.end {
                wider.end = wider.end.min(window.range.start);
            }
        }
        let extra_bytes = (wider.len() - range.len()) as u64;
        if extra_bytes <= self.credit_bytes { wider } else { range }
    }

    /// Adds a window. Keeps it if `most_bytes` allow that; the windows that were used last stay.
    fn add(&mut self, wanted: &Wanted<'_>, window: &Arc<Window>, most_bytes: Option<u64>) {
        let bytes = window.cost_bytes();
        let is_kept = most_bytes.is_some_and(|most_bytes| {
            while self.kept_bytes + bytes > most_bytes && self.drop_oldest() {}
            self.kept_bytes + bytes <= most_bytes
        });
        if is_kept {
            self.kept_bytes += bytes;
        }
        let block = self.blocks.entry(wanted.block.id).or_default();
        block.windows.retain(|known| known.window.strong_count() > 0);
        block.windows.push(Known {
            window: Arc::downgrade(window),
            kept: is_kept.then(|| window.clone()),
            opened_for: wanted.object,
            last_use: self.uses,
        });
    }

    /// Drops the oldest kept window. Downloads that wait for it get it all the same. Returns false if there
    /// is none.
    fn drop_oldest(&mut self) -> bool {
        let kept = self.blocks.values_mut().flat_map(|block| &mut block.windows);
        let oldest = kept.filter(|known| known.kept.is_some()).min_by_key(|known| known.last_use);
        let Some(window) = oldest.and_then(|known| known.kept.take()) else { return false };
        self.kept_bytes -= window.cost_bytes();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::download::buffer_pool::Buffers;
    use crate::id::{ContentHash, Nonce};
    use crate::store::io_profile::{NETWORK_FETCH_BYTES, NETWORK_FETCH_GAP_BYTES, NETWORK_READ_AHEAD_BYTES};

    const MIB: u32 = crate::units::MIB as u32;
    const SMALL: u32 = 10_000;
    const REACH: Reach = Reach {
        fetch_gap_bytes: NETWORK_FETCH_GAP_BYTES,
        fetch_bytes: NETWORK_FETCH_BYTES,
        fetches_in_flight: 6,
        read_ahead_bytes: NETWORK_READ_AHEAD_BYTES,
        blocks_in_flight: 3,
        first_block_bytes: 1,
        carried_bytes: 0,
    };

    struct Place {
        buffers: Arc<Buffers>,
        windows: Windows,
    }

    impl Place {
        fn new(reach: Reach, most_bytes: u64) -> Self {
            Self { buffers: Buffers::new(1 << 30), windows: Windows::new(reach, most_bytes) }
        }

        /// Returns the window that a range is taken from, and whether that window is new.
        fn ask(&self, block: u8, range: Range<u32>, object: u64, is_small: bool) -> (Arc<Window>, bool) {
            let block = Summary {
                id: BlockId { hash: ContentHash([block; 32]), nonce: Nonce([0; 8]) },
                size_bytes: 50 * MIB,
                frames_bytes: if block == 0 { 40 * MIB } else { MIB },
                content_bytes: 40 * MIB,
                chunk_count: 1,
            };
            let mut oid = Oid([0; 32]);
            oid.0[..8].copy_from_slice(&object.to_le_bytes());
            let wanted = Wanted { block: &block, range, object: oid, is_small };
            match self.windows.source(&wanted, |bytes| self.buffers.try_take(bytes)) {
                Some(Source::Shared(window)) => (window, false),
                Some(Source::New(window, buffer)) => {
                    window.arrive(Ok([buffer, vec![0; window.range.len()]].concat()));
                    (window, true)
                }
                None => panic!("there is memory"),
            }
        }

        /// Asks for small object `number` of a block that is full of small objects.
        fn ask_small(&self, block: u8, number: u32) -> (Arc<Window>, bool) {
            let range = number * SMALL..(number + 1) * SMALL;
            self.ask(block, range, u64::from(block) << 32 | u64::from(number), true)
        }
    }

    #[test]
    fn the_second_small_object_reads_ahead_for_all_others() {
        let place = Place::new(REACH, 64 << 20);
        let (first, is_new) = place.ask_small(1, 50);
        assert!(is_new && first.range == (500_000..510_000), "{:?}", first.range);
        // not the bytes that are there already
        let (second, _) = place.ask_small(1, 51);
        assert_eq!(second.range, 510_000..MIB);
        let (before, _) = place.ask_small(1, 3);
        assert_eq!(before.range, 0..500_000);
        assert!((0..100).all(|number| !place.ask_small(1, number).1), "all is there");
        // then the first object of the next block is enough
        assert_eq!(place.ask_small(2, 50).0.range, 0..MIB);
    }

    #[test]
    fn of_a_large_block_some_mib_are_read_ahead() {
        let place = Place::new(REACH, 64 << 20);
        place.ask_small(0, 1000);
        let (second, _) = place.ask_small(0, 2000);
        assert_eq!(second.range.len(), REACH.read_ahead_bytes as usize);
        assert!(second.range.start < 20_000_000 && second.range.end > 23_000_000, "{:?}", second.range);
    }

    /// In any order of requests, the bytes read in vain stay below the saved bytes and the credit.
    #[test]
    fn reading_ahead_in_vain_comes_to_an_end() {
        let place = Place::new(REACH, 64 << 20);
        let mut extra_bytes = 0;
        for block in 1..=255 {
            for number in [0, 50] {
                let (window, is_new) = place.ask_small(block, number);
                assert!(is_new || number == 50);
                extra_bytes += if is_new { window.range.len() as u64 - u64::from(SMALL) } else { 0 };
            }
        }
        assert!(extra_bytes > 0 && extra_bytes <= READ_AHEAD_CREDIT_BYTES, "{extra_bytes}");
    }

    #[test]
    fn large_ranges_are_shared_while_they_are_on_their_way_and_not_kept() {
        let place = Place::new(REACH, 64 << 20);
        let (first, is_new) = place.ask(0, 0..17 * MIB, 1, false);
        assert!(is_new && first.range == (0..17 * MIB));
        let (second, is_new) = place.ask(0, MIB..9 * MIB, 2, false);
        assert!(!is_new && Arc::ptr_eq(&first, &second));
        drop((first, second));
        assert!(place.ask(0, MIB..9 * MIB, 2, false).1);
    }

    #[test]
    fn what_is_kept_stays_within_its_bound_and_the_oldest_goes_first() {
        let place = Place::new(REACH, 4 << 20);
        for block in 1..=40 {
            place.ask_small(block, 0);
        }
        for block in 30..=40 {
            assert!(!place.ask_small(block, 0).1);
        }
        for block in 1..=8 {
            // a block that the same object has asked for before
            assert!(place.ask(block, 500_000..900_000, u64::from(block) << 32, true).1);
        }
        assert!(place.ask_small(9, 0).1, "long gone");
        assert!(place.windows.state().kept_bytes <= 4 << 20);
    }

    #[test]
    fn nothing_is_kept_where_requests_cost_little() {
        let place = Place::new(Reach { read_ahead_bytes: 0, ..REACH }, 64 << 20);
        for number in 0..50 {
            let (window, is_new) = place.ask_small(1, number);
            assert!(is_new && window.range.len() == SMALL as usize);
        }
        assert_eq!(place.windows.state().kept_bytes, 0);
    }

    #[test]
    fn a_window_that_failed_or_is_forgotten_serves_nobody() {
        let place = Place::new(REACH, 64 << 20);
        let (window, _) = place.ask_small(1, 0);
        place.windows.forget(&BlockId { hash: ContentHash([1; 32]), nonce: Nonce([0; 8]) }, &window);
        assert_eq!(place.windows.state().kept_bytes, 0);
        assert!(place.ask_small(1, 0).1);
        let (_, share) = place.buffers.try_take(10).unwrap();
        let window = Window::new(0..10, share);
        drop(Arrival::of(&window));
        assert!(window.has_failed());
        assert!(window.wait(&(0..10), &Progress::default()).is_err(), "nobody waits for what never comes");
    }
}
