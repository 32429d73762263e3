//! Compaction by `git lfs-cdc compact`: every record and every recipe stays, despite faults and concurrent
//! work.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::format::shard::{Recipes, Shard};
use crate::id::ShardId;
use crate::index::merge_policy::SEGMENTS_STANDING;
use crate::maintain::compact::{Compaction, compact_with};

pub(super) fn compact(store: &Store) -> Result<Compaction> {
    compact_with(CachedStore { store, cache: &Cache::none() }, &|_| ())
}

/// The index's knowledge of every object: its commits, their repositories, and the places of its content.
type Records = BTreeMap<Oid, BTreeSet<(CommitId, String, Vec<(BlockId, u64)>)>>;

fn index(place: &Place) -> Index {
    index_of(&place.store())
}

fn index_of(store: &Store) -> Index {
    all_commits(store)
}

fn records(place: &Place) -> Records {
    let index = index(place);
    let mut oids = BTreeSet::new();
    let store = place.store();
    let cache = Cache::none();
    let stored = CachedStore { store: &store, cache: &cache };
    for standing in index.segments() {
        let segment = standing.whole(stored).unwrap();
        oids.extend(segment.records().unwrap().map(|record| record.unwrap().oid));
    }
    let named = |found: crate::index::Found| {
        let term = |t: &crate::format::recipe::Term| (found.blocks[t.block as usize].summary.id, t.checksum);
        (found.record.commit, found.repository.clone(), found.record.terms.iter().map(term).collect())
    };
    let found = |oid: &Oid| index.find(stored, oid).found.into_iter().map(named).collect();
    oids.into_iter().map(|oid| (oid, found(&oid))).collect()
}

fn shards(place: &Place) -> Vec<ShardId> {
    index(place)
        .shards(CachedStore { store: &place.store(), cache: &Cache::none() })
        .unwrap()
        .into_keys()
        .collect()
}

/// Checks that blocks and shards together give back the index. Each object has a recipe in a readable shard
/// that counts. Such shards list all chunks of the blocks that the recipe names.
fn assert_can_be_rebuilt(place: &Place, objects: &[Object]) {
    let store = place.store();
    let index = index_of(&store);
    let mut recipes = Vec::new();
    let mut blocks = BTreeSet::new();
    for shard in index.shards(CachedStore { store: &store, cache: &Cache::none() }).unwrap().into_values() {
        let read = index.inline().get_shard(&store, &shard.id, shard.size_bytes);
        // a push that had read the index before may name a shard that is gone
        let Ok(bytes) = read.wait() else { continue };
        blocks.extend(Shard::parse(&bytes).unwrap().blocks.into_iter().map(|(summary, _)| summary.id));
        let here = Recipes::parse(&bytes).unwrap();
        let named = here.blocks.clone();
        recipes.extend(here.recipes.into_iter().map(|recipe| {
            let blocks = recipe.terms.iter().map(|term| named[term.block as usize]).collect::<Vec<_>>();
            (recipe.oid, blocks)
        }));
    }
    for object in objects {
        let has = |(oid, named): &&(Oid, Vec<BlockId>)| {
            *oid == object.oid && named.iter().all(|b| blocks.contains(b))
        };
        assert!(recipes.iter().any(|r| has(&r)), "object {} could not be rebuilt", object.oid);
    }
}

pub(super) fn pushed(place: &Place, engine: &Engine, seeds: std::ops::Range<u64>) -> Vec<Object> {
    let objects: Vec<Object> = seeds.map(|seed| place.object(&noise(20_000 + seed, 3000))).collect();
    objects.iter().for_each(|object| object.push(engine).unwrap());
    objects
}

/// Returns a store in the same state as another one.
pub(super) fn copy_of(place: &Place) -> Place {
    let copy = Place { folder: tempfile::tempdir().unwrap(), carries: place.carries };
    let (from, to) = (place.folder.path().join("store"), copy.folder.path().join("store"));
    let mut folders = vec![from.clone()];
    while let Some(folder) = folders.pop() {
        let same = |path: &Path| to.join(path.strip_prefix(&from).unwrap());
        std::fs::create_dir(same(&folder)).unwrap();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => drop(std::fs::copy(&path, same(&path)).unwrap()),
            }
        }
    }
    copy
}

fn segments(place: &Place) -> Vec<PathBuf> {
    place.files("index").into_iter().filter(|file| !file.ends_with("manifest")).collect()
}

#[test]
fn what_was_many_becomes_one_and_nothing_else_changes() {
    let place = Place::new();
    let objects = pushed(&place, &place.engine(), 0..50);
    let before = records(&place);
    let done = compact(&place.store()).unwrap();
    assert_eq!((done.segments_after, done.shards_after, done.findings.len()), (1, 1, 0), "{done:?}");
    assert!(done.segments_before > 1 && done.deleted_segments >= 50, "{done:?}");
    assert_eq!((done.shards_before, done.deleted_shards, done.may_delete), (50, 50, Some(true)));
    assert_eq!((segments(&place).len(), place.files("shards").len()), (1, 1));
    assert_eq!(records(&place), before);
    assert_can_be_rebuilt(&place, &objects);
    objects.iter().for_each(|object| object.assert_pulls(&place));
    // the chunks are still known
    let blocks = place.files("blocks").len();
    let content: Vec<u8> = objects.iter().flat_map(|object| object.content.clone()).collect();
    let all = place.object(&content);
    all.push(&place.engine()).unwrap();
    let added = &place.files("blocks")[..];
    let bytes: u64 = added.iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(added.len() <= blocks + 1 && bytes < 2 * 50 * 3000 + 50_000, "{bytes}");

    let done = compact(&place.store()).unwrap();
    assert_eq!((done.segments_before, done.segments_after, done.deleted_segments), (2, 1, 2));
    let files = (segments(&place), place.files("shards"));
    let done = compact(&place.store()).unwrap();
    assert_eq!((done.replaced, done.may_delete), (0, None), "{done:?}");
    assert_eq!((segments(&place), place.files("shards")), files, "nothing was left to do");
    objects.iter().chain([&all]).for_each(|object| object.assert_pulls(&place));
}

/// A push that has read the shards merges them too, when it merges segments.
#[test]
fn many_small_pushes_leave_few_shards_to_read() {
    for carries in [false, true] {
        let place = Place::which(carries);
        let cache = || Cache::at(Some(place.folder.path().join("cache")));
        // each push like a command of its own, which reads the store
        let push = |seed: u64| {
            pushed(&place, &EngineParts { cache: cache(), ..place.parts() }.build(), seed..seed + 1)
        };
        let objects: Vec<Object> = (0..100).flat_map(push).collect();
        let shards = shards(&place).len();
        assert!(shards <= SEGMENTS_STANDING, "{shards} shards");
        assert_can_be_rebuilt(&place, &objects);
        let (blocks, stored) =
            (place.files("blocks").len(), index(&place).segments().map(|s| s.size_bytes).sum::<u64>());
        let content: Vec<u8> = objects.iter().flat_map(|object| object.content.clone()).collect();
        place.object(&content).push(&place.engine()).unwrap();
        let added = index(&place).segments().map(|s| s.size_bytes).sum::<u64>().saturating_sub(stored);
        assert!(place.files("blocks").len() <= blocks + 25 && added < 60_000, "what they hold is known");
        objects.iter().for_each(|object| object.assert_pulls(&place));
    }
}

/// Names of deleted segments are not kept for ever.
#[test]
fn a_merged_segment_names_only_what_still_stands() {
    for carries in [false, true] {
        let place = Place::which(carries);
        for round in 0..3 {
            pushed(&place, &place.engine(), 10 * round..10 * round + 10);
            compact(&place.store()).unwrap();
            let index = index(&place);
            let named = index.segments().next().unwrap().head.replaces().len();
            assert!(named <= 11, "{named} are named");
        }
        // nor by pushes
        let objects = pushed(&place, &place.engine(), 100..180);
        let index = index(&place);
        let named: usize = index.segments().map(|segment| segment.head.replaces().len()).sum();
        assert!(named <= 90, "{named} are named");
        objects.iter().for_each(|object| object.assert_pulls(&place));
    }
}

/// Every call of a compaction fails once, before it was done and after. To the store, a kill looks the
/// same.
#[test]
fn a_compaction_that_fails_at_any_call_loses_nothing_and_the_next_one_ends_it() {
    for carries in [false, true] {
        let original = Place::which(carries);
        let objects = pushed(&original, &original.engine(), 0..if carries { 2 } else { 4 });
        let before = records(&original);
        let mut failures = 0;
        for when in [When::Before, When::After] {
            for fail_at in 0.. {
                let place = copy_of(&original);
                let calls = AtomicUsize::new(0);
                let failed = Arc::new(AtomicUsize::new(0));
                let told = failed.clone();
                let store = place.store().watched(Arc::new(move |now, _| {
                    let fails = now == when && calls.fetch_add(1, Ordering::SeqCst) == fail_at;
                    told.fetch_add(usize::from(fails), Ordering::SeqCst);
                    !fails
                }));
                let done = compact(&store);
                assert_eq!(records(&place), before, "{when:?} call {fail_at}");
                assert_can_be_rebuilt(&place, &objects);
                objects[fail_at % objects.len()].assert_pulls(&place);
                compact(&place.store()).unwrap();
                assert_eq!((segments(&place).len(), shards(&place).len()), (1, 1), "{when:?} call {fail_at}");
                assert_eq!(records(&place), before);
                assert_can_be_rebuilt(&place, &objects);
                if failed.load(Ordering::SeqCst) == 0 {
                    break;
                }
                assert!(done.is_err(), "{when:?} call {fail_at} failed and the compaction did not");
                failures += 1;
            }
        }
        assert!(failures > 30, "only {failures} calls were failed");
    }
}

/// A whole compaction happens in one moment of a reader or a push, in each moment once.
#[test]
fn what_is_compacted_in_any_moment_of_a_pull_or_push_is_read_all_the_same() {
    for carries in [false, true] {
        let original = Place::which(carries);
        let objects = pushed(&original, &original.engine(), 0..6);
        let mut moments = 0;
        for direction in [Direction::Download, Direction::Upload] {
            for at in 0.. {
                let place = Arc::new(copy_of(&original));
                let (there, calls) = (place.clone(), AtomicUsize::new(0));
                let engine = place.watched(Arc::new(move |when, _| {
                    if when == When::Before && calls.fetch_add(1, Ordering::SeqCst) == at {
                        aside(|| drop(compact(&there.store()).unwrap()));
                    }
                    true
                }));
                let new = place.object(&[noise(20_001, 3000), noise(7000 + at as u64, 100)].concat());
                match direction {
                    Direction::Download => assert!(objects[3].pull(&engine).unwrap() == objects[3].content),
                    Direction::Upload => {
                        new.push(&engine).unwrap();
                        new.assert_pulls(&place);
                        objects[2].push(&engine).unwrap();
                    }
                }
                objects[at % objects.len()].assert_pulls(&place);
                assert_can_be_rebuilt(&place, &objects);
                if segments(&place).len() >= 6 {
                    break;
                }
                moments += 1;
            }
        }
        assert!(moments > 15, "only {moments} moments");
    }
}

/// Two compactions at the same time: the second runs in any moment of the first.
#[test]
fn two_compactions_at_once_lose_nothing() {
    for carries in [false, true] {
        let original = Place::which(carries);
        let objects = pushed(&original, &original.engine(), 0..4);
        let before = records(&original);
        for at in 0.. {
            let place = Arc::new(copy_of(&original));
            let (there, calls, ran) = (place.clone(), AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
            let told = ran.clone();
            let store = place.store().watched(Arc::new(move |when, _| {
                if when == When::Before && calls.fetch_add(1, Ordering::SeqCst) == at {
                    told.store(1, Ordering::SeqCst);
                    aside(|| drop(compact(&there.store()).unwrap()));
                }
                true
            }));
            compact(&store).unwrap();
            assert_eq!(records(&place), before, "at call {at}");
            assert_can_be_rebuilt(&place, &objects);
            let done = compact(&place.store()).unwrap();
            assert_eq!((segments(&place).len(), done.findings.len()), (1, 0));
            assert_eq!(records(&place), before);
            assert_can_be_rebuilt(&place, &objects);
            if ran.load(Ordering::SeqCst) == 0 {
                assert!(at > 20, "only {at} calls");
                break;
            }
        }
    }
}

/// Two pushers keep the state that they have read. Compactions end at a random call, or work in the middle
/// of a push.
#[test]
fn any_order_of_pushes_merges_and_compactions_keeps_every_record() {
    for carries in [false, true] {
        for seed in 0..4u64 {
            let place = Arc::new(Place::which(carries));
            let random = Arc::new(Mutex::new(noise(seed, 4000).into_iter()));
            let next = move || usize::from(random.lock().unwrap().next().unwrap());
            let (there, due) = (place.clone(), Arc::new(AtomicUsize::new(usize::MAX)));
            let countdown = due.clone();
            let watch: Watch = Arc::new(move |when, _| {
                if when == When::Before && countdown.fetch_sub(1, Ordering::SeqCst) == 0 {
                    countdown.store(usize::MAX, Ordering::SeqCst);
                    aside(|| drop(compact(&there.store()).unwrap()));
                }
                true
            });
            let engines =
                ["one", "two"].map(|name| place.engine_of(place.store().watched(watch.clone()), name));
            let mut objects: Vec<Object> = Vec::new();
            for step in 0..70 {
                let before = records(&place);
                match next() % 8 {
                    0 => {
                        let (stop_at, calls) = (next() % 40, AtomicUsize::new(0));
                        let stopped: Watch =
                            Arc::new(move |_, _| calls.fetch_add(1, Ordering::SeqCst) < stop_at);
                        let _ = compact(&place.store().watched(stopped));
                        assert_eq!(records(&place), before, "seed {seed}, step {step}");
                    }
                    1 => due.store(next() % 12, Ordering::SeqCst),
                    // another's object, an object that was pushed before, or a new one
                    choice => {
                        let again = choice == 2 && !objects.is_empty();
                        let object = match again {
                            true => &objects[next() % objects.len()],
                            false => {
                                objects.push(place.object(&noise(seed * 1000 + step, 2000 + next())));
                                objects.last().unwrap()
                            }
                        };
                        object.push(&engines[next() % 2]).unwrap();
                        let now = records(&place);
                        for (oid, records) in before {
                            assert!(now[&oid].is_superset(&records), "seed {seed}, step {step}: {oid}");
                        }
                    }
                }
                assert!(index(&place).segments().count() <= 32);
            }
            assert_can_be_rebuilt(&place, &objects);
            let before = records(&place);
            compact(&place.store()).unwrap();
            assert_eq!(records(&place), before);
            assert_eq!((segments(&place).len(), index(&place).segments().count()), (1, 1), "seed {seed}");
            assert_can_be_rebuilt(&place, &objects);
            objects.iter().for_each(|object| object.assert_pulls(&place));
        }
    }
}

/// Damage to a merged segment is found before the replaced segments are deleted. Then these are read in its
/// place.
#[test]
fn nothing_is_deleted_when_what_replaces_it_is_not_what_was_written() {
    let place = Place::new();
    let objects = pushed(&place, &place.engine(), 0..10);
    let kept = place.store().watched(Arc::new(|_, call| !matches!(call, Call::Delete(_))));
    assert!(compact(&kept).is_err());
    let files = segments(&place);
    let merged = files.last().unwrap().clone();
    let reads = AtomicUsize::new(0);
    let (name, path) = (merged.file_name().unwrap().to_str().unwrap().to_owned(), merged.clone());
    // damaged when it is read back, after the index was read
    let store = place.store().watched(Arc::new(move |when, call| {
        let is_it = matches!(call, Call::Get(path) if path.ends_with(&name));
        if is_it && when == When::Before && reads.fetch_add(1, Ordering::SeqCst) == 1 {
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
        true
    }));
    let error = compact(&store).unwrap_err().to_string();
    assert!(error.contains("not what was written"), "{error}");
    assert_eq!(segments(&place), files, "something was deleted");
    std::fs::remove_file(merged).unwrap();
    objects.iter().for_each(|object| object.assert_pulls(&place));
}

/// A record that a merge has lost stands only in the replaced segment. That segment is kept until a
/// collector has condemned the record.
#[test]
fn a_replaced_segment_that_says_more_is_kept_and_reported() {
    let place = Place::new();
    pushed(&place, &place.engine(), 0..2);
    let lost = place.files("index").remove(1);
    let id = SegmentId::parse(lost.file_name().unwrap().to_str().unwrap()).unwrap();
    let (blocks, lost_records) = place.referenced(&format!("index/{id}"));
    let empty = crate::format::segment::Contents { replaces: vec![id], ..Default::default() }.write();
    let newer = CommitId::new(id.id.milliseconds() + 1000).unwrap();
    let hides = SegmentId { id: newer, hash: ContentHash::of(&empty) };
    place.put_segment(&hides, empty);
    let shards = place.files("shards");
    for _ in 0..2 {
        let done = compact(&place.store()).unwrap();
        assert_eq!(done.findings.len(), 1, "{done:?}");
        assert!(done.findings[0].contains(&lost_records[0].oid.to_string()), "{done:?}");
        assert!(lost.exists());
    }
    assert!(shards.iter().filter(|shard| shard.exists()).count() >= 1, "its shard too");
    place.condemn(&Condemned { blocks: Vec::new(), records: lost_records });
    let done = compact(&place.store()).unwrap();
    assert!(done.findings.is_empty() && !lost.exists(), "{done:?}");
    assert_eq!(blocks.len(), 1);
}
