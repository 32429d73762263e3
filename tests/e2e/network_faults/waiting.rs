//! Waiting for a service that fails: the time that a person waits, and the lines that one fault takes.

use std::time::{Duration, Instant};

use super::scene::{Scene, side_by_side};
use crate::proxy::{Answer, Fault, Request, Thing};

/// A command is done with a service after ten seconds; the rest is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Leaves the time in which a request is tried again to the program.
fn as_usual(scene: &Scene) {
    scene.work.must(["config", "lfs-cdc.retryTime", ""]);
}

fn anything(_: &Request) -> bool {
    true
}

fn writing(request: &Request) -> bool {
    request.verb == "PUT"
}

#[test]
#[ignore = "needs an S3 server"]
fn init_at_a_service_that_fails_ends_soon_and_says_it_once() {
    let failing: fn(&Request) -> bool = anything;
    let cases = [
        (failing, Fault::Refuse(Answer::internal_error()), "answered 500"),
        (writing, Fault::Refuse(Answer::internal_error()), "answered 500"),
        (anything, Fault::Silence, "no answer has come"),
        (anything, Fault::Refuse(Answer::too_many_requests("3600")), "too much to do"),
    ];
    side_by_side(&cases, |(which, fault, words)| {
        let scene = Scene::before_init();
        as_usual(&scene);
        scene.proxy.whenever(*which, fault.clone());
        let began = Instant::now();
        let outcome = scene.work.cdc(["init", &scene.url]);
        let took = began.elapsed();
        assert!(took < PATIENCE, "{fault:?} took {took:?}: {}", outcome.text());
        assert_eq!(outcome.code, Some(2), "{}", outcome.text());
        let lines: Vec<&str> = outcome.stderr.lines().collect();
        let (error, before) = lines.split_last().unwrap();
        assert!(error.contains(words), "{}", outcome.text());
        assert!(before.len() <= 1, "{}", outcome.text());
        if took > Duration::from_secs(5) {
            assert!(before[0].contains("waiting for s3://"), "{}", outcome.text());
        }
        assert!(!scene.work.file(".lfsconfig").exists());
    });
}

#[test]
#[ignore = "needs an S3 server"]
fn status_opens_each_store_once_and_names_each_fault_once() {
    let scene = Scene::new();
    as_usual(&scene);
    for remote in ["second", "third"] {
        scene.work.must(["remote", "add", remote, "../elsewhere.git"]);
    }
    scene.proxy.take_record();
    assert_eq!(scene.work.cdc(["status"]).code, Some(0));
    let opened = scene.proxy.take_record();
    let opened = opened.iter().filter(|e| e.request.verb == "GET" && e.request.thing == Thing::StoreJson);
    assert_eq!(opened.count(), 1);

    scene.proxy.whenever(anything, Fault::Silence);
    let began = Instant::now();
    let outcome = scene.work.cdc(["status"]);
    assert!(began.elapsed() < PATIENCE, "{:?}: {}", began.elapsed(), outcome.text());
    assert_eq!(outcome.code, Some(1));
    let findings = outcome.stdout.lines().filter(|line| line.starts_with("! "));
    assert_eq!(findings.count(), 1, "{}", outcome.text());
    assert!(outcome.stderr.starts_with("waiting for s3://"), "{}", outcome.text());
}

/// git-lfs has a line for each object. Only the first has the whole message.
#[test]
#[ignore = "needs an S3 server"]
fn one_fault_of_many_objects_is_told_once() {
    let scene = Scene::new();
    scene.usual_agents();
    (0..30).for_each(|number| scene.add(&format!("{number}.bin"), 1000));
    let wrong = Answer::s3(403, "SignatureDoesNotMatch", "The signature does not match.");
    let places = [("GET", Thing::StoreJson), ("PUT", Thing::Segment)];
    for (verb, thing) in places {
        let hits = scene.proxy.on(verb, thing, usize::MAX, Fault::Refuse(wrong.clone()));
        let outcome = scene.try_push();
        scene.says("a wrong key", &outcome, &["credentials are wrong", "AWS_SECRET_ACCESS_KEY"]);
        let text = outcome.text();
        let count = |words: &str| text.lines().filter(|line| line.contains(words)).count();
        assert_eq!(count("SignatureDoesNotMatch"), 1, "{text}");
        assert_eq!(count("failed as another object did"), 29, "{text}");
        assert!(hits.count() <= 8, "{} requests met it", hits.count());
        scene.proxy.heal();
    }
    scene.push();
    scene.everything_is_there();
}
