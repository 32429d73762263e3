//! Numbers of requests of a push and of a clone when nothing fails: the proxy counts them, and they are
//! bounded.

use super::scene::Scene;
use crate::data::{assert_same_tree, noise};
use crate::process::say;
use crate::proxy::{Exchange, Thing, summary};
use crate::sandbox::full;

fn count(record: &[Exchange], verb: &str, thing: Thing) -> usize {
    record.iter().filter(|exchange| exchange.is(verb, thing)).count()
}

/// No request failed. These are no failures: there is no manifest, and a block that another agent has noted
/// hasn't arrived yet.
#[track_caller]
fn everything_succeeded(record: &[Exchange]) {
    let answered = |e: &Exchange| match e.status {
        Some(404) => {
            e.request.thing == Thing::Manifest || e.is("HEAD", Thing::Block) || e.is("HEAD", Thing::Shard)
        }
        status => status.is_some_and(|status| status < 400),
    };
    let failed: Vec<_> = record.iter().filter(|exchange| !answered(exchange)).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// Sets the usual number of agents, and the usual patience.
fn as_usual(scene: &Scene) {
    scene.usual_agents();
    scene.patience("120");
}

/// A push of one large object takes at most 8 requests, and 10 for each block. A clone takes 8, and 4 for
/// each block. This is with git-lfs's own number of agents.
#[test]
#[ignore = "needs an S3 server"]
fn one_large_object() {
    let scene = Scene::new();
    as_usual(&scene);
    let len = if full() { 1_000_000_000 } else { 200_000_000 };
    scene.add("large.bin", len);
    scene.proxy.take_record();
    scene.push();
    let record = scene.proxy.take_record();
    let blocks = count(&record, "PUT", Thing::Block);
    say(&format!("pushing {} MB in {blocks} blocks: {}", len / 1_000_000, summary(&record)));
    everything_succeeded(&record);
    assert!(blocks <= 5 + len.div_ceil(64 << 20), "of 2, 4, 8, 16 and 32 MiB, and then full ones");
    assert!(record.len() <= 8 + 10 * blocks, "{}", summary(&record));

    let (outcome, copy) = scene.try_clone();
    copy.machine.expect_success(outcome);
    let record = scene.proxy.take_record();
    say(&format!("cloning it: {}", summary(&record)));
    everything_succeeded(&record);
    assert!(record.len() <= 8 + 4 * blocks, "{}", summary(&record));
    assert_same_tree(&scene.work.path, &copy.path);
}

/// A small push is one file in the index, and a clone gets its content with the index.
#[test]
#[ignore = "needs an S3 server"]
fn a_small_push_is_one_put() {
    let scene = Scene::new();
    as_usual(&scene);
    scene.add("small.bin", 50_000);
    scene.proxy.take_record();
    scene.push();
    let record = scene.proxy.take_record();
    say(&format!("pushing 50 KB: {}", summary(&record)));
    everything_succeeded(&record);
    let puts: Vec<_> = record.iter().filter(|exchange| exchange.request.verb == "PUT").collect();
    assert!(puts.len() == 1 && puts[0].is("PUT", Thing::Segment), "{}", summary(&record));
    assert!(record.len() <= 5, "{}", summary(&record));

    let (outcome, copy) = scene.try_clone();
    copy.machine.expect_success(outcome);
    let record = scene.proxy.take_record();
    say(&format!("cloning it: {}", summary(&record)));
    assert!(count(&record, "GET", Thing::Block) == 0 && record.len() <= 5, "{}", summary(&record));
    assert_same_tree(&scene.work.path, &copy.path);
}

/// Requests grow with blocks and commits, not with chunks: a version with hundreds of small edits.
#[test]
#[ignore = "needs an S3 server"]
fn a_version_with_many_small_edits() {
    let scene = Scene::new();
    as_usual(&scene);
    let mut content = noise(1, 40_000_000);
    publish(&scene, &content);
    for edit in 0..300 {
        let at = edit * 130_000;
        content[at..at + 40].copy_from_slice(&noise(1000 + edit as u64, 40));
    }
    scene.proxy.take_record();
    publish(&scene, &content);
    let record = scene.proxy.take_record();
    say(&format!("pushing 40 MB with 300 edits: {}", summary(&record)));
    everything_succeeded(&record);
    assert!(record.len() <= 8 + 10 * 2, "{}", summary(&record));

    let (outcome, copy) = scene.try_clone();
    copy.machine.expect_success(outcome);
    let record = scene.proxy.take_record();
    say(&format!("cloning the newer version: {}", summary(&record)));
    everything_succeeded(&record);
    assert!(record.len() <= 8 + 4 * 3, "{}", summary(&record));
    assert_same_tree(&scene.work.path, &copy.path);
}

fn publish(scene: &Scene, content: &[u8]) {
    scene.work.write("a.bin", content);
    scene.work.commit("version");
    scene.push();
}

/// Many small objects share commits, blocks and ranges. The push has as many agents as `init` sets, the clone
/// has git-lfs's own number.
#[test]
#[ignore = "needs an S3 server"]
fn many_small_objects() {
    let scene = Scene::new();
    let objects = if full() { 10_000 } else { 1000 };
    for number in 0..objects {
        scene.work.write(&format!("{number:05}.bin"), &noise(number as u64, 10_240));
    }
    scene.work.commit("small");
    scene.agents("100");
    scene.patience("120");
    scene.proxy.take_record();
    scene.push();
    let record = scene.proxy.take_record();
    say(&format!("pushing {objects} objects of 10 KB: {}", summary(&record)));
    everything_succeeded(&record);
    let puts = record.iter().filter(|exchange| exchange.request.verb == "PUT").count();
    assert!(puts <= objects / 25, "{}", summary(&record));

    scene.agents("8");
    let (outcome, copy) = scene.try_clone();
    copy.machine.expect_success(outcome);
    let record = scene.proxy.take_record();
    say(&format!("cloning them: {}", summary(&record)));
    everything_succeeded(&record);
    let gets = record.iter().filter(|exchange| exchange.request.verb == "GET").count();
    assert!(gets <= 6 * objects / 100, "{}", summary(&record));
    assert_same_tree(&scene.work.path, &copy.path);
}
