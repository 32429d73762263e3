//! The cost of a large store: `cargo bench --bench scale -- FOLDER MILLIONS…`, by default 1 and 10 million
//! chunks, with the servers of the tests (`tests/setup/servers.sh`). FOLDER is the folder that rclone serves
//! as the bucket `lfs` there.
//!
//! For each size it builds a store of an index and shards alone: commits of 100 objects and 1,000 chunks,
//! merged in tiers as pushes leave them. Only the objects that are really pushed and pulled have blocks. Then
//! the real code works on the store through a proxy that counts. Each task has a process of its own with an
//! empty cache, before and after a compaction with a key that may delete.

// the tests use more of these files
#[allow(dead_code, unused_imports)]
#[path = "../tests/e2e/proxy/mod.rs"]
mod proxy;
mod scale_store;
#[allow(dead_code)]
#[path = "../tests/e2e/scan.rs"]
mod scan;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use git_lfs_cdc::config::Settings;
use git_lfs_cdc::engine::{Engine, Transfer};
use git_lfs_cdc::id::Oid;
use git_lfs_cdc::maintain::compact;
use git_lfs_cdc::progress::Progress;
use git_lfs_cdc::regular_file::READ_BYTES;
use git_lfs_cdc::repo::Direction;
use git_lfs_cdc::store::{Access, Creation, Store, StoreUrl};
use proxy::{Proxy, Thing};
use sha2::{Digest, Sha256};

const LARGE_BYTES: usize = 1_000_000_000;
const SMALL_BYTES: usize = 10_000;
const SMALL: usize = 1000;
/// Number of objects at a time.
const AT_A_TIME: usize = 100;
const TASKS: [&str; 4] = ["one", "many", "push", "compact"];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [task, url, folder] = &words[..]
        && TASKS.contains(&task.as_str())
    {
        return work(task, url, Path::new(folder));
    }
    let (Ok(endpoint), Ok(keys), Some(root)) = (
        std::env::var("GIT_LFS_CDC_TEST_RCLONE"),
        std::env::var("GIT_LFS_CDC_TEST_S3_KEYS"),
        words.first().map(PathBuf::from),
    ) else {
        println!("skipped: name rclone's folder, and set GIT_LFS_CDC_TEST_RCLONE");
        return;
    };
    let sizes: Vec<u32> = words[1..].iter().map(|word| word.parse().expect("a number")).collect();
    let sizes = if sizes.is_empty() { vec![1, 10] } else { sizes };
    println!(
        "| million chunks | index | task | requests | of it metadata | metadata MB | all MB | s | memory MB | kept MB |"
    );
    println!("| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    // before the server is asked for anything, as it remembers folders
    let name = |millions: u32| format!("scale-{millions}-{}", std::process::id());
    sizes.iter().for_each(|millions| build(&root.join(name(*millions)), *millions));
    for millions in sizes {
        let name = name(millions);
        for (state, tasks) in [("as pushes leave it", &TASKS[..]), ("compacted", &TASKS[..3])] {
            for task in tasks {
                let proxy = Proxy::start(&endpoint);
                let url = format!("s3://lfs/{name}?region=us-east-1&endpoint={}", proxy.url());
                measure(millions, state, task, &url, &keys, &proxy);
            }
        }
        std::fs::remove_dir_all(root.join(name)).expect("what was built");
    }
}

/// Runs a task in a process of its own, and prints its cost.
fn measure(millions: u32, state: &str, task: &str, url: &str, keys: &str, proxy: &Proxy) {
    let folder = tempfile::tempdir().expect("a folder");
    if task == "push" {
        // so that the memory of the process is the engine's
        std::fs::write(folder.path().join("object"), large(Some((millions, state)))).expect("room");
    }
    let (id, secret) = keys.split_once(':').expect("ID:SECRET");
    let start = Instant::now();
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args([task, url])
        .arg(folder.path())
        .env("XDG_CACHE_HOME", folder.path().join("cache"))
        .env("AWS_ACCESS_KEY_ID", id)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .output()
        .expect("a second process");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let whole = start.elapsed().as_secs_f64();
    let words = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let (seconds, memory) = words.split_once(' ').unwrap_or(("", ""));
    let seconds: f64 = seconds.parse().unwrap_or(whole);
    let record = proxy.record();
    let metadata = || record.iter().filter(|e| e.request.thing != Thing::Block);
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let read: u64 = metadata().map(|e| e.received_bytes).sum();
    let all: u64 = record.iter().map(|e| e.received_bytes + e.sent_bytes).sum();
    println!(
        "| {millions} | {state} | {task} | {} | {} | {:.2} | {:.1} | {seconds:.1} | {memory} | {:.1} |",
        record.len(),
        metadata().count(),
        mb(read),
        mb(all),
        mb(size(&folder.path().join("cache")))
    );
    println!("<!-- {} -->", proxy::summary(&record));
}

fn size(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|e| if e.path().is_dir() { size(&e.path()) } else { e.metadata().map_or(0, |m| m.len()) })
        .sum()
}

fn settings(folder: &Path) -> Settings {
    Settings { compression_level: 1, writes_manifest: false, ..Settings::new("scale", folder.join("lfs")) }
}

/// A store as many pushes leave it, and the real objects in it.
fn build(folder: &Path, millions: u32) {
    let url = StoreUrl::parse(folder.to_str().expect("a path")).expect("a URL");
    let (store, _) =
        Store::create_or_join(&url, folder, &Access::default(), Creation::default()).expect("a store");
    scale_store::build(folder, millions as usize * 1000);
    let elsewhere = tempfile::tempdir().expect("a folder");
    let engine = Engine::new(store, Settings { shard_cache_bytes: 0, ..settings(elsewhere.path()) });
    push(&engine, elsewhere.path(), &[large(None)]);
    let small: Vec<Vec<u8>> = (0..SMALL).map(small).collect();
    small.chunks(AT_A_TIME).for_each(|batch| push(&engine, elsewhere.path(), batch));
}

/// The tasks of processes of their own.
fn work(task: &str, url: &str, folder: &Path) {
    let url = StoreUrl::parse(url).expect("a URL");
    if task == "compact" {
        let start = Instant::now();
        let store = Store::open(&url, folder, &Access::default()).expect("a store");
        let done = compact::compact(&store, &|_| ()).expect("a compaction");
        eprintln!("{done:?}");
        return report(start);
    }
    let object = folder.join("object");
    let oid = (task == "push").then(|| hash(&object));
    let start = Instant::now();
    let store = Store::open_looking(&url, folder, &Access::default()).expect("a store");
    let engine = Engine::opened(store, settings(folder));
    match oid {
        Some(oid) => {
            engine.prepare(Direction::Upload);
            engine.upload(&oid, LARGE_BYTES as u64, &object, &Arc::new(Progress::default())).expect("a push");
        }
        None => {
            engine.prepare(Direction::Download);
            pull(&engine, if task == "one" { 1 } else { SMALL });
        }
    }
    report(start);
}

fn report(start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = peak.and_then(|peak| peak.split_whitespace().next()?.parse().ok()).unwrap_or_default();
    println!("{seconds} {}", kib / 1000);
}

fn push(engine: &Engine, folder: &Path, contents: &[Vec<u8>]) {
    engine.set_askers(contents.len());
    std::thread::scope(|scope| {
        for content in contents {
            scope.spawn(move || {
                let oid = Oid(Sha256::digest(content).into());
                let path = folder.join(oid.to_string());
                std::fs::write(&path, content).expect("room");
                let size_bytes = content.len() as u64;
                engine.upload(&oid, size_bytes, &path, &Arc::new(Progress::default())).expect("a push");
                std::fs::remove_file(path).expect("its file");
            });
        }
    });
}

fn pull(engine: &Engine, count: usize) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(count) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let content = small(number);
                    let oid = Oid(Sha256::digest(&content).into());
                    let progress = Arc::new(Progress::default());
                    let path = engine.download(&oid, SMALL_BYTES as u64, &progress).expect("a download");
                    assert!(std::fs::read(&path).expect("a file") == content);
                }
            });
        }
    });
}

/// The hash of a file, which is not held in memory as a whole.
fn hash(path: &Path) -> Oid {
    let mut file = std::fs::File::open(path).expect("a file");
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match std::io::Read::read(&mut file, &mut buffer).expect("a readable file") {
            0 => return Oid(hash.finalize().into()),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// The large object. If `changed`, one part in a hundred is another.
fn large(changed: Option<(u32, &str)>) -> Vec<u8> {
    let mut content = noise(1, LARGE_BYTES);
    if let Some((millions, state)) = changed {
        let seed = 2 * millions + u32::from(state == "compacted");
        for part in 0..100 {
            let at = part * (LARGE_BYTES / 100);
            content[at..at + LARGE_BYTES / 10_000]
                .copy_from_slice(&noise(u64::from(seed) << 32 | part as u64, LARGE_BYTES / 10_000));
        }
    }
    content
}

fn small(number: usize) -> Vec<u8> {
    noise(1000 + number as u64, SMALL_BYTES)
}

/// Incompressible bytes, different for each seed.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut out = vec![0; bytes];
    reader.fill(&mut out);
    out
}
