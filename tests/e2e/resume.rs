//! Pushes that are interrupted in the middle: the next one goes on with the blocks that were stored.

use std::time::Duration;

use crate::data::{assert_same_tree, noise};
use crate::kill::start;
use crate::process::{Running, say, wait_until};
use crate::repo::Repo;
use crate::sandbox::{Sandbox, alone_if_large, full};
use crate::storage::{Kind, Storage};

/// One block; a server may finish another when its writer is dead, and the next push has looked already.
fn a_block_or_two() -> u64 {
    let blocks = if Kind::asked_for() == Kind::Folders { 1 } else { 2 };
    blocks << 26
}

/// The lengths of the objects. All are incompressible.
fn lengths() -> Vec<usize> {
    let unit = if full() { 1_000_000_000 } else { 75_000_000 };
    vec![2 * unit, unit, unit / 2, unit / 2]
}

/// A repository with a commit that is not pushed, and how many bytes it has.
fn with_content(sandbox: &Sandbox) -> (Repo, u64) {
    let work = sandbox.repository("resumed");
    for (number, length) in lengths().into_iter().enumerate() {
        work.write(&format!("{number}.bin"), &noise(number as u64, length));
    }
    work.commit("content");
    (work, lengths().iter().sum::<usize>() as u64)
}

/// Bytes of all blocks. An unfinished file of a killed writer is no block.
fn stored_bytes(storage: &Storage) -> u64 {
    let files = storage.files();
    let blocks = files.iter().filter(|(name, _)| name.starts_with("blocks/") && name.ends_with(".zst"));
    blocks.map(|(_, length)| length).sum()
}

/// Ends a push when half of its bytes are stored. Returns the bytes that are stored in the end.
#[track_caller]
fn end_at_half(work: &Repo, storage: &Storage, end: impl Fn(&Running), half: u64) -> u64 {
    let mut running = start(&work.machine, &work.path, &["push", "--quiet", "origin", "HEAD"]);
    wait_until(Duration::from_secs(500), || stored_bytes(storage) >= half || running.finished());
    end(&running);
    assert!(!running.wait().success(), "the push came to its end before it was interrupted");
    let gone = wait_until(Duration::from_secs(5), || work.machine.agents().is_empty());
    assert!(gone, "agents still run");
    stored_bytes(storage)
}

/// Bytes that are stored twice in the end were sent again. At most 5 % are, or a block if that is more, or
/// two on a server.
#[track_caller]
fn goes_on(how: &str, end: impl Fn(&Running)) {
    let _alone = alone_if_large();
    let sandbox = Sandbox::new();
    let (work, content) = with_content(&sandbox);
    let storage = sandbox.store();
    let left = end_at_half(&work, &storage, end, content / 2);
    work.push();
    let total = stored_bytes(&storage);
    let again = total.saturating_sub(content);
    let stats = sandbox.machine.expect_success(work.cdc(["stats", "--json", &storage.url()])).stdout;
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    let blocks = storage.blocks().iter().filter(|name| name.ends_with(".zst")).count();
    let unused = blocks as u64 - stats["blocks"].as_u64().unwrap();
    say(&format!(
        "a push of {content} bytes, {how} with {left} stored: {again} bytes more than the content in the end, \
         {unused} blocks that nothing refers to"
    ));
    assert!(left >= content / 2, "{left} of {content} bytes");
    assert!(again <= (content / 20).max(a_block_or_two()), "{again} bytes were sent again");
    assert_same_tree(&work.path, &sandbox.clone_elsewhere("resumed").path);
}

#[test]
fn a_push_that_is_killed() {
    goes_on("killed", Running::destroy);
}

#[test]
fn a_push_that_is_interrupted() {
    goes_on("interrupted", Running::interrupt);
}

/// Each time a little more is stored, and in the end everything once.
#[test]
fn a_push_that_is_killed_again_and_again() {
    let _alone = alone_if_large();
    let sandbox = Sandbox::new();
    let (work, content) = with_content(&sandbox);
    let storage = sandbox.store();
    for tenths in [2, 4, 6] {
        end_at_half(&work, &storage, Running::destroy, content * tenths / 10);
    }
    work.push();
    let again = stored_bytes(&storage).saturating_sub(content);
    say(&format!(
        "a push of {content} bytes, killed three times: {again} bytes more than the content in the end"
    ));
    assert!(again <= (content / 20).max(a_block_or_two()), "{again} bytes were sent again");
    assert_same_tree(&work.path, &sandbox.clone_elsewhere("resumed").path);
}
