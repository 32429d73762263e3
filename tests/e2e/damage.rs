//! Damage: flipped bits in the store and on this machine are found and named, and never checked out or
//! pushed.

use std::fs;

use crate::data::{assert_same_tree, damage, noise};
use crate::repo::Repo;
use crate::sandbox::{Sandbox, path_str};

/// Returns true if a block has the hash in its name, as `b3sum` shows it. Damage in any of its frames changes
/// that.
fn has_its_hash(sandbox: &Sandbox, block: &str) -> bool {
    let hash = blake3::hash(&sandbox.store().read(block));
    block_name(block).starts_with(hash.to_hex().as_str())
}

/// The name of a block in messages.
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

    assert!(!has_its_hash(&sandbox, hurt) && healthy.iter().all(|block| has_its_hash(&sandbox, block)));
    // as long as it stands, it counts for a push
    sandbox.store().remove(hurt);
    pushed_again(&sandbox, &work, "damaged");
}

/// A clone that has the objects pushes them again, and the store is whole.
#[track_caller]
fn pushed_again(sandbox: &Sandbox, work: &Repo, name: &str) {
    work.must(["lfs", "push", "--all", "origin"]);
    assert_same_tree(&work.path, &sandbox.clone_elsewhere(name).path);
}

#[test]
fn a_damaged_block_of_deltas_is_seen_by_its_hash_and_stored_again() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("patches");
    let text: Vec<u8> = (0..60_000).flat_map(|n| format!("{n}: {:x?}\n", noise(n, 6)).into_bytes()).collect();
    work.publish("text.bin", &text);
    let first = sandbox.store().files();
    let edited: Vec<u8> = text.chunks(90_000).flat_map(|part| [part, b"an edit\n"].concat()).collect();
    work.publish("text.bin", &edited);
    let files = sandbox.store().files();
    let is_new = |name: &&String| !first.contains_key(*name) && name.starts_with("blocks/");
    // on a service the block stands in its segment, and each read checks the segment's hash
    if let Some(hurt) = files.keys().find(is_new) {
        let bytes = sandbox.store().read(hurt);
        assert!(bytes.windows(4).any(|four| four == 0x184D_2A5C_u32.to_le_bytes()), "there is a patch in it");
        let mut damaged = bytes.to_vec();
        damaged[200] ^= 1;
        sandbox.store().write(hurt, &damaged);
        assert!(!has_its_hash(&sandbox, hurt));
        sandbox.store().remove(hurt);
        pushed_again(&sandbox, &work, "patches");
    }
}

#[test]
fn a_damaged_index_segment_is_moved_away_and_its_objects_are_pushed_again() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("segment");
    work.publish("a.bin", &noise(1, 300_000));
    work.publish("b.bin", &noise(2, 300_000));
    let hurt = sandbox.store().segments().remove(0);
    sandbox.store().damage(&hurt);
    let other = sandbox.other_machine("other");
    let outcome = other.git(&sandbox.path("other"), ["clone", path_str(&sandbox.remote("segment")), "copy"]);
    other.expect_failure(outcome, &["is not what was written", "move it away", "lfs push --all"]);
    let outcome = work.cdc(["status"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.text());
    assert!(outcome.text().contains(&hurt), "{}", outcome.text());
    sandbox.store().remove(&hurt);
    pushed_again(&sandbox, &work, "segment");
    work.machine.expect_success(work.cdc(["status"]));
}

/// Only the objects of the commit that has merged them are missing.
#[test]
fn segments_merged_into_a_damaged_one_are_read_instead() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("merged");
    (0..25).for_each(|seed| work.publish(&format!("{seed}.bin"), &noise(seed, 3000)));
    let files = sandbox.store().files();
    // among small commits to a service, the largest segment would be one with a block inside
    let newest = sandbox.store().segments().pop().unwrap();
    assert!(files[&newest] > 3000, "it has merged others: {files:?}");
    sandbox.store().damage(&newest);
    let other = sandbox.other_machine("other");
    let outcome = other.git(&sandbox.path("other"), ["clone", path_str(&sandbox.remote("merged")), "copy"]);
    assert!(!outcome.success());
    let copy = other.repo_at("other/copy");
    let outcome = copy.git(["lfs", "fetch"]);
    copy.machine.expect_failure(outcome, &[&work.oid("24.bin"), &newest]);
    assert!((0..24).all(|n| copy.local_object(&format!("{n}.bin")).is_file()), "all others can be had");
    // a machine that has a copy would merge the copy
    let outcome = copy.cdc(["compact"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.text());
    assert!(outcome.text().contains("move it away"), "{}", outcome.text());
    sandbox.store().remove(&newest);
    pushed_again(&sandbox, &work, "merged");
    work.machine.expect_success(work.cdc(["compact"]));
    assert_same_tree(&work.path, &sandbox.clone_elsewhere("merged").path);
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
    sandbox.store().remove(block);
    pushed_again(&sandbox, &work, "missing");
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
