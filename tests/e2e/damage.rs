//! Flipped bits, in the store and on this side: found, named, and never checked out or pushed.

use std::fs;
use std::process::Command;

use crate::data::{assert_same_tree, damage, noise};
use crate::process::say;
use crate::sandbox::{Sandbox, path_str};

/// Whether `zstd -t` finds a block in order; none where there is no zstd.
fn zstd_accepts(sandbox: &Sandbox, block: &str) -> Option<bool> {
    let copy = sandbox.path("block.zst");
    fs::write(&copy, sandbox.store().read(block)).unwrap();
    let output = Command::new("zstd").args(["-q", "-t"]).arg(copy).output().ok()?;
    Some(output.status.success())
}

/// What messages call a block.
fn block_name(block: &str) -> &str {
    block.rsplit('/').next().unwrap().strip_suffix(".zst").unwrap()
}

#[test]
fn damaged_block() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("damaged");
    work.publish("healthy.bin", &noise(1, 1_500_000));
    let healthy = sandbox.store().blocks();
    work.publish("hurt.bin", &noise(2, 1_500_000));
    let blocks = sandbox.store().blocks();
    let [hurt] = blocks.iter().filter(|block| !healthy.contains(block)).collect::<Vec<_>>()[..] else {
        panic!("one push of 1.5 MB makes one block");
    };
    sandbox.store().damage(hurt);

    let other = sandbox.other_machine("other");
    let outcome = other.git(&sandbox.path("other"), ["clone", path_str(&sandbox.remote("damaged")), "copy"]);
    other.expect_failure(outcome, &[block_name(hurt), &work.oid("hurt.bin")]);
    let copy = other.repo_at("other/copy");
    if let Ok(content) = fs::read(copy.file("hurt.bin")) {
        assert!(content.starts_with(b"version https://git-lfs"), "damaged content in the work tree");
    }
    copy.git(["lfs", "fetch", "--include", "healthy.bin"]);
    assert!(copy.local_object("healthy.bin").is_file(), "what is healthy can be had");
    assert!(!copy.local_object("hurt.bin").exists());

    match zstd_accepts(&sandbox, hurt) {
        Some(accepted) => {
            assert!(!accepted, "zstd -t accepts {hurt}");
            assert!(healthy.iter().all(|block| zstd_accepts(&sandbox, block) == Some(true)));
        }
        None => say("skipped: zstd -t on blocks, there is no zstd"),
    }
}

#[test]
fn missing_block() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("missing");
    work.publish("a.bin", &noise(1, 1_500_000));
    let [block] = &sandbox.store().blocks()[..] else { panic!("one push of 1.5 MB makes one block") };
    let bytes = sandbox.store().read(block);
    sandbox.store().remove(block);

    let other = sandbox.other_machine("other");
    let outcome = other.git(&sandbox.path("other"), ["clone", path_str(&sandbox.remote("missing")), "copy"]);
    other.expect_failure(outcome, &[block_name(block), &work.oid("a.bin")]);
    sandbox.store().write(block, &bytes);
    let copy = other.repo_at("other/copy");
    copy.must(["reset", "--quiet", "--hard"]);
    assert_same_tree(&work.path, &copy.path);
}

#[test]
fn every_damaged_index_file_is_noticed() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("index");
    work.publish("a.bin", &noise(1, 3_000_000));
    for segment in sandbox.store().segments() {
        sandbox.store().damage(&segment);
    }
    let other = sandbox.other_machine("other");
    let outcome = other.git(&sandbox.path("other"), ["clone", path_str(&sandbox.remote("index")), "copy"]);
    other.expect_failure(outcome, &[&work.oid("a.bin")]);
}

#[test]
fn damaged_local_object_is_not_pushed() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("local");
    let content = noise(1, 3_000_000);
    work.write("a.bin", &content);
    work.commit("content");
    let object = work.local_object("a.bin");
    damage(&object);
    let before = work.must(["ls-remote", "origin"]);
    work.machine.expect_failure(work.git(["push", "origin", "HEAD"]), &[&work.oid("a.bin")]);
    assert_eq!(before, work.must(["ls-remote", "origin"]), "the ref was pushed");

    fs::write(&object, &content).unwrap();
    work.push();
    assert_same_tree(&work.path, &sandbox.clone_elsewhere("local").path);
}
