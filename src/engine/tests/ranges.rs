//! Kept ranges: later downloads take them from this machine, and no download depends on them.

use super::downloads::{Bucket, assert_right, counting, pull_all};
use super::*;
use crate::local::block_cache::Ranges;

const PLENTY: u64 = 1 << 30;

/// Returns an engine that knows only the kept ranges in a folder, and the count of its block reads.
fn engine(bucket: &Bucket, kept: &Path, most_bytes: u64) -> (Engine, Arc<AtomicUsize>) {
    let (watch, gets) = counting("blocks/");
    let mut engine = bucket.engine(watch);
    engine.downloader.fetching.ranges = Ranges::at(kept, "store", most_bytes);
    (engine, gets)
}

/// Pulls all objects with a new engine into an empty clone. Returns the number of block reads.
#[track_caller]
fn gets_of_a_pull(bucket: &Bucket, kept: &Path, most_bytes: u64) -> usize {
    // otherwise it would resume the last download
    let _ = std::fs::remove_dir_all(bucket.place.folder.path().join("lfs"));
    let (engine, gets) = engine(bucket, kept, most_bytes);
    assert_right(&bucket.objects, pull_all(&engine, &bucket.objects, 8));
    gets.load(Ordering::SeqCst)
}

/// Returns the file of every kept range.
fn kept_files(kept: &Path) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(kept.join("store/ranges")).into_iter().flatten();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

#[test]
fn a_second_pull_asks_for_no_block() {
    for (count, bytes) in [(300, 10_000), (3, 30_000_000)] {
        let (bucket, kept) = (Bucket::with(count, bytes), tempfile::tempdir().unwrap());
        assert!(gets_of_a_pull(&bucket, kept.path(), PLENTY) > 0);
        assert_eq!(gets_of_a_pull(&bucket, kept.path(), PLENTY), 0, "{count} objects of {bytes} bytes");
    }
}

#[test]
fn without_room_everything_comes_from_the_store() {
    let (bucket, kept) = (Bucket::with(3, 2_000_000), tempfile::tempdir().unwrap());
    assert!(gets_of_a_pull(&bucket, kept.path(), 1000) > 0);
    assert!(gets_of_a_pull(&bucket, kept.path(), 1000) > 0);
    assert!(kept_files(kept.path()).is_empty());
}

/// Damaged ranges, in every way, are fetched again and kept anew.
#[test]
fn what_is_kept_and_damaged_is_fetched_again() {
    let (bucket, kept) = (Bucket::with(40, 300_000), tempfile::tempdir().unwrap());
    gets_of_a_pull(&bucket, kept.path(), PLENTY);
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes.iter_mut().step_by(100_000).for_each(|byte| *byte ^= 1),
        |bytes| bytes.fill(0),
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.clear(),
    ];
    for damage in damages {
        for path in kept_files(kept.path()) {
            let mut bytes = std::fs::read(&path).unwrap();
            damage(&mut bytes);
            std::fs::write(path, bytes).unwrap();
        }
        assert!(gets_of_a_pull(&bucket, kept.path(), PLENTY) > 0);
        // ranges that overlap damage go too, so it takes more pulls until all are kept again
        assert!((0..5).any(|_| gets_of_a_pull(&bucket, kept.path(), PLENTY) == 0));
    }
}

/// If one range is gone, only that range is fetched.
#[test]
fn what_is_missing_is_fetched_beside_what_is_kept() {
    let (bucket, kept) = (Bucket::with(1, 60_000_000), tempfile::tempdir().unwrap());
    let all = gets_of_a_pull(&bucket, kept.path(), PLENTY);
    let files = kept_files(kept.path());
    assert_eq!(files.len(), all);
    std::fs::remove_file(&files[0]).unwrap();
    assert_eq!(gets_of_a_pull(&bucket, kept.path(), PLENTY), 1);
    assert_eq!(gets_of_a_pull(&bucket, kept.path(), PLENTY), 0);
}

/// A user may clear the cache while downloads are under way. The downloads lose nothing.
#[test]
fn what_is_removed_under_a_download_is_fetched() {
    let (bucket, kept) = (Bucket::with(60, 1_000_000), tempfile::tempdir().unwrap());
    gets_of_a_pull(&bucket, kept.path(), PLENTY);
    std::fs::remove_dir_all(bucket.place.folder.path().join("lfs")).unwrap();
    let (engine, _) = engine(&bucket, kept.path(), PLENTY);
    std::thread::scope(|scope| {
        let done = scope.spawn(|| pull_all(&engine, &bucket.objects, 4));
        while !done.is_finished() {
            let _ = std::fs::remove_dir_all(kept.path().join("store"));
        }
        assert_right(&bucket.objects, done.join().unwrap());
    });
}
