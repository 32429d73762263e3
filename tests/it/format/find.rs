//! Lookup of objects in a segment that is somewhere else.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;

use git_lfs_cdc::error::Error;
use git_lfs_cdc::format::block::Summary;
use git_lfs_cdc::format::lookup::{Head, Source};
use git_lfs_cdc::format::recipe::{Record, Term};
use git_lfs_cdc::format::segment::{BlockEntry, Contents, Segment};
use git_lfs_cdc::id::{BlockId, CommitId, ContentHash, Nonce, Oid};

use super::any_segment::term;
use super::samples::Random;
use super::segment::named;

/// A segment that is somewhere else. It notes all reads.
struct Elsewhere {
    bytes: Vec<u8>,
    reads: RefCell<Vec<Vec<Range<usize>>>>,
}

impl Source for Elsewhere {
    fn read(&self, ranges: &[Range<usize>]) -> Result<Vec<Cow<'_, [u8]>>, Error> {
        self.reads.borrow_mut().push(ranges.to_vec());
        Ok(ranges.iter().map(|range| Cow::Borrowed(&self.bytes[range.clone()])).collect())
    }
}

/// The head of a segment and a few reads find the same records of an object as the whole segment.
#[test]
fn an_object_is_found_by_few_reads_of_few_bytes() {
    let mut random = Random(7);
    let mut contents = Contents { repositories: vec!["a".into(), "b".into()], ..Contents::default() };
    let summary = |n: u32| {
        let id = BlockId { hash: ContentHash([1; 32]), nonce: Nonce(u64::from(n).to_le_bytes()) };
        Summary { id, size_bytes: 1000, frames_bytes: 900, content_bytes: 2000, chunk_count: 10 }
    };
    // the last ones depend on others
    let block =
        |n| BlockEntry { summary: summary(n), dependencies: if n < 900 { vec![] } else { vec![0, n - 1] } };
    contents.blocks = (0..1000).map(block).collect();
    for number in 0..100_000u64 {
        let oid = Oid(*blake3::hash(&(number / 2).to_le_bytes()).as_bytes());
        let first = (number / 100) as u32;
        let blocks = [first, (first + 1) % 1000].into_iter().chain((number % 1000 == 0).then_some(500));
        let terms: Vec<_> = blocks.map(|block| Term { block, ..term(&mut random, 1) }).collect();
        let size_bytes = terms.iter().map(|t| u64::from(t.content_bytes)).sum();
        let commit = CommitId([(number % 2) as u8; 16]);
        contents.records.push(Record { oid, size_bytes, commit, repository: (number % 2) as u32, terms });
    }
    let oids: Vec<Oid> = contents.records.iter().step_by(499).map(|r| r.oid).collect();
    let bytes = contents.write();
    let whole = Segment::open(&bytes[..]).unwrap();
    let length = Head::bytes(&bytes[..1024], bytes.len()).unwrap();
    assert!(length < 16 << 10, "{length} bytes of head");
    let head = Head::parse(&bytes[..length], bytes.len()).unwrap();
    assert!(Head::parse(&bytes[..length - 1], bytes.len()).is_err());
    let elsewhere = Elsewhere { bytes: bytes.clone(), reads: RefCell::default() };
    let absent = Oid([0xAB; 32]);
    for oid in oids.iter().chain([&absent]) {
        elsewhere.reads.take();
        let found = head.find(&elsewhere, oid).unwrap();
        let records = whole.find(oid).unwrap();
        assert_eq!(found.len(), if *oid == absent { 0 } else { 2 });
        assert_eq!(found.len(), records.len());
        for (found, record) in found.iter().zip(&records) {
            let named = |blocks: &dyn Fn(u32) -> BlockId, record: &Record| named(&record.terms, blocks);
            let block = |n: u32| whole.block(n).unwrap();
            assert_eq!(
                named(&|n| found.blocks[n as usize].summary.id, &found.record),
                named(&|n| block(n).summary.id, record)
            );
            assert_eq!(found.repository, whole.repositories()[record.repository as usize]);
            // each block that a term names has the same dependencies as in the whole segment
            for (found_term, term) in found.record.terms.iter().zip(&record.terms) {
                let of_found = &found.blocks[found_term.block as usize].dependencies;
                let of_found = of_found.iter().map(|n| found.blocks[*n as usize].summary.id);
                let depended = block(term.block).dependencies.into_iter().map(|n| block(n).summary.id);
                assert_eq!(of_found.collect::<BTreeSet<_>>(), depended.collect());
            }
        }
        let reads = elsewhere.reads.borrow();
        let bytes: usize = reads.iter().flatten().map(Range::len).sum();
        let depends = found.iter().flat_map(|f| &f.blocks).any(|block| !block.dependencies.is_empty());
        assert!(reads.len() <= if depends { 5 } else { 3 } + 1, "{} reads", reads.len());
        assert!(bytes <= if depends { 128 << 10 } else { 64 << 10 }, "{bytes} bytes, {reads:?}");
    }
}
