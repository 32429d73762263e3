//! Reads of versions of a corpus from a store that has them all: `cargo bench --bench reading -- DIR…`, each
//! with folders `v1`, `v2` and so on. For the 2nd, 5th and last version it prints requests and bytes over a
//! network, with the guard against objects of many scattered pieces, and without.

mod corpus;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use corpus::{Reads, files_under, reads, versions_of};
use git_lfs_cdc::config::Settings;
use git_lfs_cdc::engine::{Engine, Transfer};
use git_lfs_cdc::id::Oid;
use git_lfs_cdc::progress::Progress;
use git_lfs_cdc::store::{Access, Creation, Store, StoreUrl};
use sha2::{Digest, Sha256};

fn main() {
    let folders = std::env::args().skip(1).filter(|a| a != "--bench").map(PathBuf::from);
    println!("| corpus | version | guard | terms | requests | read MB | of content MB | stored MB so far |");
    println!("| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |");
    for folder in folders {
        for guards_reading in [true, false] {
            push_versions(&folder, guards_reading);
        }
    }
}

fn push_versions(corpus: &Path, guards_reading: bool) {
    let place = tempfile::tempdir().expect("a folder");
    let url = StoreUrl::parse("store").expect("a URL");
    let open = || {
        Store::create_or_join(&url, place.path(), &Access::default(), Creation::default()).expect("a store").0
    };
    let folders = versions_of(corpus);
    for (version, folder) in folders.iter().enumerate().map(|(number, folder)| (number + 1, folder)) {
        let settings = Settings {
            guards_reading,
            writes_manifest: false,
            ..Settings::new("bench", place.path().join("lfs"))
        };
        let engine = Engine::new(open(), settings);
        let mut oids = Vec::new();
        for file in files_under(folder) {
            let content = std::fs::read(&file).expect("a file");
            let oid = Oid(Sha256::digest(&content).into());
            engine.upload(&oid, content.len() as u64, &file, &Arc::new(Progress::default())).expect("a push");
            oids.push(oid);
        }
        if [2, 5, folders.len()].contains(&version) {
            report(corpus, version, guards_reading, &open(), &oids);
        }
    }
}

/// Prints the requests and bytes of a download of these objects, one by one.
fn report(corpus: &Path, version: usize, guards_reading: bool, store: &Store, oids: &[Oid]) {
    let Reads { terms, requests, bytes: read, content } = reads(store, oids);
    let name = corpus.file_name().unwrap_or_default().to_string_lossy();
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let guard = if guards_reading { "on" } else { "off" };
    let stored = store.stored_bytes().expect("a size");
    println!(
        "| {name} | {version} | {guard} | {terms} | {requests} | {:.1} | {:.1} | {:.1} |",
        mb(read),
        mb(content),
        mb(stored)
    );
}
