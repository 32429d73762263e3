//! Pulls that are interrupted in the middle: the next one fetches the missing bytes, and the proxy counts
//! them.

use std::time::Duration;

use super::scene::Scene;
use crate::data::noise;
use crate::process::{Running, say, signal, wait_until};
use crate::proxy::{Exchange, Thing};
use crate::sandbox::{alone_if_large, full};

const BLOCK_BYTES: u64 = 64 << 20;

/// Bytes of blocks that went to the client.
fn fetched(record: &[Exchange]) -> u64 {
    record.iter().filter(|e| e.is("GET", Thing::Block)).map(|e| e.received_bytes).sum()
}

/// At most 5 % or two blocks are fetched again.
#[track_caller]
fn goes_on(how: &str, end: impl Fn(&Running, &[u32])) {
    let _alone = alone_if_large();
    let scene = Scene::new();
    scene.usual_agents();
    scene.patience("120");
    let unit = if full() { 1_000_000_000 } else { 75_000_000 };
    for (number, length) in [2 * unit, unit, unit / 2, unit / 2].into_iter().enumerate() {
        scene.work.write(&format!("{number}.bin"), &noise(number as u64, length));
    }
    let content = 4 * unit as u64;
    scene.work.commit("content");
    scene.push();
    let copy = scene.clone_without_content();
    scene.proxy.take_record();
    let mut running = copy.machine.start(&copy.path, "git", ["lfs", "fetch", "origin", "HEAD"]);
    wait_until(Duration::from_secs(500), || {
        fetched(&scene.proxy.record()) >= content / 2 || running.finished()
    });
    end(&running, &copy.machine.agents());
    assert!(!running.wait().success(), "the pull came to its end before it was interrupted");
    let before = fetched(&scene.proxy.take_record());
    copy.must(["lfs", "fetch", "origin", "HEAD"]);
    let after = fetched(&scene.proxy.take_record());
    say(&format!("a pull of {content} bytes, {how} after {before}, fetched {after} more"));
    let again = (before + after).saturating_sub(content);
    assert!(again <= (content / 20).max(2 * BLOCK_BYTES), "{again} bytes were fetched again");
    copy.must(["lfs", "checkout"]);
    crate::data::assert_same_tree(&scene.work.path, &copy.path);
}

#[test]
#[ignore = "needs an S3 server"]
fn killed() {
    goes_on("killed", |running, agents| {
        agents.iter().for_each(|id| signal("KILL", &id.to_string()));
        running.interrupt();
    });
}

#[test]
#[ignore = "needs an S3 server"]
fn interrupted() {
    goes_on("interrupted", |running, _| running.interrupt());
}
