//! Reuse: downloads of objects that already stand on this machine, as a whole file or in other objects.

use super::*;
use crate::local::lfs_objects;

const BYTES: usize = 24_000_000;

/// Returns an engine that counts its reads of paths that begin with a prefix.
fn counting(place: &Place, prefix: &'static str) -> (Engine, Arc<AtomicUsize>) {
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = reads.clone();
    let engine = place.watched(Arc::new(move |when, call| {
        if when == When::Before
            && matches!(call, Call::Get(path) | Call::List(path) if path.starts_with(prefix))
        {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        true
    }));
    (engine, reads)
}

fn pushed(place: &Place, content: &[u8]) -> Object {
    let object = place.object(content);
    object.push(&place.engine()).unwrap();
    object
}

/// Writes a file with any content where git-lfs keeps the object.
fn keep(place: &Place, oid: &Oid, content: &[u8]) -> PathBuf {
    let path = lfs_objects::path_in(&place.folder.path().join("lfs/objects"), oid);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path
}

/// Returns the content with a few bytes more in `edits` places.
fn edited(content: &[u8], edits: usize) -> Vec<u8> {
    let parts = content.chunks(content.len().div_ceil(edits + 1));
    parts.enumerate().flat_map(|(number, part)| [part, &[number as u8; 5]].concat()).collect()
}

/// Returns objects, each an edition of the one before, and the reads that a pull of the last one takes
/// alone.
fn editions(place: &Place) -> ([Object; 3], usize) {
    let first = noise(50, BYTES);
    let second = edited(&first, 3);
    let third = edited(&second, 4);
    let objects = [first, second, third].map(|content| pushed(place, &content));
    let (engine, reads) = counting(place, "blocks/");
    assert!(objects[2].pull(&engine).unwrap() == objects[2].content);
    std::fs::remove_dir_all(place.folder.path().join("lfs")).unwrap();
    (objects, reads.load(Ordering::SeqCst))
}

/// The new chunks of the last edition stand together; no other range is read.
#[track_caller]
fn assert_reads_what_is_new_only(engine: &Engine, reads: &AtomicUsize, object: &Object) {
    reads.store(0, Ordering::SeqCst);
    assert!(object.pull(engine).unwrap() == object.content);
    assert_eq!(reads.load(Ordering::SeqCst), 1);
}

#[test]
fn what_other_objects_have_is_not_fetched() {
    let place = Place::new();
    let ([first, second, third], alone) = editions(&place);
    assert!(alone > 5, "{alone}");
    keep(&place, &first.oid, &first.content);
    keep(&place, &second.oid, &second.content);
    let (engine, reads) = counting(&place, "blocks/");
    assert_reads_what_is_new_only(&engine, &reads, &third);
}

/// Removes the scratch, so that earlier downloads don't affect the next pull.
fn forget_downloads(place: &Place) {
    let _ = std::fs::remove_dir_all(place.folder.path().join("lfs/cdc"));
}

#[test]
fn what_was_just_downloaded_serves_the_next() {
    let place = Place::new();
    let ([_, second, third], alone) = editions(&place);
    for (is_moved, is_removed) in [(false, false), (true, false), (true, true)] {
        forget_downloads(&place);
        let (engine, reads) = counting(&place, "blocks/");
        let finished = engine.download(&second.oid, second.content.len() as u64, &Arc::default()).unwrap();
        // the place where git-lfs keeps it
        let path = keep(&place, &second.oid, b"");
        match is_moved {
            true => std::fs::rename(&finished, &path).unwrap(),
            false => std::fs::remove_file(&path).unwrap(),
        }
        if is_removed {
            std::fs::remove_file(&path).unwrap();
            reads.store(0, Ordering::SeqCst);
            assert!(third.pull(&engine).unwrap() == third.content);
            assert_eq!(reads.load(Ordering::SeqCst), alone);
        } else {
            assert_reads_what_is_new_only(&engine, &reads, &third);
        }
    }
}

#[test]
fn a_local_object_that_is_damaged_cut_short_or_another_is_not_believed() {
    let place = Place::new();
    let ([_, second, third], alone) = editions(&place);
    let mut damaged = second.content.clone();
    damaged[BYTES / 2] ^= 1;
    for content in [&damaged[..], &second.content[..BYTES / 2], &noise(51, second.content.len()), b""] {
        forget_downloads(&place);
        keep(&place, &second.oid, content);
        let (engine, reads) = counting(&place, "blocks/");
        assert!(third.pull(&engine).unwrap() == third.content);
        let reads = reads.load(Ordering::SeqCst);
        let is_mostly_right = content == damaged;
        assert!(0 < reads && reads <= alone && (reads < alone) == is_mostly_right, "{reads} of {alone}");
    }
}

#[test]
fn a_partial_download_and_other_objects_make_up_the_rest() {
    let place = Place::new();
    let ([first, second, third], _) = editions(&place);
    let half = |content: &[u8]| content[..BYTES / 2].to_vec();
    keep(&place, &first.oid, &first.content);
    keep(&place, &second.oid, &second.content);
    let partial = place.folder.path().join(format!("lfs/cdc/downloads/{}.partial", third.oid));
    std::fs::create_dir_all(partial.parent().unwrap()).unwrap();
    std::fs::write(&partial, half(&third.content)).unwrap();
    let (engine, reads) = counting(&place, "blocks/");
    assert_reads_what_is_new_only(&engine, &reads, &third);
}

/// Returns an engine that knows the folder `source`.
fn with_source(place: &Place, watch: Watch) -> Engine {
    let mut parts = place.parts_of(place.store().watched(watch), "mine");
    parts.settings.sources = vec![place.folder.path().join("source")];
    parts.build()
}

#[test]
fn a_whole_file_takes_nothing_of_the_store() {
    let place = Place::new();
    let source = place.folder.path().join("source");
    std::fs::create_dir(&source).unwrap();
    for bytes in [0, 1, 300_000, 9_000_000] {
        // the store has none of them
        let object = place.object(&noise(60, bytes));
        std::fs::rename(&object.path, source.join(object.oid.to_string())).unwrap();
        let nothing: Watch = Arc::new(|_, _| panic!("the store is asked"));
        let engine = with_source(&place, nothing);
        let progress: Arc<Progress> = Arc::default();
        let path = engine.download(&object.oid, bytes as u64, &progress).unwrap();
        assert!(std::fs::read(&path).unwrap() == object.content);
        assert_eq!(progress.done(), bytes as u64);
        // it is a file of its own
        std::fs::write(&path, b"other").unwrap();
        assert!(std::fs::read(source.join(object.oid.to_string())).unwrap() == object.content);
    }
}

#[test]
fn a_damaged_whole_file_is_passed_over() {
    let place = Place::new();
    let source = place.folder.path().join("source");
    std::fs::create_dir(&source).unwrap();
    for bytes in [300_000, 20_000_000] {
        let object = pushed(&place, &noise(61, bytes));
        let mut damaged = object.content.clone();
        damaged[bytes / 2] ^= 1;
        std::fs::write(source.join(object.oid.to_string()), damaged).unwrap();
        let progress: Arc<Progress> = Arc::default();
        let engine = with_source(&place, Arc::new(|_, _| true));
        let path = engine.download(&object.oid, bytes as u64, &progress).unwrap();
        assert!(std::fs::read(path).unwrap() == object.content);
        assert_eq!(progress.done(), bytes as u64);
    }
}

#[test]
fn a_copy_that_is_not_wanted_any_more_ends() {
    let place = Place::new();
    let source = place.folder.path().join("source");
    std::fs::create_dir(&source).unwrap();
    let object = place.object(&noise(62, 300_000));
    std::fs::rename(&object.path, source.join(object.oid.to_string())).unwrap();
    let cancelled: Arc<Progress> = Arc::default();
    cancelled.cancel();
    let engine = with_source(&place, Arc::new(|_, _| true));
    assert_eq!(engine.download(&object.oid, 300_000, &cancelled).unwrap_err().kind(), Kind::Busy);
    let left = std::fs::read_dir(place.folder.path().join("lfs/cdc/downloads")).unwrap().count();
    assert_eq!(left, 0);
}
