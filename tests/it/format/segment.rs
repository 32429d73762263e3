//! Index segments: all that was put in is found again, in order, and nothing else is.

use std::collections::BTreeSet;

use bytes::Bytes;
use git_lfs_cdc::error::Kind as ErrorKind;
use git_lfs_cdc::format::block::Summary;
use git_lfs_cdc::format::inline::{Carried, CarriedName};
use git_lfs_cdc::format::merge::Merge;
use git_lfs_cdc::format::recipe::{Record, Term, term_checksum};
use git_lfs_cdc::format::segment::{BlockEntry, Contents, Key, Segment};
use git_lfs_cdc::id::{BlockId, ChunkId, CommitId, ContentHash, Nonce, Oid, SegmentId, ShardId};
use proptest::collection::vec;
use proptest::prelude::*;

use super::any_segment::{any_contents, term};
use super::forge::Forge;
use super::samples::Random;

/// A term's place with its block's name, so that two numberings of blocks can be compared.
pub fn named(terms: &[Term], block: impl Fn(u32) -> BlockId) -> Vec<(BlockId, Term)> {
    terms.iter().map(|t| (block(t.block), Term { block: 0, ..*t })).collect()
}

/// A record with the names that stand for its numbers.
type Named = (Oid, CommitId, String, u64, Vec<(BlockId, Term)>);

/// The records as they were given, in the order that a segment has.
fn given(contents: &Contents) -> Vec<Named> {
    let mut sorted: Vec<&Record> = contents.records.iter().collect();
    sorted.sort_by_key(|r| (r.oid, r.commit, r.repository));
    let block = |index: u32| contents.blocks[index as usize].summary.id;
    let name = |r: &&Record| {
        let repository = contents.repositories[r.repository as usize].clone();
        (r.oid, r.commit, repository, r.size_bytes, named(&r.terms, block))
    };
    sorted.iter().map(name).collect()
}

/// A record as a segment gives it back.
fn found<B: AsRef<[u8]>>(segment: &Segment<B>, record: Record) -> Named {
    let block = |index| segment.block(index).expect("the block is there").summary.id;
    let repository = segment.repositories()[record.repository as usize].clone();
    (record.oid, record.commit, repository, record.size_bytes, named(&record.terms, block))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn everything_comes_back_sorted(contents in any_contents()) {
        let bytes = contents.clone().write();
        let segment = Segment::open(&bytes)?;
        prop_assert!(segment.can_merge());
        prop_assert_eq!(segment.record_count()?, contents.records.len());
        prop_assert_eq!(segment.block_count()?, contents.blocks.len());
        let all = segment.records()?.collect::<Result<Vec<_>, _>>()?;
        let all: Vec<_> = all.into_iter().map(|r| found(&segment, r)).collect();
        prop_assert!(all == given(&contents));

        let mut keys = contents.keys.clone();
        keys.sort();
        prop_assert_eq!(segment.keys()?, keys);
        prop_assert_eq!(segment.shards()?, contents.shards);
        prop_assert_eq!(segment.repositories(), contents.repositories);
        prop_assert_eq!(segment.replaces(), contents.replaces);
        let carried: Vec<_> = segment.carried().map(|(name, bytes)| (name, bytes.to_vec())).collect();
        let expected = contents.carried.iter().map(|c| (c.name, c.pieces.concat()));
        prop_assert_eq!(carried, expected.collect::<Vec<_>>());
        prop_assert_eq!(Forge::open(&bytes).close(), bytes);
    }

    #[test]
    fn a_merged_segment_has_the_entries_of_all(all in vec(any_contents(), 1..4), again in any::<bool>()) {
        let mut segments: Vec<_> =
            all.iter().map(|c| Segment::open(c.clone().write())).collect::<Result<_, _>>()?;
        if again {
            segments.push(Segment::open(all[0].clone().write())?);
        }
        let mut merge = Merge::default();
        for (number, segment) in segments.iter().enumerate() {
            merge.add(segment)?;
            let id = SegmentId { id: CommitId([number as u8; 16]), hash: ContentHash([0; 32]) };
            merge.replace(id, segment, |id| id.hash.0[0] % 2 == 0);
        }
        let merged = merge.finish()?;
        let size_bytes = merged.size_bytes();
        let hash = merged.hash();
        let bytes = merged.into_bytes();
        prop_assert_eq!((size_bytes, hash), (bytes.len(), ContentHash::of(&bytes)));
        let merged = Segment::open(bytes)?;
        let sorted = |mut records: Vec<Named>| {
            let key = |r: &Named| format!("{r:?}");
            records.sort_by_cached_key(key);
            records.dedup();
            records
        };
        let records = merged.records()?.collect::<Result<Vec<_>, _>>()?;
        prop_assert!(records.is_sorted_by_key(|r| (r.oid, r.commit, r.repository)));
        let mut next = 0;
        for block in records.iter().flat_map(|r| &r.terms).map(|term| term.block) {
            prop_assert!(block <= next, "blocks stand in the order of their first use");
            next = next.max(block + 1);
        }
        let records: Vec<_> = records.into_iter().map(|r| found(&merged, r)).collect();
        prop_assert!(sorted(records) == sorted(all.iter().flat_map(given).collect()));

        let blocks: BTreeSet<_> = all.iter().flat_map(|c| c.blocks.iter().map(|b| b.summary.id)).collect();
        prop_assert_eq!(merged.block_count()?, blocks.len());
        let shards: BTreeSet<_> = all.iter().flat_map(|c| c.shards.iter().map(|s| s.id)).collect();
        let merged_shards: Vec<ShardId> = merged.shards()?.iter().map(|s| s.id).collect();
        prop_assert_eq!(merged_shards.len(), shards.len());
        let named = |key: &Key, shards: &[ShardId]| (key.prefix, shards[key.shard as usize]);
        let keys: BTreeSet<_> = merged.keys()?.iter().map(|key| named(key, &merged_shards)).collect();
        let given_keys = |c: &Contents| {
            let shards: Vec<ShardId> = c.shards.iter().map(|s| s.id).collect();
            c.keys.iter().map(|key| named(key, &shards)).collect::<Vec<_>>()
        };
        prop_assert_eq!(keys, all.iter().flat_map(given_keys).collect::<BTreeSet<_>>());
        for id in all.iter().flat_map(|contents| &contents.replaces) {
            prop_assert_eq!(merged.replaces().contains(id), id.hash.0[0] % 2 == 0, "as far as they stand");
        }
        let own = |number| SegmentId { id: CommitId([number as u8; 16]), hash: ContentHash([0; 32]) };
        prop_assert!((0..segments.len()).all(|number| merged.replaces().contains(&own(number))));
    }

    #[test]
    fn blocks_keep_their_dependencies(contents in any_contents()) {
        let segment = Segment::open(contents.clone().write())?;
        let ids = |blocks: &[BlockEntry], entry: &BlockEntry| -> Vec<BlockId> {
            entry.dependencies.iter().map(|d| blocks[*d as usize].summary.id).collect()
        };
        let stored = segment.blocks()?.collect::<Result<Vec<_>, _>>()?;
        prop_assert!(stored.iter().map(|b| b.summary.id).eq(contents.blocks.iter().map(|b| b.summary.id)));
        let resolve = |blocks: &[BlockEntry]| {
            let mut all: Vec<_> = blocks.iter().map(|b| (b.summary.id, b.summary, ids(blocks, b))).collect();
            all.sort_by_key(|b| b.0);
            all
        };
        prop_assert!(resolve(&stored) == resolve(&contents.blocks));
        for (index, block) in stored.iter().enumerate() {
            prop_assert_eq!(&segment.block(index as u32)?, block);
        }
        prop_assert!(segment.block(stored.len() as u32).is_err());
    }

    #[test]
    fn an_object_is_found_with_all_its_records(contents in any_contents(), absent in any::<[u8; 32]>()) {
        let expected = given(&contents);
        let segment = Segment::open(contents.write())?;
        for oid in expected.iter().map(|r| r.0) {
            let of_oid: Vec<_> = expected.iter().filter(|r| r.0 == oid).cloned().collect();
            let records = segment.find(&oid)?.into_iter().map(|r| found(&segment, r));
            prop_assert!(records.collect::<Vec<_>>() == of_oid);
        }
        for absent in [absent, [0; 32], [0xFF; 32]] {
            prop_assert_eq!(segment.find(&Oid(absent))?, vec![]);
        }
    }
}

/// A segment with one record of two terms.
fn sample() -> Vec<u8> {
    let block = |n: u8| BlockEntry {
        summary: Summary {
            id: BlockId { hash: git_lfs_cdc::id::ContentHash([n; 32]), nonce: Nonce([n; 8]) },
            size_bytes: 1000,
            frames_bytes: 900,
            content_bytes: 2000,
            chunk_count: 10,
        },
        dependencies: vec![0],
    };
    let term = |block| Term {
        block,
        first_chunk: 1,
        chunk_count: 2,
        frames_offset: 3,
        frames_bytes: 400,
        skip_bytes: 5,
        content_bytes: 600,
        checksum: term_checksum(b"content"),
    };
    let terms = vec![term(0), term(1)];
    let record =
        Record { oid: Oid([7; 32]), size_bytes: 1200, commit: CommitId([1; 16]), repository: 0, terms };
    Contents {
        records: vec![record],
        blocks: vec![block(2), block(1)],
        repositories: vec!["assets-1a2b3c".into()],
        ..Contents::default()
    }
    .write()
}

#[test]
fn an_empty_segment_is_valid() {
    let segment = Segment::open(Contents::default().write()).unwrap();
    assert_eq!(segment.record_count().unwrap(), 0);
    assert_eq!(segment.find(&Oid([0; 32])).unwrap(), vec![]);
    assert!(segment.can_merge());
}

#[test]
fn a_key_is_the_beginning_of_the_id() {
    let mut id = [0xAB; 32];
    id[..8].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(Key::new(&ChunkId(id), 9), Key { prefix: 0x0102_0304_0506_0708, shard: 9 });
}

#[test]
fn newer_formats_are_recognised() {
    let bytes = sample();
    let forge = || Forge::open(&bytes);
    for refused in [forge().newer(), forge().with_feature(2, 0), forge().with_feature(2, 31)] {
        assert_eq!(Segment::open(refused).unwrap_err().kind(), ErrorKind::TooNew);
    }
    let record = Segment::open(&bytes).unwrap().find(&Oid([7; 32])).unwrap();
    let mergeable = [(forge().with_feature(0, 5), true), (forge().with_feature(1, 5), false)];
    let sections = [0, 12, 77].map(|kind| (forge().with_section(kind), false));
    for (readable, can_merge) in mergeable.into_iter().chain(sections) {
        let segment = Segment::open(readable).unwrap();
        assert_eq!(segment.can_merge(), can_merge);
        assert_eq!(segment.find(&Oid([7; 32])).unwrap(), record);
    }
}

#[test]
fn a_wrong_table_of_carried_files_is_refused() {
    let name = CarriedName::Block(BlockId { hash: ContentHash([1; 32]), nonce: Nonce([2; 8]) });
    let carried = vec![Carried { name, pieces: vec![Bytes::from_static(b"twelve bytes")] }];
    let bytes = Contents { carried, ..Contents::default() }.write();
    let refused = |at: usize, value: u32, kind| {
        let mut forge = Forge::open(&bytes);
        forge.section(10)[at..at + 4].copy_from_slice(&value.to_le_bytes());
        assert_eq!(Segment::open(forge.close()).unwrap_err().kind(), kind);
    };
    [0, 11, 13, u32::MAX].into_iter().for_each(|size| refused(4, size, ErrorKind::Corrupt));
    [0, 3, u32::MAX].into_iter().for_each(|kind| refused(0, kind, ErrorKind::TooNew));
    let mut forge = Forge::open(&bytes);
    forge.sections.retain(|(kind, _, _)| *kind != 11);
    assert_eq!(Segment::open(forge.close()).unwrap_err().kind(), ErrorKind::Corrupt);
    let mut forge = Forge::open(&bytes);
    forge.section(10).pop();
    assert_eq!(Segment::open(forge.close()).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// The page of a section that has only one, changed and with a fitting checksum.
fn with_page(kind: u32, change: impl Fn(&mut Vec<u8>)) -> Segment<Vec<u8>> {
    let mut forge = Forge::open(&sample());
    let section = forge.section(kind);
    section.truncate(section.len() - 8);
    change(section);
    let sum = xxhash_rust::xxh3::xxh3_64_with_seed(section, u64::from(kind) << 32);
    section.extend_from_slice(&sum.to_le_bytes());
    Segment::open(forge.close()).expect("the header is fine")
}

fn with_number(kind: u32, at: usize, bytes: &[u8]) -> Segment<Vec<u8>> {
    with_page(kind, |page| page[at..at + bytes.len()].copy_from_slice(bytes))
}

#[test]
fn impossible_records_are_corrupt() {
    let oid = Oid([7; 32]);
    assert_eq!(with_page(1, |_| ()).find(&oid).unwrap().len(), 1);
    // by the byte table: size, repository, number of terms, index of the second, then the first term:
    // block, first chunk, number of chunks, frames' offset, frames' bytes, skip, content
    for (at, bytes) in [
        (32, &[0][..]),
        (56, &[1]),
        (60, &[0]),
        (60, &[3]),
        (60, &[0xFF; 4]),
        (64, &[1]),
        (64, &[0xFF; 8]),
        (72, &[2]),
        (76, &[0xFF; 2]),
        (78, &[0; 2]),
        (78, &[0xFF; 2]),
        (80, &[0xFF; 4]),
        (84, &[0; 2]),
        (84, &[0xFF; 4]),
        (88, &[0, 0, 4, 0]),
        (92, &[0; 4]),
        (92, &[1, 0, 0x80, 0]),
    ] {
        let error = with_number(1, at, bytes).find(&oid).expect_err("it must be refused");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{bytes:?} at {at}");
    }
}

#[test]
fn impossible_blocks_are_corrupt() {
    // by the byte table: size, bytes of frames, number of chunks, first dependency, number of them
    for (at, bytes) in [
        (40, &[0xFF; 4][..]),
        (44, &[0xFF; 4]),
        (52, &[0xFF; 4]),
        (56, &[2]),
        (56, &[0xFF; 4]),
        (60, &[3]),
        (60, &[0xFF; 4]),
    ] {
        let error = with_number(3, at, bytes).block(0).expect_err("it must be refused");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{bytes:?} at {at}");
    }
    assert_eq!(with_number(4, 0, &[2]).block(0).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_changed_page_is_found_when_it_is_read() {
    let mut forge = Forge::open(&sample());
    forge.section(1)[40] ^= 1;
    let segment = Segment::open(forge.close()).expect("pages are not read yet");
    assert_eq!(segment.find(&Oid([7; 32])).unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(segment.records().unwrap().all(|r| r.is_err_and(|e| e.kind() == ErrorKind::Corrupt)));
}

/// A segment of records that all have equal terms, so that only the page's checksum can tell.
fn with_many_terms() -> Contents {
    let mut contents = Contents { repositories: vec!["a".into()], ..Contents::default() };
    let block = Segment::open(sample()).and_then(|s| s.block(0)).expect("the sample has a block");
    contents.blocks.push(BlockEntry { dependencies: vec![], ..block });
    let record = |n: u8| {
        let term = Term { content_bytes: 600, block: 0, ..term(&mut Random(u64::from(n) + 1), 1) };
        let terms = vec![term; 65];
        Record { oid: Oid([n; 32]), size_bytes: 65 * 600, commit: CommitId([1; 16]), repository: 0, terms }
    };
    contents.records.extend((0..20).map(record));
    contents
}

#[test]
fn a_changed_page_of_terms_is_never_skipped() {
    let contents = with_many_terms();
    let per_page = 4088 / 32;
    for changed in 0..10 {
        let mut forge = Forge::open(&contents.clone().write());
        forge.section(2)[changed * (per_page * 32 + 8)] ^= 1;
        let segment = Segment::open(forge.close()).unwrap();
        for (n, record) in contents.records.iter().enumerate() {
            let first = n * 64 / per_page;
            let last = (n * 64 + 63) / per_page;
            let found = segment.find(&record.oid).map_err(|e| e.kind());
            let expected = if (first..=last).contains(&changed) {
                Err(ErrorKind::Corrupt)
            } else {
                Ok(vec![record.clone()])
            };
            assert!(found == expected, "record {n}, changed page {changed}");
        }
    }
}

/// A few bytes must not claim many: every record could claim the same terms.
#[test]
fn records_that_share_terms_are_corrupt() {
    let mut forge = Forge::open(&with_many_terms().write());
    let page = forge.section(1);
    // the index of the second record's second term
    page[104 + 64..104 + 72].copy_from_slice(&0u64.to_le_bytes());
    let entries = page.len() - 8;
    let sum = xxhash_rust::xxh3::xxh3_64_with_seed(&page[..entries], 1 << 32);
    page[entries..].copy_from_slice(&sum.to_le_bytes());
    let segment = Segment::open(forge.close()).unwrap();
    let kinds: Vec<_> = segment.records().unwrap().map(|r| r.err().map(|e| e.kind())).collect();
    assert_eq!(kinds.len(), 20);
    assert_eq!(kinds[1], Some(ErrorKind::Corrupt));
}

#[test]
fn a_page_in_another_place_is_corrupt() {
    let keys = (0..1000).map(|n| Key { prefix: n, shard: 0 }).collect();
    let mut forge = Forge::open(&Contents { keys, ..Contents::default() }.write());
    let page_bytes = 4088 / 12 * 12 + 8;
    assert_eq!(Segment::open(forge.close()).unwrap().keys().unwrap().len(), 1000);
    let (first, second) = forge.section(5).split_at_mut(page_bytes);
    first.swap_with_slice(&mut second[..page_bytes]);
    let error = Segment::open(forge.close()).unwrap().keys().expect_err("pages are bound to their places");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn a_torn_table_is_corrupt() {
    for lost in 1..104 {
        let mut forge = Forge::open(&sample());
        let kept = forge.section(1).len() - lost;
        forge.section(1).truncate(kept);
        let segment = Segment::open(forge.close()).expect("pages are not read yet");
        assert!(segment.find(&Oid([7; 32])).is_err(), "{lost} bytes lost");
        assert!(segment.records().unwrap().all(|r| r.is_err()), "{lost} bytes lost");
    }
}
