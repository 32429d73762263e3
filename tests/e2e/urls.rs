//! URLs of stores: the places where one may stand, and the place that wins.

use std::fs;

use crate::data::{assert_same_file, noise};
use crate::repo::Repo;
use crate::sandbox::Sandbox;
use crate::storage::Storage;

fn has_blocks(store: &Storage) -> bool {
    !store.blocks().is_empty()
}

fn url(store: &Storage) -> String {
    store.lfs_url("named")
}

/// Removes the settings that `init` wrote, so that only the setting under test names a store.
fn forget_url(repo: &Repo) {
    fs::remove_file(repo.file(".lfsconfig")).unwrap();
    repo.must(["config", "--unset", "lfs.url"]);
    repo.commit("no URL");
}

#[test]
fn pushurl_takes_uploads_only() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("pushurl");
    let second = sandbox.storage("second-store");
    work.machine.create_store(&second);
    work.must(["config", "--file", ".lfsconfig", "lfs.pushurl", &url(&second)]);
    work.publish("a.bin", &noise(1, 300_000));
    assert!(has_blocks(&second));
    assert!(!has_blocks(&sandbox.store()));

    work.must(["config", "--file", ".lfsconfig", "--unset", "lfs.pushurl"]);
    work.must(["lfs", "push", "--all", "origin"]);
    work.must(["config", "lfs.pushurl", &url(&second)]);
    let _gone = second.take_away();
    work.forget_objects();
    work.must(["lfs", "pull"]);
}

#[test]
fn a_remotes_own_url() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("remote-url");
    forget_url(&work);
    work.must(["config", "--file", ".lfsconfig", "remote.origin.lfsurl", &url(&sandbox.store())]);
    work.publish("a.bin", &noise(1, 300_000));
    assert!(has_blocks(&sandbox.store()));
    let copy = sandbox.clone_elsewhere("remote-url");
    assert_same_file(&work.file("a.bin"), &copy.file("a.bin"));

    let second = sandbox.storage("second-store");
    work.machine.create_store(&second);
    work.must(["config", "remote.origin.lfsurl", &url(&second)]);
    work.publish("a.bin", &noise(2, 300_000));
    assert!(has_blocks(&second), "git's configuration beats .lfsconfig");
}

#[test]
fn the_command_line_beats_everything() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("precedence");
    let second = sandbox.storage("second-store");
    work.machine.create_store(&second);
    work.write("a.bin", &noise(1, 300_000));
    work.commit("content");
    let setting = format!("lfs.url={}", url(&second));
    work.must(["-c", &setting, "push", "--quiet", "origin", "HEAD"]);
    assert!(has_blocks(&second));
    assert!(!has_blocks(&sandbox.store()));

    work.forget_objects();
    fs::remove_file(work.file("a.bin")).unwrap();
    assert!(!work.git(["checkout", "--", "a.bin"]).success(), "the configured store doesn't have it");
    work.must(["-c", &setting, "checkout", "--", "a.bin"]);
    work.write("expected", &noise(1, 300_000));
    assert_same_file(&work.file("expected"), &work.file("a.bin"));
}

#[test]
fn commits_older_than_lfsconfig() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository_without_store("old");
    let old = noise(1, 300_000);
    work.write("a.bin", &old);
    work.commit("before the store");
    work.init(&sandbox.store().url());
    work.publish("a.bin", &noise(2, 300_000));
    work.must(["lfs", "push", "--all", "origin"]);

    work.forget_objects();
    work.must(["checkout", "--quiet", "HEAD~1"]);
    assert!(!work.file(".lfsconfig").exists());
    assert!(fs::read(work.file("a.bin")).unwrap() == old);
}
