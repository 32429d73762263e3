//! Real files in several releases: how small the store stays, and that every release comes back as it was.

use std::fs;
use std::path::{Path, PathBuf};

use git_lfs_cdc::format::chunking::{GEAR_16K, chunk_id};

use crate::data::{assert_same_tree, listing, total_bytes};
use crate::process::say;
use crate::sandbox::{Sandbox, full};

const MB: u64 = 1_000_000;

/// Pushes the releases of one corpus one after the other, checks the store's size, and clones all of them back.
fn corpus(name: &str, releases: usize, limit_bytes: u64) {
    let Some(root) = std::env::var_os("GIT_LFS_CDC_CORPORA") else {
        return say(&format!("skipped: corpus {name}, GIT_LFS_CDC_CORPORA is not set"));
    };
    let root = PathBuf::from(root).join(name);
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
fn binary() {
    corpus("binary", 5, 41 * MB);
}

#[test]
fn names() {
    let (releases, limit_bytes) = if full() { (5, 33 * MB) } else { (3, 31 * MB) };
    corpus("names", releases, limit_bytes);
}

/// Where real files are cut, and what their chunks are called, never changes: stores depend on it.
#[test]
fn cuts_and_chunk_ids_of_real_files_are_pinned() {
    let Some(root) = std::env::var_os("GIT_LFS_CDC_CORPORA") else {
        return say("skipped: cuts of real files, GIT_LFS_CDC_CORPORA is not set");
    };
    for (file, chunks, digest) in [
        ("names/v1/names.json", 6142, "41627f64396db0f7206199d4dfb8a4259799187a0831ca52e7a3ef1b0ce8c532"),
        ("binary/v1/ruff", 1440, "c68216760d40be4dc826a1fcf7fad4f5d2e05a46759cf9019c360874cbd84ffc"),
    ] {
        let data = fs::read(Path::new(&root).join(file)).unwrap();
        let (mut hasher, mut count, mut rest) = (blake3::Hasher::new(), 0, data.as_slice());
        while let Some(length) = GEAR_16K.next_cut(rest, true) {
            hasher.update(&(length as u64).to_le_bytes());
            hasher.update(&chunk_id(&rest[..length]).0);
            (count, rest) = (count + 1, &rest[length..]);
        }
        assert_eq!((count, hasher.finalize().to_hex().as_str()), (chunks, digest), "{file}");
    }
}

#[test]
fn models() {
    match full() {
        true => corpus("models", 4, 172 * MB),
        false => say("skipped: corpus models, only with --full"),
    }
}

#[test]
fn assets() {
    match full() {
        true => corpus("assets", 2, 16 * MB),
        false => say("skipped: corpus assets, only with --full"),
    }
}
