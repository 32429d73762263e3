//! Sampling: the choice of key chunks for the index.
//!
//! Some chunks of each object become key chunks, spread over the object. So a stretch that two objects
//! share probably contains one, at any length. A push looks up every chunk, so the choice needs no rule
//! about content.

use crate::format::limits;
use crate::id::ChunkId;

/// Key chunks that a larger object has, about.
const KEYS_OF_OBJECT: usize = 16;
/// A very large object has one key chunk in this many times [`limits::KEY_STRIDE`].
const KEY_STRIDES: usize = 8;
/// Objects smaller than [`limits::KEY_STRIDE`] share one key chunk for so many chunks, because they mostly come many
/// at a time.
const KEY_SHARED_CHUNKS: usize = 256;

/// The choice of key chunks for objects that are pushed together.
pub(super) struct KeyChunks {
    /// The number of chunks of this object so far.
    chunks: usize,
    candidates: Vec<ChunkId>,
    /// The chunks of small objects since one of these objects gave a key.
    small: usize,
}

impl Default for KeyChunks {
    fn default() -> Self {
        Self { chunks: 0, candidates: Vec::new(), small: KEY_SHARED_CHUNKS }
    }
}

impl KeyChunks {
    /// Takes the next chunk of the object.
    pub(super) fn push(&mut self, id: ChunkId) {
        if self.chunks.is_multiple_of(limits::KEY_STRIDE) {
            self.candidates.push(id);
        }
        self.chunks += 1;
    }

    /// Ends the object and returns its key chunks. An object of 128 to 2,048 chunks gives one in 128. A
    /// larger one gives about sixteen, or one in 1,024 if that is more. Objects with fewer than 128 chunks
    /// together give one in 256.
    pub(super) fn end_object(&mut self) -> Vec<ChunkId> {
        let chunks = std::mem::take(&mut self.chunks);
        let candidates = std::mem::take(&mut self.candidates);
        if chunks < limits::KEY_STRIDE {
            self.small += chunks;
            if self.small < KEY_SHARED_CHUNKS {
                return Vec::new();
            }
            self.small = 0;
            return candidates;
        }
        let step = (candidates.len() / KEYS_OF_OBJECT).clamp(1, KEY_STRIDES);
        candidates.into_iter().step_by(step).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(keys: &mut KeyChunks, chunks: u32) -> Vec<u32> {
        let id = |number: u32| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_le_bytes());
            ChunkId(id)
        };
        (0..chunks).for_each(|number| keys.push(id(number)));
        let number = |id: ChunkId| u32::from_le_bytes([id.0[0], id.0[1], id.0[2], id.0[3]]);
        keys.end_object().into_iter().map(number).collect()
    }

    #[test]
    fn keys_are_spread_over_an_object() {
        let mut keys = KeyChunks::default();
        assert_eq!(picked(&mut keys, 128), [0]);
        assert_eq!(picked(&mut keys, 400), [0, 128, 256, 384]);
        let of_large = picked(&mut keys, 100_000);
        assert!(of_large.iter().step_by(1).zip(&of_large[1..]).all(|(a, b)| b - a == 1024));
        assert_eq!(of_large.len(), 98);
        assert_eq!(picked(&mut keys, 0), [0; 0]);
    }

    #[test]
    fn small_objects_share_a_key() {
        let mut keys = KeyChunks::default();
        let given: usize = (0..1000).map(|_| picked(&mut keys, 2).len()).sum();
        assert_eq!(given, 1 + 1999 / 256);
        assert_eq!(picked(&mut KeyChunks::default(), 1), [0], "the first of all");
    }
}
