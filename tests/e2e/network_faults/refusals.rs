//! Refusals of a service that last: each has a message of its own with a remedy, and is not tried again.

use super::scene::{Place, Scene, check_out};
use crate::data::assert_same_tree;
use crate::proxy::{Answer, Fault, Thing};
use crate::sandbox::full;

struct Refusal {
    answer: Answer,
    expected: &'static [&'static str],
}

fn refusals() -> Vec<Refusal> {
    let refusal = |answer, expected| Refusal { answer, expected };
    let region = &["region", "eu-west-1", "lfs-cdc.region"];
    vec![
        refusal(Answer::access_denied(), &["access is denied", "AccessDenied", "s3:GetObject"]),
        refusal(Answer::expired_token(), &["expired", "ExpiredToken", "get new ones"]),
        refusal(Answer::clock_skew(), &["clock is 300 minutes off", "RequestTimeTooSkewed", "set the clock"]),
        refusal(Answer::permanent_redirect("lfs", "eu-west-1"), region),
        refusal(Answer::malformed_authorization("eu-west-1"), region),
        refusal(Answer::no_such_bucket("lfs"), &["no such bucket", "NoSuchBucket", "create it"]),
        refusal(Answer::quota(403), &["no room", "QuotaExceeded", "quota"]),
        refusal(Answer::quota(507), &["no room", "QuotaExceeded", "quota"]),
        refusal(
            Answer::s3(403, "InvalidAccessKeyId", "The access key Id you provided does not exist."),
            &["credentials", "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"],
        ),
        refusal(
            Answer::s3(403, "SignatureDoesNotMatch", "The signature does not match."),
            &["credentials", "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"],
        ),
    ]
}

fn pushes_refused_in(places: &[Place]) {
    let scene = Scene::new();
    for place in places {
        for (number, Refusal { answer, expected }) in refusals().into_iter().enumerate() {
            // a stored block would not be stored again, and a small file would stand in the segment
            scene.add(&format!("{:?}-{number}.bin", place.1), 100_000);
            let what = format!("{answer:?} in {place:?}");
            let hits = scene.proxy.on(place.0, place.1, usize::MAX, Fault::Refuse(answer));
            let before = scene.pushed();
            let outcome = scene.try_push();
            scene.says(&what, &outcome, expected);
            scene.says(&what, &outcome, &["s3://lfs/"]);
            assert_eq!(hits.count(), 1, "{what}: tried again");
            assert_eq!(before, scene.pushed(), "{what}: the ref was pushed");
            scene.proxy.heal();
            scene.push();
        }
    }
    scene.everything_is_there();
}

#[test]
#[ignore = "needs an S3 server"]
fn pushes_refused_in_puts() {
    let places = [("PUT", Thing::Block), ("PUT", Thing::Shard), ("PUT", Thing::Segment)];
    pushes_refused_in(&places);
}

#[test]
#[ignore = "needs an S3 server"]
fn pushes_refused_in_reads() {
    let places = [("GET", Thing::StoreJson), ("LIST", Thing::Segment), ("LIST", Thing::Condemned)];
    pushes_refused_in(&places);
}

fn clones_refused_in(places: &[Place]) {
    let scene = Scene::new();
    scene.add("a.bin", 500_000);
    scene.push();
    for place in places {
        // in a clone each costs two commands, and the words are the same
        for Refusal { answer, expected } in refusals().into_iter().step_by(if full() { 1 } else { 2 }) {
            let what = format!("{answer:?} in {place:?}");
            let hits = scene.proxy.on(place.0, place.1, usize::MAX, Fault::Refuse(answer));
            scene.clone_fails_and_is_completed(&what, &hits, expected);
        }
    }
}

#[test]
#[ignore = "needs an S3 server"]
fn clones_refused_in_lists() {
    clones_refused_in(&[("GET", Thing::StoreJson), ("LIST", Thing::Segment)]);
}

#[test]
#[ignore = "needs an S3 server"]
fn clones_refused_in_objects() {
    clones_refused_in(&[("GET", Thing::Segment), ("GET", Thing::Block)]);
}

/// `init` and `status` say the same.
#[test]
#[ignore = "needs an S3 server"]
fn commands_refused() {
    for Refusal { answer, expected } in refusals() {
        let scene = Scene::before_init();
        let what = format!("{answer:?}");
        scene.proxy.whenever(|_| true, Fault::Refuse(answer.clone()));
        let outcome = scene.work.cdc(["init", &scene.url]);
        scene.work.machine.expect_failure(outcome, expected);
        assert!(!scene.work.file(".lfsconfig").exists(), "{what}: set up for a store that can't be reached");
        scene.proxy.heal();
        scene.work.init(&scene.url);
        scene.proxy.whenever(|_| true, Fault::Refuse(answer));
        let outcome = scene.work.cdc(["status"]);
        scene.work.machine.expect_failure(outcome, expected);
    }
}

/// No server listens: the command says so soon. It is completed when one listens.
#[test]
#[ignore = "needs an S3 server"]
fn nobody_there() {
    let mut scene = Scene::new();
    scene.add("pushed.bin", 200_000);
    scene.push();
    scene.add("waiting.bin", 200_000);
    let before = scene.pushed();
    scene.proxy.stop();
    let expected = ["can't be reached", "refused", "s3://lfs/"];
    scene.says("push", &scene.try_push(), &expected);
    assert_eq!(before, scene.pushed(), "the ref was pushed");
    let (outcome, copy) = scene.try_clone();
    scene.says("clone", &outcome, &expected);
    scene.proxy.start_again();
    check_out(&copy);
    scene.push();
    copy.must(["pull", "--quiet"]);
    assert_same_tree(&scene.work.path, &copy.path);
    scene.everything_is_there();
}
