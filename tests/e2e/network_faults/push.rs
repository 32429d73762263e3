//! Pushes: connections and services that fail for a moment, in every kind of request that a push makes.

use std::fs;

use super::scene::{Place, Scene, side_by_side};
use crate::data::insert_in_middle;
use crate::proxy::{Answer, Fault, Thing};

const PUTS: [Place; 3] = [("PUT", Thing::Block), ("PUT", Thing::Shard), ("PUT", Thing::Segment)];
const READS: [Place; 4] =
    [("GET", Thing::StoreJson), ("LIST", Thing::Segment), ("LIST", Thing::Condemned), ("HEAD", Thing::Block)];
const SIZE: usize = 300_000;

/// Pushes one file for each place, where the fault is met `times` times in a row.
fn survives(places: &[Place], times: usize, fault: Fault) {
    let scene = Scene::new();
    for (number, place) in places.iter().enumerate() {
        let what = format!("{fault:?} in {place:?}");
        scene.add(&format!("{number}.bin"), SIZE);
        let hits = scene.proxy.on(place.0, place.1, times, fault.clone());
        scene.push_survives(&what, &hits);
        assert_eq!(hits.count(), times, "{what}");
    }
    scene.everything_is_there();
}

fn everywhere() -> Vec<Place> {
    PUTS.into_iter().chain(READS).collect()
}

#[test]
#[ignore = "needs an S3 server"]
fn reset_before_the_request() {
    survives(&everywhere(), 2, Fault::ResetBefore);
}

#[test]
#[ignore = "needs an S3 server"]
fn reset_in_the_middle_of_a_put() {
    survives(&PUTS, 2, Fault::ResetInRequest);
}

/// The write has happened, but its answer is lost.
#[test]
#[ignore = "needs an S3 server"]
fn lost_answer() {
    survives(&everywhere(), 2, Fault::LoseAnswer);
}

#[test]
#[ignore = "needs an S3 server"]
fn reset_in_the_middle_of_an_answer() {
    survives(&READS[..3], 2, Fault::ResetInAnswer);
}

#[test]
#[ignore = "needs an S3 server"]
fn answer_cut_short() {
    survives(&READS[..3], 2, Fault::CloseInAnswer);
}

#[test]
#[ignore = "needs an S3 server"]
fn burst_of_internal_errors() {
    survives(&PUTS, 3, Fault::Refuse(Answer::internal_error()));
}

#[test]
#[ignore = "needs an S3 server"]
fn burst_of_slow_down() {
    survives(&everywhere(), 3, Fault::Refuse(Answer::slow_down()));
}

/// The service says that it failed, and has stored the bytes all the same.
#[test]
#[ignore = "needs an S3 server"]
fn error_after_the_write() {
    survives(&PUTS, 2, Fault::Replace(Answer::internal_error()));
}

/// The fault doesn't end: the push gives up and says why. A second push completes it.
fn gives_up(places: &[Place], fault: Fault, expected: &[&str]) {
    side_by_side(places, |place| {
        let scene = Scene::new();
        let what = format!("{fault:?} in {place:?}");
        scene.add("a.bin", SIZE);
        let oid = scene.work.oid("a.bin");
        let hits = scene.proxy.on(place.0, place.1, usize::MAX, fault.clone());
        let words: Vec<_> = expected.iter().copied().chain(["tried", "s3://lfs/", oid.as_str()]).collect();
        scene.push_fails_and_is_completed(&what, &hits, &words);
        assert!(hits.count() > 1, "{what}: tried once only");
        scene.everything_is_there();
    });
}

#[test]
#[ignore = "needs an S3 server"]
fn resets_without_end() {
    gives_up(&everywhere(), Fault::ResetBefore, &["connection"]);
}

#[test]
#[ignore = "needs an S3 server"]
fn lost_answers_without_end() {
    gives_up(&PUTS, Fault::LoseAnswer, &["connection"]);
}

#[test]
#[ignore = "needs an S3 server"]
fn internal_errors_without_end() {
    gives_up(
        &everywhere(),
        Fault::Refuse(Answer::internal_error()),
        // an answer to HEAD has no body that could say more
        &["the service answered 500"],
    );
}

#[test]
#[ignore = "needs an S3 server"]
fn slow_down_without_end() {
    gives_up(&PUTS, Fault::Refuse(Answer::slow_down()), &["503", "SlowDown"]);
}

/// A machine reads the store's index and shards to deduplicate, when it has none of them. It may go on
/// without them, but never with wrong bytes.
fn survives_while_reading(thing: Thing) {
    let scene = Scene::new();
    scene.add("first.bin", 3_000_000);
    scene.push();
    let content = fs::read(scene.work.file("first.bin")).unwrap();
    for (case, fault) in [
        Fault::ResetBefore,
        Fault::ResetInAnswer,
        Fault::CloseInAnswer,
        Fault::ShortAnswer,
        Fault::FlipBit,
        Fault::Refuse(Answer::slow_down()),
    ]
    .into_iter()
    .enumerate()
    {
        let what = format!("{fault:?} in GET {thing:?}");
        let (outcome, copy) = scene.try_clone();
        copy.machine.expect_success(outcome);
        // else the cache would answer
        fs::remove_dir_all(copy.path.parent().unwrap().join(".cache")).unwrap();
        let name = format!("{case}.bin");
        let edited = insert_in_middle(&content, what.as_bytes());
        copy.write(&name, &edited);
        copy.commit(&what);
        let hits = scene.proxy.on("GET", thing, 1, fault);
        copy.push();
        assert!(hits.count() > 0, "{what}: nothing went wrong");
        scene.proxy.heal();
        scene.work.must(["pull", "--quiet", "origin", "main"]);
        assert!(fs::read(scene.work.file(&name)).unwrap() == edited, "{what}");
    }
    scene.everything_is_there();
}

#[test]
#[ignore = "needs an S3 server"]
fn faults_while_reading_shards() {
    survives_while_reading(Thing::Shard);
}

#[test]
#[ignore = "needs an S3 server"]
fn faults_while_reading_segments() {
    survives_while_reading(Thing::Segment);
}
