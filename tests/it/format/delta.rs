//! Delta frames: a delta and its bases give the content back, and nothing else does.

use git_lfs_cdc::error::{Kind as ErrorKind, Result};
use git_lfs_cdc::format::block::{Builder, Directory, Summary};
use git_lfs_cdc::format::delta::{Bases, FrameNeeds, Needed};
use git_lfs_cdc::format::frame::{Decoder, Encoded, Encoder, Frame, Kind};
use git_lfs_cdc::format::merge_shards::MergeShards;
use git_lfs_cdc::format::recipe::{Term, term_checksum};
use git_lfs_cdc::format::shard::{self, Recipes, Shard};
use git_lfs_cdc::id::{BlockId, ContentHash, Nonce};
use proptest::prelude::*;
use proptest::sample::Index;

use super::samples::{Flavour, chunks_of, content, joined};
use git_lfs_cdc::format::limits;

fn block(number: u8) -> Summary {
    let id = BlockId { hash: ContentHash([number; 32]), nonce: Nonce([number; 8]) };
    Summary { id, size_bytes: 2_000_000, frames_bytes: 1_900_000, content_bytes: 2_000_000, chunk_count: 100 }
}

/// Bases with a term for each content, in two blocks by turns.
fn bases(contents: &[&[u8]], depth: u8) -> Bases {
    let mut bases = Bases { blocks: vec![block(1).id, block(2).id], ..Bases::default() };
    bases.needs.depth = depth;
    for (number, content) in contents.iter().enumerate() {
        let of = (number % 2) as u32;
        let place = number as u32 * 1000;
        bases.terms.push(Term {
            block: of,
            first_chunk: number as u16,
            chunk_count: 1,
            frames_offset: place,
            frames_bytes: 900,
            skip_bytes: 7,
            content_bytes: content.len() as u32,
            checksum: term_checksum(content),
        });
        bases.needs.frames.push(Needed { block: block(1 + of as u8).into(), range: place..place + 900 });
        bases.content.extend_from_slice(content);
    }
    bases.needs.frames.sort_by_key(|needed| (needed.block.id, needed.range.start));
    bases
}

fn patch(content: &[u8], bases: Bases) -> Encoded {
    let mut encoder = Encoder::new(3).expect("level 3 exists");
    encoder.encode_over(content, bases, 20).expect("content can be encoded")
}

fn unpacked(stored: &[u8], base: &[u8]) -> Result<Vec<u8>> {
    let frame = Frame::first(stored)?;
    Ok(Decoder::new()?.decode_over(&frame, base)?.to_vec())
}

/// A content, and one that has a few bytes more in the middle.
fn two(seed: u64, bytes: usize, at: Index) -> (Vec<u8>, Vec<u8>) {
    let before = content(Flavour::Noise, seed, bytes);
    let mut after = before.clone();
    let at = at.index(bytes);
    after.splice(at..at, *b"one line more\n");
    (before, after)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_patch_and_its_bases_give_the_content_back(
        seed: u64, bytes in 2000usize..limits::FRAME_CONTENT_BYTES - 20, at: Index, parts in 1usize..9, depth in 1u8..=8
    ) {
        let (before, after) = two(seed, bytes, at);
        let parts: Vec<&[u8]> = before.chunks(bytes.div_ceil(parts)).collect();
        let bases = bases(&parts, depth);
        let terms = bases.terms.clone();
        let needs = bases.needs.clone();
        let encoded = patch(&after, bases);
        prop_assert_eq!(encoded.kind, Kind::Delta);
        prop_assert_eq!(encoded.needs, Some(needs));
        prop_assert!(encoded.stored.len() < 300 + 32 * parts.len(), "{} bytes", encoded.stored.len());
        let followed = [&encoded.stored[..], b"what comes next"].concat();
        let frame = Frame::first(&followed)?;
        prop_assert_eq!((frame.kind, frame.content_bytes), (Kind::Delta, after.len()));
        prop_assert_eq!(frame.stored, &encoded.stored[..]);
        let delta = frame.delta()?;
        prop_assert_eq!((delta.depth, delta.base_bytes()), (depth, before.len()));
        prop_assert_eq!(delta.bases, terms);
        prop_assert!(unpacked(&followed, &before)? == after);
    }

    /// Damaged bases, a damaged delta, or one that is cut short: an error, or the same content.
    #[test]
    fn damaged_bytes_give_no_other_content(seed: u64, bytes in 2000usize..30_000, at: Index, bit: Index, cut: Index) {
        let (mut before, after) = two(seed, bytes, at);
        let mut stored = patch(&after, bases(&[&before], 1)).stored;
        prop_assert!(unpacked(&stored[..cut.index(stored.len())], &before).is_err());
        let place = bit.index(8 * before.len());
        before[place / 8] ^= 1 << (place % 8);
        if let Ok(other) = unpacked(&stored, &before) {
            prop_assert!(other == after, "base bit {place}");
        }
        before[place / 8] ^= 1 << (place % 8);
        let place = bit.index(8 * stored.len());
        stored[place / 8] ^= 1 << (place % 8);
        if let Ok(other) = unpacked(&stored, &before) {
            prop_assert!(other == after, "patch bit {place}");
        }
    }

    /// The directory and the shard of a block list the bases of its deltas.
    #[test]
    fn the_bases_of_deltas_are_listed(seed: u64, kinds in prop::collection::vec(any::<bool>(), 1..6)) {
        let before = content(Flavour::Noise, seed, 30_000);
        let after = content(Flavour::Noise, seed ^ 1, 20_000);
        let mut builder = Builder::default();
        let mut needs = Vec::new();
        for is_patch in &kinds {
            let bases = bases(&[&before[..10_000], &before[10_000..]], 3);
            let content = if *is_patch { [&before[..], &after].concat() } else { after.clone() };
            let frame = if *is_patch { patch(&content, bases) } else { Encoder::new(3)?.encode(&content)? };
            prop_assert_eq!(frame.kind == Kind::Delta, *is_patch);
            needs.extend(frame.needs.clone());
            builder.push(frame, &chunks_of(&content, 9000))?;
        }
        let sealed = builder.finish(Nonce([9; 8]));
        let directory = Directory::parse(&joined(&sealed))?;
        prop_assert_eq!(&directory, &sealed.directory);
        prop_assert_eq!(&directory.needs, &needs);
        prop_assert_eq!(directory.needs_in(&(0..sealed.summary.frames_bytes)), &needs[..]);
        let mut position = 0;
        for frame in &directory.frames {
            let here = directory.needs_in(&(position..position + frame.stored_bytes));
            prop_assert_eq!(here.len(), usize::from(frame.kind == Kind::Delta as u8));
            position += frame.stored_bytes;
        }

        let entries = [(sealed.summary, sealed.directory.clone()), (block(7), plain_directory())];
        let (bytes, _) = shard::write(&entries, &Recipes::default())?;
        let read = Shard::parse(&bytes)?;
        prop_assert_eq!(&read.blocks[..], &entries[..]);
        prop_assert!(shard::can_merge(&bytes)?);
        let mut merge = MergeShards::default();
        merge.add(read.clone(), Recipes::default())?;
        merge.add(read, Recipes::default())?;
        let (merged, recipes) = merge.finish();
        let (bytes, _) = shard::write(&merged, &recipes)?;
        prop_assert_eq!(&Shard::parse(&bytes)?.blocks[..], &entries[..]);
    }
}

/// A directory that fits the summary of [`block`].
fn plain_directory() -> Directory {
    use git_lfs_cdc::format::block::{Chunk, FrameEntry};
    let chunks = (0..100u8).map(|n| Chunk { id: git_lfs_cdc::id::ChunkId([n; 32]), bytes: 20_000 }).collect();
    let frame = |_| FrameEntry { kind: 0, chunk_count: 10, stored_bytes: 190_000, content_bytes: 200_000 };
    Directory { chunks, frames: (0..10).map(frame).collect(), needs: Vec::new() }
}

#[test]
fn a_delta_that_saves_too_little_is_stored_plain() {
    let base = content(Flavour::Noise, 1, 50_000);
    let other = content(Flavour::Noise, 2, 50_000);
    let encoded = patch(&other, bases(&[&base], 1));
    assert_eq!((encoded.kind, encoded.needs), (Kind::Plain, None));
    // three quarters are the same
    let mostly = [&base[..37_500], &other[..12_500]].concat();
    let mut encoder = Encoder::new(3).unwrap();
    let kind =
        |encoder: &mut Encoder, saves| encoder.encode_over(&mostly, bases(&[&base], 1), saves).unwrap().kind;
    assert_eq!([60, 90].map(|saves| kind(&mut encoder, saves)), [Kind::Delta, Kind::Plain]);
}

/// The same content is found anywhere in the prefix, up to its last byte.
#[test]
fn equal_content_is_found_anywhere_in_the_prefix() {
    let base = content(Flavour::Noise, 3, limits::DELTA_BASE_BYTES);
    for start in [0, limits::DELTA_BASE_BYTES / 2, limits::DELTA_BASE_BYTES - limits::FRAME_CONTENT_BYTES] {
        let same = &base[start..start + limits::FRAME_CONTENT_BYTES];
        let stored = patch(same, bases(&[&base], 1)).stored;
        assert!(stored.len() < 400, "{} bytes from {start}", stored.len());
        assert!(unpacked(&stored, &base).unwrap() == same);
    }
}

#[test]
fn impossible_heads_are_corrupt() {
    let before = content(Flavour::Noise, 4, 9000);
    let after = content(Flavour::Noise, 4, 8000);
    let stored = patch(&after, bases(&[&before], 1)).stored;
    let kind = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = stored.clone();
        change(&mut changed);
        unpacked(&changed, &before).expect_err("it can't be").kind()
    };
    // by the byte table: magic, length, kind, depth, blocks, bases, 0, content length
    assert_eq!(kind(&|bytes| bytes[9] = 0), ErrorKind::Corrupt, "no depth");
    assert_eq!(kind(&|bytes| bytes[9] = 9), ErrorKind::Corrupt, "too deep");
    assert_eq!(kind(&|bytes| bytes[10] = 200), ErrorKind::Corrupt, "more blocks than bytes");
    assert_eq!(kind(&|bytes| bytes[12] = 0), ErrorKind::Corrupt, "no bases");
    assert_eq!(kind(&|bytes| bytes[13] = 200), ErrorKind::Corrupt, "more bases than bytes");
    assert_eq!(kind(&|bytes| bytes[14] = 1), ErrorKind::TooNew);
    assert_eq!(kind(&|bytes| bytes[16] ^= 1), ErrorKind::Corrupt, "another length of content");
    assert_eq!(kind(&|bytes| bytes[8] = 0), ErrorKind::Corrupt, "a plain frame has no head");
    let far = |bytes: &mut Vec<u8>| bytes[112..116].copy_from_slice(&600_000u32.to_le_bytes());
    assert_eq!(kind(&far), ErrorKind::Corrupt, "frames of 600 kB for a base of 9");
    let error = unpacked(&stored, &before[1..]).expect_err("another base");
    assert_eq!(error.kind(), ErrorKind::Internal);
}

#[test]
fn impossible_needs_are_corrupt() {
    let before = content(Flavour::Noise, 5, 9000);
    let kind = |needs: FrameNeeds| {
        let mut frame = patch(&before, bases(&[&before], 1));
        frame.needs = Some(needs);
        let mut builder = Builder::default();
        builder.push(frame, &chunks_of(&before, 9000)).unwrap();
        Directory::parse(&joined(&builder.finish(Nonce([9; 8])))).map_err(|e| e.kind())
    };
    let needed = |number, range| Needed { block: block(number).into(), range };
    let of = |depth, frames| FrameNeeds { depth, frames };
    assert!(kind(of(8, vec![needed(1, 0..10), needed(1, 10..20)])).is_ok());
    for needs in [
        of(0, vec![needed(1, 0..10)]),
        of(9, vec![needed(1, 0..10)]),
        of(1, vec![]),
        of(1, vec![needed(1, 0..0)]),
        of(1, vec![needed(1, 10..20), needed(1, 0..10)]),
        of(1, vec![needed(1, 0..10), needed(1, 0..10)]),
        of(1, vec![needed(1, 1_899_999..1_900_001)]),
        of(1, vec![needed(1, 0..300_000)]),
        of(1, (0..129).map(|n| needed(1, n * 10..n * 10 + 10)).collect()),
    ] {
        assert_eq!(kind(needs.clone()), Err(ErrorKind::Corrupt), "{needs:?}");
    }
}
