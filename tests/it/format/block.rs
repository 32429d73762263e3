//! Blocks: ordinary Zstandard files in the seekable format, with a directory that finds all chunks.

use git_lfs_cdc::error::Kind as ErrorKind;
use git_lfs_cdc::format::block::{Builder, Chunk, Directory};
use git_lfs_cdc::format::frame::{Decoder, Encoded, Encoder, Frame, Kind};
use git_lfs_cdc::id::{ChunkId, ContentHash, Nonce};
use proptest::collection::vec;
use proptest::prelude::*;

use super::forge::{Forge, number};
use super::samples::{FLAVOURS, Flavour, any_content, chunks_of, content, joined, sealed};
use super::zstd_tool::zstd;
use git_lfs_cdc::format::limits;

const NONCE: Nonce = Nonce([1, 2, 3, 4, 5, 6, 7, 8]);

/// Contents of all kinds, and one of them as long as can be.
fn assorted() -> Vec<Vec<u8>> {
    let mut contents: Vec<_> = (0u64..).zip(FLAVOURS).map(|(i, f)| content(f, i, 30_003)).collect();
    contents.push(content(Flavour::Singles, 9, limits::FRAME_CONTENT_BYTES));
    contents.push(vec![1]);
    contents
}

/// Entries of a seek table (stored and unpacked bytes), read by zstd's specification of the format.
fn seek_table(block: &[u8]) -> Vec<(usize, usize)> {
    let footer = block.len() - 9;
    assert_eq!(number::<4>(block, footer + 5), 0x8F92_EAB1, "magic");
    assert_eq!(block[footer + 4], 0, "no checksums, reserved bits clear");
    let count = number::<4>(block, footer) as usize;
    let start = footer - 8 * count - 8;
    assert_eq!(number::<4>(block, start), 0x184D_2A5E, "a skippable frame");
    assert_eq!(number::<4>(block, start + 4) as usize, 8 * count + 9, "its length");
    let entries = (0..count).map(|i| start + 8 + 8 * i);
    let entries: Vec<(usize, usize)> =
        entries.map(|at| (number::<4>(block, at) as usize, number::<4>(block, at + 4) as usize)).collect();
    assert_eq!(entries.iter().map(|e| e.0).sum::<usize>(), start, "entries tile the file");
    entries
}

/// The output of `zstd -d` for a content that was stored with planes of this width.
fn planes(content: &[u8], width: usize) -> Vec<u8> {
    let (whole, rest) = content.split_at(content.len() / width * width);
    let plane = |p: usize| whole.iter().skip(p).step_by(width);
    (0..width).flat_map(plane).chain(rest).copied().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_directory_gives_every_chunk_back(
        contents in vec(any_content(1..=60_000), 1..6), chunk_bytes in 500usize..70_000
    ) {
        let (sealed, places) = sealed(&contents, chunk_bytes, NONCE);
        let block = joined(&sealed);
        let directory = Directory::parse(&block)?;
        prop_assert_eq!(&directory, &sealed.directory);
        let chunks: Vec<_> = contents.iter().flat_map(|c| chunks_of(c, chunk_bytes)).collect();
        prop_assert_eq!(&directory.chunks, &chunks);

        let summary = sealed.summary;
        prop_assert_eq!(summary.id.hash, ContentHash::of(&block));
        prop_assert_eq!(summary.id.nonce, NONCE);
        prop_assert_eq!(summary.size_bytes as usize, block.len());
        prop_assert_eq!(summary.chunk_count as usize, chunks.len());
        prop_assert_eq!(summary.content_bytes as usize, contents.concat().len());
        prop_assert_eq!(u64::from(summary.content_bytes), directory.content_bytes());

        let mut decoder = Decoder::new()?;
        let mut end = 0;
        let mut first_chunk = 0;
        for ((content, place), entry) in contents.iter().zip(&places).zip(&directory.frames) {
            prop_assert_eq!(place.offset as usize, end);
            prop_assert_eq!(place.first_chunk, first_chunk);
            let frame = Frame::first(&block[end..])?;
            prop_assert_eq!(frame.stored.len(), entry.stored_bytes as usize);
            prop_assert_eq!(place.bytes, entry.stored_bytes);
            prop_assert_eq!(frame.kind as u8, entry.kind);
            prop_assert!(decoder.decode(&frame)? == content);
            end += frame.stored.len();
            first_chunk += entry.chunk_count;
        }
        prop_assert_eq!(summary.frames_bytes as usize, end);
        seek_table(&block);
    }
}

/// Adds the same frame until no more goes in.
fn fill(builder: &mut Builder, frame: &Encoded, chunks: &[Chunk]) -> usize {
    let mut count = 0;
    while builder.fits(frame, chunks.len()) {
        let again = Encoded { kind: frame.kind, stored: frame.stored.clone(), needs: frame.needs.clone() };
        builder.push(again, chunks).expect("it fits");
        count += 1;
    }
    count
}

fn encode(content: &[u8]) -> Encoded {
    Encoder::new(3).and_then(|mut e| e.encode(content)).expect("content can be encoded")
}

#[test]
fn a_full_block_keeps_its_limits() {
    for flavour in [Flavour::Noise, Flavour::Doubles] {
        let mut builder = Builder::default();
        let content = content(flavour, 1, limits::FRAME_CONTENT_BYTES);
        let large = fill(&mut builder, &encode(&content), &chunks_of(&content, 16 * 1024));
        // up to the last byte that there is room for
        let small = fill(&mut builder, &encode(&[7]), &chunks_of(&[7], 1));
        let block = joined(&builder.finish(NONCE));
        assert!(block.len() <= limits::BLOCK_BYTES);
        assert!(
            block.len() > limits::BLOCK_BYTES - 600,
            "{} bytes wasted",
            limits::BLOCK_BYTES - block.len()
        );
        let directory = Directory::parse(&block).expect("a full block can be read");
        assert_eq!(directory.frames.len(), large + small);
    }
}

#[test]
fn a_block_of_tiny_chunks_is_full_at_the_most_chunks() {
    let mut builder = Builder::default();
    let content = content(Flavour::Text, 1, 2000);
    let count = fill(&mut builder, &encode(&content), &chunks_of(&content, 1));
    assert_eq!(count, limits::BLOCK_CHUNKS / 2000);
    let block = joined(&builder.finish(NONCE));
    assert_eq!(Directory::parse(&block).unwrap().chunks.len(), count * 2000);
}

#[test]
#[ignore = "needs zstd"]
fn zstd_itself_verifies_and_unpacks_a_block() {
    let contents = assorted();
    let (sealed, places) = sealed(&contents, 16 * 1024, NONCE);
    let block = joined(&sealed);
    let mut expected = Vec::new();
    for (content, place) in contents.iter().zip(places) {
        let stored = &block[place.offset as usize..];
        match Frame::first(stored).unwrap().kind {
            // the width stands behind the skippable frame's header and the kind
            Kind::Grouped => expected.extend(planes(content, usize::from(stored[9]))),
            _ => expected.extend_from_slice(content),
        }
    }
    zstd(&["-tq"], &block);
    assert!(zstd(&["-dc"], &block) == expected);
}

#[test]
fn the_seek_table_has_an_entry_for_each_frame_of_zstd() {
    let contents = assorted();
    let (sealed, _) = sealed(&contents, 16 * 1024, NONCE);
    let block = joined(&sealed);
    let mut start = 0;
    for (stored, unpacked) in seek_table(&block) {
        let frame = &block[start..start + stored];
        if number::<4>(frame, 0) & 0xFFFF_FFF0 == 0x184D_2A50 {
            assert_eq!((number::<4>(frame, 4) as usize, unpacked), (stored - 8, 0));
        } else {
            assert_eq!(zstd::bulk::decompress(frame, limits::FRAME_CONTENT_BYTES).unwrap().len(), unpacked);
        }
        start += stored;
    }
}

/// The block with its directory, a container, replaced.
fn with_directory(block: &[u8], change: impl FnOnce(Forge) -> Vec<u8>) -> Vec<u8> {
    let mut entries = seek_table(block);
    let directory = entries.pop().expect("a block has a directory");
    let start: usize = entries.iter().map(|e| e.0).sum();
    let container = change(Forge::open(&block[start + 8..start + directory.0]));
    entries.push((container.len() + 8, 0));
    let mut out = block[..start].to_vec();
    let mut put = |value: usize| out.extend_from_slice(&(value as u32).to_le_bytes());
    put(0x184D_2A5D);
    put(container.len());
    out.extend_from_slice(&container);
    let mut put = |value: usize| out.extend_from_slice(&(value as u32).to_le_bytes());
    put(0x184D_2A5E);
    put(entries.len() * 8 + 9);
    entries.iter().for_each(|(stored, unpacked)| {
        put(*stored);
        put(*unpacked);
    });
    put(entries.len());
    out.push(0);
    out.extend_from_slice(&0x8F92_EAB1u32.to_le_bytes());
    out
}

#[test]
fn newer_formats_are_recognised() {
    let (sealed, _) = sealed(&assorted(), 16 * 1024, NONCE);
    let block = joined(&sealed);
    let error = |bytes: &[u8]| Directory::parse(bytes).expect_err("it must be refused").kind();
    assert_eq!(with_directory(&block, |d| d.close()), block, "the byte table of a directory");
    assert_eq!(error(&with_directory(&block, Forge::newer)), ErrorKind::TooNew);
    assert_eq!(error(&with_directory(&block, |d| d.with_feature(2, 0))), ErrorKind::TooNew);
    for readable in [
        with_directory(&block, |d| d.with_feature(0, 31)),
        with_directory(&block, |d| d.with_feature(1, 0)),
        with_directory(&block, |d| d.with_section(99)),
    ] {
        assert_eq!(Directory::parse(&readable).unwrap(), sealed.directory);
    }
}

#[test]
fn a_directory_that_contradicts_itself_is_corrupt() {
    let (sealed, _) = sealed(&assorted(), 16 * 1024, NONCE);
    let block = joined(&sealed);
    let error = |bytes: &[u8]| Directory::parse(bytes).expect_err("it must be refused").kind();
    // a chunk longer, a chunk less, a frame less
    let longer = |mut d: Forge| {
        d.sections[0].2[32] ^= 1;
        d.close()
    };
    let fewer = |section: usize, width: usize| {
        move |mut d: Forge| {
            let kept = d.sections[section].2.len() - width;
            d.sections[section].2.truncate(kept);
            d.close()
        }
    };
    let more_in_frame = |mut d: Forge| {
        let last = d.sections[1].2.len() - 12;
        d.sections[1].2[last + 2] += 1;
        d.close()
    };
    let empty_frame = |mut d: Forge| {
        let frames = &mut d.sections[1].2;
        let stored = |frames: &[u8], at| u32::from_le_bytes(frames[at..at + 4].try_into().unwrap());
        let both = stored(frames, 4) + stored(frames, 16);
        frames[4..8].fill(0);
        frames[16..20].copy_from_slice(&both.to_le_bytes());
        d.close()
    };
    assert_eq!(error(&with_directory(&block, longer)), ErrorKind::Corrupt);
    assert_eq!(error(&with_directory(&block, empty_frame)), ErrorKind::Corrupt);
    assert_eq!(error(&with_directory(&block, more_in_frame)), ErrorKind::Corrupt);
    assert_eq!(error(&with_directory(&block, fewer(0, 36))), ErrorKind::Corrupt);
    assert_eq!(error(&with_directory(&block, fewer(1, 12))), ErrorKind::Corrupt);
    assert_eq!(error(&with_directory(&block, fewer(1, 5))), ErrorKind::Corrupt);
    assert_eq!(error(&block[1..]), ErrorKind::Corrupt);
    assert_eq!(error(&block[..block.len() - 1]), ErrorKind::Corrupt);
    assert_eq!(error(&[]), ErrorKind::Corrupt);
}

#[test]
fn bytes_that_are_no_frame_are_refused() {
    let chunk = Chunk { id: ChunkId([0; 32]), bytes: 4 };
    let frame = Encoded { kind: Kind::Plain, stored: b"none".to_vec(), needs: None };
    assert!(Builder::default().push(frame, &[chunk]).is_err());
}
