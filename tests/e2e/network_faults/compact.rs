//! Compactions: each kind of their requests fails for a moment, and bytes that they read back are wrong.

use super::scene::{Place, Scene, side_by_side};
use crate::machine::Machine;
use crate::proxy::{Answer, Fault, Request, Thing};
use crate::s3::Role;

const PLACES: [Place; 8] = [
    ("GET", Thing::StoreJson),
    ("LIST", Thing::Segment),
    ("GET", Thing::Segment),
    ("GET", Thing::Shard),
    ("PUT", Thing::Shard),
    ("PUT", Thing::Segment),
    ("DELETE", Thing::Shard),
    ("DELETE", Thing::Segment),
];

/// Three pushes, and the machine that compacts after them.
fn pushed(scene: &Scene, round: usize) -> Machine {
    for file in 0..3 {
        scene.add(&format!("{round}-{file}.bin"), 20_000);
        scene.push();
    }
    scene.work.machine.clone().with_keys(Role::Admin)
}

fn everything_is_there(scene: &Scene) {
    // a compaction deletes, and the commands after it must not
    scene.proxy.take_record();
    scene.everything_is_there();
}

#[test]
#[ignore = "needs an S3 server"]
fn compactions_survive() {
    let faults = [
        Fault::ResetBefore,
        Fault::LoseAnswer,
        Fault::Refuse(Answer::internal_error()),
        Fault::Refuse(Answer::slow_down()),
    ];
    side_by_side(&faults, |fault| {
        let scene = Scene::new();
        for (round, place) in PLACES.into_iter().enumerate() {
            let admin = pushed(&scene, round);
            let hits = scene.proxy.on(place.0, place.1, 2, fault.clone());
            let outcome = admin.expect_success(admin.cdc(&scene.work.path, ["compact"]));
            assert!(hits.count() > 0, "{fault:?} in {place:?}: nothing went wrong");
            assert!(outcome.stdout.contains("→ 1"), "{fault:?} in {place:?}: {}", outcome.text());
            scene.proxy.heal();
        }
        everything_is_there(&scene);
    });
}

#[test]
#[ignore = "needs an S3 server"]
fn nothing_is_deleted_when_the_merged_segment_comes_back_wrong() {
    let scene = Scene::new();
    let admin = pushed(&scene, 0);
    let reads_back = |r: &Request| r.verb == "GET" && r.thing == Thing::Segment && r.range.is_some();
    let hits = scene.proxy.times(1, reads_back, Fault::FlipBit);
    let outcome = admin.cdc(&scene.work.path, ["compact"]);
    assert_eq!((outcome.code, hits.count()), (Some(2), 1), "{}", outcome.text());
    admin.expect_failure(outcome, &["is not what was written, so nothing was deleted"]);
    assert!(scene.proxy.record().iter().all(|exchange| exchange.request.verb != "DELETE"));
    let outcome = admin.expect_success(admin.cdc(&scene.work.path, ["compact"]));
    assert!(outcome.stdout.contains("deleted   3 segments"), "{}", outcome.text());
    everything_is_there(&scene);
}
