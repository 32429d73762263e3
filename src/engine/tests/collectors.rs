//! Collectors that act in the worst moment: between a commit and its check, or behind a reader.

use super::*;
use crate::format::inline::{Carried, CarriedName};
use crate::id::now_milliseconds;
use crate::index::relied::RECORD_FRESH_MS;
use crate::maintain::stats;

/// The data that a collector may condemn right after the commit.
#[derive(Clone, Copy)]
enum Target {
    Blocks,
    Records,
}

/// Condemns the data that the first commit refers to, between that commit and its check. Then deletes it,
/// as a collector may.
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
    for (carries, bytes) in [(false, 1_000_000), (true, 50_000)] {
        let place = Arc::new(Place::which(carries));
        let object = place.object(&noise(3, bytes));
        object.push(&place.engine()).unwrap();
        let (blocks, _) = place.referenced(&place.newest_segment());
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
}

#[test]
fn chunks_of_condemned_blocks_are_not_deduplicated_against() {
    let place = Place::new();
    let (old, new) = (noise(4, 2_000_000), noise(5, 300_000));
    place.object(&old).push(&place.engine()).unwrap();
    place.condemn(&Condemned { blocks: place.referenced(&place.newest_segment()).0, records: Vec::new() });
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
    for (carries, bytes) in [(false, 500_000), (true, 50_000)] {
        let place = Place::which(carries);
        let object = place.object(&noise(7, bytes));
        object.push(&place.engine_of(place.store(), "theirs")).unwrap();
        object.push(&place.engine()).unwrap();
        assert_eq!(place.files("index").len(), 2, "one record for each repository");
        object.push(&place.engine()).unwrap();
        assert_eq!(place.files("index").len(), 2, "a fresh record of one's own is enough");
        assert_eq!(place.files("blocks").len(), usize::from(!carries));
        age_commits(&place, now_milliseconds() - 8 * 24 * 60 * 60 * 1000);
        object.push(&place.engine()).unwrap();
        assert_eq!(place.files("index").len(), 3);
        object.assert_pulls(&place);
    }
}

/// A push may stand still for days, on a machine that sleeps. It must not rely on a record that it looked
/// up before. In a slow test the record is too old at once, and is written afresh as well.
#[test]
fn a_record_that_grows_old_between_lookup_and_check_is_renewed() {
    for (carries, bytes) in [(false, 100_000), (true, 50_000)] {
        let place = Arc::new(Place::which(carries));
        let object = place.object(&noise(8, bytes));
        object.push(&place.engine()).unwrap();
        let until = now_milliseconds() + 2_000;
        age_commits(&place, until - RECORD_FRESH_MS);
        let lists = AtomicUsize::new(0);
        // the first LIST of condemned/ is before the lookup, the second is the check
        let watch: Watch = Arc::new(move |when, call| {
            if when == When::Before
                && *call == Call::List("condemned".into())
                && lists.fetch_add(1, Ordering::SeqCst) == 1
            {
                while now_milliseconds() <= until {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
            true
        });
        object.push(&place.watched(watch)).unwrap();
        assert_eq!(place.files("index").len(), 2, "a record of its own");
        assert_eq!(place.files("blocks").len(), usize::from(!carries), "no data");
        object.assert_pulls(&place);
    }
}

/// Rewrites all segments with this commit time, because a record is as old as its commit.
fn age_commits(place: &Place, milliseconds: u64) {
    let commit = CommitId::new(milliseconds).unwrap();
    for file in place.files("index") {
        let aged = aged(&std::fs::read(&file).unwrap(), commit);
        std::fs::remove_file(&file).unwrap();
        let id = SegmentId { id: commit, hash: ContentHash::of(&aged) };
        place.put_segment(&id, aged);
    }
}

fn copied(name: CarriedName, bytes: &[u8]) -> Carried {
    Carried { name, pieces: vec![bytes.to_vec().into()] }
}

/// Returns the same segment, written by another commit.
fn aged(bytes: &[u8], commit: CommitId) -> Vec<u8> {
    let segment = Segment::open(bytes).unwrap();
    let mut contents = crate::format::segment::Contents {
        records: segment.records().unwrap().map(Result::unwrap).collect(),
        blocks: segment.blocks().unwrap().map(Result::unwrap).collect(),
        shards: segment.shards().unwrap(),
        keys: segment.keys().unwrap(),
        repositories: segment.repositories().to_vec(),
        replaces: Vec::new(),
        carried: segment.carried().map(|(name, bytes)| copied(name, bytes)).collect(),
    };
    contents.records.iter_mut().for_each(|record| record.commit = commit);
    contents.write()
}

#[test]
fn a_segment_that_vanishes_while_the_index_is_read_makes_it_list_again() {
    let place = Arc::new(Place::new());
    let object = place.object(&noise(10, 100_000));
    object.push(&place.engine()).unwrap();
    let file = place.files("index").pop().unwrap();
    let old = SegmentId::parse(file.file_name().unwrap().to_str().unwrap()).unwrap();
    // like a merge and a delete behind the reader
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
            carried: Vec::new(),
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
            aside(|| in_store.put_segment(&id, merged.clone()));
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
    let left = std::fs::read_dir(place.folder.path().join("lfs/cdc/downloads")).unwrap().count();
    assert_eq!(left, 0);
    // a new push heals a condemned block
    let id = BlockId::parse(name).unwrap();
    place.condemn(&Condemned { blocks: vec![id], records: Vec::new() });
    object.push(&place.engine()).unwrap();
    object.assert_pulls(&place);
}

#[test]
fn collectors_that_never_rest_end_in_an_error_and_not_in_an_answer() {
    let place = Arc::new(Place::new());
    let object = place.object(&noise(31, 50_000));
    let there = place.clone();
    let engine = place.watched(Arc::new(move |when, call| {
        if let (When::After, Call::Put(path)) = (when, call)
            && path.starts_with("index/")
        {
            aside(|| {
                let blocks = there.referenced(path).0;
                there.condemn(&Condemned { blocks, records: Vec::new() });
            });
        }
        true
    }));
    assert_eq!(object.push(&engine).unwrap_err().kind(), Kind::Busy);
    object.push(&place.engine()).unwrap();
    object.assert_pulls(&place);
}

#[test]
fn a_condemned_list_of_an_unknown_kind_stops_pushes_and_no_pulls() {
    let place = Place::new();
    let object = place.object(&noise(32, 10_000));
    object.push(&place.engine()).unwrap();
    std::fs::write(place.folder.path().join("store/condemned/.DS_Store"), b"").unwrap();
    std::fs::write(place.folder.path().join("store/condemned/Thumbs.db"), b"").unwrap();
    object.push(&place.engine()).unwrap();
    std::fs::write(place.folder.path().join("store/condemned/v2-names-of-a-newer-kind"), b"").unwrap();
    assert_eq!(object.push(&place.engine()).unwrap_err().kind(), Kind::TooNew);
    object.assert_pulls(&place);
}

/// A count of a store must see all commits, even if the index changes while it is listed.
#[test]
fn all_commits_are_read_although_one_comes_between_two_lists() {
    let place = Arc::new(Place::new());
    place.object(&noise(33, 10_000)).push(&place.engine()).unwrap();
    let late = place.object(&noise(34, 10_000));
    let (there, lists) = (place.clone(), AtomicUsize::new(0));
    let store = place.store().watched(Arc::new(move |when, call| {
        if when == When::After
            && *call == Call::List("index".into())
            && lists.fetch_add(1, Ordering::SeqCst) == 0
        {
            aside(|| late.push(&there.engine()).unwrap());
        }
        true
    }));
    assert_eq!(stats::stats(&store).unwrap().objects, 2);
}
