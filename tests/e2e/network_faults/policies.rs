//! Keys with fewer rights: a push needs neither to delete nor to overwrite.

use super::scene::{Scene, side_by_side};
use crate::proxy::{Answer, Fault, Hits, Request, Thing};

fn deny(scene: &Scene, refused: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Hits {
    scene.proxy.whenever(refused, Fault::Refuse(Answer::access_denied()))
}

/// Pushes several blocks' worth of files. No request may break the `policy`.
fn pushes_under(policy: fn(&Request) -> bool) {
    let scene = Scene::before_init();
    // an admin creates the store
    scene.work.init(&scene.url);
    scene.proxy.take_record();
    let denied = deny(&scene, policy);
    scene.work.commit("set up");
    for round in 0..3 {
        scene.add(&format!("large-{round}.bin"), 3_000_000);
        scene.add(&format!("small-{round}.bin"), 30_000);
        scene.push();
    }
    scene.work.must(["lfs", "push", "--all", "origin"]);
    assert_eq!(denied.count(), 0, "{:?}", scene.proxy.record());
    scene.everything_is_there();
}

#[test]
#[ignore = "needs an S3 server"]
fn no_deletes() {
    pushes_under(|request| request.verb == "DELETE" || request.verb == "POST");
}

/// A bucket policy on `s3:if-none-match` asks for this.
#[test]
#[ignore = "needs an S3 server"]
fn no_puts_without_a_condition() {
    pushes_under(|request| request.verb == "PUT" && !request.only_new && request.thing != Thing::Manifest);
}

#[test]
#[ignore = "needs an S3 server"]
fn no_puts_to_names_that_are_there() {
    pushes_under(|request| {
        request.verb == "PUT" && request.stored_before && request.thing != Thing::Manifest
    });
}

/// A push keeps the manifest up to date where there is one, and never fails by it.
#[test]
#[ignore = "needs an S3 server"]
fn a_manifest_that_may_not_be_written() {
    let faults = [
        Fault::Refuse(Answer::access_denied()),
        Fault::Refuse(Answer::precondition_failed()),
        Fault::Refuse(Answer::internal_error()),
        Fault::LoseAnswer,
        Fault::Silence,
    ];
    side_by_side(&faults, |fault| {
        let scene = Scene::before_init();
        scene.work.machine.expect_success(scene.work.cdc(["init", &scene.url, "--http"]));
        scene.proxy.take_record();
        scene.work.commit("set up");
        scene.add("a.bin", 100_000);
        let hits = scene.proxy.on("PUT", Thing::Manifest, usize::MAX, fault.clone());
        scene.push_survives(&format!("{fault:?}"), &hits);
        scene.everything_is_there();
        scene.proxy.take_record();
        scene.add("b.bin", 100_000);
        scene.push();
        let written = scene.proxy.record().into_iter().find(|e| e.is("PUT", Thing::Manifest));
        assert!(written.is_some_and(|put| put.stored()), "the manifest was not written");
    });
}

/// Creating a store by a key that must not delete leaves probes behind, and says nothing wrong.
#[test]
#[ignore = "needs an S3 server"]
fn init_without_deletes() {
    let scene = Scene::before_init();
    deny(&scene, |request| request.verb == "DELETE" || request.verb == "POST");
    scene.work.init(&scene.url);
    scene.proxy.take_record();
    scene.work.commit("set up");
    scene.add("a.bin", 100_000);
    scene.push();
    scene.everything_is_there();
}
