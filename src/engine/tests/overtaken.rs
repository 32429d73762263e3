//! Compactions that another compaction overtakes by deleting their files. They end well, or report that
//! nothing is lost.

use std::collections::BTreeMap;

use super::compaction::{compact, copy_of, pushed};
use super::*;

/// A push and a second compaction run in any moment of the first compaction. They also delete files that
/// the first one has just written.
#[test]
fn a_compaction_whose_own_segment_is_merged_and_deleted_ends_well() {
    let original = Place::new();
    let objects = pushed(&original, &original.engine(), 0..3);
    for at in 0.. {
        let place = Arc::new(copy_of(&original));
        let (there, calls, ran) = (place.clone(), AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let told = ran.clone();
        let store = place.store().watched(Arc::new(move |when, _| {
            if when == When::Before && calls.fetch_add(1, Ordering::SeqCst) == at {
                told.store(1, Ordering::SeqCst);
                aside(|| {
                    there.object(&noise(20_900, 3000)).push(&there.engine()).unwrap();
                    drop(compact(&there.store()).unwrap());
                });
            }
            true
        }));
        let done = compact(&store).unwrap();
        assert!(done.findings.is_empty(), "at call {at}: {done:?}");
        objects.iter().for_each(|object| object.assert_pulls(&place));
        if ran.load(Ordering::SeqCst) == 0 {
            assert!(at > 20, "only {at} calls");
            break;
        }
    }
}

/// Another process compacts each time that this one reads back its segment. This one reports that, and that
/// nothing is lost.
#[test]
fn a_compaction_that_is_always_overtaken_says_so() {
    let place = Arc::new(Place::new());
    let objects = pushed(&place, &place.engine(), 0..3);
    let (there, gets) = (place.clone(), Mutex::new(BTreeMap::<String, u64>::new()));
    let store = place.store().watched(Arc::new(move |when, call| {
        let Call::Get(path) = call else { return true };
        if when == When::Before && path.starts_with("index/") {
            let mut gets = gets.lock().unwrap();
            let all: u64 = gets.values().sum();
            let count = gets.entry(path.clone()).or_default();
            *count += 1;
            if *count == 2 {
                aside(|| {
                    there.object(&noise(20_910 + all, 3000)).push(&there.engine()).unwrap();
                    drop(compact(&there.store()).unwrap());
                    pushed(&there, &there.engine(), 900 + 2 * all..902 + 2 * all);
                });
            }
        }
        true
    }));
    let error = compact(&store).unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    assert!(error.to_string().contains("another compaction"), "{error}");
    assert!(compact(&place.store()).unwrap().findings.is_empty());
    objects.iter().for_each(|object| object.assert_pulls(&place));
}
