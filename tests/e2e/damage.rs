//! Flipped bits, in the store and on this side: found, named, and never checked out or pushed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::data::{assert_same_tree, damage, listing, noise};
use crate::process::say;
use crate::sandbox::{Sandbox, path_str};

fn blocks(sandbox: &Sandbox) -> Vec<PathBuf> {
    let folder = sandbox.store().join("blocks");
    listing(&folder).keys().map(|name| folder.join(name)).collect()
}

/// Whether `zstd -t` finds a block in order; none where there is no zstd.
fn zstd_accepts(block: &PathBuf) -> Option<bool> {
    let output = Command::new("zstd").args(["-q", "-t"]).arg(block).output().ok()?;
    Some(output.status.success())
}

#[test]
fn damaged_block() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("damaged");
    work.publish("healthy.bin", &noise(1, 3_000_000));
    let healthy = blocks(&sandbox);
    work.publish("hurt.bin", &noise(2, 3_000_000));
    let [hurt] =
        &blocks(&sandbox).into_iter().filter(|block| !healthy.contains(block)).collect::<Vec<_>>()[..]
    else {
        panic!("one push of 3 MB makes one block");
    };
    damage(hurt);

    let other = sandbox.other_machine("other");
    let outcome = other.git(&sandbox.path("other"), ["clone", path_str(&sandbox.remote("damaged")), "copy"]);
    let name = hurt.file_stem().unwrap().to_str().unwrap();
    other.expect_failure(outcome, &[name, &work.oid("hurt.bin")]);
    let copy = other.repo_at("other/copy");
    if let Ok(content) = fs::read(copy.file("hurt.bin")) {
        assert!(content.starts_with(b"version https://git-lfs"), "damaged content in the work tree");
    }
    copy.git(["lfs", "fetch", "--include", "healthy.bin"]);
    assert!(copy.local_object("healthy.bin").is_file(), "what is healthy can be had");
    assert!(!copy.local_object("hurt.bin").exists());

    match zstd_accepts(hurt) {
        Some(accepted) => {
            assert!(!accepted, "zstd -t accepts {}", hurt.display());
            assert!(healthy.iter().all(|block| zstd_accepts(block) == Some(true)));
        }
        None => say("skipped: zstd -t on blocks, there is no zstd"),
    }
}

#[test]
fn missing_block() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("missing");
    work.publish("a.bin", &noise(1, 3_000_000));
    let [block] = &blocks(&sandbox)[..] else { panic!("one push of 3 MB makes one block") };
    fs::rename(block, sandbox.path("away")).unwrap();

    let other = sandbox.other_machine("other");
    let outcome = other.git(&sandbox.path("other"), ["clone", path_str(&sandbox.remote("missing")), "copy"]);
    let name = block.file_stem().unwrap().to_str().unwrap();
    other.expect_failure(outcome, &[name, &work.oid("a.bin")]);
    fs::rename(sandbox.path("away"), block).unwrap();
    let copy = other.repo_at("other/copy");
    copy.must(["reset", "--quiet", "--hard"]);
    assert_same_tree(&work.path, &copy.path);
}

#[test]
fn every_damaged_index_file_is_noticed() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("index");
    work.publish("a.bin", &noise(1, 3_000_000));
    let segments = listing(&sandbox.store().join("index"));
    for name in segments.keys() {
        damage(&sandbox.store().join("index").join(name));
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
