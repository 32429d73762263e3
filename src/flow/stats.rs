//! What a store holds, counted from its index and one listing.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::index::Index;
use crate::error::Result;
use crate::local::cache::Cache;
use crate::store::Store;

/// The figures of a store. Names are part of the command line's contract.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Distinct objects.
    pub objects: u64,
    /// Bytes of all objects, as plain LFS would store them.
    pub logical_bytes: u64,
    /// Bytes of all chunks in blocks: what deduplication left. A chunk that several pushes stored at the
    /// same time counts each time.
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
    /// Index segments that were merged into others, and not deleted: `compact` does that.
    pub replaced_segments: u64,
    /// Terms in the recipes of all records.
    pub terms: u64,
    /// Bytes of metadata for each chunk: in block directories and in shards.
    pub metadata_bytes_per_chunk: f64,
    /// Bytes of metadata for each term: recipes in shards, and index segments whole.
    pub metadata_bytes_per_term: f64,
}

/// Counts a store.
pub fn stats(store: &Store) -> Result<Stats> {
    let cache = Cache::for_store(&store.description().id, &store.location());
    let mut index = Index::default();
    index.read_all_commits(store, &cache)?;
    let mut stats = Stats { stored_bytes: store.stored_bytes()?, ..Stats::default() };
    let mut objects = BTreeMap::new();
    let mut blocks = BTreeMap::new();
    let mut records = BTreeSet::new();
    let mut segment_bytes = 0;
    for standing in index.segments() {
        let (id, segment) = (standing.id, standing.whole(store, &cache)?);
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
            let summary = block.map_err(|e| e.context(format!("index/{id}")))?.summary;
            blocks.insert(summary.id, summary);
        }
    }
    stats.replaced_segments = index.replaced_count() as u64;
    let shards = index.shards(store, &cache)?;
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
    Ok(stats)
}

/// Rounded to a tenth.
fn ratio(bytes: u64, count: u64) -> f64 {
    (bytes as f64 / (count.max(1) as f64) * 10.0).round() / 10.0
}
