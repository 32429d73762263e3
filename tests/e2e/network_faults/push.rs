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
fn survives(test: &str, places: &[Place], times: usize, fault: Fault) {
    let Some(scene) = Scene::new(test) else { return };
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
fn reset_before_the_request() {
    survives("reset_before_the_request", &everywhere(), 2, Fault::ResetBefore);
}

#[test]
fn reset_in_the_middle_of_a_put() {
    survives("reset_in_the_middle_of_a_put", &PUTS, 2, Fault::ResetInRequest);
}

/// The write has happened, and nobody says so.
#[test]
fn lost_answer() {
    survives("lost_answer", &everywhere(), 2, Fault::LoseAnswer);
}

#[test]
fn reset_in_the_middle_of_an_answer() {
    survives("reset_in_the_middle_of_an_answer", &READS[..3], 2, Fault::ResetInAnswer);
}

#[test]
fn answer_cut_short() {
    survives("answer_cut_short", &READS[..3], 2, Fault::CloseInAnswer);
}

#[test]
fn burst_of_internal_errors() {
    survives("burst_of_internal_errors", &PUTS, 3, Fault::Refuse(Answer::internal_error()));
}

#[test]
fn burst_of_slow_down() {
    survives("burst_of_slow_down", &everywhere(), 3, Fault::Refuse(Answer::slow_down()));
}

/// The service says that it failed, and has stored the bytes all the same.
#[test]
fn error_after_the_write() {
    survives("error_after_the_write", &PUTS, 2, Fault::Replace(Answer::internal_error()));
}

/// What goes wrong again and again: the push gives up, says why, and a second one completes it.
fn gives_up(test: &str, places: &[Place], fault: Fault, expected: &[&str]) {
    side_by_side(places, |place| {
        let Some(scene) = Scene::new(test) else { return };
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
fn resets_without_end() {
    gives_up("resets_without_end", &everywhere(), Fault::ResetBefore, &["connection"]);
}

#[test]
fn lost_answers_without_end() {
    gives_up("lost_answers_without_end", &PUTS, Fault::LoseAnswer, &["connection"]);
}

#[test]
fn internal_errors_without_end() {
    gives_up(
        "internal_errors_without_end",
        &everywhere(),
        Fault::Refuse(Answer::internal_error()),
        // an answer to HEAD has no body that could say more
        &["the service answered 500"],
    );
}

#[test]
fn slow_down_without_end() {
    gives_up("slow_down_without_end", &PUTS, Fault::Refuse(Answer::slow_down()), &["503", "SlowDown"]);
}

/// A machine that has not read the store's index and shards yet reads them, to deduplicate: it may do without, never wrongly.
fn survives_while_reading(test: &str, thing: Thing) {
    let Some(scene) = Scene::new(test) else { return };
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
fn faults_while_reading_shards() {
    survives_while_reading("faults_while_reading_shards", Thing::Shard);
}

#[test]
fn faults_while_reading_segments() {
    survives_while_reading("faults_while_reading_segments", Thing::Segment);
}
