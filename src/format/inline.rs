//! The files that an index segment carries: the block and the shard of a small commit. They have the same
//! bytes and the same names as files of their own.

use std::ops::Range;

use bytes::Bytes;

use super::container::Container;
use super::cursor::{Cursor, Put};
use super::segment::{CARRIED, CARRIED_BYTES};
use crate::error::{Error, Result};
use crate::format::limits;
use crate::id::{BlockId, ContentHash, Nonce, ShardId};

/// The bytes of a table entry: kind, length, hash, nonce.
const ENTRY_BYTES: usize = 4 + 4 + 32 + 8;
const BLOCK: u32 = 1;
const SHARD: u32 = 2;

/// The name of a carried file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CarriedName {
    /// The name of a block.
    Block(BlockId),
    /// The name of a shard.
    Shard(ShardId),
}

/// A file that a segment carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The file's name.
    pub name: CarriedName,
    /// The file's bytes, in pieces.
    pub pieces: Vec<Bytes>,
}

impl CarriedName {
    /// Returns the hash of the file's bytes.
    pub fn hash(&self) -> &ContentHash {
        match self {
            Self::Block(BlockId { hash, .. }) | Self::Shard(ShardId { hash, .. }) => hash,
        }
    }
}

impl Carried {
    fn size_bytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }
}

/// Writes the table of the carried files. The other section has their bytes in the same order.
pub(super) fn write_table(all: &[Carried]) -> Vec<u8> {
    let mut out = Vec::with_capacity(all.len() * ENTRY_BYTES);
    for carried in all {
        let (kind, hash, nonce) = match carried.name {
            CarriedName::Block(BlockId { hash, nonce }) => (BLOCK, hash, nonce),
            CarriedName::Shard(ShardId { hash, nonce }) => (SHARD, hash, nonce),
        };
        out.put_u32(kind);
        out.put_u32(carried.size_bytes() as u32);
        out.extend_from_slice(&hash.0);
        out.extend_from_slice(&nonce.0);
    }
    out
}

pub(super) fn write_bytes(all: &[Carried]) -> Vec<u8> {
    all.iter().flat_map(|carried| &carried.pieces).flatten().copied().collect()
}

/// Reads the names of the carried files, and the range of each in the segment. `start` is the beginning of
/// the segment, which has `segment_bytes`. Returns an empty list if the segment has no such table. Most
/// segments have none.
pub(super) fn read(
    container: &Container,
    start: &[u8],
    segment_bytes: usize,
) -> Result<Vec<(CarriedName, Range<usize>)>> {
    if !container.has(CARRIED) {
        return Ok(Vec::new());
    }
    if segment_bytes > limits::CARRIER_BYTES {
        return Err(Error::corrupt(format!("an index segment of {segment_bytes} bytes carries files")));
    }
    let table = container.section(start, CARRIED)?;
    let place = container.paged_section(CARRIED_BYTES)?;
    let mut cursor = Cursor::new(table, "a table of carried files");
    let mut carried = Vec::new();
    let mut at = place.start;
    while cursor.remaining() > 0 {
        let kind = cursor.u32()?;
        let size_bytes = cursor.u32()? as usize;
        let hash = ContentHash(cursor.array()?);
        let nonce = Nonce(cursor.array()?);
        let name = match kind {
            BLOCK => CarriedName::Block(BlockId { hash, nonce }),
            SHARD => CarriedName::Shard(ShardId { hash, nonce }),
            _ => return Err(Error::too_new("a file in an index segment")),
        };
        let end = at.saturating_add(size_bytes);
        carried.push((name, at..end));
        at = end;
    }
    if at != place.end {
        return Err(Error::corrupt("the files in an index segment don't fill their place"));
    }
    Ok(carried)
}
