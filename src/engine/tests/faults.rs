//! Faults of a store: it fails, vanishes, is damaged, or holds less than it says.

use super::*;
use crate::maintain::{check, stats};

fn create(url: &StoreUrl, top: &Path, creation: Creation) -> Result<(Store, bool)> {
    Store::create_or_join(url, top, &Access::default(), creation)
}

/// Every call of a push fails once, before it was done and after. Acknowledged objects are there, and the
/// next push succeeds.
#[test]
fn a_store_that_fails_at_any_call_loses_nothing_acknowledged() {
    for (carries, size, least) in [(false, 200_000, 16), (true, 20_000, 10)] {
        let mut failures = 0;
        for when in [When::Before, When::After] {
            for fail_at in 0.. {
                let place = Place::which(carries);
                let first = place.object(&noise(8, size));
                first.push(&place.engine()).unwrap();
                let second = place.object(&[noise(8, size), noise(9, 2 * size)].concat());
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
                // an unreadable shard is skipped
                if !matches!(&call, Call::Get(path) if path.starts_with("shards/")) {
                    assert!(pushed.is_err(), "{when:?} {call:?} failed and the push did not");
                }
                failures += 1;
            }
        }
        assert!(failures >= least, "only {failures} calls were failed");
    }
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
fn a_store_that_is_replaced_under_a_push_is_noticed_before_the_answer() {
    let place = Arc::new(Place::new());
    let object = place.object(&noise(17, 100_000));
    let there = place.clone();
    let engine = place.watched(Arc::new(move |when, call| {
        if when == When::After && matches!(call, Call::Put(path) if path.starts_with("index/")) {
            let folder = there.folder.path();
            std::fs::rename(folder.join("store"), folder.join("unmounted")).unwrap();
            aside(|| drop(create(&there.url(), folder, Creation::default()).unwrap()));
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

/// The reads before the first object may fail. That object gets the error once, and the next object begins
/// anew.
#[test]
fn what_preparing_fails_by_is_the_first_objects_error() {
    for (direction, list) in [Direction::Upload, Direction::Download]
        .into_iter()
        .flat_map(|direction| ["index", "condemned"].map(|list| (direction, list)))
    {
        let place = Place::new();
        let object = place.object(&noise(24, 100_000));
        object.push(&place.engine()).unwrap();
        let left = AtomicUsize::new(1);
        let engine = place.watched(Arc::new(move |when, call| {
            !(when == When::Before && *call == Call::List(list.into()) && left.swap(0, Ordering::SeqCst) == 1)
        }));
        engine.prepare(direction);
        engine.prepare(direction);
        let moved = || match direction {
            Direction::Upload => object.push(&engine),
            Direction::Download => object.pull(&engine).map(drop),
        };
        // a download only prefers records that are not condemned
        let is_needed = direction == Direction::Upload || list == "index";
        assert_eq!(moved().is_err(), is_needed, "{direction:?} {list}");
        moved().unwrap();
    }
}

#[test]
fn many_that_create_a_store_at_once_get_the_same_one() {
    let folder = tempfile::tempdir().unwrap();
    let url = StoreUrl::parse("store").unwrap();
    let opened = std::thread::scope(|scope| {
        let create = || create(&url, folder.path(), Creation::default()).unwrap();
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
    let create = |force| {
        let creation = Creation { force, ..Creation::default() };
        create(&url, folder.path(), creation).map(|(_, created)| created)
    };
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

fn only_block(place: &Place) -> PathBuf {
    let mut blocks = place.files("blocks");
    assert_eq!(blocks.len(), 1);
    blocks.pop().unwrap()
}

/// A block was removed or cut short. The next push of its content stores it again, and new objects don't
/// rely on the lost one.
#[test]
fn a_lost_block_is_noticed_by_a_push_and_healed() {
    for cut_to in [None, Some(1000)] {
        let place = Place::new();
        let old = place.object(&noise(19, 500_000));
        old.push(&place.engine()).unwrap();
        let block = only_block(&place);
        match cut_to {
            None => std::fs::remove_file(&block).unwrap(),
            Some(bytes) => std::fs::File::options().write(true).open(&block).unwrap().set_len(bytes).unwrap(),
        }
        let new = place.object(&[noise(19, 500_000), noise(20, 50_000)].concat());
        new.push(&place.engine()).unwrap();
        new.assert_pulls(&place);
        assert!(old.pull(&place.engine()).is_err());
        old.push(&place.engine()).unwrap();
        old.assert_pulls(&place);
    }
}

#[test]
fn what_another_agent_commits_meanwhile_is_deduplicated_against() {
    let place = Place::new();
    let (mine, theirs) = (place.engine(), place.engine());
    place.object(&noise(21, 10_000)).push(&mine).unwrap();
    place.object(&noise(22, 2_000_000)).push(&theirs).unwrap();
    let both = place.object(&[noise(22, 2_000_000), noise(23, 10_000)].concat());
    // as if it were time for another look
    mine.uploader.state().learned.last = Some((Instant::now(), Duration::ZERO));
    both.push(&mine).unwrap();
    let stored: u64 = place.files("blocks").iter().map(|f| f.metadata().unwrap().len()).sum();
    assert!(stored < 2_200_000, "{stored}");
    both.assert_pulls(&place);
}

#[test]
fn a_missing_or_damaged_shard_costs_room_and_nothing_else() {
    for damage in
        [|file: &PathBuf| std::fs::remove_file(file), |file: &PathBuf| std::fs::write(file, b"not a shard")]
    {
        let place = Place::new();
        let object = place.object(&noise(24, 300_000));
        object.push(&place.engine()).unwrap();
        place.files("shards").iter().for_each(|file| damage(file).unwrap());
        let longer = place.object(&[noise(24, 300_000), noise(25, 10_000)].concat());
        longer.push(&place.engine()).unwrap();
        object.assert_pulls(&place);
        longer.assert_pulls(&place);
    }
}

#[test]
fn a_damaged_segment_hides_its_own_objects_and_no_others() {
    let place = Place::new();
    let hidden = place.object(&noise(26, 50_000));
    hidden.push(&place.engine()).unwrap();
    let segment = place.files("index").pop().unwrap();
    let other = place.object(&noise(27, 50_000));
    other.push(&place.engine()).unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[500] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    other.assert_pulls(&place);
    let error = hidden.pull(&place.engine()).unwrap_err().to_string();
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(error.contains(name) && error.contains(&hidden.oid.to_string()), "{error}");
    let health = check::look(&place.store()).unwrap();
    assert!(health.damage.len() == 1 && health.damage[0].to_string().contains(name));
    assert!(stats::stats(&place.store()).is_err(), "a count without it would be wrong");
    hidden.push(&place.engine()).unwrap();
    hidden.assert_pulls(&place);
}

#[test]
fn a_folder_that_is_a_file_is_no_empty_folder() {
    let place = Place::new();
    let object = place.object(&noise(28, 10_000));
    let condemned = place.folder.path().join("store/condemned");
    std::fs::remove_dir(&condemned).unwrap();
    std::fs::write(&condemned, b"").unwrap();
    assert_eq!(object.push(&place.engine()).unwrap_err().kind(), Kind::Corrupt);
}

#[test]
fn an_upload_reads_no_more_than_it_was_told() {
    let place = Place::new();
    let path = place.folder.path().join("longer than git-lfs said");
    std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    let object = Object { oid: Oid([1; 32]), path, content: vec![0; 5] };
    assert_eq!(object.push(&place.engine()).unwrap_err().kind(), Kind::Corrupt);
    assert!(place.files("blocks").iter().all(|file| file.metadata().unwrap().len() < 10_000));
}

/// A hole in a disk image is thousands of terms in one frame.
#[test]
fn many_terms_of_one_frame_come_back() {
    let place = Place::new();
    let object = place.object(&[noise(29, 10_000), vec![0; 40_000_000], noise(30, 10_000)].concat());
    object.push(&place.engine()).unwrap();
    object.assert_pulls(&place);
}
