//! Metadata of a store with many commits, and without their blocks: segments merged in tiers, and a shard for
//! each commit.

use std::path::Path;

use git_lfs_cdc::format::block::{Chunk, Directory, FrameEntry, Summary};
use git_lfs_cdc::format::recipe::{Record, Term};
use git_lfs_cdc::format::segment::{BlockEntry, Contents, Key, ShardEntry};
use git_lfs_cdc::format::shard::{self, Recipes, ShardRecipe, ShardTerm};
use git_lfs_cdc::id::{BlockId, ChunkId, CommitId, ContentHash, Nonce, Oid, SegmentId, ShardId};
use rayon::prelude::*;

/// Objects of each commit, all in one block.
const OBJECTS: usize = 100;
const CHUNKS_OF_OBJECT: usize = 10;
const CHUNKS: usize = OBJECTS * CHUNKS_OF_OBJECT;
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks of each frame.
const FRAME_CHUNKS: usize = 10;
const FRAME_BYTES: usize = 80 * 1024;
/// One key chunk for so many chunks of small objects.
const KEY_INTERVAL: usize = 256;
/// Segments that stand as they were committed. The others were merged.
const SINGLE: usize = 12;
/// Segments that were merged and not deleted.
const REPLACED: usize = 1000;

/// Writes segments and shards of so many commits into the folder of a store.
pub fn build(folder: &Path, commits: usize) {
    let mut first = 0;
    let mut tiers = Vec::new();
    // each tier has half of the remaining commits
    while commits - first > 2 * SINGLE {
        let count = (commits - first) / 2;
        tiers.push(first..first + count);
        first += count;
    }
    tiers.extend((first..commits).map(|single| single..single + 1));
    let replaced: Vec<SegmentId> = (0..REPLACED.min(commits / 2)).map(|n| put_replaced(folder, n)).collect();
    for (number, tier) in tiers.into_iter().enumerate() {
        let time = REPLACED + tier.end;
        let parts: Vec<Commit> = tier.into_par_iter().map(|commit| Commit::write(folder, commit)).collect();
        let mut contents = Contents { repositories: vec!["scale".into()], ..Contents::default() };
        contents.replaces = if number == 0 { replaced.clone() } else { Vec::new() };
        for mut part in parts {
            let block = contents.blocks.len() as u32;
            let shard = contents.shards.len() as u32;
            part.records.iter_mut().flat_map(|r| &mut r.terms).for_each(|term| term.block = block);
            contents.blocks.push(BlockEntry { summary: part.summary, dependencies: Vec::new() });
            contents.records.append(&mut part.records);
            contents.keys.extend(part.keys.into_iter().map(|key| Key { shard, ..key }));
            contents.shards.push(part.shard);
        }
        put_segment(folder, time, contents);
    }
}

/// The entries that a commit adds to a segment.
struct Commit {
    summary: Summary,
    records: Vec<Record>,
    keys: Vec<Key>,
    shard: ShardEntry,
}

impl Commit {
    /// Writes the shard of commit number `number`.
    fn write(folder: &Path, number: usize) -> Self {
        let mut random = blake3::Hasher::new().update(b"scale").update(&number.to_le_bytes()).finalize_xof();
        let mut id = || {
            let mut id = [0; 32];
            random.fill(&mut id);
            id
        };
        let block = BlockId { hash: ContentHash(id()), nonce: Nonce([1; 8]) };
        let chunks: Vec<Chunk> =
            (0..CHUNKS).map(|_| Chunk { id: ChunkId(id()), bytes: CHUNK_BYTES as u32 }).collect();
        let frame = FrameEntry {
            kind: 0,
            chunk_count: FRAME_CHUNKS as u16,
            stored_bytes: FRAME_BYTES as u32,
            content_bytes: (FRAME_CHUNKS * CHUNK_BYTES) as u32,
        };
        let frames = vec![frame; CHUNKS / FRAME_CHUNKS];
        let frames_bytes = (frames.len() * FRAME_BYTES) as u32;
        let summary = Summary {
            id: block,
            size_bytes: frames_bytes + 40_000,
            frames_bytes,
            content_bytes: (CHUNKS * CHUNK_BYTES) as u32,
            chunk_count: CHUNKS as u32,
        };
        let commit = CommitId::new((number + 1) as u64).expect("a time");
        let records: Vec<Record> = (0..OBJECTS)
            .map(|object| {
                let term = Term {
                    block: 0,
                    first_chunk: (object * CHUNKS_OF_OBJECT) as u16,
                    chunk_count: CHUNKS_OF_OBJECT as u16,
                    frames_offset: (object * FRAME_BYTES) as u32,
                    frames_bytes: FRAME_BYTES as u32,
                    skip_bytes: 0,
                    content_bytes: (CHUNKS_OF_OBJECT * CHUNK_BYTES) as u32,
                    checksum: object as u64,
                };
                let size_bytes = u64::from(term.content_bytes);
                Record { oid: Oid(id()), size_bytes, commit, repository: 0, terms: vec![term] }
            })
            .collect();
        let keys = chunks.iter().step_by(KEY_INTERVAL).map(|chunk| Key::new(&chunk.id, 0)).collect();
        let shard = put_shard(folder, summary, Directory { chunks, frames, needs: Vec::new() }, &records);
        Self { summary, records, keys, shard }
    }
}

fn put_shard(folder: &Path, summary: Summary, directory: Directory, records: &[Record]) -> ShardEntry {
    let recipe = |record: &Record| ShardRecipe {
        oid: record.oid,
        size_bytes: record.size_bytes,
        repository: "scale".into(),
        terms: record
            .terms
            .iter()
            .map(|term| ShardTerm {
                block: 0,
                first_chunk: term.first_chunk,
                chunk_count: term.chunk_count,
                content_bytes: term.content_bytes,
                checksum: term.checksum,
            })
            .collect(),
    };
    let recipes = Recipes { blocks: vec![summary.id], recipes: records.iter().map(recipe).collect() };
    let (bytes, recipe_bytes) = shard::write(&[(summary, directory)], &recipes).expect("a shard");
    let id = ShardId { hash: ContentHash::of(&bytes), nonce: Nonce([2; 8]) };
    let name = id.to_string();
    std::fs::write(folder.join("shards").join(&name[..2]).join(&name), &bytes).expect("room");
    ShardEntry {
        id,
        size_bytes: bytes.len() as u32,
        recipe_bytes: recipe_bytes as u32,
        chunk_count: CHUNKS as u32,
    }
}

fn put_replaced(folder: &Path, number: usize) -> SegmentId {
    let repositories = vec![format!("replaced-{number}")];
    put_segment(folder, number, Contents { repositories, ..Contents::default() })
}

/// `time` is the order of the names.
fn put_segment(folder: &Path, time: usize, contents: Contents) -> SegmentId {
    let weight = contents.replaces.len() + contents.shards.len().max(1);
    let bytes = contents.write();
    let id = CommitId::new(time as u64 + 1).expect("a time").weighing(weight as u32);
    let id = SegmentId { id, hash: ContentHash::of(&bytes) };
    std::fs::write(folder.join("index").join(id.to_string()), bytes).expect("room");
    id
}
