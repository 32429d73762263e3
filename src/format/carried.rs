//! Files that an index segment carries in itself, where a small commit would else be several files: its block and its
//! shard. They are what they would be in files of their own, under the same names.

use std::ops::Range;

use bytes::Bytes;

use super::container::Container;
use super::cursor::{Cursor, Put};
use super::segment::{CARRIED, CARRIED_BYTES};
use crate::error::{Error, Result};
use crate::id::{BlockId, ContentHash, Nonce, ShardId};

/// Kind, bytes, hash, nonce.
const ENTRY_BYTES: usize = 4 + 4 + 32 + 8;
const BLOCK: u32 = 1;
const SHARD: u32 = 2;

/// What a carried file is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CarriedName {
    /// It is a block.
    Block(BlockId),
    /// It is a shard.
    Shard(ShardId),
}

/// A file that a segment carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Its name.
    pub name: CarriedName,
    /// Its bytes, in pieces.
    pub pieces: Vec<Bytes>,
}

impl Carried {
    fn size_bytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }
}

/// The table that says what stands in the other section, in this order.
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

/// What a segment carries, and where in it; `start` is its beginning. Nothing, as in most, where there is no such table.
pub(super) fn read(container: &Container, start: &[u8]) -> Result<Vec<(CarriedName, Range<u64>)>> {
    if !container.has(CARRIED) {
        return Ok(Vec::new());
    }
    let (table, place) = (container.section(start, CARRIED)?, container.paged_section(CARRIED_BYTES)?);
    let (mut cursor, mut carried) = (Cursor::new(table, "a table of carried files"), Vec::new());
    let mut at = place.start as u64;
    while cursor.remaining() > 0 {
        let (kind, size_bytes) = (cursor.u32()?, u64::from(cursor.u32()?));
        let (hash, nonce) = (ContentHash(cursor.array()?), Nonce(cursor.array()?));
        let name = match kind {
            BLOCK => CarriedName::Block(BlockId { hash, nonce }),
            SHARD => CarriedName::Shard(ShardId { hash, nonce }),
            _ => return Err(Error::too_new("a file in an index segment")),
        };
        carried.push((name, at..at + size_bytes));
        at += size_bytes;
    }
    if at != place.end as u64 {
        return Err(Error::corrupt("the files in an index segment don't fill their place"));
    }
    Ok(carried)
}
