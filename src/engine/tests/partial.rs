//! Interrupted downloads: the next download resumes from their partial file.

use super::*;

const BYTES: usize = 60_000_000;

fn pushed(place: &Place) -> Object {
    let object = place.object(&noise(40, BYTES));
    object.push(&place.engine()).unwrap();
    object
}

/// Returns an engine that counts its block reads. Only the first `allowed` reads succeed.
fn counting(place: &Place, allowed: usize) -> (Engine, Arc<AtomicUsize>) {
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = reads.clone();
    let engine = place.watched(Arc::new(move |when, call| {
        let is_block = matches!(call, Call::Get(path) if path.starts_with("blocks/"));
        when == When::After || !is_block || counted.fetch_add(1, Ordering::SeqCst) < allowed
    }));
    (engine, reads)
}

fn reads_of_a_whole_pull(place: &Place, object: &Object) -> usize {
    let (engine, reads) = counting(place, usize::MAX);
    std::fs::remove_file(engine.download(&object.oid, BYTES as u64, &Arc::default()).unwrap()).unwrap();
    reads.load(Ordering::SeqCst)
}

fn partial(place: &Place, object: &Object) -> PathBuf {
    place.folder.path().join(format!("lfs/cdc/downloads/{}.partial", object.oid))
}

#[test]
fn a_download_that_failed_goes_on_with_what_had_come() {
    let place = Place::new();
    let object = pushed(&place);
    let whole = reads_of_a_whole_pull(&place, &object);
    object.pull(&counting(&place, whole / 2).0).unwrap_err();
    assert!(partial(&place, &object).exists());
    let (engine, reads) = counting(&place, usize::MAX);
    assert!(object.pull(&engine).unwrap() == object.content);
    let reads = reads.load(Ordering::SeqCst);
    // requests in flight at the failure are lost
    let in_flight = engine.downloader.store().reach().fetches_in_flight;
    assert!(reads <= whole - whole / 2 + in_flight && reads < whole, "{reads} of {whole} reads");
    assert!(!partial(&place, &object).exists());
}

#[test]
fn nothing_is_believed_of_a_partial_download_but_its_content() {
    let place = Place::new();
    let object = pushed(&place);
    let whole = reads_of_a_whole_pull(&place, &object);
    let pull_after = |left: &[u8]| {
        std::fs::write(partial(&place, &object), left).unwrap();
        let (engine, reads) = counting(&place, usize::MAX);
        assert!(object.pull(&engine).unwrap() == object.content);
        reads.load(Ordering::SeqCst)
    };
    assert_eq!(pull_after(&object.content), 0, "all of it is there");
    assert_eq!(pull_after(&noise(41, BYTES + 1000)), whole, "garbage, and too long");
    let mut content = object.content.clone();
    content[BYTES / 2] ^= 1;
    assert_eq!(pull_after(&content), 1, "one byte is wrong");
    let cut = pull_after(&object.content[..BYTES / 2]);
    assert!(cut > 1 && cut < whole, "cut short: {cut} of {whole} reads");
}

#[test]
fn a_cancelled_download_stays_and_one_of_a_damaged_block_too() {
    let place = Place::new();
    let object = pushed(&place);
    let whole = reads_of_a_whole_pull(&place, &object);
    let cancelled: Arc<Progress> = Arc::default();
    cancelled.cancel();
    place.engine().download(&object.oid, BYTES as u64, &cancelled).unwrap_err();
    assert!(partial(&place, &object).exists());
    let block = place.files("blocks").pop().unwrap();
    let bytes = std::fs::read(&block).unwrap();
    let mut damaged = bytes.clone();
    damaged[20_000_000] ^= 1;
    std::fs::write(&block, damaged).unwrap();
    assert_eq!(object.pull(&place.engine()).unwrap_err().kind(), Kind::Corrupt);
    std::fs::write(&block, bytes).unwrap();
    let (engine, reads) = counting(&place, usize::MAX);
    assert!(object.pull(&engine).unwrap() == object.content);
    assert!(reads.load(Ordering::SeqCst) < whole);
}
