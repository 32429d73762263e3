//! Sparse deduplication: reading only the shards that key chunks lead to, where a store has too many shards
//! to read all.
//!
//! The scout looks at objects 32 MiB ahead of packing. So a shard is mostly here when its chunks come. The
//! chunks shortly before a key chunk are found too.

use std::collections::{HashSet, VecDeque};

use super::chunker::{Piece, What};
use crate::error::Result;
use crate::format::segment::{Key, ShardEntry};
use crate::format::shard::Shard;
use crate::id::{BlockId, ChunkId, ShardId};
use crate::index::Index;
use crate::index::cached_reads::{CachedStore, Copying, skip_shard};
use crate::index::inline_files::InlineFiles;
use crate::local::metadata_cache::Kept;
use crate::parallel::Results;
use crate::units::MIB;

/// Most shards that a key chunk leads to: those of the newest commits.
const SHARDS_OF_KEY: usize = 16;
/// Bytes of shards under way from which key chunks lead to no more shards.
const SHARDS_COMING_BYTES: u64 = 64 * MIB as u64;
/// Bytes of content ahead of packing in which the scout looks for key chunks. These stand some 16 MiB apart.
const SCOUTED_BYTES: u64 = 32 * MIB as u64;

/// Key chunks and the shards that they lead to, in the order of the segments. A key takes 16 bytes of
/// memory.
#[derive(Default)]
pub(crate) struct Keys {
    /// One table for each segment, the oldest first. A table is sorted, and its keys name one of the shards
    /// beside it.
    tables: Vec<(Vec<ShardEntry>, Vec<Key>)>,
}

impl Keys {
    /// Reads the keys of all segments.
    pub(super) fn read(index: &Index, stored: CachedStore<'_>) -> Result<Self> {
        let mut tables = index.keys(stored)?;
        tables.retain(|(_, keys)| !keys.is_empty());
        Ok(Self { tables })
    }

    /// Returns the shards that a chunk leads to, with their sizes in bytes. Shards of newer segments come
    /// first. The number is bounded.
    fn led_to<'k>(&'k self, chunk: &ChunkId) -> impl Iterator<Item = (ShardId, u32)> + use<'k> {
        let prefix = Key::new(chunk, 0).prefix;
        let of_table = move |table: &'k (Vec<ShardEntry>, Vec<Key>)| {
            let (shards, keys) = table;
            let start = keys.partition_point(|key| key.prefix < prefix);
            let end = keys.partition_point(|key| key.prefix <= prefix);
            // a key is a hint, so a key that leads nowhere is left out
            keys[start..end]
                .iter()
                .rev()
                .filter_map(|key| shards.get(key.shard as usize))
                .map(|shard| (shard.id, shard.size_bytes))
        };
        self.tables.iter().rev().flat_map(of_table).take(SHARDS_OF_KEY)
    }
}

/// The scout of one batch of objects: it looks ahead for key chunks.
pub(super) struct Scout<'a> {
    pub keys: &'a Keys,
    pub stored: CachedStore<'a>,
    /// The files inside the index segments.
    pub inline: &'a InlineFiles,
    /// The shards that were read or could not be read.
    pub read: &'a mut HashSet<ShardId>,
    /// Returns true if a new commit may refer to a block.
    pub may_use: &'a (dyn Fn(&BlockId) -> bool + Sync),
    /// The number of chunks that may still be learned.
    pub room_chunks: usize,
}

/// The pieces of objects in their order, each with the shards to learn before its chunks are looked up.
pub(super) struct Ahead<'a> {
    pieces: Results<Piece>,
    scout: Option<Scout<'a>>,
    /// The scouted pieces that are not returned yet.
    scouted: VecDeque<Piece>,
    scouted_bytes: u64,
    /// The bytes of content that were scouted since the beginning.
    position: u64,
    /// The shards in flight.
    coming: VecDeque<Coming<'a>>,
    coming_bytes: u64,
}

/// A shard in flight.
struct Coming<'a> {
    /// The place of the chunk that led to the shard.
    position: u64,
    id: ShardId,
    size_bytes: u64,
    copy: Copying<'a>,
}

impl<'a> Ahead<'a> {
    /// Creates the sequence. Without a scout, all chunks are known already.
    pub(super) fn new(pieces: Results<Piece>, scout: Option<Scout<'a>>) -> Self {
        Self {
            pieces,
            scout,
            scouted: VecDeque::new(),
            scouted_bytes: 0,
            position: 0,
            coming: VecDeque::new(),
            coming_bytes: 0,
        }
    }

    /// Returns the next piece, and the shards that were found for it. Waits for the shards of near
    /// chunks.
    pub(super) fn next(&mut self) -> Result<Option<(Piece, Vec<Shard>)>> {
        let enough = if self.scout.is_some() { SCOUTED_BYTES } else { 1 };
        while self.scouted_bytes < enough
            && let Some(piece) = self.pieces.next()
        {
            let piece = piece?;
            self.scouted_bytes += self.look_at(&piece);
            self.scouted.push_back(piece);
            if self.scout.is_none() {
                break;
            }
        }
        let Some(piece) = self.scouted.pop_front() else { return Ok(None) };
        self.scouted_bytes -= bytes(&piece);
        let looked_up = self.position - self.scouted_bytes;
        // the shards of chunks further ahead may stay in flight a little longer
        let learned = self.learn(looked_up + SCOUTED_BYTES / 2)?;
        Ok(Some((piece, learned)))
    }

    /// Begins to fetch the shards that a piece leads to. Returns the piece's bytes of content. Skips shards
    /// while many bytes are in flight already, because later chunks may lead to them again.
    fn look_at(&mut self, piece: &Piece) -> u64 {
        if let (Some(scout), What::Chunks(batch)) = (&mut self.scout, &piece.what) {
            let mut position = self.position;
            for (chunk, _) in batch.chunks() {
                position += u64::from(chunk.bytes);
                for (id, size_bytes) in scout.keys.led_to(&chunk.id) {
                    if self.coming_bytes >= SHARDS_COMING_BYTES || !scout.read.insert(id) {
                        continue;
                    }
                    let begin = || scout.inline.get_shard(scout.stored.store, &id, size_bytes);
                    let size_bytes = u64::from(size_bytes);
                    let copy =
                        Copying::begin(scout.stored.cache, Kept::Shards, &id.to_string(), id.hash, begin);
                    self.coming.push_back(Coming { position, id, size_bytes, copy });
                    self.coming_bytes += size_bytes;
                }
            }
        }
        let bytes = bytes(piece);
        self.position += bytes;
        bytes
    }

    /// Waits for the shards that chunks before `position` have led to.
    fn learn(&mut self, position: u64) -> Result<Vec<Shard>> {
        let mut learned = Vec::new();
        let Some(scout) = &mut self.scout else { return Ok(learned) };
        while self.coming.front().is_some_and(|shard| shard.position < position)
            && let Some(Coming { id, size_bytes, copy, .. }) = self.coming.pop_front()
        {
            self.coming_bytes -= size_bytes;
            match copy.wait(scout.stored.cache).and_then(|bytes| Shard::parse(&bytes)) {
                Ok(shard) => {
                    let chunks: usize = shard.blocks.iter().map(|(_, d)| d.chunks.len()).sum();
                    match scout.room_chunks.checked_sub(chunks) {
                        Some(room) => {
                            scout.room_chunks = room;
                            learned.push(shard);
                        }
                        None => tracing::warn!("shard {id} is not used: there is no memory for more chunks"),
                    }
                }
                Err(e) => skip_shard(&id, e)?,
            }
        }
        Ok(learned)
    }

    /// Returns true if a new commit may refer to a block.
    pub(super) fn may_use(&self, block: &BlockId) -> bool {
        self.scout.as_ref().is_none_or(|scout| (scout.may_use)(block))
    }
}

fn bytes(piece: &Piece) -> u64 {
    match &piece.what {
        What::Chunks(batch) => batch.chunks().map(|(chunk, _)| u64::from(chunk.bytes)).sum(),
        What::End(_) => 0,
    }
}
