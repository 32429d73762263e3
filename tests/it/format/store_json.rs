//! `store.json`: the description of a store, and the descriptions that this version refuses.

use git_lfs_cdc::error::Kind as ErrorKind;
use git_lfs_cdc::format::chunking::GEAR_16K;
use git_lfs_cdc::format::container::Features;
use git_lfs_cdc::format::store_json::StoreDescription;
use git_lfs_cdc::id::StoreId;
use proptest::prelude::*;

proptest! {
    #[test]
    fn everything_comes_back(
        id in any::<[u8; 16]>(), words in any::<[u32; 2]>(), file_mode in proptest::option::of((0u32..=0o66).prop_map(|others| 0o600 | others & 0o66)),
        creates in any::<bool>()
    ) {
        let features = Features { ignorable: words[0], read_only: words[1], incompatible: 0 };
        let description = StoreDescription { id: StoreId(id), suite: GEAR_16K, features, file_mode, creates };
        prop_assert_eq!(StoreDescription::parse(&description.write()?)?, description);
    }
}

fn kind_of_error(json: &str) -> ErrorKind {
    StoreDescription::parse(json.as_bytes()).expect_err("it must be refused").kind()
}

/// A fine `store.json` with one piece replaced.
fn with(piece: &str, other: &str) -> String {
    let json = r#"{"format":"git-lfs-cdc store","version":1,
        "store_id":"000102030405060708090a0b0c0d0e0f","suite":"gear-16k-n2"}"#;
    assert!(json.contains(piece) && StoreDescription::parse(json.as_bytes()).is_ok());
    json.replace(piece, other)
}

#[test]
fn a_new_store_is_of_this_version() {
    let one = StoreDescription::new(None).unwrap();
    let other = StoreDescription::new(Some(0o660)).unwrap();
    assert_ne!(one.id, other.id);
    assert_eq!((one.suite, one.features), (GEAR_16K, Features::default()));
    assert_eq!(StoreDescription::parse(&other.write().unwrap()).unwrap().file_mode, Some(0o660));
}

#[test]
fn newer_formats_are_recognised() {
    // a newer version may have changed everything else
    assert_eq!(kind_of_error(r#"{"format":"git-lfs-cdc store","version":2}"#), ErrorKind::TooNew);
    assert_eq!(kind_of_error(&with("gear-16k-n2", "gear-1m")), ErrorKind::TooNew);
    let incompatible = with("}", r#","features":{"incompatible":1}}"#);
    assert_eq!(kind_of_error(&incompatible), ErrorKind::TooNew);
    let read_only = with("}", r#","features":{"read_only":4},"unknown":[1]}"#);
    assert_eq!(StoreDescription::parse(read_only.as_bytes()).unwrap().features.read_only, 4);
}

#[test]
fn other_files_are_refused() {
    assert_eq!(kind_of_error(&with("git-lfs-cdc store", "another")), ErrorKind::Invalid);
    assert_eq!(kind_of_error("[]"), ErrorKind::Invalid);
    for damaged in [
        String::new(),
        "{".into(),
        with("\"version\":1", "\"version\":-1"),
        with("\"version\":1,", ""),
        with("}", r#","shared_file_mode":"9"}"#),
        with("}", r#","shared_file_mode":"1777"}"#),
        with("}", r#","shared_file_mode":"4660"}"#),
        with("}", r#","shared_file_mode":"0777"}"#),
        with("}", r#","shared_file_mode":"0000"}"#),
        with("}", r#","shared_file_mode":"0066"}"#),
        with("}", &format!("}}{}", " ".repeat(64 * 1024))),
        "[".repeat(10_000),
    ] {
        assert_eq!(kind_of_error(&damaged), ErrorKind::Corrupt, "{damaged:.80}");
    }
    for id in ["", "00", "zz0102030405060708090a0b0c0d0e0f", "000102030405060708090A0B0C0D0E0F"] {
        let json = with("000102030405060708090a0b0c0d0e0f", id);
        assert!(StoreDescription::parse(json.as_bytes()).is_err(), "{id:?}");
    }
}
