//! Clones of many objects through one engine, as the agents of one git-lfs command ask for them: requests,
//! bytes, seconds, and peak memory.
//!
//! `cargo bench --bench clone -- COUNT BYTES THREADS [direct]`, by default 2000 objects of 10,000 bytes by 8
//! threads, with the S3 server and the keys of the tests (`tests/setup/servers.sh`). Requests are counted by
//! a proxy in this process; `direct` does without, so that the memory is the engine's.

// the tests use more of these files
#[allow(dead_code, unused_imports)]
#[path = "../tests/e2e/proxy/mod.rs"]
mod proxy;
#[allow(dead_code)]
#[path = "../tests/e2e/scan.rs"]
mod scan;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use git_lfs_cdc::config::Settings;
use git_lfs_cdc::engine::{Engine, Transfer};
use git_lfs_cdc::id::Oid;
use git_lfs_cdc::progress::Progress;
use git_lfs_cdc::regular_file::READ_BYTES;
use git_lfs_cdc::store::{Access, Creation, Store, StoreUrl};
use proxy::{Proxy, Thing, summary};
use sha2::{Digest, Sha256};

/// Objects that are pushed at once, as git-lfs asks for them.
const BATCH: usize = 100;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let number = |place: usize, usual| words.get(place).map_or(usual, |word| word.parse().expect("a number"));
    let count = number(0, 2000);
    let bytes = number(1, 10_000);
    let threads = number(2, 8);
    let folder = tempfile::tempdir().expect("a folder");
    let variable =
        |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: start the servers"));
    let endpoint = variable("GIT_LFS_CDC_TEST_S3");
    let keys = variable("GIT_LFS_CDC_TEST_S3_KEYS");
    let (id, secret) = keys.split_once(':').expect("ID:SECRET");
    // SAFETY: no other thread runs yet
    unsafe {
        std::env::set_var("AWS_ACCESS_KEY_ID", id);
        std::env::set_var("AWS_SECRET_ACCESS_KEY", secret);
    }
    if let Some(url) = words.get(4) {
        return push(url, &words[3], count, bytes);
    }
    // SAFETY: as above
    unsafe { std::env::set_var("XDG_CACHE_HOME", folder.path().join("cache")) };
    let name = folder.path().file_name().expect("a name").to_string_lossy().replace('.', "");
    let url = |endpoint: &str| format!("s3://lfs/bench-{name}?region=us-east-1&endpoint={endpoint}");
    let oids = push_elsewhere(&url(&endpoint), folder.path(), count, bytes);
    let proxy = (words.get(3).map(String::as_str) != Some("direct")).then(|| Proxy::start(&endpoint));
    let engine = open(&url(&proxy.as_ref().map_or(endpoint, Proxy::url)), folder.path());
    let start = Instant::now();
    pull(&engine, &oids, bytes, threads);
    println!("{count} objects of {bytes} bytes, {threads} at once: {:.2} s", start.elapsed().as_secs_f64());
    if let Some(proxy) = proxy {
        let record = proxy.record();
        let blocks = record.iter().filter(|exchange| exchange.is("GET", Thing::Block));
        let fetched: u64 = blocks.map(|exchange| exchange.received_bytes).sum();
        println!("{}; {:.1} MB of blocks", summary(&record), fetched as f64 / 1e6);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
}

fn open(url: &str, folder: &Path) -> Engine {
    let url = StoreUrl::parse(url).expect("a URL");
    let (store, _) =
        Store::create_or_join(&url, folder, &Access::default(), Creation::default()).expect("a store");
    let settings = Settings { writes_manifest: false, ..Settings::new("bench", folder.join("lfs")) };
    Engine::new(store, settings)
}

/// Pushes in another process. Its memory is not counted. Returns the oids, in the order of the push.
fn push_elsewhere(url: &str, folder: &Path, count: usize, bytes: usize) -> Vec<Oid> {
    let this = std::env::current_exe().expect("this program");
    let folder = folder.to_string_lossy();
    let mut child = Command::new(this)
        .args([&count.to_string(), &bytes.to_string(), "8", &folder, url])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a second process");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let oid = |line: String| Oid::parse(&line).expect("an oid");
    let oids = lines.map(|line| oid(line.expect("a line"))).collect();
    assert!(child.wait().expect("its end").success());
    oids
}

/// Pushes `count` objects, a batch at a time, and prints their oids.
fn push(url: &str, folder: &str, count: usize, bytes: usize) {
    let engine = open(url, Path::new(folder));
    for first in (0..count).step_by(BATCH) {
        let batch = first..count.min(first + BATCH);
        engine.set_askers(batch.len());
        std::thread::scope(|scope| {
            for number in batch {
                let content = content(number as u64, bytes);
                let oid = Oid(Sha256::digest(&content).into());
                println!("{oid}");
                let path = Path::new(folder).join(oid.to_string());
                let engine = &engine;
                std::fs::write(&path, content).expect("room");
                scope.spawn(move || {
                    engine.upload(&oid, bytes as u64, &path, &Arc::new(Progress::default())).expect("a push");
                    std::fs::remove_file(path).expect("its file");
                });
            }
        });
    }
    std::io::stdout().flush().expect("a reader");
}

/// Downloads all objects. Each of `threads` threads asks for one object, then for the next.
fn pull(engine: &Engine, oids: &[Oid], bytes: usize, threads: usize) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(oid) = oids.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let progress = Arc::new(Progress::default());
                    let path = engine.download(oid, bytes as u64, &progress).expect("a download");
                    assert_eq!(hash(&path), *oid, "the download differs");
                    std::fs::remove_file(path).expect("its file");
                }
            });
        }
    });
}

fn hash(path: &Path) -> Oid {
    let mut file = File::open(path).expect("a file");
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer).expect("a readable file") {
            0 => return Oid(hash.finalize().into()),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// Incompressible bytes, different for each seed.
fn content(seed: u64, bytes: usize) -> Vec<u8> {
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut out = vec![0; bytes];
    reader.fill(&mut out);
    out
}
