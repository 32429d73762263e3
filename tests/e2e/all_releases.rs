//! All releases of the corpora, which only `tests/run.sh --full` makes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::corpora::{MB, corpus};
use crate::counted::Counted;
use crate::data::assert_same_file;
use crate::process::say;
use crate::repo::Repo;
use crate::reuse::{Versions, keeps_no_blocks, remove_blocks};
use crate::sandbox::Sandbox;
use crate::servers::corpora;

#[test]
#[ignore = "needs all corpora"]
fn models() {
    corpus("models", 4, 172 * MB);
}

#[test]
#[ignore = "needs all corpora"]
fn assets() {
    corpus("assets", 2, 16 * MB);
}

/// The folder with the five releases of `names`.
#[track_caller]
fn names() -> PathBuf {
    let names = corpora().join("names");
    assert!(names.join("v5").is_dir(), "{names:?} lacks releases\n  remedy: run tests/run.sh --full");
    names
}

/// Publishes a release of `names`.
fn release(work: &Repo, names: &Path, number: u64) {
    fs::copy(names.join(format!("v{number}/names.json")), work.file("names.bin")).unwrap();
    work.commit("release");
    work.push();
}

#[test]
#[ignore = "needs all corpora"]
fn names_version_5_needs_no_block_of_versions_1_to_4() {
    let names = names();
    let sandbox = Sandbox::new();
    let work = sandbox.repository("names");
    let Versions { copy, old_blocks, added_bytes } =
        Versions::publish(&sandbox, &work, |number| release(&work, &names, number));
    remove_blocks(&sandbox.store(), &old_blocks);
    copy.must(["pull", "--quiet"]);
    assert_same_file(&work.file("names.bin"), &copy.file("names.bin"));
    say(&format!("names, version 5: all that is new in the store are {added_bytes} bytes"));
    assert!(added_bytes <= 700_000, "{added_bytes}");
}

#[test]
#[ignore = "needs all corpora and an S3 server"]
fn names_version_5_after_1_to_4_moves_at_most_700_kb() {
    let names = names();
    let counted = Counted::new();
    let Counted { sandbox, work, .. } = &counted;
    let Versions { copy, .. } = Versions::publish(sandbox, work, |number| release(work, &names, number));
    let moved = counted.moved_by("names, version 5 after 1 to 4", || {
        copy.must(["pull", "--quiet"]);
    });
    assert_same_file(&work.file("names.bin"), &copy.file("names.bin"));
    assert!(moved.bytes <= 700_000, "{}", moved.bytes);
}

/// Returns the bytes that a clone of version 5 on a new machine moves, with deltas or without.
fn cold_clone_bytes(names: &Path, delta: &str) -> u64 {
    let counted = Counted::new();
    let Counted { sandbox, work, .. } = &counted;
    work.must(["config", "lfs-cdc.delta", delta]);
    (1..=5).for_each(|number| release(work, names, number));
    let machine = sandbox.other_machine("cold");
    keeps_no_blocks(&machine, sandbox);
    let moved = counted.moved_by(&format!("names, a clone of version 5, deltas {delta}"), || {
        machine.clone_of(&sandbox.remote("counted"), "copy");
    });
    moved.bytes
}

#[test]
#[ignore = "needs all corpora and an S3 server"]
fn a_cold_clone_of_names_version_5_moves_hardly_more_with_deltas() {
    let names = names();
    let without = cold_clone_bytes(&names, "false");
    let with = cold_clone_bytes(&names, "true");
    assert!(with * 100 <= without * 115, "{with} bytes with deltas, {without} without");
}
