//! The spill: a file for ranges of blocks that one download needs again, where nothing is kept on this
//! machine. It goes with the download.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::id::BlockId;
use crate::local::block_cache::Kept;
use crate::local::partial_download::ScratchFile;

/// The file, and the places of ranges in it.
pub(super) struct Spill {
    file: ScratchFile,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    of_blocks: HashMap<BlockId, Vec<(Range<u32>, u64)>>,
    end: u64,
}

impl Spill {
    /// Creates a spill in an empty file.
    pub(super) fn new(file: ScratchFile) -> Self {
        Self { file, places: Mutex::default() }
    }

    /// Keeps a range of a block. If the write fails, the range is fetched again when it is needed.
    pub(super) fn keep(&self, block: &BlockId, range: &Range<u32>, bytes: &[u8]) {
        let start = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            let start = places.end;
            places.end += bytes.len() as u64;
            start
        };
        if let Err(e) = self.file.write_at(bytes, start) {
            return tracing::debug!("block {block}: not kept for later: {e}");
        }
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.of_blocks.entry(*block).or_default().push((range.clone(), start));
    }

    /// Forgets the ranges that overlap this one.
    pub(super) fn forget(&self, block: &BlockId, range: &Range<u32>) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let of_block = places.of_blocks.entry(*block).or_default();
        of_block.retain(|(kept, _)| range.end <= kept.start || kept.end <= range.start);
    }

    /// Returns the ranges of a block that are in the file.
    pub(super) fn of(&self, block: &BlockId) -> Kept {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let ranges = places.of_blocks.get(block).into_iter().flatten().map(|(range, _)| range.clone());
        Kept::of(ranges.collect())
    }

    /// Returns the bytes of a range in `buffer`, if they are in the file.
    pub(super) fn read(&self, block: &BlockId, wanted: &Range<u32>, mut buffer: Vec<u8>) -> Option<Vec<u8>> {
        buffer.resize(wanted.len(), 0);
        for (kept, piece) in self.of(block).pieces(wanted)? {
            let into = (piece.start - wanted.start) as usize..(piece.end - wanted.start) as usize;
            let start = self.start_of(block, &kept)? + u64::from(piece.start - kept.start);
            self.file.read_at(&mut buffer[into], start).ok()?;
        }
        Some(buffer)
    }

    /// Returns the place in the file where a kept range begins.
    fn start_of(&self, block: &BlockId, range: &Range<u32>) -> Option<u64> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.of_blocks.get(block)?.iter().find(|(kept, _)| kept == range).map(|(_, start)| *start)
    }
}
