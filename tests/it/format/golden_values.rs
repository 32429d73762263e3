//! Values in the golden files.

use bytes::Bytes;
use git_lfs_cdc::format::block::{Builder, Sealed, Summary};
use git_lfs_cdc::format::chunking::GEAR_16K;
use git_lfs_cdc::format::condemned::{Condemned, CondemnedRecord};
use git_lfs_cdc::format::container::Features;
use git_lfs_cdc::format::delta::{Bases, Needed};
use git_lfs_cdc::format::frame::Encoder;
use git_lfs_cdc::format::inline::{Carried, CarriedName};
use git_lfs_cdc::format::recipe::{Record, Term, term_checksum};
use git_lfs_cdc::format::segment::{BlockEntry, Contents, Key, ShardEntry};
use git_lfs_cdc::format::shard::{Recipes, ShardRecipe, ShardTerm};
use git_lfs_cdc::format::store_json::StoreDescription;
use git_lfs_cdc::id::{BlockId, CommitId, ContentHash, Nonce, Oid, SegmentId, ShardId, StoreId};

use super::samples::{Flavour, chunks_of, content};

pub const NONCE: Nonce = Nonce([0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7]);

/// Frames of all kinds: compressed, grouped by four and by two, raw, a single byte.
pub fn contents() -> [Vec<u8>; 5] {
    [
        content(Flavour::Text, 1, 20_000),
        content(Flavour::Singles, 2, 5_002),
        content(Flavour::Halves, 3, 4_099),
        content(Flavour::Noise, 4, 1_500),
        vec![42],
    ]
}

fn block_id(n: u8) -> BlockId {
    BlockId { hash: ContentHash([n; 32]), nonce: Nonce([n ^ 0xFF; 8]) }
}

fn summary(n: u8) -> Summary {
    let n32 = u32::from(n);
    Summary {
        id: block_id(n),
        size_bytes: 60_000_000 + n32,
        frames_bytes: 59_000_000 + n32,
        content_bytes: 120_000_000 + n32,
        chunk_count: 7_000 + n32,
    }
}

fn term(block: u32, first_chunk: u16, content_bytes: u32) -> Term {
    Term {
        block,
        first_chunk,
        chunk_count: 300,
        frames_offset: 1_000_000 + u32::from(first_chunk),
        frames_bytes: 2_000_000,
        skip_bytes: 70_000,
        content_bytes,
        checksum: 0x0123_4567_89AB_CDEF ^ u64::from(first_chunk),
    }
}

/// A segment's contents, in the order that a segment keeps: it reads back the same.
pub fn segment_contents() -> Contents {
    let record = |oid, commit, repository, terms: Vec<Term>| Record {
        oid: Oid([oid; 32]),
        size_bytes: terms.iter().map(|t| u64::from(t.content_bytes)).sum(),
        commit: CommitId([commit; 16]),
        repository,
        terms,
    };
    let block = |n, dependencies| BlockEntry { summary: summary(n), dependencies };
    let shard = |n: u8| ShardEntry {
        id: ShardId { hash: ContentHash([n; 32]), nonce: Nonce([n; 8]) },
        size_bytes: 300_000,
        recipe_bytes: 20_000,
        chunk_count: 7_000,
    };
    Contents {
        records: vec![
            record(0x10, 1, 1, vec![]),
            record(0x20, 1, 0, vec![term(0, 5, 5_000_000)]),
            record(0x20, 2, 1, vec![term(1, 6, 1), term(2, 7, 8 << 20), term(1, 8, 3)]),
        ],
        blocks: vec![block(1, vec![]), block(2, vec![0, 2]), block(3, vec![0])],
        shards: vec![shard(9), shard(8)],
        keys: vec![Key { prefix: 1 << 60, shard: 1 }, Key { prefix: 0xFEDC_BA98_7654_3210, shard: 0 }],
        repositories: vec!["assets-1a2b3c".into(), "médias-4d5e6f".into()],
        replaces: vec![SegmentId { id: CommitId([5; 16]), hash: ContentHash([6; 32]) }],
        carried: Vec::new(),
    }
}

/// A small commit, which is one file.
pub fn carrying_contents() -> Contents {
    let carried = |name, bytes: &'static [u8]| Carried { name, pieces: vec![Bytes::from_static(bytes)] };
    let shard = ShardId { hash: ContentHash([9; 32]), nonce: Nonce([9; 8]) };
    let carried = vec![
        carried(CarriedName::Block(block_id(1)), b"what a block is"),
        carried(CarriedName::Shard(shard), b"and a shard"),
    ];
    Contents { carried, replaces: Vec::new(), ..segment_contents() }
}

/// The bases of the golden delta: a chunk in each of two blocks.
pub fn bases() -> Bases {
    let parts = [content(Flavour::Text, 6, 9_000), content(Flavour::Noise, 7, 4_000)];
    let mut bases = Bases { blocks: vec![block_id(1), block_id(2)], ..Bases::default() };
    bases.needs.depth = 2;
    for (number, part) in (0u16..).zip(&parts) {
        let frames_offset = 1_000_000 * u32::from(number);
        bases.terms.push(Term {
            block: number.into(),
            first_chunk: 300 + number,
            chunk_count: 1,
            frames_offset,
            frames_bytes: 90_000,
            skip_bytes: 70_000,
            content_bytes: part.len() as u32,
            checksum: term_checksum(part),
        });
        let range = frames_offset..frames_offset + 90_000;
        bases.needs.frames.push(Needed { block: summary(1 + number as u8).into(), range });
        bases.content.extend_from_slice(part);
    }
    bases
}

/// The content of the golden delta: its bases with a line more.
pub fn patched() -> Vec<u8> {
    let base = bases().content;
    [&base[..5_000], b"one line more\n", &base[5_000..]].concat()
}

/// A block of a plain frame and a delta.
pub fn delta_block() -> Sealed {
    let mut encoder = Encoder::new(3).expect("level 3 exists");
    let mut builder = Builder::default();
    let plain = content(Flavour::Noise, 8, 1_500);
    let patch = encoder.encode_over(&patched(), bases(), 20).expect("content can be encoded");
    let frames = [(encoder.encode(&plain).expect("content can be encoded"), plain), (patch, patched())];
    for (frame, content) in frames {
        builder.push(frame, &chunks_of(&content, 1000)).expect("a frame can be added");
    }
    builder.finish(NONCE)
}

/// A record with frames that only deltas need.
pub fn delta_contents() -> Contents {
    let mut contents = segment_contents();
    contents.records[1].terms.push(Term::of_base(2, 4_000..9_000));
    contents
}

pub fn condemned() -> Condemned {
    let record = |oid, repository: &str| CondemnedRecord {
        oid: Oid([oid; 32]),
        commit: CommitId([oid ^ 1; 16]),
        repository: repository.into(),
    };
    Condemned {
        blocks: vec![block_id(7), block_id(3)],
        records: vec![record(0x30, "médias-4d5e6f"), record(0x20, "assets-1a2b3c")],
    }
}

pub fn store() -> StoreDescription {
    let features = Features { ignorable: 1, read_only: 0, incompatible: 0 };
    let id = StoreId(*b"0123456789abcdef");
    StoreDescription { id, suite: GEAR_16K, features, file_mode: Some(0o660), creates: false }
}

/// As `init` writes it to a service that honours conditions.
pub fn bucket_store() -> StoreDescription {
    let id = StoreId(*b"fedcba9876543210");
    StoreDescription { id, features: Features::default(), file_mode: None, creates: true, ..store() }
}

pub fn listed_segments() -> Vec<(SegmentId, u64)> {
    let segment = |n: u8| SegmentId { id: CommitId([n; 16]), hash: ContentHash([n ^ 0xFF; 32]) };
    vec![(segment(1), 700), (segment(9), 5_000_000_000)]
}

pub fn recipes() -> Recipes {
    let term = |block, first_chunk| ShardTerm {
        block,
        first_chunk,
        chunk_count: 3,
        content_bytes: 3_000,
        checksum: 0xFEED_FACE_CAFE_BEEF,
    };
    let recipe = |oid, size_bytes, terms| ShardRecipe {
        oid: Oid([oid; 32]),
        size_bytes,
        repository: "médias-4d5e6f".into(),
        terms,
    };
    Recipes {
        blocks: vec![block_id(1), block_id(2)],
        recipes: vec![recipe(0x10, 0, vec![]), recipe(0x20, 6_000, vec![term(1, 4), term(0, 9)])],
    }
}
