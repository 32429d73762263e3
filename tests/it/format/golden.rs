//! Golden files: bytes that an earlier build has stored, and every later one reads. Files in `tests/data` are
//! added and never edited. `cargo test --test it -- --ignored write_missing_golden_files` writes the missing
//! ones.

use std::fs;
use std::path::PathBuf;

use git_lfs_cdc::error::Result;
use git_lfs_cdc::format::block::{Directory, Summary};
use git_lfs_cdc::format::condemned::Condemned;
use git_lfs_cdc::format::frame::{Decoder, Frame, Kind};
use git_lfs_cdc::format::manifest;
use git_lfs_cdc::format::segment::Segment;
use git_lfs_cdc::format::shard::{self, Recipes, Shard};
use git_lfs_cdc::format::store_json::StoreDescription;
use git_lfs_cdc::id::{BlockId, ContentHash, Oid};

use super::forge::Forge;
use super::golden_values::{
    NONCE, bases, bucket_store, carrying_contents, condemned, contents, delta_block, delta_contents,
    listed_segments, patched, recipes, segment_contents, store,
};
use super::samples::{chunks_of, joined, sealed};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A golden file.
pub fn read(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap_or_else(|e| panic!("tests/data/{name}: {e}"))
}

/// The golden shard's recipes, unpacked.
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

/// All golden files, as this build writes them.
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
fn files_without_zstd_are_written_the_same() {
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
    let mut decoder = Decoder::new().unwrap();
    let mut rest = &block[..];
    for (content, entry) in contents().iter().zip(&directory.frames) {
        let frame = Frame::first(rest).unwrap();
        assert_eq!(frame.stored.len(), entry.stored_bytes as usize);
        assert!(decoder.decode(&frame).unwrap() == content);
        rest = &rest[frame.stored.len()..];
    }
}

#[test]
fn the_shard_is_read() {
    let block = read("block-v1.zst");
    let shard = read("shard-v1.bin");
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
fn files_inside_a_segment_are_read() {
    let segment = Segment::open(read("segment-v1-carrying.bin")).unwrap();
    let expected = carrying_contents();
    let carried: Vec<_> = segment.carried().map(|(name, bytes)| (name, bytes.to_vec())).collect();
    let expected_files = expected.carried.iter().map(|c| (c.name, c.pieces.concat()));
    assert_eq!(carried, expected_files.collect::<Vec<_>>());
    let records: Vec<_> = segment.records().unwrap().map(|r| r.unwrap()).collect();
    assert_eq!(records, expected.records);
    assert!(segment.can_merge());
}

/// Changes every `step`th bit, one at a time. Each time the file is refused, or gives the same value.
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
        let mut decoder = Decoder::new()?;
        let mut rest = bytes;
        let mut contents = Vec::new();
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
