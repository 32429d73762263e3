//! Deduplication: the bytes that a second version, and a second repository, add to the store.

use crate::data::{assert_same_file, assert_same_tree, insert_in_middle, noise};
use crate::process::say;
use crate::sandbox::{Sandbox, full};

#[test]
fn an_insertion_costs_only_the_inserted_bytes() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("insertion");
    let first = noise(1, if full() { 1 << 30 } else { 64 << 20 });
    work.publish("a.bin", &first);
    let before = sandbox.store().total_bytes();
    work.publish("a.bin", &insert_in_middle(&first, &noise(2, 1_000_000)));
    let added = sandbox.store().total_bytes() - before;
    say(&format!("insertion of 1,000,000 bytes into {} bytes: the store grew by {added} bytes", first.len()));
    assert!(added < 1_300_000, "the store grew by {added} bytes");

    let copy = sandbox.clone_elsewhere("insertion");
    assert_same_file(&work.file("a.bin"), &copy.file("a.bin"));
    copy.must(["checkout", "--quiet", "HEAD~1"]);
    copy.write("expected", &first);
    assert_same_file(&copy.file("expected"), &copy.file("a.bin"));
}

#[test]
fn two_repositories_share_a_store() {
    let sandbox = Sandbox::new();
    let content = noise(1, 24_000_000);
    let one = sandbox.repository("one");
    one.publish("a.bin", &content);
    let before = sandbox.store().total_bytes();

    let two = sandbox.repository("two");
    two.write("same.bin", &content);
    two.write("longer.bin", &[&noise(2, 10_000), &content[..]].concat());
    two.commit("the other repository");
    two.push();
    let added = sandbox.store().total_bytes() - before;
    assert!(added < content.len() as u64 / 20, "the second repository added {added} bytes");
    assert_same_tree(&two.path, &sandbox.clone_elsewhere("two").path);
    assert_same_tree(&one.path, &sandbox.clone_elsewhere("one").path);
}

#[test]
fn a_second_machine_deduplicates_against_the_first() {
    let sandbox = Sandbox::new();
    let content = noise(1, 24_000_000);
    sandbox.repository("far").publish("a.bin", &content);
    let before = sandbox.store().total_bytes();

    let copy = sandbox.clone_elsewhere("far");
    copy.publish("b.bin", &insert_in_middle(&content, b"one line\n"));
    let added = sandbox.store().total_bytes() - before;
    assert!(added < content.len() as u64 / 20, "the second machine added {added} bytes");
    let stats = copy.cdc(["stats", &sandbox.store().url(), "--json"]);
    let stats: serde_json::Value = serde_json::from_str(&stats.stdout).expect(&stats.stderr);
    assert_eq!(stats["objects"], 2);
}

/// An agent finds the chunks that others have committed, but not those that others are sending at the same
/// time.
#[test]
fn later_objects_of_one_push_share_chunks_with_earlier_ones() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("versions");
    let content = noise(3, 3_000_000);
    for version in 0..24 {
        work.write(
            &format!("{version}.bin"),
            &[format!("version {version}\n").as_bytes(), &content].concat(),
        );
    }
    work.commit("24 versions");
    let before = sandbox.store().total_bytes();
    work.push();
    let added = sandbox.store().total_bytes() - before;
    assert!(added < 16 * content.len() as u64, "24 versions added {added} bytes");
    assert_same_tree(&work.path, &sandbox.clone_elsewhere("versions").path);
}

#[test]
fn objects_of_one_push_share_their_chunks() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("within");
    // One agent, because several at once don't see uncommitted chunks of each other.
    work.must(["config", "--global", "lfs.customtransfer.cdc.concurrent", "false"]);
    let content = noise(1, 12_000_000);
    let before = sandbox.store().total_bytes();
    for index in 0..6 {
        let start = index * 100_001;
        work.write(&format!("{index}.bin"), &content[start..]);
    }
    work.commit("six overlapping objects");
    work.push();
    let added = sandbox.store().total_bytes() - before;
    assert!(added < content.len() as u64 * 11 / 10, "six objects over 12 MB of content added {added} bytes");
    assert_same_tree(&work.path, &sandbox.clone_elsewhere("within").path);
}
