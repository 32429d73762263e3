//! One contract for all places: memory, a directory, S3 and Azure. One S3 server honours conditions, and one
//! doesn't. `tests/run.sh` starts the servers, and runs the ignored tests too. One without its server fails.

use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;

use super::super::*;
use crate::id::{CommitId, ContentHash, Nonce};
use crate::units::KIB;

fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

fn block_id(content: &[u8]) -> BlockId {
    BlockId { hash: ContentHash::of(content), nonce: Nonce::random().unwrap() }
}

fn segment_id(content: &[u8]) -> SegmentId {
    SegmentId { id: CommitId::new(1).unwrap(), hash: ContentHash::of(content) }
}

/// Checks all requests of a pushing process and of a reader.
fn keeps_the_contract(store: &Store) {
    // blocks: whole, by range, over the end, and not there at all
    let content = bytes(1, 300 * KIB);
    let id = block_id(&content);
    let pieces: Vec<Bytes> = content.chunks(70_000).map(Bytes::copy_from_slice).collect();
    assert_eq!(store.block_bytes(&id).wait().unwrap(), None);
    store.put_block(&id, pieces, &Moved::default()).wait().unwrap();
    assert_eq!(store.block_bytes(&id).wait().unwrap(), Some(content.len() as u64));
    let length = content.len() as u32;
    for range in [0..length, 0..1, length - 1..length, 70_001..200_003] {
        let expected = &content[range.start as usize..range.end as usize];
        // a buffer that held something else
        let got =
            store.get_block_range(&id, range.clone(), vec![9; 100_000], &Moved::default()).wait().unwrap();
        assert!(got == expected, "{range:?}");
    }
    for range in [0..length + 1, length - 1..length + 5, length..length + 1, length + 7..length + 9] {
        let error =
            store.get_block_range(&id, range.clone(), Vec::new(), &Moved::default()).wait().unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{range:?}: {error}");
    }
    let missing = block_id(b"missing");
    let error = store.get_block_range(&missing, 0..10, Vec::new(), &Moved::default()).wait().unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    assert!(error.to_string().contains(&missing.to_string()), "{error}");

    // many requests at once each get their own answer
    let blocks: Vec<_> = (10..30).map(|seed| bytes(seed, 10 * KIB + seed as usize)).collect();
    let named: Vec<_> = blocks.iter().map(|block| (block_id(block), block)).collect();
    let put = |(id, block): &(BlockId, &Vec<u8>)| {
        store.put_block(id, vec![Bytes::copy_from_slice(block)], &Moved::default())
    };
    named.iter().map(put).collect::<Vec<_>>().into_iter().for_each(|put| put.wait().unwrap());
    let get = |(id, block): &(BlockId, &Vec<u8>)| {
        store.get_block_range(id, 0..block.len() as u32, Vec::new(), &Moved::default())
    };
    for (got, (_, block)) in named.iter().map(get).collect::<Vec<_>>().into_iter().zip(&named) {
        assert_eq!(got.wait().unwrap(), **block);
    }

    // shards
    let shard = ShardId { hash: ContentHash::of(&content), nonce: Nonce::random().unwrap() };
    store.put_shard(&shard, content.clone().into()).wait().unwrap();
    let shard_bytes = content.len() as u32;
    assert!(store.get_shard(&shard, shard_bytes).wait().unwrap() == content);

    // segments and condemned lists are listed as soon as they are written
    let before = store.list_segments().unwrap();
    let mut expected = before.clone();
    for length in [0, 1, 5000] {
        let content = bytes(2, length);
        let id = segment_id(&content);
        store.put_segment(&id, vec![content.clone().into()], &Moved::default()).wait().unwrap();
        expected.push((id, length as u64));
        expected.sort();
        assert_eq!(store.list_segments().unwrap(), expected);
        assert!(store.get_segment(&id, length as u64).wait().unwrap() == content);
        // a segment of another size than the listed one is corrupt
        for other in
            [length as u64 + 1, length as u64 + 5_000_000].into_iter().chain((length as u64).checked_sub(1))
        {
            let error = store.get_segment(&id, other).wait().unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt, "{other} instead of {length}: {error}");
        }
    }
    assert_eq!(store.list_condemned().unwrap(), []);
    let condemned = CondemnedId { id: CommitId::new(1).unwrap(), hash: ContentHash::of(b"list") };
    store.put_condemned(&condemned, b"list".to_vec()).unwrap();
    assert_eq!(store.list_condemned().unwrap(), [(condemned, 4)]);
    assert_eq!(&store.get_condemned(&condemned, 4).wait().unwrap()[..], b"list");

    // the manifest is no segment, and is the one name that is written again
    for listed in [&before, &expected] {
        store.put_manifest(listed).unwrap();
        assert!(store.keeps_manifest().wait().unwrap());
        let read = store.runtime.block_on(listing::read_manifest(&store.files));
        assert_eq!(read.unwrap(), *listed);
    }
    assert_eq!(store.list_segments().unwrap(), expected);
    let look = store.runtime.block_on(look(&store.files));
    assert_eq!((look.segments.unwrap(), look.condemned.unwrap()), (expected.clone(), vec![(condemned, 4)]));
    assert!(store.stored_bytes().unwrap() > 500_000);

    // the requests of a compaction: a merged segment in pieces, read back, and the replaced files removed,
    // also twice
    let merged = bytes(3, 40_000);
    let id = segment_id(&merged);
    let pieces = merged.chunks(9000).map(Bytes::copy_from_slice).collect();
    store.put_segment(&id, pieces, &Moved::default()).wait().unwrap();
    assert_eq!(store.hash_segment(&id, 40_000, &Moved::default()).wait().unwrap(), id.hash);
    assert_eq!(store.hash_shard(&shard, content.len() as u64).wait().unwrap(), shard.hash);
    let replaced: Vec<SegmentId> = expected.iter().map(|(id, _)| *id).collect();
    for _ in 0..2 {
        store.remove_segments(&replaced).unwrap();
        store.remove_shards(&[shard]).unwrap();
        assert_eq!(store.list_segments().unwrap(), [(id, 40_000)]);
        assert_eq!(store.get_shard(&shard, shard_bytes).wait().unwrap_err().kind(), Kind::NotFound);
    }
}

/// Checks a listing of more names than one page has.
fn lists_beyond_a_page(store: &Store) {
    let before = store.list_segments().unwrap().len();
    let files = store.files.clone();
    store.runtime.block_on(async {
        let puts = (0..1100).map(|number: u32| {
            let content = number.to_le_bytes().to_vec();
            let (files, path) = (files.clone(), layout::segment(&segment_id(&content)));
            tokio::spawn(async move { files.put(&path, content.into(), &Moved::default()).await })
        });
        for put in puts.collect::<Vec<_>>() {
            put.await.unwrap().unwrap();
        }
    });
    assert_eq!(store.list_segments().unwrap().len(), before + 1100);
}

/// Creates a store in a place of its own, and opens it again.
fn fresh(url: &str, access: &Access) -> Store {
    let url = StoreUrl::parse(url).unwrap();
    let here = FilePath::new("/");
    let error = Store::open(&url, here, access).err().expect("nothing is there yet");
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    assert!(error.to_string().contains("init"), "{error}");
    let (created, is_new) = Store::create_or_join(&url, here, access, Creation::default()).unwrap();
    assert!(is_new);
    let (joined, is_new) = Store::create_or_join(&url, here, access, Creation::default()).unwrap();
    assert!(!is_new);
    assert_eq!(joined.description(), created.description());
    let opened = Store::open(&url, here, access).unwrap();
    assert_eq!(opened.description(), created.description());
    opened
}

fn prefix() -> String {
    format!("contract/{}", Nonce::random().unwrap())
}

/// Returns a server's address.
#[track_caller]
fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set\n  remedy: run tests/run.sh, which starts the servers")
    })
}

/// Returns the access for a URL that the user has typed.
fn chosen() -> Access {
    Access { chosen_by: ChosenBy::User, ..Access::default() }
}

#[test]
fn memory() {
    let store = Store::on(Arc::new(object_store::memory::InMemory::new())).unwrap();
    keeps_the_contract(&store);
    lists_beyond_a_page(&store);
}

#[test]
fn directory() {
    let folder = tempfile::tempdir().unwrap();
    let store = fresh(folder.path().join("store").to_str().unwrap(), &Access::default());
    keeps_the_contract(&store);
    lists_beyond_a_page(&store);
    let probe = store.probe().unwrap();
    assert!(probe.honours_conditions && probe.may_overwrite && probe.lists_at_once && probe.may_delete);
}

/// Sets the credentials of the servers for the whole process. They are the same for all tests.
fn set_credentials() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let keys = std::env::var("GIT_LFS_CDC_TEST_S3_KEYS").unwrap_or_default();
        let (id, secret) = keys.split_once(':').unwrap_or_default();
        for (name, value) in [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)] {
            // SAFETY: each test that reads or sets the variables calls this first, and it runs once
            unsafe { std::env::set_var(name, value) };
        }
        if let Ok(key) = std::env::var("GIT_LFS_CDC_TEST_AZURE_KEY") {
            // SAFETY: as above
            unsafe { std::env::set_var("AZURE_STORAGE_ACCOUNT_KEY", key) };
        }
    });
}

#[test]
#[ignore = "needs an S3 server"]
fn s3() {
    let endpoint = server("GIT_LFS_CDC_TEST_S3");
    set_credentials();
    let store = fresh(&format!("s3://lfs/{}?endpoint={endpoint}", prefix()), &chosen());
    assert!(store.description().creates, "SeaweedFS honours If-None-Match");
    keeps_the_contract(&store);
    lists_beyond_a_page(&store);
    let probe = store.probe().unwrap();
    assert!(probe.may_overwrite && probe.lists_at_once && probe.may_delete && probe.left.is_empty());
}

#[test]
#[ignore = "needs an S3 server that ignores conditions"]
fn s3_that_ignores_conditions() {
    let endpoint = server("GIT_LFS_CDC_TEST_RCLONE");
    set_credentials();
    let store = fresh(&format!("s3://lfs/{}?endpoint={endpoint}", prefix()), &chosen());
    assert!(!store.description().creates, "rclone overwrites whatever it is asked");
    keeps_the_contract(&store);
}

#[test]
#[ignore = "needs a server of Azure Blob Storage"]
fn azure() {
    let endpoint = server("GIT_LFS_CDC_TEST_AZURE");
    set_credentials();
    let account = endpoint.rsplit('/').next().map(str::to_owned);
    let access = Access { endpoint: Some(endpoint), account, ..Access::default() };
    let store = fresh(&format!("az://lfs/{}", prefix()), &access);
    assert!(store.description().creates, "Azurite honours If-None-Match");
    keeps_the_contract(&store);
    lists_beyond_a_page(&store);
}
