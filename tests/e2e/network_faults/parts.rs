//! Blocks stored in parts, because the link breaks before a whole block has passed.

use super::scene::{Scene, side_by_side};
use crate::proxy::{Answer, Fault, Hits, Request, Thing};

/// Blocks of about 2, 4 and 8 MiB, and the rest.
const LEN: usize = 24_000_000;
/// A part has 8 MiB; the first blocks are none, and a little more than 8 MiB is two.
const IN_PARTS: [usize; 2] = [2, 2];

fn is_whole(request: &Request) -> bool {
    let is_large = request.body_bytes > 8 << 20;
    request.verb == "PUT" && request.thing == Thing::Block && request.query.is_empty() && is_large
}

fn is_part(request: &Request) -> bool {
    request.verb == "PUT" && request.query.contains("partNumber=")
}

fn begins(request: &Request) -> bool {
    request.verb == "POST" && request.query.starts_with("uploads")
}

fn completes(request: &Request) -> bool {
    request.verb == "POST" && request.query.contains("uploadId=")
}

/// A repository with a large file to push, over a link on which no whole block passes.
fn scene() -> (Scene, Hits) {
    let scene = Scene::new();
    // each block is sent several times, which takes long where much else is going on
    scene.patience("30");
    scene.add("a.bin", LEN);
    let hits = scene.proxy.whenever(is_whole, Fault::ResetInRequest);
    (scene, hits)
}

#[test]
#[ignore = "needs an S3 server"]
fn a_link_on_which_no_block_passes() {
    let (scene, hits) = scene();
    scene.push_survives("whole blocks", &hits);
    let record = scene.proxy.record();
    let count = |matches: fn(&Request) -> bool| record.iter().filter(|e| matches(&e.request)).count();
    let blocks = IN_PARTS.len();
    let parts = IN_PARTS.iter().sum();
    assert_eq!((count(begins), count(is_part), count(completes)), (blocks, parts, blocks), "{record:?}");
    scene.everything_is_there();
}

/// The requests that fail, and their fault.
type Case = (fn(&Request) -> bool, Fault);

/// Each kind of request that stores in parts fails, and the push survives.
#[test]
#[ignore = "needs an S3 server"]
fn faults_in_parts() {
    let done_but_failed = || Answer::s3(200, "InternalError", "We encountered an internal error.");
    let cases: [Case; 11] = [
        (begins, Fault::ResetBefore),
        (begins, Fault::LoseAnswer),
        (begins, Fault::Refuse(Answer::slow_down())),
        (is_part, Fault::ResetInRequest),
        (is_part, Fault::LoseAnswer),
        (is_part, Fault::Refuse(Answer::internal_error())),
        (completes, Fault::ResetBefore),
        (completes, Fault::LoseAnswer),
        (completes, Fault::Refuse(Answer::internal_error())),
        // S3 begins its answer before it knows how that ends
        (completes, Fault::Refuse(done_but_failed())),
        (completes, Fault::Replace(done_but_failed())),
    ];
    side_by_side(&cases, |(matches, fault)| {
        let (scene, _) = scene();
        let what = format!("{fault:?}");
        // the first rule that fits is followed
        let matches = *matches;
        let hits = scene.proxy.times(2, matches, fault.clone());
        scene.push_survives(&what, &hits);
        scene.everything_is_there();
    });
}

/// A key that must not store in parts stores whole blocks, as long as a request is tried again.
#[test]
#[ignore = "needs an S3 server"]
fn parts_are_denied() {
    let scene = Scene::new();
    scene.patience("30");
    scene.add("a.bin", LEN);
    let hits = scene.proxy.times(3 * IN_PARTS.len(), is_whole, Fault::ResetInRequest);
    let denied =
        scene.proxy.whenever(|request| request.verb == "POST", Fault::Refuse(Answer::access_denied()));
    scene.push_survives("whole blocks", &hits);
    assert!(denied.count() > 0, "parts were not tried");
    scene.everything_is_there();
}
