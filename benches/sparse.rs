//! Sparse deduplication: its share of the chunks that exact deduplication finds. `cargo bench --bench sparse
//! -- DIR…`, each with the versions of a corpus in folders `v1`, `v2` and so on. A process that knows nothing
//! pushes each version.
//!
//! Files are pushed whole, and once more in pieces of 10 MB, as sharded datasets have them.

mod corpus;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use corpus::{files_under, versions_of};
use git_lfs_cdc::config::Settings;
use git_lfs_cdc::engine::{Engine, Transfer};
use git_lfs_cdc::id::Oid;
use git_lfs_cdc::maintain::stats::stats;
use git_lfs_cdc::progress::Progress;
use git_lfs_cdc::store::{Access, Creation, Store, StoreUrl};
use sha2::{Digest, Sha256};

const PIECE_BYTES: usize = 10_000_000;

fn main() {
    let folders: Vec<PathBuf> =
        std::env::args().skip(1).filter(|a| a != "--bench").map(PathBuf::from).collect();
    if folders.is_empty() {
        println!("name the folders of corpora, made by tests/setup/corpora.sh");
        return;
    }
    println!("| corpus | files | pushed MB | found by exact MB | by sparse MB | share |");
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    for folder in folders {
        for piece_bytes in [usize::MAX, PIECE_BYTES] {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            let files = if piece_bytes == usize::MAX { "whole" } else { "10 MB each" };
            let [exact, sparse] = [u64::MAX, 0].map(|shard_cache| pushed(&folder, piece_bytes, shard_cache));
            let [pushed, by_exact, by_sparse] = [exact.0, exact.0 - exact.1, sparse.0 - sparse.1];
            let share = 100.0 * by_sparse as f64 / by_exact.max(1) as f64;
            let mb = |bytes: u64| bytes as f64 / 1e6;
            println!(
                "| {name} | {files} | {:.1} | {:.1} | {:.1} | {share:.1} % |",
                mb(pushed),
                mb(by_exact),
                mb(by_sparse)
            );
        }
    }
}

/// Pushes all versions. Returns the pushed bytes, and the novel bytes among them before compression.
fn pushed(corpus: &Path, piece_bytes: usize, shard_cache_bytes: u64) -> (u64, u64) {
    let place = tempfile::tempdir().expect("a folder");
    let url = StoreUrl::parse("store").expect("a URL");
    let open = || {
        Store::create_or_join(&url, place.path(), &Access::default(), Creation::default()).expect("a store").0
    };
    let mut bytes = 0;
    for folder in versions_of(corpus) {
        let settings = Settings {
            compression_level: 1,
            shard_cache_bytes,
            writes_manifest: false,
            ..Settings::new("bench", place.path().join("lfs"))
        };
        let engine = Engine::new(open(), settings);
        for file in files_under(&folder) {
            let content = std::fs::read(file).expect("a file");
            for piece in content.chunks(piece_bytes) {
                push(&engine, place.path(), piece);
                bytes += piece.len() as u64;
            }
        }
    }
    (bytes, stats(&open()).expect("figures").unique_bytes)
}

fn push(engine: &Engine, folder: &Path, content: &[u8]) {
    let oid = Oid(Sha256::digest(content).into());
    let path = folder.join(oid.to_string());
    std::fs::write(&path, content).expect("room");
    engine.upload(&oid, content.len() as u64, &path, &Arc::new(Progress::default())).expect("a push");
    std::fs::remove_file(path).expect("its file");
}
