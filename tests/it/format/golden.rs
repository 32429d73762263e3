//! Golden files: what an earlier build has stored is read for ever. Files in `tests/data` are added
//! and never edited; `cargo test -- --ignored write_missing_golden_files` writes those that are missing.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use git_lfs_cdc::error::Result;
use git_lfs_cdc::format::block::{Builder, Directory, Sealed, Summary};
use git_lfs_cdc::format::chunking::GEAR_16K;
use git_lfs_cdc::format::condemned::{Condemned, CondemnedRecord};
use git_lfs_cdc::format::container::Features;
use git_lfs_cdc::format::delta::{Bases, Needed};
use git_lfs_cdc::format::frame::{Decoder, Encoder, Frame, Kind};
use git_lfs_cdc::format::inline::{Carried, CarriedName};
use git_lfs_cdc::format::manifest;
use git_lfs_cdc::format::recipe::{Record, Term, term_checksum};
use git_lfs_cdc::format::segment::{BlockEntry, Contents, Key, Segment, ShardEntry};
use git_lfs_cdc::format::shard::{self, Recipes, Shard, ShardRecipe, ShardTerm};
use git_lfs_cdc::format::store_json::StoreDescription;
use git_lfs_cdc::id::{BlockId, CommitId, ContentHash, Nonce, Oid, SegmentId, ShardId, StoreId};

use super::forge::Forge;
use super::samples::{Flavour, chunks_of, content, joined, sealed};

pub const NONCE: Nonce = Nonce([0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7]);

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A golden file.
pub fn read(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap_or_else(|e| panic!("tests/data/{name}: {e}"))
}

/// Frames of all kinds: compressed, grouped by four and by two, raw, a single byte.
fn contents() -> [Vec<u8>; 5] {
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

/// In the order that a segment keeps, so that what is read is the same.
fn segment_contents() -> Contents {
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
fn carrying_contents() -> Contents {
    let carried = |name, bytes: &'static [u8]| Carried { name, pieces: vec![Bytes::from_static(bytes)] };
    let shard = ShardId { hash: ContentHash([9; 32]), nonce: Nonce([9; 8]) };
    let carried = vec![
        carried(CarriedName::Block(block_id(1)), b"what a block is"),
        carried(CarriedName::Shard(shard), b"and a shard"),
    ];
    Contents { carried, replaces: Vec::new(), ..segment_contents() }
}

/// What the golden patch is made from: a chunk in each of two blocks.
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

/// What the bases are, with a line more.
fn patched() -> Vec<u8> {
    let base = bases().content;
    [&base[..5_000], b"one line more\n", &base[5_000..]].concat()
}

/// A plain frame and a patch.
fn delta_block() -> Sealed {
    let (mut encoder, mut builder) = (Encoder::new(3).expect("level 3 exists"), Builder::default());
    let plain = content(Flavour::Noise, 8, 1_500);
    let patch = encoder.encode_over(&patched(), bases(), 20).expect("content can be encoded");
    let frames = [(encoder.encode(&plain).expect("content can be encoded"), plain), (patch, patched())];
    for (frame, content) in frames {
        builder.push(frame, &chunks_of(&content, 1000)).expect("a frame can be added");
    }
    builder.finish(NONCE)
}

/// A record with frames that are wanted for patches alone.
fn delta_contents() -> Contents {
    let mut contents = segment_contents();
    contents.records[1].terms.push(Term::of_base(2, 4_000..9_000));
    contents
}

fn condemned() -> Condemned {
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

fn store() -> StoreDescription {
    let features = Features { ignorable: 1, read_only: 0, incompatible: 0 };
    let id = StoreId(*b"0123456789abcdef");
    StoreDescription { id, suite: GEAR_16K, features, file_mode: Some(0o660), creates: false }
}

/// As `init` writes it to a service that honours conditions.
fn bucket_store() -> StoreDescription {
    let id = StoreId(*b"fedcba9876543210");
    StoreDescription { id, features: Features::default(), file_mode: None, creates: true, ..store() }
}

fn listed_segments() -> Vec<(SegmentId, u64)> {
    let segment = |n: u8| SegmentId { id: CommitId([n; 16]), hash: ContentHash([n ^ 0xFF; 32]) };
    vec![(segment(1), 700), (segment(9), 5_000_000_000)]
}

fn recipes() -> Recipes {
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

/// What the golden shard's recipes unpack to.
pub fn recipes_unpacked() -> Vec<u8> {
    let shard = Forge::open(&read("shard-v1.bin"));
    let packed = &shard.sections.last().expect("a shard has sections").2;
    zstd::bulk::decompress(packed, 10_000).expect("recipes can be unpacked")
}

/// The golden patch.
pub fn delta_frame() -> Vec<u8> {
    let block = read("block-v1-delta.zst");
    let plain = Frame::first(&block).expect("the first frame is sound").stored.len();
    Frame::first(&block[plain..]).expect("the patch is sound").stored.to_vec()
}

/// As this build writes them.
fn files() -> [(&'static str, Vec<u8>); 11] {
    let (sealed, _) = sealed(&contents(), 1000, NONCE);
    let blocks = [(sealed.summary, sealed.directory.clone())];
    let (shard, _) = shard::write(&blocks, &recipes()).expect("a shard can be written");
    let delta = delta_block();
    let blocks = [blocks, [(delta.summary, delta.directory.clone())]].concat();
    let (delta_shard, _) = shard::write(&blocks, &recipes()).expect("a shard can be written");
    [
        ("block-v1-delta.zst", joined(&delta)),
        ("shard-v1-delta.bin", delta_shard),
        ("block-v1.zst", joined(&sealed)),
        ("shard-v1.bin", shard),
        ("segment-v1.bin", segment_contents().write()),
        ("segment-v1-delta.bin", delta_contents().write()),
        ("segment-v1-carrying.bin", carrying_contents().write()),
        ("condemned-v1.bin", condemned().write()),
        ("store-v1.json", store().write().expect("store.json can be written")),
        ("store-v1-bucket.json", bucket_store().write().expect("store.json can be written")),
        ("manifest-v1.bin", manifest::write(&listed_segments())),
    ]
}

#[test]
#[ignore = "writes into the source tree"]
fn write_missing_golden_files() {
    for (name, bytes) in files().into_iter().filter(|(name, _)| !path(name).exists()) {
        assert!(bytes.len() < 20_000);
        fs::write(path(name), bytes).expect("a golden file can be written");
    }
}

#[test]
fn what_zstd_has_no_part_in_is_written_the_same() {
    for (name, bytes) in files().into_iter().skip(4) {
        assert!(bytes == read(name), "{name}");
    }
}

#[test]
fn the_block_is_read() {
    let block = read("block-v1.zst");
    assert_eq!(ContentHash::of(&block).to_string(), BLOCK_HASH);
    let directory = Directory::parse(&block).unwrap();
    let chunks: Vec<_> = contents().iter().flat_map(|c| chunks_of(c, 1000)).collect();
    assert_eq!(directory.chunks, chunks);
    let kinds: Vec<_> = directory.frames.iter().map(|f| f.kind).collect();
    assert_eq!(kinds, [Kind::Plain, Kind::Grouped, Kind::Grouped, Kind::Plain, Kind::Plain].map(|k| k as u8));
    let (mut decoder, mut rest) = (Decoder::new().unwrap(), &block[..]);
    for (content, entry) in contents().iter().zip(&directory.frames) {
        let frame = Frame::first(rest).unwrap();
        assert_eq!(frame.stored.len(), entry.stored_bytes as usize);
        assert!(decoder.decode(&frame).unwrap() == content);
        rest = &rest[frame.stored.len()..];
    }
}

#[test]
fn the_shard_is_read() {
    let (block, shard) = (read("block-v1.zst"), read("shard-v1.bin"));
    let directory = Directory::parse(&block).unwrap();
    let summary = Summary {
        id: BlockId { hash: ContentHash::of(&block), nonce: NONCE },
        size_bytes: block.len() as u32,
        frames_bytes: directory.frames.iter().map(|f| f.stored_bytes).sum(),
        content_bytes: contents().concat().len() as u32,
        chunk_count: directory.chunks.len() as u32,
    };
    assert_eq!(Shard::parse(&shard).unwrap(), Shard { blocks: vec![(summary, directory)] });
    assert_eq!(Recipes::parse(&shard).unwrap(), recipes());
}

#[test]
fn patches_are_read() {
    let block = read("block-v1-delta.zst");
    let directory = Directory::parse(&block).unwrap();
    assert_eq!(directory.needs, [bases().needs]);
    let patch = delta_frame();
    let frame = Frame::first(&patch).unwrap();
    let delta = frame.delta().unwrap();
    assert_eq!((delta.depth, delta.blocks, delta.bases), (2, bases().blocks, bases().terms));
    let content = Decoder::new().unwrap().decode_over(&frame, &bases().content).unwrap().to_vec();
    assert!(content == patched());
    let shard = Shard::parse(&read("shard-v1-delta.bin")).unwrap();
    assert_eq!((shard.blocks.len(), &shard.blocks[1].1), (2, &directory));
    let segment = Segment::open(read("segment-v1-delta.bin")).unwrap();
    let records: Vec<_> = segment.records().unwrap().map(|r| r.unwrap()).collect();
    assert_eq!(records, delta_contents().records);
}

#[test]
fn the_segment_is_read() {
    let expected = segment_contents();
    // the first ones had no fence, and their sections in another order
    for name in ["segment-v1.bin", "segment-v1-without-fence.bin"] {
        let segment = Segment::open(read(name)).unwrap();
        let records: Vec<_> = segment.records().unwrap().map(|r| r.unwrap()).collect();
        assert_eq!(records, expected.records);
        assert_eq!(segment.find(&Oid([0x20; 32])).unwrap(), expected.records[1..]);
        let blocks: Vec<_> = segment.blocks().unwrap().map(|b| b.unwrap()).collect();
        assert_eq!(blocks, expected.blocks);
        assert_eq!(segment.shards().unwrap(), expected.shards);
        assert_eq!(segment.keys().unwrap(), expected.keys);
        assert_eq!(segment.repositories(), expected.repositories);
        assert_eq!(segment.replaces(), expected.replaces);
        assert!(segment.can_merge());
    }
}

#[test]
fn what_a_segment_carries_is_read() {
    let (segment, expected) = (Segment::open(read("segment-v1-carrying.bin")).unwrap(), carrying_contents());
    let carried: Vec<_> = segment.carried().map(|(name, bytes)| (name, bytes.to_vec())).collect();
    let expected_files = expected.carried.iter().map(|c| (c.name, c.pieces.concat()));
    assert_eq!(carried, expected_files.collect::<Vec<_>>());
    let records: Vec<_> = segment.records().unwrap().map(|r| r.unwrap()).collect();
    assert_eq!(records, expected.records);
    assert!(segment.can_merge());
}

/// With any one bit changed (every `step`th is tried), a file is refused or says the same.
fn notices_bits<T: PartialEq>(name: &str, step: usize, parse: impl Fn(&[u8]) -> Result<T>) {
    let mut bytes = read(name);
    let expected = parse(&bytes).expect("the golden file can be read");
    for bit in (0..8 * bytes.len()).step_by(step) {
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(changed) = parse(&bytes) {
            assert!(changed == expected, "{name}: bit {bit} changes what is read");
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn no_changed_bit_goes_unnoticed() {
    notices_bits("shard-v1.bin", 1, |b| Ok((Shard::parse(b)?, Recipes::parse(b)?)));
    notices_bits("condemned-v1.bin", 1, Condemned::parse);
    notices_bits("manifest-v1.bin", 1, manifest::parse);
    notices_bits("segment-v1.bin", 1, |bytes| {
        let segment = Segment::open(bytes)?;
        let records = segment.records()?.collect::<Result<Vec<_>>>()?;
        let blocks = segment.blocks()?.collect::<Result<Vec<_>>>()?;
        let names = (segment.repositories().to_vec(), segment.replaces().to_vec());
        Ok((records, blocks, segment.shards()?, segment.keys()?, names))
    });
    notices_bits("block-v1.zst", 13, |bytes| {
        let directory = Directory::parse(bytes)?;
        let (mut decoder, mut rest, mut contents) = (Decoder::new()?, bytes, Vec::new());
        for _ in &directory.frames {
            let frame = Frame::first(rest)?;
            contents.extend_from_slice(decoder.decode(&frame)?);
            rest = &rest[frame.stored.len()..];
        }
        Ok((directory, contents))
    });
}

#[test]
fn the_manifest_is_read() {
    assert_eq!(manifest::parse(&read("manifest-v1.bin")).unwrap(), listed_segments());
}

#[test]
fn the_condemned_list_is_read() {
    assert_eq!(Condemned::parse(&read("condemned-v1.bin")).unwrap(), condemned());
}

#[test]
fn the_store_description_is_read() {
    assert_eq!(StoreDescription::parse(&read("store-v1.json")).unwrap(), store());
    assert_eq!(StoreDescription::parse(&read("store-v1-bucket.json")).unwrap(), bucket_store());
}

const BLOCK_HASH: &str = "1d6d55fa75eb4f5b439e872fe11c9078b89c81baad0c82412c0d145146bd1188";
