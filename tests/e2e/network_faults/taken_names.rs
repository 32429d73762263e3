//! Taken names: a service says that a name is taken, where every name is new. Either an earlier try of the
//! same push has stored the file, or the answer is wrong. The agent checks both.

use super::scene::{Place, Scene, side_by_side};
use crate::proxy::{Answer, Fault, Thing};

const PUTS: [Place; 3] = [("PUT", Thing::Block), ("PUT", Thing::Shard), ("PUT", Thing::Segment)];
const SIZE: usize = 300_000;

fn survives(fault: Fault, tries: usize) {
    let scene = Scene::new();
    for (number, place) in PUTS.into_iter().enumerate() {
        let what = format!("{fault:?} in {place:?}");
        scene.add(&format!("{number}.bin"), SIZE);
        scene.proxy.take_record();
        let hits = scene.proxy.on(place.0, place.1, 1, fault.clone());
        scene.push_survives(&what, &hits);
        let puts: Vec<_> = scene.proxy.record().into_iter().filter(|e| e.is(place.0, place.1)).collect();
        assert_eq!(puts.len(), tries, "{what}: {puts:?}");
        assert!(puts.iter().all(|put| put.request.only_new), "{what}: no condition: {puts:?}");
    }
    scene.everything_is_there();
}

/// The service stores the file, and says that it was there before. The agent finds it, and doesn't write it
/// again.
#[test]
#[ignore = "needs an S3 server"]
fn stored_and_precondition_failed() {
    survives(Fault::Replace(Answer::precondition_failed()), 1);
}

#[test]
#[ignore = "needs an S3 server"]
fn stored_and_conflict() {
    survives(Fault::Replace(Answer::conflict()), 1);
}

/// The service says so once, and the file is missing: the agent writes it again.
#[test]
#[ignore = "needs an S3 server"]
fn precondition_failed_for_nothing() {
    survives(Fault::Refuse(Answer::precondition_failed()), 2);
}

#[test]
#[ignore = "needs an S3 server"]
fn conflict_for_nothing() {
    survives(Fault::Refuse(Answer::conflict()), 2);
}

/// The service says so again and again, and the file is missing: the push is never acknowledged.
#[test]
#[ignore = "needs an S3 server"]
fn taken_for_ever_and_nothing_there() {
    let answers = [Answer::precondition_failed(), Answer::conflict()];
    let cases: Vec<_> = answers.iter().flat_map(|answer| PUTS.map(|place| (answer, place))).collect();
    side_by_side(&cases, |(answer, place)| {
        let scene = Scene::new();
        let what = format!("{} in {place:?}", answer.status);
        scene.add("a.bin", SIZE);
        let oid = scene.work.oid("a.bin");
        let hits = scene.proxy.on(place.0, place.1, usize::MAX, Fault::Refuse((*answer).clone()));
        scene.push_fails_and_is_completed(&what, &hits, &["taken", "tried", "s3://lfs/", &oid]);
        scene.everything_is_there();
    });
}

/// Some services answer "denied" to a key that must not overwrite. After a lost answer, the push itself has
/// written the file.
#[test]
#[ignore = "needs an S3 server"]
fn lost_answer_and_then_denied() {
    let scene = Scene::new();
    for (number, place) in PUTS.into_iter().enumerate() {
        let what = format!("{place:?}");
        scene.add(&format!("{number}.bin"), SIZE);
        let hits = scene.proxy.on(place.0, place.1, 1, Fault::LoseAnswer);
        let denied = scene.proxy.whenever(
            |request| request.verb == "PUT" && request.stored_before,
            Fault::Refuse(Answer::access_denied()),
        );
        scene.push_survives(&what, &hits);
        assert_eq!(denied.count(), 1, "{what}");
    }
    scene.everything_is_there();
}

/// The same for `init`. Its one file names the store for all time.
#[test]
#[ignore = "needs an S3 server"]
fn init_finds_its_own_store() {
    let faults = [
        Fault::LoseAnswer,
        Fault::Replace(Answer::precondition_failed()),
        Fault::Replace(Answer::internal_error()),
        Fault::Refuse(Answer::precondition_failed()),
        Fault::Refuse(Answer::slow_down()),
    ];
    side_by_side(&faults, |fault| {
        let scene = Scene::before_init();
        let what = format!("{fault:?}");
        let hits = scene.proxy.on("PUT", Thing::StoreJson, 1, fault.clone());
        scene.work.init(&scene.url);
        assert_eq!(hits.count(), 1, "{what}");
        scene.proxy.take_record();
        scene.work.commit("set up");
        scene.add("a.bin", SIZE);
        scene.push();
        scene.everything_is_there();
    });
}
