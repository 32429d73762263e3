//! Cutting content into chunks where the content itself says so.
//!
//! Gear hash (Xia et al., "Ddelta", 2014) with FastCDC's normalised chunking (Xia et al., USENIX
//! ATC 2016): until a chunk has reached the target size a cut needs more hash bits to be zero,
//! after it fewer. The first `min` bytes are not searched, except that the 64 bytes before `min`
//! fill the hash's window; so whether a place may be a cut depends on the 64 bytes before it alone.

use crate::error::{Error, Result};
use crate::id::ChunkId;

/// The hash at a place depends on this many bytes before it.
const WINDOW_BYTES: usize = 64;

/// Where to cut: a named set of parameters, chosen once per store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suite {
    /// How `store.json` names it.
    pub name: &'static str,
    /// No chunk is smaller, except the last of an object.
    pub min_bytes: usize,
    /// Where the mask changes from hard to easy; a power of two.
    pub target_bytes: usize,
    /// No chunk is larger.
    pub max_bytes: usize,
    /// How many bits the masks differ from the target's, either way (FastCDC's normalisation).
    pub normalisation: u32,
}

/// The one suite of this version; `docs/format.md` has the measurements it was chosen by.
pub const GEAR_16K: Suite = Suite {
    name: "gear-16k-n2",
    min_bytes: 4 * 1024,
    target_bytes: 16 * 1024,
    max_bytes: 64 * 1024,
    normalisation: 2,
};

impl Suite {
    /// The suite that a store names.
    pub fn by_name(name: &str) -> Result<Self> {
        if name == GEAR_16K.name {
            return Ok(GEAR_16K);
        }
        Err(Error::too_new(format!("a store with the chunking suite {name:?}")))
    }

    /// The length of the first chunk of `data`. `None` if more data is needed to know; `last` says
    /// that none will follow. Never depends on how the data came in pieces.
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

/// The topmost `bits` bits: those that depend on the whole window.
const fn mask(bits: u32) -> u64 {
    !(u64::MAX >> bits)
}

/// The id of a chunk: BLAKE3 of its bytes in `derive_key` mode, so that no other hash of the same
/// bytes can be taken for it.
pub fn chunk_id(bytes: &[u8]) -> ChunkId {
    ChunkId(blake3::derive_key("git-lfs-cdc 2026-11 chunk id", bytes))
}
