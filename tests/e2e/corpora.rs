//! Corpora: real files in several releases. The store stays small, and every release comes back as it was.

use std::fs;
use std::path::Path;

use git_lfs_cdc::format::chunking::{GEAR_16K, chunk_id};

use crate::data::{assert_same_tree, listing, total_bytes};
use crate::process::say;
use crate::sandbox::{Sandbox, full};
use crate::servers::corpora;

pub const MB: u64 = 1_000_000;

/// Pushes the releases of one corpus one after the other, checks the store's size, and clones all of them
/// back.
pub fn corpus(name: &str, releases: usize, limit_bytes: u64) {
    let root = corpora().join(name);
    let folders: Vec<_> = (1..=releases).map(|number| root.join(format!("v{number}"))).collect();

    let sandbox = Sandbox::new();
    let work = sandbox.repository(name);
    work.write(".gitattributes", b"data/** filter=lfs diff=lfs merge=lfs -text\n");
    for folder in &folders {
        replace_content(folder, &work.file("data"));
        work.commit("release");
        work.push();
    }
    let plain: u64 = folders.iter().map(|folder| total_bytes(folder)).sum();
    let stored = sandbox.store().total_bytes();
    say(&format!(
        "corpus {name}: {releases} releases, {} plain, {} stored",
        megabytes(plain),
        megabytes(stored)
    ));

    let copy = sandbox.clone_elsewhere(name);
    for (age, folder) in folders.iter().rev().enumerate() {
        copy.must(["checkout", "--quiet", &format!("main~{age}")]);
        assert_same_tree(folder, &copy.file("data"));
    }
    assert!(
        stored <= limit_bytes,
        "{name}: {} stored, more than {}",
        megabytes(stored),
        megabytes(limit_bytes)
    );
}

fn replace_content(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    for name in listing(from).keys() {
        let target = to.join(name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(from.join(name), target).unwrap();
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / MB as f64)
}

#[test]
#[ignore = "needs corpora"]
fn binary() {
    corpus("binary", 5, 41 * MB);
}

#[test]
#[ignore = "needs corpora"]
fn names() {
    let (releases, limit_bytes) = if full() { (5, 33 * MB) } else { (3, 31 * MB) };
    corpus("names", releases, limit_bytes);
}

/// Cuts and chunk ids of real files never change, because stores depend on them.
#[test]
#[ignore = "needs corpora"]
fn cuts_and_chunk_ids_of_real_files_are_pinned() {
    let root = corpora();
    for (file, chunks, digest) in [
        ("names/v1/names.json", 6142, "41627f64396db0f7206199d4dfb8a4259799187a0831ca52e7a3ef1b0ce8c532"),
        ("binary/v1/ruff", 1440, "c68216760d40be4dc826a1fcf7fad4f5d2e05a46759cf9019c360874cbd84ffc"),
    ] {
        let data = fs::read(root.join(file)).unwrap();
        let mut hasher = blake3::Hasher::new();
        let mut count = 0;
        let mut rest = data.as_slice();
        while let Some(length) = GEAR_16K.next_cut(rest, true) {
            hasher.update(&(length as u64).to_le_bytes());
            hasher.update(&chunk_id(&rest[..length]).0);
            count += 1;
            rest = &rest[length..];
        }
        assert_eq!((count, hasher.finalize().to_hex().as_str()), (chunks, digest), "{file}");
    }
}
