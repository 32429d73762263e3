//! Unpacking delta frames: what they are made from is taken from objects on this machine, from what is kept here of blocks, or else
//! from the store.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Progress;
use super::reuse::{Ends, Reuse};
use super::spill::Spill;
use super::unpack::{Decoders, OpenTerm};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::format::delta::Delta;
use crate::format::frame::{Frame, Kind};
use crate::format::recipe::Term;
use crate::id::BlockId;
use crate::limit;
use crate::local::ranges::{Kept, Ranges};
use crate::store::{Moved, Store};

/// A frame of a block that was unpacked.
#[derive(Clone)]
struct Content {
    bytes: Arc<Vec<u8>>,
    stored_bytes: u32,
}

/// Where a frame lies.
type Place = (BlockId, u32);

/// Frames that were unpacked as a base: neighbours are often made from the same.
#[derive(Default)]
pub(super) struct Unpacked(Mutex<Frames>);

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

    /// Keeps a frame, and no more than there is room for: those that were used last.
    fn put(&self, place: Place, content: Content) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let now = kept.uses;
        kept.bytes += content.bytes.len();
        if let Some((before, _)) = kept.frames.insert(place, (content, now)) {
            kept.bytes -= before.bytes.len();
        }
        while kept.bytes > limit::DELTA_KEPT_BYTES
            && let Some(oldest) =
                kept.frames.iter().min_by_key(|(_, (_, used))| *used).map(|(place, _)| *place)
            && let Some((content, _)) = kept.frames.remove(&oldest)
        {
            kept.bytes -= content.bytes.len();
        }
    }
}

/// Unpacks the delta frames of one download.
pub(super) struct Patcher<'a> {
    pub store: &'a Store,
    pub ranges: &'a Ranges,
    /// In place of these, where nothing is kept.
    pub spill: Option<Spill>,
    pub decoders: &'a Decoders,
    pub unpacked: &'a Unpacked,
    pub reuse: &'a Reuse,
    /// Where the chunks of local runs end.
    pub ends: Mutex<Ends>,
    pub progress: &'a Progress,
    /// What was read of the store for this, as it was not here.
    pub fetched_bytes: AtomicU64,
}

/// What was unpacked for one delta frame: nothing that a store holds may make that endless.
#[derive(Default)]
struct Effort {
    frames: HashMap<Place, Content>,
}

impl Patcher<'_> {
    /// The content of a delta frame.
    pub(super) fn unpack(&self, frame: &Frame<'_>) -> Result<Vec<u8>> {
        self.unpack_below(frame, limit::DELTA_DEPTH + 1, &mut Effort::default())
    }

    /// The content of a delta frame whose depth is less than `depth`.
    fn unpack_below(&self, frame: &Frame<'_>, depth: u8, effort: &mut Effort) -> Result<Vec<u8>> {
        self.progress.check()?;
        let delta = frame.delta()?;
        if delta.depth >= depth {
            return Err(Error::corrupt("delta frames are made from each other without end"));
        }
        let base = self.base(&delta, effort)?;
        self.decoders.lend(|decoder| decoder.decode_over(frame, &base).map(<[u8]>::to_vec))
    }

    /// What a delta frame is made from.
    fn base(&self, delta: &Delta<'_>, effort: &mut Effort) -> Result<Vec<u8>> {
        let mut base = Vec::with_capacity(delta.base_bytes());
        for term in &delta.bases {
            let block = &delta.blocks[term.block as usize];
            match self.reuse.read_base(block, term, self.store.description().suite, &self.ends) {
                Some(content) => base.extend_from_slice(&content),
                None => self
                    .append(block, term, delta.depth, effort, &mut base)
                    .map_err(|e| e.context(format!("block {block}, which a delta frame is made from")))?,
            }
        }
        Ok(base)
    }

    /// Appends the content of a base. What is kept here and damaged is read again from the store.
    fn append(
        &self,
        block: &BlockId,
        term: &Term,
        depth: u8,
        effort: &mut Effort,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let start = out.len();
        for is_last in [false, true] {
            match self.append_frames(block, term, is_last, depth, effort, out) {
                Err(e) if e.kind() == ErrorKind::Corrupt && !is_last && !self.store.is_directory() => {
                    tracing::debug!("block {block}: what was kept of it is fetched again: {e}");
                    self.ranges.forget(block, &(term.frames_offset..term.frames_end()));
                    out.truncate(start);
                }
                done => return done,
            }
        }
        Ok(())
    }

    /// Appends the content of a term to `out`, from the frames that it lies in.
    fn append_frames(
        &self,
        block: &BlockId,
        term: &Term,
        is_last: bool,
        depth: u8,
        effort: &mut Effort,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let mut open = OpenTerm::new(*term, 0);
        // what is not unpacked already, from where the first such frame begins
        let mut stored: Option<(u32, Vec<u8>)> = None;
        let mut position = term.frames_offset;
        while position < term.frames_end() {
            let place = (*block, position);
            let content = match effort.frames.get(&place).cloned().or_else(|| self.unpacked.get(&place)) {
                Some(content) => content,
                None => {
                    let (start, bytes) = match &mut stored {
                        Some(stored) => stored,
                        None => {
                            let range = position..term.frames_end();
                            stored.insert((position, self.stored(block, range, is_last)?))
                        }
                    };
                    let rest = bytes.get((position - *start) as usize..).unwrap_or_default();
                    let frame = Frame::first(rest)?;
                    let bytes = Arc::new(self.content(&frame, depth, effort)?);
                    let content = Content { bytes, stored_bytes: frame.stored.len() as u32 };
                    self.unpacked.put(place, content.clone());
                    content
                }
            };
            out.extend_from_slice(open.take(&content.bytes, position)?);
            position += content.stored_bytes;
            effort.frames.insert(place, content);
            if effort.frames.len() > limit::DELTA_FRAMES {
                return Err(Error::corrupt("a delta frame is made from too many others"));
            }
        }
        open.verify()
    }

    /// A range of a block: what is kept here, unless it was damaged, or else the store's.
    fn stored(&self, block: &BlockId, range: Range<u32>, is_damaged: bool) -> Result<Vec<u8>> {
        if !is_damaged && let Some(stored) = self.read(block, &range, Vec::new()) {
            return Ok(stored);
        }
        let pending = self.store.get_block_range(block, range.clone(), Vec::new(), &Moved::default());
        let stored = pending.wait()?;
        self.fetched_bytes.fetch_add(stored.len() as u64, Ordering::Relaxed);
        self.keep(block, &range, &stored)?;
        Ok(stored)
    }

    /// What is kept here of a block.
    pub(super) fn kept(&self, block: &BlockId) -> Kept {
        self.spill.as_ref().map_or_else(|| self.ranges.of(block), |spill| spill.of(block))
    }

    /// A range of a block, if that is kept here.
    pub(super) fn read(&self, block: &BlockId, range: &Range<u32>, buffer: Vec<u8>) -> Option<Vec<u8>> {
        match &self.spill {
            Some(spill) => spill.read(block, range, buffer),
            None => self.ranges.read(block, range, buffer),
        }
    }

    /// Keeps a range of a block that was fetched.
    pub(super) fn keep(&self, block: &BlockId, range: &Range<u32>, stored: &[u8]) -> Result<()> {
        self.ranges.keep(block, range, stored);
        self.spill.as_ref().map_or(Ok(()), |spill| spill.keep(block, range, stored))
    }

    /// The content of a frame whose depth must be less than `depth`.
    fn content(&self, frame: &Frame<'_>, depth: u8, effort: &mut Effort) -> Result<Vec<u8>> {
        match frame.kind {
            Kind::Delta => self.unpack_below(frame, depth, effort),
            _ => self.decoders.lend(|decoder| decoder.decode(frame).map(<[u8]>::to_vec)),
        }
    }
}
