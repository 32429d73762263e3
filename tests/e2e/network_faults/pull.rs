//! Clones: connections and services that fail for a moment or for good, in every kind of request that a clone
//! makes.

use super::scene::{Place, Scene, side_by_side};
use crate::proxy::{Answer, Fault, Thing};

const READS: [Place; 4] =
    [("GET", Thing::StoreJson), ("LIST", Thing::Segment), ("GET", Thing::Segment), ("GET", Thing::Block)];

/// Makes a store with three objects, and a fresh clone for each place and each fault. The clone meets the
/// fault `times` times in a row.
fn survives(places: &[Place], times: usize, faults: &[Fault]) {
    let scene = with_content();
    for place in places {
        for fault in faults {
            let what = format!("{fault:?} in {place:?}");
            let hits = scene.proxy.on(place.0, place.1, times, fault.clone());
            scene.clone_survives(&what, &hits);
            assert_eq!(hits.count(), times, "{what}");
        }
    }
}

fn with_content() -> Scene {
    let scene = Scene::new();
    for (name, len) in [("small.bin", 20_000), ("middle.bin", 400_000), ("large.bin", 5_000_000)] {
        scene.add(name, len);
    }
    scene.push();
    scene
}

#[test]
#[ignore = "needs an S3 server"]
fn connections_reset() {
    let faults = [Fault::ResetBefore, Fault::LoseAnswer, Fault::ResetInAnswer];
    survives(&READS, 2, &faults);
}

#[test]
#[ignore = "needs an S3 server"]
fn answers_cut_short() {
    survives(&READS, 2, &[Fault::CloseInAnswer]);
}

#[test]
#[ignore = "needs an S3 server"]
fn bursts_of_errors() {
    let faults = [Fault::Refuse(Answer::internal_error()), Fault::Refuse(Answer::slow_down())];
    survives(&READS, 3, &faults);
}

/// Nothing in HTTP says that these bytes are wrong.
#[test]
#[ignore = "needs an S3 server"]
fn wrong_bytes_once() {
    let faults = [Fault::FlipBit, Fault::ShortAnswer];
    survives(&[("GET", Thing::Segment), ("GET", Thing::Block)], 1, &faults);
}

#[test]
#[ignore = "needs an S3 server"]
fn wrong_bytes_without_end() {
    let scene = with_content();
    for (thing, fault, expected) in [
        (Thing::Block, Fault::FlipBit, &["a frame is damaged", "block "][..]),
        (Thing::Block, Fault::ShortAnswer, &["cut short", "blocks/"]),
        (Thing::Segment, Fault::FlipBit, &["is not what was written", "index/"]),
        (Thing::Segment, Fault::ShortAnswer, &["cut short", "index/"]),
    ] {
        let what = format!("{fault:?} in GET {thing:?}");
        let hits = scene.proxy.on("GET", thing, usize::MAX, fault);
        scene.clone_fails_and_is_completed(&what, &hits, expected);
    }
}

#[test]
#[ignore = "needs an S3 server"]
fn faults_without_end() {
    let [store_json, list, segment, block] = READS;
    let error = Fault::Refuse(Answer::internal_error());
    let cases = [
        (store_json, Fault::ResetBefore, "connection"),
        (store_json, error.clone(), "500 InternalError"),
        (list, Fault::CloseInAnswer, "connection"),
        (list, error.clone(), "500 InternalError"),
        (segment, Fault::ResetBefore, "connection"),
        (segment, Fault::ResetInAnswer, "connection"),
        (block, Fault::CloseInAnswer, "connection"),
        (block, error, "500 InternalError"),
    ];
    side_by_side(&cases, |(place, fault, expected)| {
        let scene = Scene::new();
        // received bytes of a block are kept, so each try gives half of the rest
        scene.add("a.bin", 120_000);
        scene.push();
        let what = format!("{fault:?} in {place:?}");
        let hits = scene.proxy.on(place.0, place.1, usize::MAX, fault.clone());
        scene.clone_fails_and_is_completed(&what, &hits, &[expected, "tried", "s3://lfs/"]);
    });
}
