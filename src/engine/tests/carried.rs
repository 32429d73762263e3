//! Small commits to a bucket, which are one file. Nothing is lost or misread, in any order of merges.

use super::*;
use crate::index::merge_policy::SEGMENTS_STANDING;
use crate::maintain::compact::Compaction;
use crate::store::io_profile::CARRIED_BYTES;

fn compact(place: &Place) -> Compaction {
    compaction::compact(&place.store()).unwrap()
}

fn segments(place: &Place) -> usize {
    place.segments().len()
}

/// Returns an engine, and the list of the store's calls that have begun.
fn told(place: &Place) -> (Engine, Arc<Mutex<Vec<Call>>>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let told = calls.clone();
    let watch: Watch = Arc::new(move |when, call| {
        if when == When::Before {
            told.lock().unwrap().push(call.clone());
        }
        true
    });
    (place.watched(watch), calls)
}

#[test]
fn a_small_commit_is_one_file_and_one_request() {
    let place = Place::which(true);
    let (engine, calls) = told(&place);
    let objects: Vec<Object> = (0..8).map(|n| place.object(&noise(900 + n, 10_000))).collect();
    place.object(&noise(899, 10)).push(&engine).unwrap();
    calls.lock().unwrap().clear();
    engine.set_askers(8);
    std::thread::scope(|scope| {
        objects.iter().for_each(|object| drop(scope.spawn(|| object.push(&engine).unwrap())));
    });
    let calls = calls.lock().unwrap().clone();
    // a directory is checked again before a commit, because it may have been unmounted
    let puts: Vec<_> =
        calls.iter().filter(|call| !matches!(call, Call::Get(path) if path == "store.json")).collect();
    let is_commit = |call: &&Call| matches!(call, Call::Put(path) if path.starts_with("index/"));
    assert!(puts.iter().all(is_commit), "{calls:?}");
    assert!(puts.len() <= 3, "eight objects at once took {} commits", puts.len());
    assert_eq!((place.files("blocks").len(), place.files("shards").len()), (0, 0));
    objects.iter().for_each(|object| object.assert_pulls(&place));
}

#[test]
fn what_is_not_small_has_files_of_its_own() {
    // the second one's block would fit, but not with its shard
    for bytes in [CARRIED_BYTES, CARRIED_BYTES - 600] {
        let place = Place::which(true);
        let object = place.object(&noise(910, bytes));
        object.push(&place.engine()).unwrap();
        assert_eq!((place.files("blocks").len(), place.files("shards").len(), segments(&place)), (1, 1, 1));
        object.assert_pulls(&place);
    }
}

/// A commit that merges has given its own block a file before. A collector may condemn that file in
/// between, so the commit is checked.
#[test]
fn a_small_commit_that_merges_is_checked() {
    let place = Arc::new(Place::which(true));
    let objects: Vec<Object> =
        (0..SEGMENTS_STANDING as u64).map(|n| place.object(&noise(970 + n, 2000))).collect();
    objects.iter().for_each(|object| object.push(&place.engine()).unwrap());
    let before = place.files("blocks").len();
    let (there, done) = (place.clone(), AtomicUsize::new(0));
    // a collector that finds all blocks unreferenced
    let watch: Watch = Arc::new(move |when, call| {
        let is_commit = matches!(call, Call::Put(path) if path.starts_with("index/"));
        if when == When::Before && is_commit && done.swap(1, Ordering::SeqCst) == 0 {
            let name = |file: PathBuf| BlockId::parse(file.file_stem().unwrap().to_str().unwrap()).unwrap();
            let blocks = there.files("blocks").into_iter().map(name).collect();
            aside(|| there.condemn(&Condemned { blocks, records: Vec::new() }));
        }
        true
    });
    let last = place.object(&noise(999, 2000));
    last.push(&place.watched(watch)).unwrap();
    let (blocks, _) = place.referenced(&place.newest_segment());
    let mut condemned = CondemnedNames::default();
    condemned.refresh(CachedStore { store: &place.store(), cache: &Cache::none() }).unwrap();
    assert_eq!(before, 0);
    assert!(blocks.iter().any(|block| !condemned.has_block(block)), "it was committed again");
    last.assert_pulls(&place);
}

/// A forged segment claims to carry another's block; it does no harm.
#[test]
fn what_is_carried_must_be_what_its_name_says() {
    let place = Place::which(true);
    let object = place.object(&noise(915, 5000));
    object.push(&place.engine()).unwrap();
    let (blocks, _) = place.referenced(&place.newest_segment());
    let name = crate::format::inline::CarriedName::Block(blocks[0]);
    let carried = vec![crate::format::inline::Carried { name, pieces: vec![vec![0; 5100].into()] }];
    let bytes = crate::format::segment::Contents { carried, ..Default::default() }.write();
    let id = SegmentId {
        id: CommitId::new(CommitId::LAST_MILLISECONDS - 1).unwrap(),
        hash: ContentHash::of(&bytes),
    };
    place.put_segment(&id, bytes);
    object.assert_pulls(&place);
    let done = compaction::compact(&place.store()).unwrap();
    assert_eq!(done.findings.len(), 1, "{done:?}");
    object.assert_pulls(&place);
}

/// In a store that was restored in part, the segment is shorter than its copy on this machine.
#[test]
fn a_segment_that_is_cut_short_carries_nothing() {
    let place = Place::which(true);
    let object = place.object(&noise(916, 5000));
    let cache = || Cache::at(Some(place.folder.path().join("cache")));
    object.push(&EngineParts { cache: cache(), ..place.parts() }.build()).unwrap();
    let file = place.files("index").remove(0);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 10]).unwrap();
    object.push(&EngineParts { cache: cache(), ..place.parts() }.build()).unwrap();
    object.assert_pulls(&place);
}

/// An object that refers to a carried block relies on another commit, so it is checked like any other.
#[test]
fn carried_chunks_are_found_again_and_checked() {
    let place = Place::which(true);
    let content = noise(920, 60_000);
    place.object(&content).push(&place.engine()).unwrap();
    let carrier = place.newest_segment();
    let before = place.files("index").iter().map(|file| file.metadata().unwrap().len()).sum::<u64>();
    let longer = place.object(&[content.clone(), noise(921, 1000)].concat());
    let (engine, calls) = told(&place);
    longer.push(&engine).unwrap();
    let after = place.files("index").iter().map(|file| file.metadata().unwrap().len()).sum::<u64>();
    assert!(after - before < 30_000, "{} bytes", after - before);
    let calls = calls.lock().unwrap().clone();
    let commit = calls.iter().position(|call| matches!(call, Call::Put(_))).unwrap();
    let is_list = |call: &Call| matches!(call, Call::List(path) if path.starts_with("condemned"));
    assert!(calls[commit..].iter().any(is_list), "{calls:?}");
    longer.assert_pulls(&place);

    // a condemned block is not relied on any more
    let (blocks, _) = place.referenced(&carrier);
    place.condemn(&Condemned { blocks, records: Vec::new() });
    let longest = place.object(&[content, noise(922, 2000)].concat());
    longest.push(&place.engine()).unwrap();
    let (named, _) = place.referenced(&place.newest_segment());
    assert_eq!(named.len(), 1, "all of it is in a block of its own");
    longest.assert_pulls(&place);
}

#[test]
fn a_push_that_merges_gives_what_was_carried_files_of_its_own() {
    let place = Place::which(true);
    let objects: Vec<Object> = (0..60).map(|n| place.object(&noise(930 + n, 5000))).collect();
    let engine = place.engine();
    objects.iter().for_each(|object| object.push(&engine).unwrap());
    let blocks = place.files("blocks");
    assert!((20..60).contains(&blocks.len()), "{} blocks", blocks.len());
    for block in blocks {
        let name = block.file_stem().unwrap().to_str().unwrap();
        let id = BlockId::parse(name).unwrap();
        assert_eq!(ContentHash::of(&std::fs::read(&block).unwrap()), id.hash);
    }
    objects.iter().for_each(|object| object.assert_pulls(&place));
    let done = compact(&place);
    assert!(done.findings.is_empty() && done.segments_after == 1, "{done:?}");
    assert_eq!((place.files("blocks").len(), segments(&place)), (60, 1));
    objects.iter().for_each(|object| object.assert_pulls(&place));
}

/// A segment is the only place of its carried files until these are seen elsewhere, complete.
#[test]
fn a_segment_stays_until_its_block_is_whole_in_a_file_of_its_own() {
    for damage in [
        |file: &Path| std::fs::remove_file(file).unwrap(),
        |file: &Path| {
            let mut bytes = std::fs::read(file).unwrap();
            bytes[100] ^= 1;
            std::fs::write(file, bytes).unwrap();
        },
    ] {
        let place = Place::which(true);
        let objects: Vec<Object> = (0..5).map(|n| place.object(&noise(960 + n, 5000))).collect();
        objects.iter().for_each(|object| object.push(&place.engine()).unwrap());
        let kept = place.store().watched(Arc::new(|_, call| !matches!(call, Call::Delete(_))));
        assert!(compaction::compact(&kept).is_err());
        let block = place.files("blocks")[2].clone();
        damage(&block);
        let done = compact(&place);
        if block.exists() && !done.findings.is_empty() {
            assert_eq!((done.findings.len(), segments(&place)), (1, 2), "{done:?}");
            // the damaged block is read from the segment that carries it
            objects.iter().for_each(|object| object.assert_pulls(&place));
            // the remedy of the finding
            std::fs::remove_file(block).unwrap();
            assert!(compact(&place).findings.is_empty());
        }
        assert_eq!((place.files("blocks").len(), segments(&place)), (5, 1));
        objects.iter().for_each(|object| object.assert_pulls(&place));
    }
}
