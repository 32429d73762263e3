//! Delta frames: the bytes that they save, and their cost to read. `cargo bench --bench deltas -- DIR…`, each
//! with folders `v1`, `v2` and so on. Every version is pushed from a clone that has all before. This is
//! repeated for several rules that decide when a frame is stored as a delta, or with `--default` only for the
//! usual rule.

mod corpus;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use corpus::{Reads, files_under, reads, versions_of};
use git_lfs_cdc::config;
use git_lfs_cdc::config::{DeltaRule, Settings};
use git_lfs_cdc::engine::{Engine, Transfer};
use git_lfs_cdc::format::limits;
use git_lfs_cdc::id::Oid;
use git_lfs_cdc::local::lfs_objects;
use git_lfs_cdc::progress::Progress;
use git_lfs_cdc::store::{Access, Creation, Store, StoreUrl};
use sha2::{Digest, Sha256};

/// Rules: the least that a frame has to save, in percent, and the depth of chains of deltas.
const ALL: [(u8, u8); 12] =
    [(0, 1), (0, 3), (0, 8), (20, 1), (20, 3), (20, 8), (50, 1), (50, 3), (50, 8), (80, 1), (80, 3), (80, 8)];

fn main() {
    let (options, folders): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let is_default = options.iter().any(|option| option == "--default");
    let rules: &[(u8, u8)] =
        if is_default { &[(config::DELTA_SAVES_PERCENT, limits::DELTA_DEPTH)] } else { &ALL };
    println!(
        "| corpus | saves at least | depth | stored MB | last: read MB | requests | each: read MB | pushes: s | CPU s | clone: s | CPU s |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for folder in folders.iter().map(PathBuf::from) {
        measure(&folder, None);
        for &(saves_percent, depth) in rules {
            measure(&folder, Some(DeltaRule { saves_percent, depth }));
        }
    }
}

/// An object in the LFS storage of the clone that pushes.
struct Object {
    oid: Oid,
    size_bytes: u64,
    path: PathBuf,
}

impl Object {
    /// Copies a file into the folder of the objects.
    fn copy(file: &Path, objects: &Path) -> Self {
        let content = std::fs::read(file).expect("a file");
        let oid = Oid(Sha256::digest(&content).into());
        let path = lfs_objects::path_in(objects, &oid);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, &content).expect("a copy");
        Self { oid, size_bytes: content.len() as u64, path }
    }
}

fn measure(corpus: &Path, delta: Option<DeltaRule>) {
    let place = tempfile::tempdir().expect("a folder");
    let url = StoreUrl::parse("store").expect("a URL");
    let open = || {
        Store::create_or_join(&url, place.path(), &Access::default(), Creation::default()).expect("a store").0
    };
    let engine = |lfs: &str| {
        let settings = Settings { delta, ..Settings::new("bench", place.path().join(lfs)) };
        Engine::new(open(), settings)
    };
    let mut versions = Vec::new();
    let mut pushes = Took::default();
    for folder in versions_of(corpus) {
        let objects: Vec<Object> = files_under(&folder)
            .iter()
            .map(|file| Object::copy(file, &place.path().join("lfs/objects")))
            .collect();
        let start = Start::now();
        let engine = engine("lfs");
        for Object { oid, size_bytes, path } in &objects {
            engine.upload(oid, *size_bytes, path, &Arc::new(Progress::default())).expect("a push");
        }
        pushes.add(&start);
        versions.push(objects);
    }
    let mut cloned = Took::default();
    let start = Start::now();
    let clone = engine("clone");
    for Object { oid, size_bytes, .. } in versions.last().into_iter().flatten() {
        clone.download(oid, *size_bytes, &Arc::new(Progress::default())).expect("a pull");
    }
    cloned.add(&start);
    let store = open();
    let read = |version: &Vec<Object>| {
        let oids: Vec<Oid> = version.iter().map(|object| object.oid).collect();
        reads(&store, &oids)
    };
    let reads: Vec<Reads> = versions.iter().map(read).collect();
    let Reads { requests, bytes, .. } = *reads.last().expect("a version");
    let each = reads.iter().map(|reads| reads.bytes).sum::<u64>() as f64 / reads.len() as f64 / 1e6;
    let name = corpus.file_name().unwrap_or_default().to_string_lossy();
    let (saves, depth) = match delta {
        Some(rule) => (format!("{} %", rule.saves_percent), rule.depth.to_string()),
        None => ("no deltas".into(), "".into()),
    };
    let stored = store.stored_bytes().expect("a size") as f64 / 1e6;
    let read = bytes as f64 / 1e6;
    println!(
        "| {name} | {saves} | {depth} | {stored:.1} | {read:.1} | {requests} | {each:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
        pushes.seconds, pushes.cpu_seconds, cloned.seconds, cloned.cpu_seconds
    );
}

/// The beginning of a measurement: the clock's time, and the CPU time of this process.
struct Start(Instant, f64);

impl Start {
    fn now() -> Self {
        Self(Instant::now(), cpu_seconds())
    }
}

#[derive(Default)]
struct Took {
    seconds: f64,
    cpu_seconds: f64,
}

impl Took {
    fn add(&mut self, start: &Start) {
        self.seconds += start.0.elapsed().as_secs_f64();
        self.cpu_seconds += cpu_seconds() - start.1;
    }
}

#[cfg(unix)]
fn cpu_seconds() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

#[cfg(not(unix))]
fn cpu_seconds() -> f64 {
    f64::NAN
}
