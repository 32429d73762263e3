//! Commits that merge small segments. They lose nothing, and readers have few segments to read.

use super::*;
use crate::index::merge_policy::SEGMENTS_STANDING;

/// Pushes `count` objects, each by a commit of its own.
fn pushed(place: &Place, engine: &Engine, seeds: std::ops::Range<u64>) -> Vec<Object> {
    let objects: Vec<Object> = seeds.map(|seed| place.object(&noise(1000 + seed, 3000))).collect();
    objects.iter().for_each(|object| object.push(engine).unwrap());
    objects
}

/// Returns how many segments a reader without copies reads, and how many stand then.
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
    let standing = engine.downloader.snapshot().index.segments().count();
    (reads.load(Ordering::SeqCst), standing)
}

/// Returns every record, with the commit that wrote it.
fn records(place: &Place) -> Vec<CondemnedRecord> {
    let store = place.store();
    let index = all_commits(&store);
    let cache = Cache::none();
    let stored = CachedStore { store: &store, cache: &cache };
    let mut all = Vec::new();
    for standing in index.segments() {
        let segment = standing.whole(stored).unwrap();
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
    assert!(standing <= SEGMENTS_STANDING && read == standing, "{read} read, {standing} stand");
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

/// Moves the time of the new commit's segment, as if a push with a wrong clock had made it.
fn move_clock(place: &Place, before: &[SegmentId], by_milliseconds: i64) {
    for SegmentId { id, hash } in place.segments().into_iter().filter(|id| !before.contains(id)) {
        // a merged segment takes its time from the segments that it replaces
        if id.weight() == 1 {
            let milliseconds = id.milliseconds().saturating_add_signed(by_milliseconds);
            let moved = SegmentId { id: CommitId::new(milliseconds).unwrap(), hash };
            let folder = place.folder.path().join("store/index");
            let name = |id: SegmentId| folder.join(id.to_string());
            std::fs::rename(name(SegmentId { id, hash }), name(moved)).unwrap();
        }
    }
}

/// Makes commits one after the other, by pushes with these clocks. The objects have different sizes, from
/// 20 bytes to 95 KB.
fn pushed_by_clocks(place: &Place, commits: usize, years: &[i64]) {
    let year_milliseconds = 365 * 24 * 60 * 60 * 1000;
    for number in 0..commits {
        let before = place.segments();
        let bytes = [20, 90_000, 3000, 95_000, 60_000][number % 5];
        place.object(&noise(30_000 + number as u64, bytes)).push(&place.engine()).unwrap();
        move_clock(place, &before, years[number % years.len()] * year_milliseconds);
    }
}

#[test]
fn no_replaced_segment_is_read_whatever_the_order_of_commits() {
    for (carries, commits, years) in
        [(true, 210, &[0][..]), (true, 80, &[0, 12, -20]), (false, 80, &[-30, 5])]
    {
        let place = Place::which(carries);
        pushed_by_clocks(&place, commits, years);
        assert_eq!(place.segments().len(), commits, "nothing is deleted");
        let (read, standing) = read_and_standing(&place);
        assert!(standing <= SEGMENTS_STANDING && read == standing, "{read} read, {standing} stand");
    }
}

#[test]
fn no_replaced_segment_is_read_that_several_pushers_have_merged_at_once() {
    let place = Place::which(true);
    const PUSHERS: u64 = 4;
    let objects: Vec<Vec<Object>> = (0..PUSHERS)
        .map(|pusher| (0..40).map(|n| place.object(&noise(40_000 + 100 * pusher + n, 20_000))).collect())
        .collect();
    std::thread::scope(|scope| {
        for mine in &objects {
            scope.spawn(|| mine.iter().for_each(|object| object.push(&place.engine()).unwrap()));
        }
    });
    let (read, standing) = read_and_standing(&place);
    assert!(standing < SEGMENTS_STANDING + PUSHERS as usize, "{standing} stand");
    // A LIST may miss a segment that is put meanwhile. A merge doesn't name such a segment, but may name
    // the segment that has merged it.
    assert!(read <= standing + PUSHERS as usize, "{read} read, {standing} stand");
    assert_eq!(records(&place).len(), 160);
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
    assert!(read_and_standing(&place).1 <= SEGMENTS_STANDING);
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
    assert!(read_and_standing(&place).1 <= SEGMENTS_STANDING + 1);
}

#[test]
fn a_merge_that_is_not_stored_changes_nothing() {
    let place = Place::new();
    let objects = pushed(&place, &place.engine(), 0..SEGMENTS_STANDING as u64);
    let fails = Arc::new(AtomicUsize::new(1));
    let left = fails.clone();
    let engine = place.watched(Arc::new(move |when, call| {
        let is_segment = matches!(call, Call::Put(path) if path.starts_with("index/"));
        !(when == When::Before && is_segment && left.swap(0, Ordering::SeqCst) == 1)
    }));
    let next = place.object(&noise(6000, 3000));
    assert!(next.push(&engine).is_err());
    assert_eq!(read_and_standing(&place).1, SEGMENTS_STANDING);
    next.push(&engine).unwrap();
    assert!(read_and_standing(&place).1 < SEGMENTS_STANDING);
    objects.iter().chain([&next]).for_each(|object| object.assert_pulls(&place));
}
