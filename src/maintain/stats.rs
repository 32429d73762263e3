//! The figures of a store, counted from its index and one listing.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::error::Result;
use crate::format::frame::Kind;
use crate::format::segment::{BlockEntry, ShardEntry};
use crate::format::shard::Shard;
use crate::id::BlockId;
use crate::index::Index;
use crate::index::cached_reads::{CachedStore, cache_of, shard_copies, skip_shard};
use crate::store::Store;
use crate::units::MIB;

/// Most bytes of all shards of a store for which `stats` reads them to count delta frames.
const STATS_SHARDS_BYTES: u64 = 256 * MIB as u64;

/// The figures of a store. The names are part of the command line's contract.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Distinct objects.
    pub objects: u64,
    /// Bytes of all objects, as plain LFS would store them.
    pub logical_bytes: u64,
    /// Bytes of all chunks in blocks, after deduplication. A chunk that several pushes stored at the same
    /// time counts each time.
    pub unique_bytes: u64,
    /// Bytes of everything in the store.
    pub stored_bytes: u64,
    /// Chunks in blocks.
    pub chunks: u64,
    /// Blocks that a commit names.
    pub blocks: u64,
    /// Shards that a commit names.
    pub shards: u64,
    /// Index segments that no other replaces.
    pub segments: u64,
    /// Index segments that were merged into others and not deleted yet. `compact` deletes them.
    pub replaced_segments: u64,
    /// Terms in the recipes of all records.
    pub terms: u64,
    /// Blocks with delta frames.
    pub delta_blocks: u64,
    /// Delta frames. This and the next three figures are not counted if a store has more than 256 MiB of
    /// shards.
    pub delta_frames: Option<u64>,
    /// Bytes of content of the delta frames.
    pub delta_content_bytes: Option<u64>,
    /// Bytes that the delta frames take.
    pub delta_stored_bytes: Option<u64>,
    /// Most delta frames that follow on each other.
    pub delta_depth: Option<u8>,
    /// Bytes of metadata for each chunk: in block directories and in shards.
    pub metadata_bytes_per_chunk: f64,
    /// Bytes of metadata for each term: recipes in shards, and index segments whole.
    pub metadata_bytes_per_term: f64,
}

/// Counts a store.
pub fn stats(store: &Store) -> Result<Stats> {
    let cache = cache_of(store);
    let stored = CachedStore { store, cache: &cache };
    let mut index = Index::default();
    index.read_all_commits(stored)?;
    let mut stats = Stats { stored_bytes: store.stored_bytes()?, ..Stats::default() };
    let mut objects = BTreeMap::new();
    let mut blocks = BTreeMap::new();
    let mut records = BTreeSet::new();
    let mut dependent = BTreeSet::new();
    let mut segment_bytes = 0;
    for standing in index.segments() {
        let id = standing.id;
        let segment = standing.whole(stored)?;
        stats.segments += 1;
        segment_bytes += standing.own_bytes();
        for record in segment.records()? {
            let record = record.map_err(|e| e.context(format!("index/{id}")))?;
            let repository = segment.repositories()[record.repository as usize].clone();
            if records.insert((record.oid, record.commit, repository)) {
                stats.terms += record.terms.len() as u64;
            }
            objects.insert(record.oid, record.size_bytes);
        }
        for block in segment.blocks()? {
            let BlockEntry { summary, dependencies } = block.map_err(|e| e.context(format!("index/{id}")))?;
            blocks.insert(summary.id, summary);
            if !dependencies.is_empty() {
                dependent.insert(summary.id);
            }
        }
    }
    stats.replaced_segments = index.replaced_by().len() as u64;
    let shards = index.shards(stored)?;
    stats.objects = objects.len() as u64;
    stats.logical_bytes = objects.values().sum();
    stats.blocks = blocks.len() as u64;
    stats.chunks = blocks.values().map(|b| u64::from(b.chunk_count)).sum();
    stats.unique_bytes = blocks.values().map(|b| u64::from(b.content_bytes)).sum();
    stats.shards = shards.len() as u64;
    let directories: u64 = blocks.values().map(|b| u64::from(b.size_bytes - b.frames_bytes)).sum();
    let recipes: u64 = shards.values().map(|s| u64::from(s.recipe_bytes)).sum();
    let shard_bytes: u64 = shards.values().map(|s| u64::from(s.size_bytes)).sum();
    stats.metadata_bytes_per_chunk = ratio(directories + shard_bytes - recipes, stats.chunks);
    stats.metadata_bytes_per_term = ratio(recipes + segment_bytes, stats.terms);
    stats.delta_blocks = dependent.len() as u64;
    if shard_bytes <= STATS_SHARDS_BYTES || dependent.is_empty() {
        let deltas = count_deltas(stored, &index, dependent, shards.into_values())?;
        stats.delta_frames = Some(deltas.frames);
        stats.delta_content_bytes = Some(deltas.content_bytes);
        stats.delta_stored_bytes = Some(deltas.stored_bytes);
        stats.delta_depth = Some(deltas.depth);
    }
    Ok(stats)
}

#[derive(Default)]
struct Deltas {
    frames: u64,
    content_bytes: u64,
    stored_bytes: u64,
    depth: u8,
}

/// Counts the delta frames of blocks by the shards that list them. Skips a shard that can't be read.
fn count_deltas(
    stored: CachedStore<'_>,
    index: &Index,
    mut blocks: BTreeSet<BlockId>,
    shards: impl Iterator<Item = ShardEntry>,
) -> Result<Deltas> {
    let mut deltas = Deltas::default();
    let shards: Vec<ShardEntry> = if blocks.is_empty() { Vec::new() } else { shards.collect() };
    for (id, bytes) in shard_copies(stored, index.inline(), shards) {
        let listed = match bytes.and_then(|bytes| Shard::parse(&bytes)) {
            Ok(shard) => shard.blocks,
            Err(e) => {
                skip_shard(&id, e)?;
                continue;
            }
        };
        for (_, directory) in listed.iter().filter(|(summary, _)| blocks.remove(&summary.id)) {
            for frame in directory.frames.iter().filter(|frame| frame.kind == Kind::Delta as u8) {
                deltas.frames += 1;
                deltas.content_bytes += u64::from(frame.content_bytes);
                deltas.stored_bytes += u64::from(frame.stored_bytes);
            }
            let depth = directory.needs.iter().map(|needs| needs.depth).max();
            deltas.depth = deltas.depth.max(depth.unwrap_or(0));
        }
    }
    Ok(deltas)
}

/// Divides, and rounds to a tenth.
fn ratio(bytes: u64, count: u64) -> f64 {
    (bytes as f64 / (count.max(1) as f64) * 10.0).round() / 10.0
}
