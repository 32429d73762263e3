//! Pace of services and links: services that ask for a pause, links that are slow, and servers that fall
//! silent.

use std::time::{Duration, Instant, SystemTime};

use super::scene::{Place, Scene, side_by_side};
use crate::proxy::{Answer, Exchange, Fault, Pace, Thing};

/// No command of this file takes that long, unless it waits beyond its bounds. Several requests may each be
/// tried for their time, and git asks twice for a file.
const HANGS: Duration = Duration::from_secs(90);

/// The system may notice before the agent does, so the words for it differ.
const SILENT: [&str; 3] = ["tried", "check the network", "s3://lfs/"];

#[track_caller]
fn within_bounds<T>(what: &str, command: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = command();
    assert!(started.elapsed() < HANGS, "{what} took {:?}", started.elapsed());
    done
}

/// Requests that don't wait for each other arrive within this time.
const TOGETHER: Duration = Duration::from_millis(200);

/// The time at which a service wants the next request.
#[derive(Clone, Copy)]
enum Wish {
    Seconds(u64),
    /// As a date, these seconds after the test began.
    Date(u64),
}

/// After the refusal, no new request arrives before the time that the service wishes. Then the same request
/// arrives.
fn is_honoured(record: &[Exchange], status: u16, wish: Wish, began: Instant) {
    let refused = record.iter().position(|e| e.status == Some(status)).expect("a refusal");
    // those that had gone out before the refusal was heard
    let together = |e: &&Exchange| e.arrived < record[refused].arrived + TOGETHER;
    let next = record[refused + 1..].iter().find(|e| !together(e)).expect("a request after it");
    let not_before = match wish {
        Wish::Seconds(seconds) => record[refused].arrived + Duration::from_secs(seconds),
        // dates have whole seconds only
        Wish::Date(seconds) => began + Duration::from_secs(seconds - 1),
    };
    let early = not_before.saturating_duration_since(next.arrived);
    assert!(early.is_zero(), "{next:?} came {early:?} too early");
    let again = record[refused + 1..].iter().any(|e| e.request.path == record[refused].request.path);
    assert!(again, "not tried again");
}

#[test]
#[ignore = "needs an S3 server"]
fn retry_after_is_honoured() {
    let cases: [(Place, u16, Wish); 5] = [
        (("PUT", Thing::Block), 429, Wish::Seconds(2)),
        (("PUT", Thing::Segment), 503, Wish::Seconds(2)),
        (("LIST", Thing::Segment), 429, Wish::Date(5)),
        (("GET", Thing::Block), 503, Wish::Seconds(2)),
        (("GET", Thing::StoreJson), 429, Wish::Seconds(3)),
    ];
    side_by_side(&cases, |(place, status, wish)| {
        let scene = Scene::new();
        scene.add("a.bin", 300_000);
        let is_clone = *place == ("GET", Thing::Block);
        if is_clone {
            scene.push();
        }
        scene.proxy.take_record();
        let began = Instant::now();
        let when = match wish {
            Wish::Seconds(seconds) => seconds.to_string(),
            Wish::Date(seconds) => httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(*seconds)),
        };
        let answer = Answer::s3(*status, "SlowDown", "Please reduce your request rate.");
        let hits = scene.proxy.on(place.0, place.1, 1, Fault::Refuse(answer.field("Retry-After", when)));
        let what = format!("{place:?}");
        if is_clone {
            scene.clone_survives(&what, &hits);
        } else {
            scene.push_survives(&what, &hits);
        }
        is_honoured(&scene.proxy.record(), *status, *wish, began);
        scene.everything_is_there();
    });
}

/// A push doesn't wait an hour. The message has the answer of the service.
#[test]
#[ignore = "needs an S3 server"]
fn retry_after_an_hour() {
    let scene = Scene::new();
    scene.add("a.bin", 300_000);
    let hits =
        scene.proxy.on("PUT", Thing::Block, usize::MAX, Fault::Refuse(Answer::too_many_requests("3600")));
    within_bounds("push", || {
        scene.push_fails_and_is_completed("an hour", &hits, &["429", "too much to do", "s3://lfs/"]);
    });
    scene.everything_is_there();
}

/// A transfer that takes longer than requests are tried again, and is slower than any link in use. But it
/// moves.
#[test]
#[ignore = "needs an S3 server"]
fn slow_transfers_succeed() {
    side_by_side(&[slow_answer as fn(), slow_request as fn()], |transfer| transfer());
}

fn slow_answer() {
    let scene = Scene::new();
    // no small commit, which is read with the index
    scene.add("a.bin", 120_000);
    scene.push();
    let pace = Pace { bytes: 1200, pause: Duration::from_millis(100) };
    let hits = scene.proxy.on("GET", Thing::Block, usize::MAX, Fault::SlowAnswer(pace));
    scene.clone_survives("slow answer", &hits);
    assert_eq!(hits.count(), 1, "was not left to go on");
}

fn slow_request() {
    let scene = Scene::new();
    scene.add("a.bin", 24_000_000);
    let pace = Pace { bytes: 200_000, pause: Duration::from_millis(80) };
    let hits = scene.proxy.on("PUT", Thing::Block, usize::MAX, Fault::SlowRequest(pace));
    scene.push_survives("slow request", &hits);
    // of about 2, 4 and 8 MiB, and the rest
    assert_eq!(hits.count(), 4, "was not left to go on");
    scene.everything_is_there();
}

fn push_places() -> Vec<(Place, Fault)> {
    let puts = [Thing::Block, Thing::Shard, Thing::Segment].into_iter();
    let puts =
        puts.flat_map(|thing| [(("PUT", thing), Fault::Silence), (("PUT", thing), Fault::SilenceInRequest)]);
    let reads = [("GET", Thing::StoreJson), ("LIST", Thing::Segment), ("LIST", Thing::Condemned)].into_iter();
    let reads = reads.flat_map(|place| [(place, Fault::Silence), (place, Fault::SilenceInAnswer)]);
    puts.chain(reads).chain([(("HEAD", Thing::Block), Fault::Silence)]).collect()
}

fn clone_places() -> Vec<(Place, Fault)> {
    let places =
        [("GET", Thing::StoreJson), ("LIST", Thing::Segment), ("GET", Thing::Segment), ("GET", Thing::Block)];
    places.into_iter().flat_map(|place| [(place, Fault::Silence), (place, Fault::SilenceInAnswer)]).collect()
}

/// After one silence, a second try succeeds.
#[test]
#[ignore = "needs an S3 server"]
fn pushes_get_over_one_silence() {
    side_by_side(&push_places(), |(place, fault)| {
        let scene = Scene::new();
        scene.add("a.bin", 200_000);
        let what = format!("{fault:?} in {place:?}");
        let hits = scene.proxy.on(place.0, place.1, 1, fault.clone());
        within_bounds(&what, || scene.push_survives(&what, &hits));
        scene.everything_is_there();
    });
}

#[test]
#[ignore = "needs an S3 server"]
fn clones_get_over_one_silence() {
    side_by_side(&clone_places(), |(place, fault)| {
        let scene = Scene::new();
        scene.add("a.bin", 200_000);
        scene.push();
        let what = format!("{fault:?} in {place:?}");
        let hits = scene.proxy.on(place.0, place.1, 1, fault.clone());
        within_bounds(&what, || scene.clone_survives(&what, &hits));
    });
}

/// The agent gives up a server that stays silent, and its message says so.
#[test]
#[ignore = "needs an S3 server"]
fn pushes_give_up_a_silent_server() {
    side_by_side(&push_places(), |(place, fault)| {
        let scene = Scene::new();
        scene.add("a.bin", 200_000);
        let what = format!("{fault:?} in {place:?}");
        let hits = scene.proxy.on(place.0, place.1, usize::MAX, fault.clone());
        within_bounds(&what, || {
            scene.push_fails_and_is_completed(&what, &hits, &SILENT);
        });
        scene.everything_is_there();
    });
}

#[test]
#[ignore = "needs an S3 server"]
fn clones_give_up_a_silent_server() {
    let mut places = clone_places();
    // received bytes of a block are kept, so this one takes long to stand still
    places.retain(|(place, fault)| place.1 != Thing::Block || matches!(fault, Fault::Silence));
    side_by_side(&places, |(place, fault)| {
        let scene = Scene::new();
        scene.add("a.bin", 200_000);
        scene.push();
        let what = format!("{fault:?} in {place:?}");
        let hits = scene.proxy.on(place.0, place.1, usize::MAX, fault.clone());
        within_bounds(&what, || {
            scene.clone_fails_and_is_completed(&what, &hits, &SILENT);
        });
    });
}

/// The server takes a large block whole, and then gives no answer.
#[test]
#[ignore = "needs an S3 server"]
fn pushes_give_up_a_server_that_takes_all_and_is_silent() {
    let scene = Scene::new();
    scene.add("a.bin", 12_000_000);
    let hits = scene.proxy.on("PUT", Thing::Block, usize::MAX, Fault::Silence);
    within_bounds("push", || {
        scene.push_fails_and_is_completed("large block", &hits, &SILENT);
    });
    scene.everything_is_there();
}
