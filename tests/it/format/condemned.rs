//! Condemned lists: files to delete, and the duty to refuse unknown parts.

use git_lfs_cdc::error::Kind as ErrorKind;
use git_lfs_cdc::format::condemned::{Condemned, CondemnedRecord};
use git_lfs_cdc::id::{CommitId, Oid};
use proptest::collection::vec;
use proptest::prelude::*;

use super::forge::Forge;
use super::samples::{any_block_id, any_repository};

fn any_condemned() -> impl Strategy<Value = Condemned> {
    let record =
        (any::<[u8; 32]>(), any::<[u8; 16]>(), any_repository()).prop_map(|(oid, commit, repository)| {
            CondemnedRecord { oid: Oid(oid), commit: CommitId(commit), repository }
        });
    (vec(any_block_id(), 0..50), vec(record, 0..50))
        .prop_map(|(blocks, records)| Condemned { blocks, records })
}

proptest! {
    #[test]
    fn everything_comes_back(condemned in any_condemned()) {
        let bytes = condemned.write();
        prop_assert_eq!(Condemned::parse(&bytes)?, condemned);
        prop_assert_eq!(Forge::open(&bytes).close(), bytes);
    }
}

fn sample() -> Forge {
    let record =
        CondemnedRecord { oid: Oid([1; 32]), commit: CommitId([2; 16]), repository: "assets-1a2b3c".into() };
    Forge::open(&Condemned { blocks: vec![], records: vec![record] }.write())
}

#[test]
fn an_unknown_kind_of_condemnation_is_too_new() {
    for refused in [
        sample().newer(),
        sample().with_feature(1, 0),
        sample().with_feature(2, 0),
        sample().with_section(0),
        sample().with_section(4),
    ] {
        assert_eq!(Condemned::parse(&refused).unwrap_err().kind(), ErrorKind::TooNew);
    }
    assert_eq!(Condemned::parse(&sample().with_feature(0, 0)).unwrap().records.len(), 1);
}

#[test]
fn a_list_that_contradicts_itself_is_corrupt() {
    let changed = |section: usize, change: &dyn Fn(&mut Vec<u8>)| {
        let mut forge = sample();
        change(&mut forge.sections[section].2);
        Condemned::parse(&forge.close()).expect_err("it must be refused").kind()
    };
    assert_eq!(changed(0, &|bytes| bytes.push(0)), ErrorKind::Corrupt);
    assert_eq!(changed(1, &|bytes| bytes.truncate(51)), ErrorKind::Corrupt);
    assert_eq!(changed(1, &|bytes| bytes[48] = 1), ErrorKind::Corrupt);
    assert_eq!(changed(2, &|bytes| bytes[0] = 200), ErrorKind::Corrupt);
    assert_eq!(changed(2, &|bytes| bytes[2] = 0xFF), ErrorKind::Corrupt);
    assert_eq!(Condemned::parse(&[]).unwrap_err().kind(), ErrorKind::Corrupt);
}
