//! Ranges of blocks that one download will need again, where nothing is kept on this machine: in a file of their own, which goes with the
//! download.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::error::Result;
use crate::id::BlockId;
use crate::local::scratch::ScratchFile;

/// The file, and what stands where in it.
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
    /// In a file that holds nothing yet.
    pub(super) fn new(file: ScratchFile) -> Self {
        Self { file, places: Mutex::default() }
    }

    /// Keeps a range of a block.
    pub(super) fn keep(&self, block: &BlockId, range: &Range<u32>, bytes: &[u8]) -> Result<()> {
        let start = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            let start = places.end;
            places.end += bytes.len() as u64;
            start
        };
        self.file.write_at(bytes, start)?;
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.of_blocks.entry(*block).or_default().push((range.clone(), start));
        Ok(())
    }

    /// The bytes of a range, if they are here.
    pub(super) fn read(&self, block: &BlockId, wanted: &Range<u32>) -> Option<Vec<u8>> {
        let place = {
            let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            let mut kept = places.of_blocks.get(block)?.iter();
            let (range, start) =
                kept.find(|(range, _)| range.start <= wanted.start && wanted.end <= range.end)?;
            start + u64::from(wanted.start - range.start)
        };
        let mut bytes = vec![0; wanted.len()];
        self.file.read_at(&mut bytes, place).ok()?;
        Some(bytes)
    }
}
