//! Batches: objects that are pushed at the same time. They take few commits, their chunks are stored once,
//! and each has its own answer.

use super::*;
use crate::config;

/// Pushes all objects through one engine, which begins when all wait. Returns their results in order.
pub(super) fn push_all(engine: &Engine, objects: &[Object]) -> Vec<Result<()>> {
    engine.set_askers(objects.len());
    std::thread::scope(|scope| {
        let held = engine.uploader.state();
        let threads: Vec<_> = objects.iter().map(|object| scope.spawn(|| object.push(engine))).collect();
        while engine.uploader.batch.waiting() < objects.len() {
            std::thread::yield_now();
        }
        drop(held);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn objects(place: &Place, seeds: std::ops::Range<u64>, bytes: usize) -> Vec<Object> {
    seeds.map(|seed| place.object(&noise(seed, bytes))).collect()
}

#[test]
fn objects_that_are_pushed_at_once_share_blocks_and_commits() {
    let place = Place::new();
    let small = objects(&place, 0..60, 10_000);
    push_all(&place.engine(), &small).into_iter().for_each(|pushed| pushed.unwrap());
    let commits = place.files("index").iter().filter(|f| !f.ends_with("manifest")).count();
    assert!(commits <= 5, "{commits} commits for 60 objects at once");
    assert_eq!(place.files("blocks").len(), commits);
    small.iter().for_each(|object| object.assert_pulls(&place));
    // pushed again, they are present and need no commit
    push_all(&place.engine(), &small).into_iter().for_each(|pushed| pushed.unwrap());
    assert_eq!(place.files("index").iter().filter(|f| !f.ends_with("manifest")).count(), commits);
}

#[test]
fn what_objects_pushed_at_once_have_in_common_is_stored_once() {
    let place = Place::new();
    let common = noise(70, 2_000_000);
    let object = |seed| place.object(&[noise(seed, 50_000), common.clone()].concat());
    let versions: Vec<Object> = (71..77).map(object).collect();
    push_all(&place.engine(), &versions).into_iter().for_each(|pushed| pushed.unwrap());
    let stored: u64 = place.files("blocks").iter().map(|f| f.metadata().unwrap().len()).sum();
    assert!(stored < 2_900_000, "{stored} bytes");
    versions.iter().for_each(|object| object.assert_pulls(&place));
}

#[test]
fn a_damaged_object_fails_alone() {
    let place = Place::new();
    let all = objects(&place, 80..90, 300_000);
    // its beginning is right, and other objects may refer to that
    std::fs::write(&all[3].path, [noise(83, 200_000), noise(99, 100_000)].concat()).unwrap();
    std::fs::remove_file(&all[5].path).unwrap();
    let pushed = push_all(&place.engine(), &all);
    for (number, (object, pushed)) in all.iter().zip(pushed).enumerate() {
        match (number, pushed) {
            (3, Err(e)) => assert_eq!(e.kind(), Kind::Corrupt, "{e}"),
            (5, Err(e)) => assert_eq!(e.kind(), Kind::NotFound, "{e}"),
            (_, pushed) => {
                pushed.unwrap();
                object.assert_pulls(&place);
            }
        }
    }
    std::fs::write(&all[3].path, &all[3].content).unwrap();
    all[3].push(&place.engine()).unwrap();
    all[3].assert_pulls(&place);
}

#[test]
fn an_object_that_nobody_wants_any_more_holds_up_no_others() {
    let place = Place::new();
    let all = objects(&place, 100..104, 3_000_000);
    let engine = place.engine();
    let given_up: Arc<Progress> = Arc::default();
    given_up.cancel();
    engine.set_askers(5);
    std::thread::scope(|scope| {
        let unwanted = place.object(&noise(104, 3_000_000));
        let (engine, given_up) = (&engine, &given_up);
        scope.spawn(move || {
            let pushed = engine.upload(&unwanted.oid, 3_000_000, &unwanted.path, given_up);
            assert_eq!(pushed.unwrap_err().kind(), Kind::Busy);
        });
        for object in &all {
            scope.spawn(|| object.push(engine).unwrap());
        }
    });
    all.iter().for_each(|object| object.assert_pulls(&place));
}

/// Every call of a push of several objects fails once. Acknowledged objects are there, and all can be
/// pushed again.
#[test]
fn a_store_that_fails_during_a_group_loses_nothing_acknowledged() {
    let mut failures = 0;
    for fail_at in 0..40 {
        let place = Place::new();
        let all = objects(&place, 110..116, 60_000);
        all[0].push(&place.engine_of(place.store(), "theirs")).unwrap();
        all[1].push(&place.engine()).unwrap();
        let calls = AtomicUsize::new(0);
        let when = if fail_at % 2 == 0 { When::Before } else { When::After };
        let engine = place.watched(Arc::new(move |now, _| {
            now != when || calls.fetch_add(1, Ordering::SeqCst) != fail_at / 2
        }));
        let pushed = push_all(&engine, &all);
        for (object, pushed) in all.iter().zip(&pushed) {
            if pushed.is_ok() {
                object.assert_pulls(&place);
            }
        }
        // the fault is over, or never came
        let engine = if pushed.iter().any(Result::is_err) { engine } else { place.engine() };
        push_all(&engine, &all).into_iter().for_each(|pushed| pushed.unwrap());
        all.iter().for_each(|object| object.assert_pulls(&place));
        failures += usize::from(pushed.iter().any(Result::is_err));
    }
    assert!(failures >= 12, "only {failures} failures were noticed");
}

/// Fails unless a call `first` of a push, the `number`th of its kind, is under way when `second` begins.
#[track_caller]
fn assert_together(first: fn(&Call) -> bool, number: usize, second: fn(&Call) -> bool) {
    // like a bucket, with an object that is too large to stand in a segment
    let place = Place::which(true);
    let (begun, begins) = crossbeam_channel::unbounded();
    let seen = AtomicUsize::new(0);
    let engine = place.watched(Arc::new(move |when, call| {
        if when == When::After {
            return true;
        }
        if second(call) {
            begun.send(()).unwrap();
        }
        let waits = first(call) && seen.fetch_add(1, Ordering::SeqCst) + 1 == number;
        // if `second` waits for `first`, this ends as a fault of the store
        !waits || begins.recv_timeout(Duration::from_secs(20)).is_ok()
    }));
    place.object(&noise(120, 100_000)).push(&engine).unwrap();
}

#[test]
fn what_a_commit_need_not_do_in_order_it_does_at_the_same_time() {
    let block = |call: &Call| matches!(call, Call::Put(path) if path.starts_with("blocks/"));
    let shard = |call: &Call| matches!(call, Call::Put(path) if path.starts_with("shards/"));
    assert_together(block, 1, shard);
    // the first LIST is before the lookup, the second is the check
    let list = |call: &Call| *call == Call::List("condemned".into());
    let look = |call: &Call| matches!(call, Call::Get(path) if path.starts_with("blocks/"));
    assert_together(list, 2, look);
}

#[test]
fn the_memory_bounds_the_blocks_on_their_way() {
    let settings = Place::new().parts().settings;
    for (memory_bytes, blocks, block_bytes) in [
        (config::MEMORY_AT_LEAST_BYTES, 1, config::MEMORY_AT_LEAST_BYTES / 3),
        (192 << 20, 1, 64 << 20),
        (config::MEMORY_BYTES, 6, 64 << 20),
        (1 << 30, 14, 64 << 20),
    ] {
        let settings = Settings { memory_bytes, ..settings.clone() };
        assert_eq!((settings.blocks_in_flight(), settings.block_bytes() as u64), (blocks, block_bytes));
    }
}
