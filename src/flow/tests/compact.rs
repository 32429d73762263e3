//! Commits that merge small segments: nothing is lost by it, and readers have few to read.

use super::*;

/// Pushes `count` objects, each by a commit of its own.
fn pushed(place: &Place, engine: &Engine, seeds: std::ops::Range<u64>) -> Vec<Object> {
    let objects: Vec<Object> = seeds.map(|seed| place.object(&noise(1000 + seed, 3000))).collect();
    objects.iter().for_each(|object| object.push(engine).unwrap());
    objects
}

/// How many segments somebody reads who has nothing, and how many stand then.
fn read_and_standing(place: &Place) -> (usize, usize) {
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = reads.clone();
    let engine = place.watched(Arc::new(move |when, call| {
        if when == When::Before && matches!(call, Call::Get(path) if path.starts_with("index/")) {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        true
    }));
    engine.prepare(Direction::Download);
    let standing = engine.view.lock().unwrap().index.segments().count();
    (reads.load(Ordering::SeqCst), standing)
}

/// Every record, with the commit that wrote it.
fn records(place: &Place) -> Vec<CondemnedRecord> {
    let mut index = index::Index::default();
    index.read_all_commits(&place.store(), &Cache::none()).unwrap();
    let mut all = Vec::new();
    for standing in index.segments() {
        let segment = standing.whole(&place.store(), &Cache::none()).unwrap();
        for record in segment.records().unwrap() {
            let record = record.unwrap();
            let repository = segment.repositories()[record.repository as usize].clone();
            all.push(CondemnedRecord { oid: record.oid, commit: record.commit, repository });
        }
    }
    all.sort_by_key(|record| (record.oid, record.commit));
    all.dedup();
    all
}

#[test]
fn many_commits_leave_few_segments_to_read() {
    let place = Place::new();
    let objects = pushed(&place, &place.engine(), 0..100);
    let (read, standing) = read_and_standing(&place);
    // what was asked for before a newer one said that it is replaced
    let ahead = limit::COPIES_IN_FLIGHT;
    assert!(standing <= limit::SEGMENTS_STANDING && read < standing + ahead, "{read} read, {standing} stand");
    assert_eq!(
        place.files("index").iter().filter(|f| !f.ends_with("manifest")).count(),
        100,
        "nothing is deleted"
    );
    let records = records(&place);
    assert_eq!(records.len(), 100);
    let mut commits: Vec<CommitId> = records.iter().map(|record| record.commit).collect();
    commits.sort();
    commits.dedup();
    assert_eq!(commits.len(), 100, "each record says who wrote it");
    objects.iter().for_each(|object| object.assert_pulls(&place));
}

#[test]
fn pushers_that_merge_the_same_segments_lose_nothing() {
    let place = Place::new();
    let (mine, other) = (place.engine(), place.engine_of(place.store(), "other"));
    let mut objects = pushed(&place, &mine, 0..20);
    other.prepare(Direction::Upload);
    objects.extend(pushed(&place, &mine, 20..40));
    // it has seen twenty of these
    objects.extend(pushed(&place, &other, 40..80));
    assert_eq!(records(&place).len(), 80);
    objects.iter().for_each(|object| object.assert_pulls(&place));
    let after = place.object(&noise(5000, 3000));
    let next = place.engine();
    next.prepare(Direction::Upload);
    after.push(&next).unwrap();
    assert!(read_and_standing(&place).1 <= limit::SEGMENTS_STANDING);
    assert_eq!(records(&place).len(), 81);
}

#[test]
fn a_damaged_segment_is_left_as_it_is() {
    let place = Place::new();
    let objects = pushed(&place, &place.engine(), 0..10);
    let damaged = place.files("index").remove(3);
    let mut bytes = std::fs::read(&damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&damaged, &bytes).unwrap();
    let more = pushed(&place, &place.engine(), 10..60);
    assert_eq!(std::fs::read(&damaged).unwrap(), bytes);
    let lost = objects.iter().filter(|object| object.pull(&place.engine()).is_err()).count();
    assert_eq!(lost, 1, "what the damaged one held");
    more.iter().for_each(|object| object.assert_pulls(&place));
    assert!(read_and_standing(&place).1 <= limit::SEGMENTS_STANDING + 1);
}

#[test]
fn a_merge_that_is_not_stored_changes_nothing() {
    let place = Place::new();
    let objects = pushed(&place, &place.engine(), 0..limit::SEGMENTS_STANDING as u64);
    let fails = Arc::new(AtomicUsize::new(1));
    let left = fails.clone();
    let engine = place.watched(Arc::new(move |when, call| {
        let is_segment = matches!(call, Call::Put(path) if path.starts_with("index/"));
        !(when == When::Before && is_segment && left.swap(0, Ordering::SeqCst) == 1)
    }));
    let next = place.object(&noise(6000, 3000));
    assert!(next.push(&engine).is_err());
    assert_eq!(read_and_standing(&place).1, limit::SEGMENTS_STANDING);
    next.push(&engine).unwrap();
    assert!(read_and_standing(&place).1 < limit::SEGMENTS_STANDING);
    objects.iter().chain([&next]).for_each(|object| object.assert_pulls(&place));
}
