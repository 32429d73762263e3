//! The unpacking of delta frames. Bases come from objects on this machine, from kept ranges of blocks, or
//! else from the store.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::block_sources::BlockSources;
use super::decode::OpenTerm;
use super::reuse::Ends;
use super::spill::Spill;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::format::delta::Delta;
use crate::format::frame::{Frame, Kind};
use crate::format::limits;
use crate::format::recipe::Term;
use crate::id::BlockId;
use crate::local::block_cache::Kept;
use crate::progress::Progress;
use crate::store::Moved;
use crate::units::MIB;

/// Most bytes of unpacked base frames that are kept for the next delta frame.
const DELTA_KEPT_BYTES: usize = 32 * MIB;
/// Bytes that each of these frames takes beside its content.
const DELTA_KEPT_COST_BYTES: usize = 256;

/// The remedy for a damaged block.
pub(super) const RESTORE_BLOCK: &str = "the block is damaged in the store: restore it from a backup";

/// An unpacked frame of a block.
#[derive(Clone)]
struct Content {
    bytes: Arc<Vec<u8>>,
    stored_bytes: u32,
}

impl Content {
    /// Returns the memory that the frame costs, with a minimum for small content.
    fn cost_bytes(&self) -> usize {
        self.bytes.len() + DELTA_KEPT_COST_BYTES
    }
}

/// The place of a frame: its block, and its offset there.
type Place = (BlockId, u32);

/// Frames that were unpacked as a base, because neighbours often have the same bases. The downloads of
/// an engine share them.
#[derive(Default)]
pub(crate) struct Unpacked(Mutex<Frames>);

#[derive(Default)]
struct Frames {
    frames: HashMap<Place, (Content, u64)>,
    bytes: usize,
    uses: u64,
}

impl Unpacked {
    fn get(&self, place: &Place) -> Option<Content> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let now = kept.uses;
        let (content, used) = kept.frames.get_mut(place)?;
        *used = now;
        Some(content.clone())
    }

    /// Keeps a frame. Drops the frames that were not used for longest, if there is too little room.
    fn put(&self, place: Place, content: Content) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let now = kept.uses;
        kept.bytes += content.cost_bytes();
        if let Some((before, _)) = kept.frames.insert(place, (content, now)) {
            kept.bytes -= before.cost_bytes();
        }
        while kept.bytes > DELTA_KEPT_BYTES
            && let Some(oldest) =
                kept.frames.iter().min_by_key(|(_, (_, used))| *used).map(|(place, _)| *place)
            && let Some((content, _)) = kept.frames.remove(&oldest)
        {
            kept.bytes -= content.cost_bytes();
        }
    }
}

/// Unpacks the delta frames of one download.
pub(super) struct Patcher<'a> {
    sources: BlockSources<'a>,
    /// The spill, if the ranges that all downloads share are not kept.
    spill: Option<Spill>,
    /// The ends of chunks in local runs.
    ends: Mutex<Ends>,
    progress: &'a Progress,
    /// The bytes that were read from the store for bases, because they were not here.
    pub fetched_bytes: AtomicU64,
}

/// The frames that were unpacked for one delta frame. Their number is bounded, so that no content of a
/// store can make the work endless.
#[derive(Default)]
struct Effort {
    frames: HashMap<Place, Content>,
}

/// The reason why the content of a frame can't be had.
pub(super) enum Lost {
    /// The frame's bytes are not the stored ones.
    Here(Error),
    /// The bases can't be had, and reading the frame again doesn't help.
    Below(Error),
}

impl Lost {
    fn into_error(self) -> Error {
        let (Self::Here(error) | Self::Below(error)) = self;
        error
    }
}

/// Stored bytes of a block.
struct Stored {
    start: u32,
    bytes: Vec<u8>,
    /// True if they were kept here. Then the store may have better ones.
    is_kept: bool,
}

impl<'a> Patcher<'a> {
    pub(super) fn new(sources: BlockSources<'a>, spill: Option<Spill>, progress: &'a Progress) -> Self {
        Self { sources, spill, ends: Mutex::default(), progress, fetched_bytes: AtomicU64::new(0) }
    }

    /// Returns the content of a delta frame.
    pub(super) fn unpack(&self, frame: &Frame<'_>) -> Result<Vec<u8>, Lost> {
        self.content(frame, limits::DELTA_DEPTH + 1, &mut Effort::default())
    }

    /// Returns the content of a frame. The frame's depth must be less than `depth`.
    fn content(&self, frame: &Frame<'_>, depth: u8, effort: &mut Effort) -> Result<Vec<u8>, Lost> {
        self.progress.check().map_err(Lost::Below)?;
        let decoders = &self.sources.shared.decoders;
        if frame.kind != Kind::Delta {
            let decoded = decoders.lend(|decoder| decoder.decode(frame).map(<[u8]>::to_vec));
            return decoded.map_err(Lost::Here);
        }
        let delta = frame.delta().map_err(Lost::Here)?;
        if delta.depth >= depth {
            return Err(Lost::Here(Error::corrupt("delta frames are made from each other without end")));
        }
        let base = self.base(&delta, effort).map_err(Lost::Below)?;
        let decoded = decoders.lend(|decoder| decoder.decode_over(frame, &base).map(<[u8]>::to_vec));
        decoded.map_err(Lost::Here)
    }

    /// Returns the dictionary of bases of a delta frame.
    fn base(&self, delta: &Delta<'_>, effort: &mut Effort) -> Result<Vec<u8>> {
        let mut base = Vec::with_capacity(delta.base_bytes());
        for term in &delta.bases {
            let block = &delta.blocks[term.block as usize];
            match self.sources.reuse.read_base(
                block,
                term,
                self.sources.store.description().suite,
                &self.ends,
            ) {
                Some(content) => base.extend_from_slice(&content),
                None => self.append(block, term, delta.depth, effort, &mut base).map_err(|e| {
                    let is_damaged = e.kind() == ErrorKind::Corrupt;
                    let e = e.context(format!("block {block}, which a delta frame is made from"));
                    if is_damaged { e.remedy(RESTORE_BLOCK) } else { e }
                })?,
            }
        }
        Ok(base)
    }

    /// Appends the content of a base. If kept bytes are damaged, it reads them again from the store, once.
    fn append(
        &self,
        block: &BlockId,
        term: &Term,
        depth: u8,
        effort: &mut Effort,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let start = out.len();
        let mut appended = self.append_frames(block, term, depth, effort, out);
        if let Err((Lost::Here(e), true)) = &appended {
            tracing::debug!("block {block}: what was kept of it is fetched again: {e}");
            let range = term.frames_offset..term.frames_end();
            self.forget(block, &range);
            effort.frames.retain(|(of, position), _| of != block || !range.contains(position));
            out.truncate(start);
            appended = self.append_frames(block, term, depth, effort, out);
        }
        appended.map_err(|(lost, _)| lost.into_error())
    }

    /// Appends the content of a term to `out`, from the frames that it lies in. The bool of an error is
    /// true if the failure was in kept bytes.
    fn append_frames(
        &self,
        block: &BlockId,
        term: &Term,
        depth: u8,
        effort: &mut Effort,
        out: &mut Vec<u8>,
    ) -> Result<(), (Lost, bool)> {
        let mut open = OpenTerm::new(*term, 0);
        // the term's stored bytes, from the first frame that is not unpacked yet
        let mut stored: Option<Stored> = None;
        let mut fresh: Vec<(Place, Content)> = Vec::new();
        let mut position = term.frames_offset;
        while position < term.frames_end() {
            let place = (*block, position);
            let known =
                effort.frames.get(&place).cloned().or_else(|| self.sources.shared.unpacked.get(&place));
            let content = match known {
                Some(content) => content,
                None => {
                    let stored = match &mut stored {
                        Some(stored) => stored,
                        None => {
                            let range = position..term.frames_end();
                            let read = self.stored(block, &range).map_err(|e| (Lost::Below(e), false))?;
                            stored.insert(read)
                        }
                    };
                    let content = self.first(stored, position, depth, effort);
                    let content = content.map_err(|lost| (lost, stored.is_kept))?;
                    fresh.push((place, content.clone()));
                    content
                }
            };
            let is_kept = stored.as_ref().is_some_and(|stored| stored.is_kept);
            out.extend_from_slice(open.take(&content.bytes, position).map_err(|e| (Lost::Here(e), is_kept))?);
            position += content.stored_bytes;
            effort.frames.insert(place, content);
            if effort.frames.len() > limits::DELTA_FRAMES {
                let error = Error::corrupt("a delta frame is made from too many others");
                return Err((Lost::Below(error), false));
            }
        }
        let is_kept = stored.is_some_and(|stored| stored.is_kept);
        open.verify().map_err(|e| (Lost::Here(e), is_kept))?;
        // only now, because other downloads must get verified content
        fresh.into_iter().for_each(|(place, content)| self.sources.shared.unpacked.put(place, content));
        Ok(())
    }

    /// Returns the frame at `position` of the stored bytes.
    fn first(&self, stored: &Stored, position: u32, depth: u8, effort: &mut Effort) -> Result<Content, Lost> {
        let rest = stored.bytes.get((position - stored.start) as usize..).unwrap_or_default();
        let frame = Frame::first(rest).map_err(Lost::Here)?;
        let bytes = Arc::new(self.content(&frame, depth, effort)?);
        Ok(Content { bytes, stored_bytes: frame.stored.len() as u32 })
    }

    /// Returns a range of a block: the kept bytes, or else the store's.
    fn stored(&self, block: &BlockId, range: &Range<u32>) -> Result<Stored> {
        let start = range.start;
        if let Some(bytes) = self.read(block, range, Vec::new()) {
            return Ok(Stored { start, bytes, is_kept: true });
        }
        let pending = self.sources.get_block_range(block, range.clone(), Vec::new(), &Moved::default());
        let bytes = pending.wait()?;
        self.fetched_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.keep(block, range, &bytes);
        Ok(Stored { start, bytes, is_kept: false })
    }

    /// Returns the kept ranges of a block.
    pub(super) fn kept(&self, block: &BlockId) -> Kept {
        self.spill.as_ref().map_or_else(|| self.sources.shared.ranges.of(block), |spill| spill.of(block))
    }

    /// Returns the bytes of a range, if they are kept here.
    pub(super) fn read(&self, block: &BlockId, range: &Range<u32>, buffer: Vec<u8>) -> Option<Vec<u8>> {
        match &self.spill {
            Some(spill) => spill.read(block, range, buffer),
            None => self.sources.shared.ranges.read(block, range, buffer),
        }
    }

    /// Returns true if fetched bytes are kept for this download alone.
    pub(super) fn spills(&self) -> bool {
        self.spill.is_some()
    }

    /// Keeps a fetched range of a block.
    pub(super) fn keep(&self, block: &BlockId, range: &Range<u32>, stored: &[u8]) {
        match &self.spill {
            Some(spill) => spill.keep(block, range, stored),
            None => self.sources.shared.ranges.keep(block, range, stored),
        }
    }

    /// Forgets the kept bytes of a range, because they are damaged.
    pub(super) fn forget(&self, block: &BlockId, range: &Range<u32>) {
        match &self.spill {
            Some(spill) => spill.forget(block, range),
            None => self.sources.shared.ranges.forget(block, range),
        }
    }
}
