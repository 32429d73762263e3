//! The commit protocol under faults, and under collectors that act in the worst moment. The store is a
//! real directory; only the moment is the test's.

use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::*;
use crate::error::Kind;
use crate::format::condemned::{Condemned, CondemnedRecord};
use crate::format::segment::Segment;
use crate::id::{BlockId, CommitId, CondemnedId, ContentHash, SegmentId};
use crate::store::StoreUrl;
use crate::store::watched::{Call, Watch, When};

/// A store in a directory of its own, and objects to push.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        Store::create_or_join(&place.url(), place.folder.path(), None, false).unwrap();
        place
    }

    fn url(&self) -> StoreUrl {
        StoreUrl::parse("store").unwrap()
    }

    fn store(&self) -> Store {
        Store::open(&self.url(), self.folder.path()).unwrap()
    }

    fn engine_of(&self, store: Store, repository: &str) -> Engine {
        let settings = Settings {
            repository: repository.into(),
            compression_level: 3,
            lfs_storage: self.folder.path().join("lfs"),
        };
        Engine { cache: Cache::none(), ..Engine::new(store, settings) }
    }

    fn engine(&self) -> Engine {
        self.engine_of(self.store(), "mine")
    }

    fn watched(&self, watch: Watch) -> Engine {
        self.engine_of(self.store().watched(watch), "mine")
    }

    fn object(&self, content: &[u8]) -> Object {
        let oid = Oid(Sha256::digest(content).into());
        let path = self.folder.path().join(oid.to_string());
        std::fs::write(&path, content).unwrap();
        Object { oid, path, content: content.to_vec() }
    }

    fn files(&self, folder: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder.path().join("store").join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files.sort();
        files
    }

    /// As a collector does.
    fn condemn(&self, list: &Condemned) {
        let bytes = list.write();
        let id = CondemnedId { id: CommitId::new(1).unwrap(), hash: ContentHash::of(&bytes) };
        self.store().put_condemned(&id, bytes).unwrap();
    }

    /// Every block and record of a commit, by the name of its segment.
    fn referenced(&self, segment: &str) -> (Vec<BlockId>, Vec<CondemnedRecord>) {
        let id = SegmentId::parse(segment.strip_prefix("index/").unwrap()).unwrap();
        let segment = Segment::open(self.store().get_segment(&id).unwrap()).unwrap();
        let blocks = segment.blocks().unwrap().map(|b| b.unwrap().summary.id).collect();
        let records = segment.records().unwrap().map(|r| {
            let r = r.unwrap();
            let repository = segment.repositories()[r.repository as usize].clone();
            CondemnedRecord { oid: r.oid, commit: r.commit, repository }
        });
        (blocks, records.collect())
    }
}

struct Object {
    oid: Oid,
    path: PathBuf,
    content: Vec<u8>,
}

impl Object {
    fn push(&self, engine: &Engine) -> Result<()> {
        engine.upload(&self.oid, self.content.len() as u64, &self.path, &Progress::default())
    }

    fn pull(&self, engine: &Engine) -> Result<Vec<u8>> {
        let path = engine.download(&self.oid, self.content.len() as u64, &Progress::default())?;
        Ok(std::fs::read(path).unwrap())
    }

    fn assert_pulls(&self, place: &Place) {
        assert!(self.pull(&place.engine()).unwrap() == self.content, "the download differs");
    }
}

/// Does what another process would, from inside a call of the store.
fn aside(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap());
}

/// Incompressible, and different for each seed.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut out = vec![0; bytes];
    reader.fill(&mut out);
    out
}

/// What a collector may condemn right after the commit.
#[derive(Clone, Copy)]
enum Target {
    Blocks,
    Records,
}

/// Condemns what the first commit refers to, between that commit and its check, then deletes it as a
/// collector may.
fn condemn_first_commit(place: &Arc<Place>, target: Target) -> Watch {
    let (place, done) = (place.clone(), AtomicUsize::new(0));
    Arc::new(move |when, call| {
        if let (When::After, Call::Put(path)) = (when, call)
            && path.starts_with("index/")
            && done.fetch_add(1, Ordering::SeqCst) == 0
        {
            aside(|| collect_commit(&place, path, target));
        }
        true
    })
}

fn collect_commit(place: &Place, path: &str, target: Target) {
    let (blocks, records) = place.referenced(path);
    let list = match target {
        Target::Blocks => Condemned { blocks, records: Vec::new() },
        Target::Records => Condemned { blocks: Vec::new(), records },
    };
    place.condemn(&list);
    if matches!(target, Target::Blocks) {
        place.files("blocks").iter().for_each(|file| std::fs::remove_file(file).unwrap());
    }
    std::fs::remove_file(place.folder.path().join("store").join(path)).unwrap();
}

#[test]
fn blocks_condemned_between_commit_and_check_are_uploaded_under_new_names() {
    let place = Arc::new(Place::new());
    let object = place.object(&noise(1, 3_000_000));
    object.push(&place.watched(condemn_first_commit(&place, Target::Blocks))).unwrap();
    assert_eq!(place.files("index").len(), 1, "the first commit's segment was collected");
    object.assert_pulls(&place);
}

#[test]
fn a_record_condemned_between_commit_and_check_is_written_afresh_without_data() {
    let place = Arc::new(Place::new());
    let object = place.object(&noise(2, 3_000_000));
    object.push(&place.watched(condemn_first_commit(&place, Target::Records))).unwrap();
    assert_eq!(place.files("blocks").len(), 1, "no data was sent again");
    assert_eq!(place.files("index").len(), 1);
    object.assert_pulls(&place);
}

#[test]
fn a_present_object_whose_block_is_condemned_before_the_answer_is_uploaded_again() {
    let place = Arc::new(Place::new());
    let object = place.object(&noise(3, 1_000_000));
    object.push(&place.engine()).unwrap();
    let segment = place.files("index").pop().unwrap();
    let segment = format!("index/{}", segment.file_name().unwrap().to_str().unwrap());
    let (blocks, _) = place.referenced(&segment);
    let lists = AtomicUsize::new(0);
    let in_store = place.clone();
    // the first LIST of condemned/ is before the lookup, the second is the check
    let watch: Watch = Arc::new(move |when, call| {
        if when == When::Before
            && *call == Call::List("condemned".into())
            && lists.fetch_add(1, Ordering::SeqCst) == 1
        {
            let list = Condemned { blocks: blocks.clone(), records: Vec::new() };
            aside(|| in_store.condemn(&list));
            in_store.files("blocks").iter().for_each(|file| std::fs::remove_file(file).unwrap());
        }
        true
    });
    object.push(&place.watched(watch)).unwrap();
    object.assert_pulls(&place);
}

#[test]
fn chunks_of_condemned_blocks_are_not_deduplicated_against() {
    let place = Place::new();
    let (old, new) = (noise(4, 2_000_000), noise(5, 300_000));
    place.object(&old).push(&place.engine()).unwrap();
    let segment = place.files("index").pop().unwrap();
    let segment = format!("index/{}", segment.file_name().unwrap().to_str().unwrap());
    place.condemn(&Condemned { blocks: place.referenced(&segment).0, records: Vec::new() });
    let both = place.object(&[old, new].concat());
    let condemned = place.files("blocks");
    both.push(&place.engine()).unwrap();
    condemned.iter().for_each(|file| std::fs::remove_file(file).unwrap());
    both.assert_pulls(&place);
}

#[test]
fn a_condemned_list_of_a_newer_version_is_never_acknowledged_against() {
    let place = Place::new();
    let object = place.object(&noise(6, 100_000));
    let mut bytes = Condemned::default().write();
    bytes[8] = 2;
    let id = CondemnedId { id: CommitId::new(1).unwrap(), hash: ContentHash::of(&bytes) };
    place.store().put_condemned(&id, bytes).unwrap();
    let error = object.push(&place.engine()).unwrap_err();
    assert_eq!(error.kind(), Kind::TooNew, "{error}");
}

#[test]
fn a_record_of_another_repository_or_an_old_one_is_renewed_without_data() {
    let place = Place::new();
    let object = place.object(&noise(7, 500_000));
    object.push(&place.engine_of(place.store(), "theirs")).unwrap();
    object.push(&place.engine()).unwrap();
    assert_eq!(place.files("index").len(), 2, "one record for each repository");
    object.push(&place.engine()).unwrap();
    assert_eq!(place.files("index").len(), 2, "a fresh record of one's own is enough");
    assert_eq!(place.files("blocks").len(), 1);
    // eight days pass: the record's commit says when it was written
    for file in place.files("index") {
        let bytes = std::fs::read(&file).unwrap();
        let old = commit::now_milliseconds() - 8 * 24 * 60 * 60 * 1000;
        let aged = aged(&bytes, CommitId::new(old).unwrap());
        std::fs::remove_file(&file).unwrap();
        let id = SegmentId { id: CommitId::new(old).unwrap(), hash: ContentHash::of(&aged) };
        place.store().put_segment(&id, aged).unwrap();
    }
    object.push(&place.engine()).unwrap();
    assert_eq!(place.files("index").len(), 3);
    object.assert_pulls(&place);
}

/// The same segment, written by another commit.
fn aged(bytes: &[u8], commit: CommitId) -> Vec<u8> {
    let segment = Segment::open(bytes).unwrap();
    let mut contents = crate::format::segment::Contents {
        records: segment.records().unwrap().map(Result::unwrap).collect(),
        blocks: segment.blocks().unwrap().map(Result::unwrap).collect(),
        shards: segment.shards().unwrap(),
        keys: segment.keys().unwrap(),
        repositories: segment.repositories().to_vec(),
        replaces: Vec::new(),
    };
    contents.records.iter_mut().for_each(|record| record.commit = commit);
    contents.write()
}

/// Every call of a push fails once, before it was done and after: whatever was acknowledged is there,
/// and the next push succeeds.
#[test]
fn a_store_that_fails_at_any_call_loses_nothing_acknowledged() {
    let mut failures = 0;
    for when in [When::Before, When::After] {
        for fail_at in 0.. {
            let place = Place::new();
            let first = place.object(&noise(8, 200_000));
            first.push(&place.engine()).unwrap();
            let second = place.object(&[noise(8, 200_000), noise(9, 400_000)].concat());
            let calls = AtomicUsize::new(0);
            let seen = Arc::new(Mutex::new(None));
            let told = seen.clone();
            let engine = place.watched(Arc::new(move |now, call| {
                if now != when || calls.fetch_add(1, Ordering::SeqCst) != fail_at {
                    return true;
                }
                *told.lock().unwrap() = Some(call.clone());
                false
            }));
            let pushed = second.push(&engine);
            if pushed.is_ok() {
                second.assert_pulls(&place);
            }
            first.assert_pulls(&place);
            let Some(call) = seen.lock().unwrap().clone() else { break };
            second.push(&engine).unwrap();
            second.assert_pulls(&place);
            // a shard that can't be read is done without
            if !matches!(&call, Call::Get(path) if path.starts_with("shards/")) {
                assert!(pushed.is_err(), "{when:?} {call:?} failed and the push did not");
            }
            failures += 1;
        }
    }
    assert!(failures >= 16, "only {failures} calls were failed");
}

#[test]
fn a_segment_that_vanishes_while_the_index_is_read_makes_it_list_again() {
    let place = Arc::new(Place::new());
    let object = place.object(&noise(10, 100_000));
    object.push(&place.engine()).unwrap();
    let file = place.files("index").pop().unwrap();
    let old = SegmentId::parse(file.file_name().unwrap().to_str().unwrap()).unwrap();
    // as a merge and a delete behind the reader would do it
    let merged = {
        let bytes = std::fs::read(&file).unwrap();
        let segment = Segment::open(bytes.as_slice()).unwrap();
        let contents = crate::format::segment::Contents {
            records: segment.records().unwrap().map(Result::unwrap).collect(),
            blocks: segment.blocks().unwrap().map(Result::unwrap).collect(),
            shards: segment.shards().unwrap(),
            keys: segment.keys().unwrap(),
            repositories: segment.repositories().to_vec(),
            replaces: vec![old],
        };
        contents.write()
    };
    let in_store = place.clone();
    let done = AtomicUsize::new(0);
    let engine = place.watched(Arc::new(move |when, call| {
        if when == When::Before
            && matches!(call, Call::Get(path) if path.starts_with("index/"))
            && done.fetch_add(1, Ordering::SeqCst) == 0
        {
            let mut id = old.id;
            id.0[15] = id.0[15].wrapping_add(1);
            let id = SegmentId { id, hash: ContentHash::of(&merged) };
            aside(|| in_store.store().put_segment(&id, merged.clone()).unwrap());
            std::fs::remove_file(&file).unwrap();
        }
        true
    }));
    assert!(object.pull(&engine).unwrap() == object.content);
    assert_eq!(place.files("index").len(), 1);
}

#[test]
fn a_damaged_local_object_is_refused_by_name_and_nothing_refers_to_it() {
    let place = Place::new();
    let object = place.object(&noise(11, 100_000));
    std::fs::write(&object.path, noise(12, 100_000)).unwrap();
    let error = object.push(&place.engine()).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().contains(&object.oid.to_string()), "{error}");
    assert_eq!(place.files("index").len(), 0);
}

/// Repeats in one object, across frames and blocks, and a second version with small edits.
#[test]
fn repeated_and_edited_content_comes_back_as_it_was() {
    let place = Place::new();
    let part = noise(13, 900_000);
    let mut content = [part.clone(), vec![0; 700_000], part.clone(), noise(14, 10), part].concat();
    let first = place.object(&content);
    first.push(&place.engine()).unwrap();
    let stored: u64 = place.files("blocks").iter().map(|f| f.metadata().unwrap().len()).sum();
    assert!(stored < 1_100_000, "{stored} bytes for one distinct part");
    for position in (0..content.len()).step_by(77_777).rev() {
        content.insert(position, b'!');
    }
    let second = place.object(&content);
    second.push(&place.engine()).unwrap();
    first.assert_pulls(&place);
    second.assert_pulls(&place);
}

#[test]
fn a_damaged_block_is_named_and_nothing_is_left_behind() {
    let place = Place::new();
    let object = place.object(&noise(15, 400_000));
    object.push(&place.engine()).unwrap();
    let block = place.files("blocks").pop().unwrap();
    let mut bytes = std::fs::read(&block).unwrap();
    bytes[150_000] ^= 1;
    std::fs::write(&block, bytes).unwrap();
    let error = object.pull(&place.engine()).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    let name = block.file_stem().unwrap().to_str().unwrap();
    let text = error.to_string();
    assert!(
        text.contains(name) && text.contains(&object.oid.to_string()) && text.contains("frame"),
        "{text}"
    );
    let left = std::fs::read_dir(place.folder.path().join("lfs/tmp/cdc")).unwrap().count();
    assert_eq!(left, 0);
    // condemned and pushed again, it is healed
    let id = BlockId::parse(name).unwrap();
    place.condemn(&Condemned { blocks: vec![id], records: Vec::new() });
    object.push(&place.engine()).unwrap();
    object.assert_pulls(&place);
}

#[test]
fn a_store_that_is_replaced_under_a_push_is_noticed_before_the_answer() {
    let place = Arc::new(Place::new());
    let object = place.object(&noise(17, 100_000));
    let there = place.clone();
    let engine = place.watched(Arc::new(move |when, call| {
        if when == When::After && matches!(call, Call::Put(path) if path.starts_with("index/")) {
            let folder = there.folder.path();
            std::fs::rename(folder.join("store"), folder.join("unmounted")).unwrap();
            aside(|| drop(Store::create_or_join(&there.url(), folder, None, false).unwrap()));
        }
        true
    }));
    let error = object.push(&engine).unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
}

#[test]
fn a_store_that_is_gone_is_not_made_anew() {
    let place = Arc::new(Place::new());
    let object = place.object(&noise(18, 100_000));
    let there = place.clone();
    let engine = place.watched(Arc::new(move |when, call| {
        if when == When::Before && *call == Call::List("condemned".into()) {
            let folder = there.folder.path();
            std::fs::rename(folder.join("store"), folder.join("unmounted")).unwrap();
        }
        true
    }));
    let error = object.push(&engine).unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
    assert!(!place.folder.path().join("store").exists());
}

#[test]
fn many_that_create_a_store_at_once_get_the_same_one() {
    let folder = tempfile::tempdir().unwrap();
    let url = StoreUrl::parse("store").unwrap();
    let opened = std::thread::scope(|scope| {
        let create = || Store::create_or_join(&url, folder.path(), None, false).unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(opened.iter().all(|(store, _)| store.description() == opened[0].0.description()));
    assert_eq!(opened.iter().filter(|(_, created)| *created).count(), 1);
}

#[test]
fn a_store_is_not_begun_over_other_things() {
    let folder = tempfile::tempdir().unwrap();
    let url = StoreUrl::parse(".").unwrap();
    let create = |force| Store::create_or_join(&url, folder.path(), None, force).map(|(_, created)| created);
    std::fs::write(folder.path().join("holiday.jpg"), b"").unwrap();
    assert_eq!(create(false).unwrap_err().kind(), Kind::Exists);
    assert!(create(true).unwrap());
    std::fs::remove_file(folder.path().join("holiday.jpg")).unwrap();
    std::fs::remove_file(folder.path().join("store.json")).unwrap();
    assert!(create(false).unwrap(), "an interrupted init is finished");
    std::fs::write(folder.path().join("blocks/00/block"), b"").unwrap();
    std::fs::remove_file(folder.path().join("store.json")).unwrap();
    let error = create(false).unwrap_err().to_string();
    assert!(error.contains("blocks but no store.json"), "{error}");
}

#[test]
fn a_block_that_is_cut_short_is_corrupt_wherever_it_ends() {
    let place = Place::new();
    let object = place.object(&noise(16, 400_000));
    object.push(&place.engine()).unwrap();
    let block = place.files("blocks").pop().unwrap();
    for left in [390_000, 10, 0] {
        std::fs::File::options().write(true).open(&block).unwrap().set_len(left).unwrap();
        let error = object.pull(&place.engine()).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{left}: {error}");
        assert!(error.to_string().contains(block.file_name().unwrap().to_str().unwrap()), "{error}");
    }
}

#[test]
fn the_zero_length_object_works_too() {
    let place = Place::new();
    let object = place.object(b"");
    object.push(&place.engine()).unwrap();
    object.assert_pulls(&place);
}
