//! Any contents of an index segment, for property tests.

use bytes::Bytes;
use git_lfs_cdc::format::block::Summary;
use git_lfs_cdc::format::inline::{Carried, CarriedName};
use git_lfs_cdc::format::recipe::{Record, Term};
use git_lfs_cdc::format::segment::{BlockEntry, Contents, Key, ShardEntry};
use git_lfs_cdc::id::{BlockId, CommitId, Nonce, Oid, SegmentId, ShardId};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::samples::{Random, any_block_id, any_hash, any_repository};

/// Numbers of records, keys and so on. One seed gives all values, so that only the numbers shrink.
#[derive(Clone, Debug)]
struct Sizes {
    seed: u64,
    records: usize,
    oids: usize,
    most_terms: usize,
    keys: usize,
}

fn any_sizes() -> impl Strategy<Value = Sizes> {
    (1u64.., 0usize..400, 1usize..300, 0usize..12, 0usize..2000)
        .prop_map(|(seed, records, oids, most_terms, keys)| Sizes { seed, records, oids, most_terms, keys })
}

fn any_block(count: usize) -> impl Strategy<Value = BlockEntry> {
    let numbers = (1u32..=64 << 20, any::<u32>(), 0u32..=16_384);
    let dependencies = vec(0..count.max(1) as u32, 0..=count.min(4));
    (any_block_id(), numbers, dependencies).prop_map(
        |(id, (size_bytes, content_bytes, chunk_count), dependencies)| {
            let summary = Summary {
                id,
                size_bytes,
                frames_bytes: content_bytes % size_bytes,
                content_bytes,
                chunk_count,
            };
            BlockEntry { summary, dependencies }
        },
    )
}

fn any_shard() -> impl Strategy<Value = ShardEntry> {
    (any_hash(), any::<[u8; 8]>(), 0u32..=64 << 20, any::<[u32; 2]>()).prop_map(
        |(hash, nonce, size, [a, b])| {
            let id = ShardId { hash, nonce: Nonce(nonce) };
            ShardEntry { id, size_bytes: size, recipe_bytes: a % (size + 1), chunk_count: b }
        },
    )
}

fn any_replaced() -> impl Strategy<Value = SegmentId> {
    (any::<[u8; 16]>(), any_hash()).prop_map(|(id, hash)| SegmentId { id: CommitId(id), hash })
}

pub fn term(random: &mut Random, blocks: usize) -> Term {
    let content_bytes = 1 + (random.next() % (8 << 20)) as u32;
    let first_chunk = (random.next() % 16_384) as u16;
    Term {
        block: (random.next() % blocks as u64) as u32,
        first_chunk,
        chunk_count: 1 + (random.next() % u64::from(16_384 - first_chunk)) as u16,
        frames_offset: (random.next() % (32 << 20)) as u32,
        frames_bytes: 1 + (random.next() % (16 << 20)) as u32,
        skip_bytes: (random.next() % (256 << 10)) as u32,
        content_bytes,
        checksum: random.next(),
    }
}

fn records(sizes: &Sizes, blocks: usize, repositories: usize) -> Vec<Record> {
    let mut random = Random(sizes.seed);
    let record = |_| {
        let oid = Oid(*blake3::hash(&(random.next() % sizes.oids as u64).to_le_bytes()).as_bytes());
        let count = if blocks == 0 { 0 } else { random.next() as usize % (sizes.most_terms + 1) };
        let terms: Vec<_> = (0..count).map(|_| term(&mut random, blocks)).collect();
        let mut commit = [0; 16];
        commit[15] = random.next() as u8;
        Record {
            oid,
            size_bytes: terms.iter().map(|t| u64::from(t.content_bytes)).sum(),
            commit: CommitId(commit),
            repository: (random.next() % repositories as u64) as u32,
            terms,
        }
    };
    (0..sizes.records).map(record).collect()
}

pub fn any_contents() -> impl Strategy<Value = Contents> {
    let blocks = (0usize..200).prop_flat_map(|count| vec(any_block(count), count));
    let repositories = btree_set(any_repository(), 1..5);
    let others = (vec(any_shard(), 1..100), repositories, vec(any_replaced(), 0..20));
    let carried = vec((any_block_id(), vec(any::<u8>(), 0..300), any::<bool>()), 0..4);
    (any_sizes(), blocks, others, carried).prop_map(|(sizes, blocks, others, carried)| {
        let (shards, repositories, replaces) = others;
        let repositories: Vec<_> = repositories.into_iter().collect();
        let mut random = Random(sizes.seed);
        let shard_count = shards.len() as u64;
        let mut key = || Key { prefix: random.next(), shard: (random.next() % shard_count) as u32 };
        let keys = (0..sizes.keys).map(|_| key()).collect();
        let records = records(&sizes, blocks.len(), repositories.len());
        let carried = carried.into_iter().map(|(BlockId { hash, nonce }, bytes, is_block)| Carried {
            name: if is_block {
                CarriedName::Block(BlockId { hash, nonce })
            } else {
                CarriedName::Shard(ShardId { hash, nonce })
            },
            pieces: std::vec![Bytes::from(bytes)],
        });
        Contents { records, blocks, shards, keys, repositories, replaces, carried: carried.collect() }
    })
}
