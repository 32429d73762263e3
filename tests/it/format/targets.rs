//! Targets of untrusted bytes: one function for each parser. The fuzz targets in `fuzz/` and the property
//! tests in `hostile.rs` are these same functions. Each tries the bytes as they are, and once more with
//! corrected checksums, so that the code behind the checksums is reached too.

use std::borrow::Cow;
use std::ops::Range;

use git_lfs_cdc::agent::{self, Client, Object};
use git_lfs_cdc::error::Result;
use git_lfs_cdc::format::block::{Directory, SUMMARY_WIDTH, Summary};
use git_lfs_cdc::format::chunking::GEAR_16K;
use git_lfs_cdc::format::condemned::Condemned;
use git_lfs_cdc::format::frame::{Decoder, Frame};
use git_lfs_cdc::format::lookup::{Head, Source};
use git_lfs_cdc::format::merge::Merge;
use git_lfs_cdc::format::merge_shards::MergeShards;
use git_lfs_cdc::format::segment::Segment;
use git_lfs_cdc::format::shard::{self, Recipes, Shard};
use git_lfs_cdc::format::store_json::StoreDescription;
use git_lfs_cdc::format::{limits, manifest};
use git_lfs_cdc::id::Oid;
use git_lfs_cdc::local::{block_cache, clones};
use git_lfs_cdc::progress::Progress;
use git_lfs_cdc::repo::Direction;
use git_lfs_cdc::store::{self, StoreUrl};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Bytes of an entry of each paged section of an index segment, by kind.
const ENTRY_BYTES: [usize; 7] = [0, 104, 32, 64, 4, 12, 56];
/// A hostile segment can let all its records share one long recipe. No more terms are read.
const RECORDS_LOOKED_AT: usize = 256;

/// Cuts the data whole, and as if more were to follow.
pub fn chunking(data: &[u8]) {
    let mut rest = data;
    while let Some(length) = GEAR_16K.next_cut(rest, true) {
        assert!(length > 0 && length <= GEAR_16K.max_bytes);
        assert!(GEAR_16K.next_cut(rest, false).is_none_or(|unfinished| unfinished == length));
        rest = &rest[length..];
    }
    assert!(rest.is_empty());
}

pub fn frame(data: &[u8]) {
    let mut rest = data;
    let mut decoder = Decoder::new().expect("Zstandard can be used");
    while let Ok(frame) = Frame::first(rest) {
        assert!(frame.stored.len() <= rest.len());
        let content = match frame.delta() {
            Ok(delta) => decoder.decode_over(&frame, &vec![7; delta.base_bytes()]),
            Err(_) => decoder.decode(&frame),
        };
        if let Ok(content) = content {
            assert_eq!(content.len(), frame.content_bytes);
        }
        rest = &rest[frame.stored.len()..];
    }
}

pub fn block(data: &[u8]) {
    let mut mended = data.to_vec();
    if let Some(directory) = directory_of(data) {
        mend(&mut mended[directory]);
    }
    for bytes in [data, &mended] {
        if let Ok(directory) = Directory::parse(bytes) {
            check(&directory);
        }
    }
    frame(data);
}

/// Returns true if the frames of a directory can be laid over its chunks.
fn check(directory: &Directory) {
    let mut rest = &directory.chunks[..];
    for frame in &directory.frames {
        let (chunks, behind) = rest.split_at(usize::from(frame.chunk_count));
        assert_eq!(chunks.iter().map(|c| c.bytes).sum::<u32>(), frame.content_bytes);
        rest = behind;
    }
    assert!(rest.is_empty());
}

pub fn shard(data: &[u8]) {
    let mut mended = data.to_vec();
    mend(&mut mended);
    for bytes in [data, &mended] {
        for (summary, directory) in Shard::parse(bytes).unwrap_or_default().blocks {
            assert_eq!(summary.chunk_count as usize, directory.chunks.len());
            check(&directory);
        }
        _ = Recipes::parse(bytes);
    }
}

/// `data` is a shard's unpacked recipes.
pub fn recipes(data: &[u8]) {
    let (mut bytes, replaced) = shard::write(&[], &Recipes::default()).expect("a shard can be written");
    let packed = zstd::bulk::compress(data, 1).expect("anything can be compressed");
    bytes.truncate(bytes.len() - replaced);
    bytes.extend_from_slice(&packed);
    // the length in the fourth entry of the section table
    let length = 40 + 3 * 32 + 16;
    bytes[length..length + 8].copy_from_slice(&(packed.len() as u64).to_le_bytes());
    mend(&mut bytes);
    if let Ok(recipes) = Recipes::parse(&bytes) {
        let (written, _) = shard::write(&[], &recipes).expect("what was read can be written");
        assert_eq!(Recipes::parse(&written).ok(), Some(recipes));
    }
}

pub fn segment(data: &[u8]) {
    let mut mended = data.to_vec();
    mend(&mut mended);
    for bytes in [data, &mended] {
        if let Ok(segment) = Segment::open(bytes) {
            _ = walk(&segment, bytes);
        }
    }
}

/// Reads everything that a segment has, as far as it can be read.
fn walk(segment: &Segment<&[u8]>, bytes: &[u8]) -> Result<()> {
    let blocks = segment.block_count()?;
    for record in segment.records()?.take(RECORDS_LOOKED_AT) {
        let Ok(record) = record else { continue };
        assert!((record.repository as usize) < segment.repositories().len());
        assert!(record.terms.iter().all(|t| (t.block as usize) < blocks));
        if let Ok(found) = segment.find(&record.oid) {
            assert!(found.iter().all(|r| r.oid == record.oid));
        }
        for found in segment.head().find(&bytes, &record.oid).unwrap_or_default() {
            let blocks = found.blocks.len();
            assert!(found.record.terms.iter().all(|t| (t.block as usize) < blocks));
            assert!(found.blocks.iter().flat_map(|b| &b.dependencies).all(|d| (*d as usize) < blocks));
        }
    }
    assert!(segment.carried().map(|(_, bytes)| bytes.len()).sum::<usize>() <= bytes.len());
    _ = segment.find(&Oid([0; 32]));
    _ = segment.find(&Oid([0xFF; 32]));
    for (index, block) in segment.blocks()?.enumerate().take(RECORDS_LOOKED_AT) {
        if let Ok(single) = segment.block(index as u32) {
            assert!(single.dependencies.iter().all(|d| (*d as usize) < blocks));
        }
        let dependencies = block.map(|b| b.dependencies).unwrap_or_default();
        assert!(dependencies.iter().all(|d| (*d as usize) < blocks));
    }
    assert!(segment.block(blocks as u32).is_err());
    _ = segment.shards();
    _ = segment.keys();
    _ = segment.can_merge();
    _ = segment.record_count();
    let mut merge = Merge::default();
    merge.add(segment)?;
    // a segment that was read as a whole is written again, and read
    let merged = Segment::open(merge.finish()?.into_bytes()).expect("it was just written");
    assert!(merged.records().expect("they are there").all(|record| record.is_ok()));
    assert!(merged.block_count()? <= blocks && merged.record_count()? <= segment.record_count()?);
    Ok(())
}

/// The beginning of a segment of 1 TB. It is as long as the data, and a reader has no more at first.
pub fn head(data: &[u8]) {
    let mut mended = data.to_vec();
    mend(&mut mended);
    for bytes in [data, &mended] {
        for segment_bytes in [bytes.len(), 1 << 40] {
            let Ok(needed) = Head::bytes(bytes, segment_bytes) else { continue };
            assert!(needed <= segment_bytes.min(limits::HEAD_AT_MOST_BYTES));
            let Ok(head) = Head::parse(bytes, segment_bytes) else { continue };
            for oid in [[0; 32], [0x20; 32], [0xFF; 32]] {
                _ = head.find(&Zeros, &Oid(oid));
            }
            _ = (head.shards(&Zeros), head.keys(&Zeros), head.can_merge());
        }
    }
}

/// A segment with empty tables, as long as its head says. Readers ask for nothing large.
struct Zeros;

impl Source for Zeros {
    fn read(&self, ranges: &[Range<usize>]) -> Result<Vec<Cow<'_, [u8]>>> {
        let all: usize = ranges.iter().map(Range::len).sum();
        assert!(all <= limits::SPANS_BYTES, "{all} bytes at a time");
        // no page of zeros has the right checksum: the first one ends it
        Ok(ranges.iter().map(|range| Cow::Owned(vec![0; range.len().min(4096)])).collect())
    }
}

/// A shard is merged with itself and with another one: the result has all entries, and none twice.
pub fn merge_shards(data: &[u8]) {
    let mut mended = data.to_vec();
    mend(&mut mended);
    for bytes in [data, &mended] {
        let mut merge = MergeShards::default();
        for _ in 0..2 {
            if let (Ok(shard), Ok(recipes)) = (Shard::parse(bytes), Recipes::parse(bytes)) {
                _ = merge.add(shard, recipes);
            }
        }
        let (blocks, recipes) = merge.finish();
        let (written, _) = shard::write(&blocks, &recipes).expect("what was merged can be written");
        assert_eq!(Shard::parse(&written).map(|shard| shard.blocks).ok(), Some(blocks));
        assert_eq!(Recipes::parse(&written).ok(), Some(recipes));
    }
}

/// A delta frame, and behind it the content of its bases, as long as the frame asks for.
pub fn delta(data: &[u8]) {
    let Ok(frame) = Frame::first(data) else { return };
    let Ok(delta) = frame.delta() else { return };
    assert!(delta.base_bytes() <= limits::DELTA_BASE_BYTES);
    let rest = &data[frame.stored.len()..];
    let mut base = rest[..rest.len().min(delta.base_bytes())].to_vec();
    base.resize(delta.base_bytes(), 0);
    let mut decoder = Decoder::new().expect("Zstandard can be used");
    if let Ok(content) = decoder.decode_over(&frame, &base) {
        assert_eq!(content.len(), frame.content_bytes);
    }
}

/// A line that git-lfs sends, or a program that claims to be git-lfs.
pub fn request(data: &[u8]) {
    _ = agent::is_understood(data);
}

/// The answers of another agent, line by line.
pub fn reply(data: &[u8]) {
    let begun = Client::begin(data, std::io::sink(), Direction::Download, || false);
    let Ok(mut client) = begun else { return };
    let object = Object { oid: &Oid([7; 32]), size_bytes: 1, path: None };
    _ = client.ask(object, &Progress::default());
}

/// A service's refusal: two bytes of its status, a field that says how long to wait up to a line's end, and a
/// body.
pub fn refusal(data: &[u8]) {
    let Some((status, rest)) = data.split_first_chunk::<2>() else { return };
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (pause, body) = rest.split_at(end);
    let fields = [("retry-after", pause), ("date", pause), ("x-ms-error-code", pause)];
    let status = 400 + u16::from_le_bytes(*status) % 200;
    if let Some((words, pause)) = store::read_refusal(status, &fields, body) {
        assert!(words.chars().count() < 1000, "{words}");
        // clocks are reckoned with it
        _ = std::time::Instant::now() + pause.unwrap_or_default();
    }
}

pub fn condemned(data: &[u8]) {
    let mut mended = data.to_vec();
    mend(&mut mended);
    for bytes in [data, &mended] {
        if let Ok(list) = Condemned::parse(bytes) {
            assert_eq!(Condemned::parse(&list.write()).ok(), Some(list));
        }
    }
}

pub fn manifest(data: &[u8]) {
    let mut mended = data.to_vec();
    mend(&mut mended);
    for bytes in [data, &mended] {
        if let Ok(segments) = manifest::parse(bytes) {
            assert_eq!(manifest::parse(&manifest::write(&segments)).ok(), Some(segments));
        }
    }
}

/// A URL comes from a repository that anybody may have written.
pub fn url(data: &[u8]) {
    if let Ok(url) = StoreUrl::parse(&String::from_utf8_lossy(data)) {
        assert_eq!(StoreUrl::parse(&url.to_string()).ok(), Some(url));
    }
}

/// The journal entry of a block that a push is about to store.
pub fn journal(data: &[u8]) {
    if let Ok(block) = Summary::parse(data) {
        assert_eq!(data.len(), SUMMARY_WIDTH);
        assert!(block.directory_bytes() <= u64::from(block.size_bytes));
    }
}

/// The note of a clone in the machine's list.
pub fn clone(data: &[u8]) {
    if let Some(path) = clones::parse(data.to_vec()) {
        assert!(path.is_absolute() && path.as_os_str().len() == data.len());
    }
}

/// The name of a file that holds a range of a block.
pub fn range(data: &[u8]) {
    let name = String::from_utf8_lossy(data);
    if let Some(range) = block_cache::parse(&name) {
        assert!(!range.is_empty());
        assert_eq!(format!("{}-{}", range.start, range.end), name);
    }
}

pub fn store_json(data: &[u8]) {
    if let Ok(description) = StoreDescription::parse(data) {
        let written = description.write().expect("what was read can be written");
        assert_eq!(StoreDescription::parse(&written).ok(), Some(description));
    }
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<usize> {
    let mut wide = [0; 8];
    wide[..length].copy_from_slice(bytes.get(at..at.checked_add(length)?)?);
    usize::try_from(u64::from_le_bytes(wide)).ok()
}

/// The place of a block's directory, as the seek table has it.
fn directory_of(block: &[u8]) -> Option<std::ops::Range<usize>> {
    let footer = block.len().checked_sub(9)?;
    let last = footer.checked_sub(8)?;
    let start = last.checked_sub(8 * number(block, footer, 4)?.checked_sub(1)?)?.checked_sub(8)?;
    let directory = start.checked_sub(number(block, last, 4)?)?.checked_add(8)?;
    (directory <= start).then_some(directory..start)
}

/// Puts length, section checksums, page checksums and header checksum of a container right, as far as
/// its section table makes sense.
fn mend(bytes: &mut [u8]) {
    let Some(count) = number(bytes, 10, 2) else { return };
    let table = 40..40 + 32 * count;
    if table.end > bytes.len() {
        return;
    }
    let total = bytes.len() as u64;
    bytes[24..32].copy_from_slice(&total.to_le_bytes());
    for entry in table.clone().step_by(32) {
        let [kind, flags] = [0, 4].map(|at| number(bytes, entry + at, 4).unwrap_or(0));
        let [start, length] = [8, 16].map(|at| number(bytes, entry + at, 8).unwrap_or(usize::MAX));
        let Some(end) = start.checked_add(length).filter(|e| *e <= bytes.len()) else { continue };
        if start < table.end {
            continue;
        }
        if flags & 1 == 0 {
            let sum = xxh3_64(&bytes[start..end]);
            bytes[entry + 24..entry + 32].copy_from_slice(&sum.to_le_bytes());
        } else {
            mend_pages(kind, &mut bytes[start..end]);
        }
    }
    let sum = xxh3_64(&[&bytes[..32], &bytes[table]].concat());
    bytes[32..40].copy_from_slice(&sum.to_le_bytes());
}

fn mend_pages(kind: usize, section: &mut [u8]) {
    let Some(width) = ENTRY_BYTES.get(kind).filter(|w| **w > 0) else { return };
    for (page, bytes) in section.chunks_mut(4088 / width * width + 8).enumerate() {
        if let Some((entries, stored)) = bytes.split_last_chunk_mut::<8>() {
            *stored = xxh3_64_with_seed(entries, (kind as u64) << 32 | page as u64).to_le_bytes();
        }
    }
}
