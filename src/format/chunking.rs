//! Content-defined chunking: the content itself decides where it is cut.
//!
//! The method is Gear hash (Xia et al., "Ddelta", 2014) with FastCDC's normalised chunking (Xia et al.,
//! USENIX ATC 2016). A cut needs more zero bits of the hash before the chunk reaches the target size, and
//! fewer after it. The first `min` bytes are not searched. Only the last 64 of them fill the hash's window.
//! So the 64 bytes before a place alone decide if a cut is possible there.

use crate::error::{Error, Result};
use crate::id::ChunkId;

/// The number of bytes before a place that its hash depends on.
const WINDOW_BYTES: usize = 64;

/// A named set of chunking parameters. A store has one suite, which never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suite {
    /// The suite's name in `store.json`.
    pub name: &'static str,
    /// The least bytes of a chunk. Only the last chunk of an object may be smaller.
    pub min_bytes: usize,
    /// The size where the mask changes from hard to easy; a power of two.
    pub target_bytes: usize,
    /// The most bytes of a chunk.
    pub max_bytes: usize,
    /// The number of bits that the hard mask has more than the target's, and the easy mask fewer (FastCDC's
    /// normalisation).
    pub normalisation: u32,
}

/// The one suite of this version. `docs/format.md` has the measurements behind the choice.
pub const GEAR_16K: Suite = Suite {
    name: "gear-16k-n2",
    min_bytes: 4 * 1024,
    target_bytes: 16 * 1024,
    max_bytes: 64 * 1024,
    normalisation: 2,
};

impl Suite {
    /// Returns the suite with this name, or an error if this version doesn't know it.
    pub fn by_name(name: &str) -> Result<Self> {
        if name == GEAR_16K.name {
            return Ok(GEAR_16K);
        }
        Err(Error::too_new(format!("a store with the chunking suite {name:?}")))
    }

    /// Returns the length of the first chunk of `data`, or `None` if more data must be read first. `last`
    /// means that no data follows. The result doesn't depend on the pieces in which the data came.
    pub fn next_cut(&self, data: &[u8], last: bool) -> Option<usize> {
        if data.len() < self.max_bytes && !last {
            return None;
        }
        if data.len() <= self.min_bytes {
            return (!data.is_empty()).then_some(data.len());
        }
        let end = data.len().min(self.max_bytes);
        let target = end.min(self.target_bytes);
        let bits = self.target_bytes.ilog2();
        let mut hasher = gearhash::Hasher::default();
        hasher.update(&data[self.min_bytes - WINDOW_BYTES..self.min_bytes]);
        let hard = hasher.next_match(&data[self.min_bytes..target], mask(bits + self.normalisation));
        if let Some(found) = hard {
            return Some(self.min_bytes + found);
        }
        let easy = hasher.next_match(&data[target..end], mask(bits - self.normalisation));
        Some(easy.map_or(end, |found| target + found))
    }
}

/// Returns a mask of the topmost `bits` bits. These bits depend on the whole window.
const fn mask(bits: u32) -> u64 {
    !(u64::MAX >> bits)
}

/// Computes the id of a chunk: BLAKE3 of its bytes in `derive_key` mode. So no other hash of the same bytes
/// can be confused with it.
pub fn chunk_id(bytes: &[u8]) -> ChunkId {
    ChunkId(blake3::derive_key("git-lfs-cdc 2026-11 chunk id", bytes))
}
