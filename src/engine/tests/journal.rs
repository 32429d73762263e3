//! Interrupted pushes: they end between their blocks and their commit. The next push uses the stored
//! blocks, if they are still good.

use super::*;
use crate::maintain::stats;

/// The size of the objects of these tests, which fit into one block. Their content doesn't shrink.
const BYTES: usize = 3_000_000;

/// Returns an engine that fails before each commit, as if the process were killed there.
fn cut_off(place: &Place) -> Engine {
    place.watched(Arc::new(|when, call| {
        !(when == When::Before && matches!(call, Call::Put(path) if path.starts_with("index/")))
    }))
}

/// Returns an object, and a store that has its blocks but no commit that names them.
fn interrupted(seed: u64) -> (Arc<Place>, Object) {
    let place = Arc::new(Place::new());
    let object = place.object(&noise(seed, BYTES));
    object.push(&cut_off(&place)).unwrap_err();
    assert_eq!((place.files("blocks").len(), journaled(&place).len()), (1, 1));
    assert!(place.files("index").is_empty());
    (place, object)
}

fn journaled(place: &Place) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(place.folder.path().join("journal")).unwrap();
    listed.map(|entry| entry.unwrap().path()).collect()
}

/// Returns the block of an interrupted push.
fn left_block(place: &Place) -> BlockId {
    BlockId::parse(journaled(place)[0].file_name().unwrap().to_str().unwrap()).unwrap()
}

fn condemn_and_delete(place: &Place, block: BlockId) {
    place.condemn(&Condemned { blocks: vec![block], records: Vec::new() });
    let name = format!("{block}.zst");
    let files = place.files("blocks");
    let file = files.iter().find(|file| file.ends_with(&name)).unwrap();
    std::fs::remove_file(file).unwrap();
}

/// Fails unless an engine without a journal finds the object's chunks in the shards of commits.
fn assert_committed_as_new(place: &Place, object: &Object) {
    let blocks = place.files("blocks");
    let longer = place.object(&[object.content.clone(), noise(1000, 10_000)].concat());
    let elsewhere = EngineParts { journal: Journal::at(None), ..place.parts() }.build();
    longer.push(&elsewhere).unwrap();
    let added = place.files("blocks").into_iter().filter(|file| !blocks.contains(file));
    let added: u64 = added.map(|file| file.metadata().unwrap().len()).sum();
    assert!(added < 100_000, "{added} bytes for 10,000 new ones");
    longer.assert_pulls(place);
}

#[test]
fn an_interrupted_push_goes_on_with_what_was_stored() {
    let (place, object) = interrupted(200);
    let left = left_block(&place);
    let longer = place.object(&[object.content.clone(), noise(201, 500_000)].concat());
    longer.push(&place.engine()).unwrap();
    assert_eq!(place.files("blocks").len(), 2);
    assert!(place.referenced(&place.newest_segment()).0.contains(&left));
    assert!(journaled(&place).is_empty(), "a commit names it");
    longer.assert_pulls(&place);
    // its keys and its directory are the commit's
    let segment = place.newest_segment();
    let id = SegmentId::parse(segment.strip_prefix("index/").unwrap()).unwrap();
    let segment =
        Segment::open(place.store().get_segment(&id, place.listed_bytes(&id)).wait().unwrap()).unwrap();
    let shards = segment.shards().unwrap();
    let shard = place.store().get_shard(&shards[0].id, shards[0].size_bytes).wait().unwrap();
    let shard = crate::format::shard::Shard::parse(&shard).unwrap();
    assert!(shard.blocks.iter().any(|(summary, _)| summary.id == left));
    let keys = segment.keys().unwrap();
    let is_key =
        |chunk: &&crate::format::block::Chunk| keys.contains(&crate::format::segment::Key::new(&chunk.id, 0));
    assert!(shard.blocks.iter().flat_map(|(_, d)| &d.chunks).filter(is_key).count() > 0);
    assert_committed_as_new(&place, &object);
}

/// The push is killed while the block is in flight, or after the store has it and before the answer comes.
#[test]
fn a_block_that_was_on_its_way_is_used_if_it_has_arrived() {
    for (when, stored) in [(When::Before, 0), (When::After, 1)] {
        let place = Arc::new(Place::new());
        let object = place.object(&noise(203, BYTES));
        let engine = place.watched(Arc::new(move |now, call| {
            !(now == when && matches!(call, Call::Put(path) if path.starts_with("blocks/")))
        }));
        object.push(&engine).unwrap_err();
        assert_eq!((place.files("blocks").len(), journaled(&place).len()), (stored, 1));
        object.push(&place.engine()).unwrap();
        assert_eq!(place.files("blocks").len(), 1);
        assert_committed_as_new(&place, &object);
    }
}

#[test]
fn the_same_process_goes_on_with_what_a_failed_group_has_stored() {
    let place = Arc::new(Place::new());
    let object = place.object(&noise(202, BYTES));
    let failures = AtomicUsize::new(0);
    let engine = place.watched(Arc::new(move |when, call| {
        !(when == When::Before
            && matches!(call, Call::Put(path) if path.starts_with("index/"))
            && failures.fetch_add(1, Ordering::SeqCst) < 2)
    }));
    object.push(&engine).unwrap_err();
    object.push(&engine).unwrap_err();
    object.push(&engine).unwrap();
    assert_eq!(place.files("blocks").len(), 1);
    assert!(journaled(&place).is_empty());
    assert_committed_as_new(&place, &object);
}

#[test]
fn what_a_damaged_object_has_stored_is_found_by_the_next() {
    let place = Place::new();
    let object = place.object(&noise(203, BYTES));
    let damaged = Object { oid: Oid([1; 32]), path: object.path.clone(), content: object.content.clone() };
    let engine = place.engine();
    damaged.push(&engine).unwrap_err();
    object.push(&engine).unwrap();
    assert_eq!(place.files("blocks").len(), 1);
    assert_committed_as_new(&place, &object);
}

#[test]
fn a_left_block_condemned_before_the_next_push_is_not_used() {
    let (place, object) = interrupted(204);
    let left = left_block(&place);
    condemn_and_delete(&place, left);
    object.push(&place.engine()).unwrap();
    assert!(!place.referenced(&place.newest_segment()).0.contains(&left));
    assert!(journaled(&place).is_empty());
    assert_committed_as_new(&place, &object);
}

/// Does `work` once, at the first PUT of a path that begins with `begins`.
fn once(
    place: &Arc<Place>,
    when: When,
    begins: &'static str,
    work: impl Fn(&Place) + Send + Sync + 'static,
) -> Engine {
    let (there, done) = (place.clone(), AtomicUsize::new(0));
    place.watched(Arc::new(move |now, call| {
        if now == when
            && matches!(call, Call::Put(path) if path.starts_with(begins))
            && done.fetch_add(1, Ordering::SeqCst) == 0
        {
            aside(|| work(&there));
        }
        true
    }))
}

/// The collector has read the index before the commit. The push has seen the block, and a commit names it.
#[test]
fn a_left_block_condemned_before_the_commit_or_right_after_it_is_not_acknowledged() {
    for when in [When::Before, When::After] {
        let (place, object) = interrupted(205);
        let left = left_block(&place);
        let engine = once(&place, when, "index/", move |place| condemn_and_delete(place, left));
        object.push(&engine).unwrap();
        assert_eq!(place.files("index").len(), 2, "the first commit was in vain");
        assert_eq!(place.files("blocks").len(), 1, "stored again under another name");
        assert!(!place.referenced(&place.newest_segment()).0.contains(&left));
        object.assert_pulls(&place);
    }
}

#[test]
fn a_left_block_condemned_after_the_push_is_healed_as_any_other() {
    let (place, object) = interrupted(206);
    let left = left_block(&place);
    // a second process has found it too
    let other = place.engine();
    place.object(&noise(207, 1000)).push(&other).unwrap();
    object.push(&place.engine()).unwrap();
    condemn_and_delete(&place, left);
    let longer = place.object(&[object.content.clone(), noise(208, 1000)].concat());
    let commits = place.files("index").len();
    longer.push(&other).unwrap();
    assert_eq!(place.files("index").len(), commits + 2, "the first of them was in vain");
    longer.assert_pulls(&place);
    object.push(&place.engine()).unwrap();
    object.assert_pulls(&place);
}

#[test]
fn several_that_find_the_same_left_block_all_commit_it() {
    let (place, object) = interrupted(209);
    let engines: Vec<Engine> = (0..3).map(|_| place.engine()).collect();
    for (number, engine) in engines.iter().enumerate() {
        place.object(&noise(210 + number as u64, 1000)).push(engine).unwrap();
    }
    let before = place.files("blocks").len();
    let pushed: Vec<Object> = (0..3u64)
        .map(|number| place.object(&[object.content.clone(), noise(220 + number, 1000)].concat()))
        .collect();
    std::thread::scope(|scope| {
        for (object, engine) in pushed.iter().zip(&engines) {
            scope.spawn(|| object.push(engine).unwrap());
        }
    });
    let added: u64 = place.files("blocks").iter().map(|file| file.metadata().unwrap().len()).sum();
    assert_eq!(place.files("blocks").len(), before + 3);
    assert!(added < BYTES as u64 + 400_000, "{added}");
    pushed.iter().for_each(|object| object.assert_pulls(&place));
    assert_eq!(stats::stats(&place.store()).unwrap().blocks as usize, place.files("blocks").len());
    assert!(journaled(&place).is_empty());
    assert_committed_as_new(&place, &object);
}

#[test]
fn a_left_block_that_is_gone_or_cut_short_is_stored_again() {
    for cut_to in [None, Some(1000)] {
        let (place, object) = interrupted(230);
        let left = left_block(&place);
        let file = place.files("blocks").pop().unwrap();
        match cut_to {
            None => std::fs::remove_file(&file).unwrap(),
            Some(bytes) => std::fs::File::options().write(true).open(&file).unwrap().set_len(bytes).unwrap(),
        }
        object.push(&place.engine()).unwrap();
        object.assert_pulls(&place);
        assert!(!place.referenced(&place.newest_segment()).0.contains(&left));
        assert_eq!(journaled(&place).is_empty(), cut_to.is_some(), "what is missing may be on its way");
        assert_committed_as_new(&place, &object);
    }
}

#[test]
fn the_journal_of_another_store_or_a_damaged_one_does_no_harm() {
    for damage in [0, 1, 2] {
        let (other, _) = interrupted(231);
        let place = Place::new();
        let object = place.object(&noise(231, BYTES));
        let (from, to) = (other.folder.path().join("journal"), place.folder.path().join("journal"));
        std::fs::rename(from, to).unwrap();
        let entry = journaled(&place).pop().unwrap();
        match damage {
            0 => {}
            1 => std::fs::write(&entry, noise(232, 5000)).unwrap(),
            _ => std::fs::File::options().write(true).open(&entry).unwrap().set_len(500).unwrap(),
        }
        object.push(&place.engine()).unwrap();
        assert_eq!(journaled(&place).is_empty(), damage > 0);
        assert_committed_as_new(&place, &object);
    }
}

/// A foreign writer of the journal, such as a branch that shares a CI cache, can name blocks. It can't
/// forge their content.
#[test]
fn a_forged_note_misleads_no_push() {
    use crate::format::block::Summary;
    let (place, object) = interrupted(240);
    let other = place.object(&noise(241, 500_000));
    other.push(&EngineParts { journal: Journal::at(None), ..place.parts() }.build()).unwrap();
    let journal = Journal::at(Some(place.folder.path().join("journal")));
    let left = journal.read().remove(0);
    // each block, also one that a commit names, with wrong lengths
    for file in place.files("blocks") {
        let id = BlockId::parse(file.file_stem().unwrap().to_str().unwrap()).unwrap();
        let size_bytes = file.metadata().unwrap().len() as u32;
        for frames_bytes in [0, left.frames_bytes - 1, left.frames_bytes + 1, size_bytes - 1] {
            let frames_bytes = frames_bytes.min(size_bytes - 1);
            journal.note(&Summary { id, size_bytes, frames_bytes, content_bytes: 7, chunk_count: 7 });
            let longer = place.object(&[&object.content[..], &noise(u64::from(frames_bytes), 9000)].concat());
            longer.push(&place.engine()).unwrap();
            longer.assert_pulls(&place);
        }
    }
    // a shard, the form of notes in the first versions; the push doesn't believe its content
    let chunk = |bytes: &[u8]| crate::format::block::Chunk {
        id: crate::format::chunking::chunk_id(bytes),
        bytes: bytes.len() as u32,
    };
    let (place, _) = interrupted(242);
    let (left, victim) = (left_block(&place), place.object(&noise(243, 3000)));
    let size_bytes = place.files("blocks")[0].metadata().unwrap().len() as u32;
    let frame = |stored_bytes| crate::format::block::FrameEntry {
        kind: 0,
        chunk_count: 1,
        stored_bytes,
        content_bytes: 3000,
    };
    let directory = crate::format::block::Directory {
        chunks: vec![chunk(&victim.content)],
        frames: vec![frame(100_000)],
        needs: Vec::new(),
    };
    let entry = (directory.summary(left, size_bytes), directory);
    let (bytes, _) =
        crate::format::shard::write(&[entry], &crate::format::shard::Recipes::default()).unwrap();
    std::fs::write(&journaled(&place)[0], bytes).unwrap();
    victim.push(&place.engine()).unwrap();
    victim.assert_pulls(&place);
}

/// Every call of the resumed push fails once, and may be its last. The next push resumes again.
#[test]
fn a_push_that_goes_on_may_be_cut_off_anywhere() {
    let mut failures = 0;
    for when in [When::Before, When::After] {
        for fail_at in 0.. {
            let (place, object) = interrupted(233);
            let longer = place.object(&[object.content.clone(), noise(234, 100_000)].concat());
            let (calls, failed) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
            let told = failed.clone();
            let engine = place.watched(Arc::new(move |now, _| {
                if now != when || calls.fetch_add(1, Ordering::SeqCst) != fail_at {
                    return true;
                }
                told.fetch_add(1, Ordering::SeqCst);
                false
            }));
            if longer.push(&engine).is_ok() {
                longer.assert_pulls(&place);
            }
            longer.push(&place.engine()).unwrap();
            longer.assert_pulls(&place);
            assert!(place.files("blocks").len() <= 3, "only the small block may be stored twice");
            let large = place.files("blocks").into_iter().filter(|f| f.metadata().unwrap().len() > 1_000_000);
            assert_eq!(large.count(), 1);
            if failed.load(Ordering::SeqCst) == 0 {
                break;
            }
            failures += 1;
        }
    }
    assert!(failures >= 14, "only {failures} calls were failed");
}
