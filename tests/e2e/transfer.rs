//! Push and clone: all bytes come back as they went in, for any number of objects and any names.

use std::fs;

use crate::data::{assert_same_file, assert_same_tree, noise};
use crate::repo::Repo;
use crate::sandbox::Sandbox;

/// Sizes from nothing to some megabytes, each with content of its own.
fn write_mixed_files(repo: &Repo, count: usize) {
    for index in 0..count {
        let len = match index {
            1 => 0,
            2 => 1,
            _ if index % 60 == 0 => 3_000_017,
            _ => 200 + index * 977 % 40_000,
        };
        repo.write(&format!("data/{}/{index}.bin", index % 7), &noise(index as u64, len));
    }
}

fn push_and_clone(count: usize) {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("game");
    write_mixed_files(&work, count);
    work.commit("content");
    work.push();

    let copy = sandbox.clone_elsewhere("game");
    assert_same_tree(&work.path, &copy.path);
    assert_eq!(copy.oid("data/0/0.bin").len(), 64);
    let never_sent = usize::from(count > 1);
    assert_eq!(copy.forget_objects(), count - never_sent, "a zero-length file is no object");
}

#[test]
fn one_object() {
    push_and_clone(1);
}

#[test]
fn more_objects_than_one_batch() {
    push_and_clone(101);
}

#[test]
fn several_batches() {
    push_and_clone(250);
}

#[test]
fn file_names_with_spaces_quotes_and_unicode() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("names");
    let names = [
        "a b.bin",
        " lead.bin",
        "it's.bin",
        "\"so\".bin",
        "$HOME.bin",
        "-v.bin",
        "ünïcode ☃.bin",
        "日本/データ.bin",
    ];
    for (index, name) in names.iter().enumerate() {
        work.write(name, &noise(index as u64, 50_000));
    }
    work.commit("names");
    work.push();
    assert_same_tree(&work.path, &sandbox.clone_elsewhere("names").path);
}

#[test]
fn store_and_repository_paths_with_spaces_quotes_and_unicode() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository_without_store("it's my rëpo");
    fs::create_dir(sandbox.path("100% mine")).unwrap();
    let store = sandbox.storage("100% mine/størе + \"more\"");
    work.init(&store.url());
    work.publish("a.bin", &noise(1, 500_000));
    assert!(!store.blocks().is_empty(), "nothing in {}", store.location());
    assert_same_tree(&work.path, &sandbox.clone_elsewhere("it's my rëpo").path);
}

#[test]
fn fetch_all_brings_every_version() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("versions");
    for version in 0..4 {
        work.publish("a.bin", &noise(version, 300_000));
    }
    work.must(["checkout", "--quiet", "-b", "side", "HEAD~1"]);
    work.publish("side.bin", &noise(99, 300_000));

    let copy = sandbox.clone_elsewhere("versions");
    copy.must(["lfs", "fetch", "--all"]);
    assert_eq!(copy.forget_objects(), 5);
    copy.must(["lfs", "fetch", "--all"]);
    assert_eq!(copy.forget_objects(), 5);
}

#[test]
fn pushing_everything_again_adds_nothing() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("again");
    write_mixed_files(&work, 120);
    work.commit("content");
    work.push();
    work.must(["lfs", "push", "--all", "origin"]);
    let before = sandbox.store().files();
    work.must(["lfs", "push", "--all", "origin"]);
    assert_eq!(before, sandbox.store().files());
}

#[test]
fn the_same_content_under_two_names_is_one_object() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("twins");
    let content = noise(1, 700_000);
    work.write("one.bin", &content);
    work.write("two.bin", &content);
    work.commit("twins");
    work.push();
    let copy = sandbox.clone_elsewhere("twins");
    assert_same_file(&work.file("one.bin"), &copy.file("one.bin"));
    assert_same_file(&work.file("one.bin"), &copy.file("two.bin"));
}
