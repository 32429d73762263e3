//! Concurrent downloads: they take few requests and bounded memory, and each has its own answer.

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};

use super::*;
use crate::config;
use crate::format::limits;
use crate::progress::PROGRESS_INTERVAL_MS;

/// The number of objects that are pushed at once, the same as git-lfs's batch.
const BATCH: usize = 100;

/// A bucket with objects in it.
pub(super) struct Bucket {
    pub(super) place: Place,
    pub(super) backend: Arc<InMemory>,
    pub(super) objects: Vec<Object>,
}

impl Bucket {
    /// Creates a bucket with `count` objects of `bytes` bytes, pushed a batch at a time.
    pub(super) fn with(count: usize, bytes: usize) -> Self {
        let (place, backend) = (Place::new(), Arc::new(InMemory::new()));
        let objects: Vec<Object> = (0..count).map(|seed| place.object(&noise(seed as u64, bytes))).collect();
        let engine = place.engine_of(Store::on(backend.clone()).unwrap(), "mine");
        objects
            .chunks(BATCH)
            .for_each(|batch| groups::push_all(&engine, batch).into_iter().for_each(Result::unwrap));
        Self { place, backend, objects }
    }

    /// Creates an engine that knows nothing yet.
    pub(super) fn engine(&self, watch: Watch) -> Engine {
        self.place.engine_of(Store::on(self.backend.clone()).unwrap().watched(watch), "mine")
    }

    pub(super) fn blocks(&self) -> Vec<Key> {
        let all = wait(self.backend.list(Some(&"blocks".into())).try_collect::<Vec<_>>()).unwrap();
        all.into_iter().map(|file| file.location).collect()
    }

    pub(super) fn get(&self, key: &Key) -> Vec<u8> {
        wait(async { self.backend.get(key).await.unwrap().bytes().await.unwrap() }).to_vec()
    }

    /// Rewrites every block.
    fn rewrite_blocks(&self, change: impl Fn(&mut Vec<u8>)) {
        for block in self.blocks() {
            let mut bytes = self.get(&block);
            change(&mut bytes);
            put(&self.backend, &block, bytes);
        }
    }
}

pub(super) fn put(backend: &InMemory, key: &Key, bytes: Vec<u8>) {
    wait(backend.put(key, bytes.into())).unwrap();
}

fn wait<F: Future>(request: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(request)
}

/// Pulls all objects by `threads` threads, each with one object at a time. Returns the results in order.
pub(super) fn pull_all(engine: &Engine, objects: &[Object], threads: usize) -> Vec<Result<Vec<u8>>> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let Some(object) = objects.get(number) else { return };
                    let pulled = object.pull(engine);
                    results.lock().unwrap().push((number, pulled));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, pulled)| pulled).collect()
}

#[track_caller]
pub(super) fn assert_right(objects: &[Object], pulled: Vec<Result<Vec<u8>>>) {
    assert_eq!(objects.len(), pulled.len());
    for (object, pulled) in objects.iter().zip(pulled) {
        assert!(pulled.unwrap() == object.content, "the download of {} differs", object.oid);
    }
}

/// Counts the requests for paths that begin with `prefix`.
pub(super) fn counting(prefix: &'static str) -> (Watch, Arc<AtomicUsize>) {
    let count: Arc<AtomicUsize> = Arc::default();
    let counted = count.clone();
    let watch = move |when, call: &Call| {
        let (Call::Get(path) | Call::List(path) | Call::Put(path) | Call::Delete(path)) = call;
        if when == When::Before && path.starts_with(prefix) {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        true
    };
    (Arc::new(watch), count)
}

#[test]
fn small_objects_of_a_block_are_fetched_together() {
    let bucket = Bucket::with(600, 10_000);
    let blocks = bucket.blocks().len();
    for threads in [1, 8, 100] {
        let (watch, gets) = counting("blocks/");
        let engine = bucket.engine(watch);
        assert_right(&bucket.objects, pull_all(&engine, &bucket.objects, threads));
        let gets = gets.load(Ordering::SeqCst);
        assert!(gets <= 2 * blocks, "{gets} requests for {blocks} blocks, {threads} at once");
    }
}

#[test]
fn a_large_object_takes_no_more_requests_than_it_needs() {
    let bucket = Bucket::with(1, 40_000_000);
    let (watch, gets) = counting("blocks/");
    assert_right(&bucket.objects, pull_all(&bucket.engine(watch), &bucket.objects, 1));
    // three whole terms to a request, and the rest of each block
    let requests = |block: &Key| bucket.get(block).len().div_ceil(3 * limits::TERM_CONTENT_BYTES);
    assert_eq!(gets.load(Ordering::SeqCst), bucket.blocks().iter().map(requests).sum::<usize>());
}

/// Damage to one frame fails only the object that has it, even if another download fetched it.
#[test]
fn damage_in_a_part_that_many_wait_for_fails_one_object_only() {
    let bucket = Bucket::with(60, 10_000);
    assert_eq!(bucket.blocks().len(), 1);
    bucket.rewrite_blocks(|bytes| bytes[300_500] ^= 1);
    let pulled = pull_all(&bucket.engine(counting("").0), &bucket.objects, 8);
    let failed: Vec<_> = bucket.objects.iter().zip(&pulled).filter(|(_, p)| p.is_err()).collect();
    let [(object, Err(error))] = &failed[..] else { panic!("{} have failed", failed.len()) };
    let (error, block) = (error.to_string(), bucket.blocks()[0].filename().unwrap().replace(".zst", ""));
    for word in [&object.oid.to_string(), &block, "frame at byte", "restore it from a backup"] {
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_part_that_came_damaged_once_is_fetched_again() {
    let bucket = Bucket::with(60, 10_000);
    let block = bucket.blocks().pop().unwrap();
    let right = bucket.get(&block);
    let damaged: Vec<u8> = right.iter().map(|byte| byte ^ 1).collect();
    // the second request reads ahead, and the third reads alone the range that came damaged
    let (gets, backend) = (AtomicUsize::new(0), bucket.backend.clone());
    let engine = bucket.engine(Arc::new(move |when, call| {
        if when == When::Before && matches!(call, Call::Get(path) if path.starts_with("blocks/")) {
            match gets.fetch_add(1, Ordering::SeqCst) {
                1 => aside(|| put(&backend, &block, damaged.clone())),
                2 => aside(|| put(&backend, &block, right.clone())),
                _ => {}
            }
        }
        true
    }));
    assert_right(&bucket.objects, pull_all(&engine, &bucket.objects, 1));
}

#[test]
fn a_block_that_is_cut_short_gives_what_it_has() {
    let bucket = Bucket::with(60, 10_000);
    bucket.rewrite_blocks(|bytes| bytes.truncate(400_000));
    let pulled = pull_all(&bucket.engine(counting("").0), &bucket.objects, 8);
    let (right, failed): (Vec<_>, Vec<_>) = bucket.objects.iter().zip(pulled).partition(|(_, p)| p.is_ok());
    assert!(right.iter().all(|(object, pulled)| *pulled.as_ref().unwrap() == object.content));
    assert!((38..=40).contains(&right.len()), "{}", right.len());
    for (object, error) in failed {
        let error = error.unwrap_err().to_string();
        assert!(error.contains("cut short") && error.contains(&object.oid.to_string()), "{error}");
    }
}

/// The download that has sent a request may be cancelled. The downloads that wait for the answer still get
/// it.
#[test]
fn a_cancelled_download_takes_nothing_from_others() {
    let bucket = Bucket::with(60, 10_000);
    let given_up: Arc<Progress> = Arc::default();
    let cancel = given_up.clone();
    let engine = bucket.engine(Arc::new(move |_, call| {
        if matches!(call, Call::Get(path) if path.starts_with("blocks/")) {
            cancel.cancel();
            // time until the download notices it
            std::thread::sleep(Duration::from_millis(2 * PROGRESS_INTERVAL_MS));
        }
        true
    }));
    let (first, others) = bucket.objects.split_first().unwrap();
    std::thread::scope(|scope| {
        let unwanted = scope.spawn(|| engine.download(&first.oid, first.content.len() as u64, &given_up));
        assert_right(others, pull_all(&engine, others, 8));
        assert_eq!(unwanted.join().unwrap().unwrap_err().kind(), Kind::Busy);
    });
    assert!(first.pull(&engine).unwrap() == first.content);
}

#[test]
fn many_large_downloads_stay_within_the_memory() {
    let bucket = Bucket::with(8, 30_000_000);
    let memory_bytes = config::MEMORY_AT_LEAST_BYTES;
    let settings = Settings { memory_bytes, ..bucket.place.parts().settings };
    let engine = Engine::new(Store::on(bucket.backend.clone()).unwrap(), settings);
    assert_right(&bucket.objects, pull_all(&engine, &bucket.objects, 8));
    let peak = engine.downloader.fetching.peak_bytes();
    assert!(peak > memory_bytes / 2 && peak <= memory_bytes, "{peak}");
}

/// Downloads that miss something at the same time share one more look.
#[test]
fn many_that_miss_something_list_the_store_once() {
    let bucket = Bucket::with(1, 10_000);
    let (watch, lists) = counting("index");
    let engine = bucket.engine(watch);
    bucket.objects[0].pull(&engine).unwrap();
    lists.store(0, Ordering::SeqCst);
    let missing: Vec<Object> = (100..150).map(|seed| bucket.place.object(&noise(seed, 100))).collect();
    std::thread::scope(|scope| {
        let held = engine.downloader.hold_looks();
        let pulls: Vec<_> = missing.iter().map(|object| scope.spawn(|| object.pull(&engine))).collect();
        // time for all to get there, because a late one lists for itself
        std::thread::sleep(Duration::from_millis(200));
        drop(held);
        for pull in pulls {
            assert_eq!(pull.join().unwrap().unwrap_err().kind(), Kind::NotFound);
        }
    });
    let lists = lists.load(Ordering::SeqCst);
    assert!((1..=10).contains(&lists), "{lists} lists");
    // an object that is pushed now is found
    missing[0].push(&bucket.place.engine_of(Store::on(bucket.backend.clone()).unwrap(), "mine")).unwrap();
    assert!(missing[0].pull(&engine).unwrap() == missing[0].content);
}
