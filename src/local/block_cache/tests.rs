//! Tests of kept ranges: the cap, the order of removal, and the files of dead processes.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::*;
use crate::id::{ContentHash, Nonce};
use crate::local::block_cache::CACHE_DATED_SECONDS;
use crate::local::quota::{CACHE_GIVES_WAY_BYTES, cost_bytes};

const KIB: u32 = crate::units::KIB as u32;

fn block(number: u8) -> BlockId {
    BlockId { hash: ContentHash([number; 32]), nonce: Nonce([0; 8]) }
}

/// Returns the content of a block in a range. It is the same each time.
fn content(block: u8, range: &Range<u32>) -> Vec<u8> {
    range.clone().map(|at| (at / 7) as u8 ^ block).collect()
}

fn read(ranges: &Ranges, number: u8, wanted: Range<u32>) -> Option<Vec<u8>> {
    ranges.read(&block(number), &wanted, Vec::new())
}

fn keep(ranges: &Ranges, number: u8, range: Range<u32>) {
    ranges.keep(&block(number), &range, &content(number, &range));
}

/// Lists every file below a folder with its length, under any name.
fn files(root: &Path) -> BTreeMap<PathBuf, u64> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in listed(&folder) {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => drop(files.insert(entry.path(), metadata.len())),
                Err(_) => {}
            }
        }
    }
    files.retain(|path, _| !path.ends_with("ranges.lock"));
    files
}

fn counted(root: &Path) -> u64 {
    files(root).values().map(|bytes| cost_bytes(*bytes)).sum()
}

#[test]
fn what_is_kept_is_read_by_whoever_has_the_store_and_several_pieces_make_one() {
    let root = tempfile::tempdir().unwrap();
    let ranges = Ranges::at(root.path(), "one", 1 << 30);
    for range in [100..200, 200..350, 300..400, 500..600] {
        keep(&ranges, 1, range);
    }
    for wanted in [100..200, 150..160, 150..390, 100..400, 599..600] {
        let other = Ranges::at(root.path(), "one", 1 << 30);
        assert_eq!(read(&other, 1, wanted.clone()).unwrap(), content(1, &wanted));
        assert!(other.of(&block(1)).covers(&wanted));
    }
    for wanted in [99..101, 399..401, 350..550, 600..601] {
        assert!(read(&ranges, 1, wanted.clone()).is_none());
        assert!(!ranges.of(&block(1)).covers(&wanted));
    }
    assert!(read(&ranges, 2, 100..200).is_none());
    assert!(read(&Ranges::at(root.path(), "other", 1 << 30), 1, 100..200).is_none());
}

#[test]
fn a_range_takes_the_place_of_those_that_lie_in_it() {
    let root = tempfile::tempdir().unwrap();
    let ranges = Ranges::at(root.path(), "one", 1 << 30);
    for range in [100..200, 300..400, 390..500, 0..400, 100..300] {
        keep(&ranges, 1, range);
    }
    let names = files(root.path()).into_keys().map(|path| path.file_name().unwrap().to_owned());
    assert_eq!(names.collect::<Vec<_>>(), ["0-400", "390-500"]);
}

#[test]
fn what_is_cut_short_or_forgotten_is_not_there_any_more() {
    let root = tempfile::tempdir().unwrap();
    let ranges = Ranges::at(root.path(), "one", 1 << 30);
    keep(&ranges, 1, 0..1000);
    let path = files(root.path()).into_keys().next().unwrap();
    File::options().write(true).open(&path).unwrap().set_len(999).unwrap();
    assert!(read(&ranges, 1, 0..10).is_none());
    assert!(files(root.path()).is_empty());
    for range in [0..1000, 1000..2000, 2000..3000] {
        keep(&ranges, 1, range);
    }
    ranges.forget(&block(1), &(999..1001));
    assert_eq!(files(root.path()).len(), 1);
    assert!(read(&ranges, 1, 2000..3000).is_some());
}

#[test]
fn without_room_nothing_is_kept_and_nothing_is_touched() {
    let root = tempfile::tempdir().unwrap();
    let id = StoreId([1; 16]);
    let off = Ranges::for_store(&id, "nowhere", 0);
    off.keep(&block(1), &(0..10), &[0; 10]);
    assert!(off.place.is_none() && off.of(&block(1)).0.is_empty());
    let small = Ranges::at(root.path(), "one", 100 * u64::from(KIB));
    keep(&small, 1, 0..101 * KIB);
    assert!(files(root.path()).is_empty(), "larger than all");
    keep(&small, 1, 0..99 * KIB);
    assert_eq!(files(root.path()).len(), 1);
    // a place where no folder can be made
    let file = root.path().join("file");
    fs::write(&file, b"").unwrap();
    keep(&Ranges::at(&file, "one", 1 << 30), 1, 0..10);
}

/// A file that a killed process was writing counts until another process makes room. Then it is removed.
#[test]
fn what_dead_processes_have_left_is_removed_and_what_living_ones_write_is_counted() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("one").join(RANGES).join(block(1).to_string());
    fs::create_dir_all(&folder).unwrap();
    let most = 1000 * u64::from(KIB);
    let dead = begin_file(&folder, &(0..10), 600 * u64::from(KIB)).unwrap();
    let (file, path) = dead.keep().unwrap();
    let writing = begin_file(&folder, &(0..20), 600 * u64::from(KIB)).unwrap();
    drop(file);
    let ranges = Ranges::at(root.path(), "one", most);
    keep(&ranges, 2, 0..500 * KIB);
    assert!(!path.exists() && writing.path().exists());
    assert!(read(&ranges, 2, 0..10).is_none(), "it doesn't fit beside what is being written");
    keep(&ranges, 2, 0..300 * KIB);
    assert!(read(&ranges, 2, 0..10).is_some());
    drop(writing);
    keep(&Ranges::at(root.path(), "one", most), 3, 0..500 * KIB);
    assert_eq!(files(root.path()).len(), 2);
}

#[test]
fn what_was_used_least_recently_goes_first_whatever_store_it_is_of() {
    let root = tempfile::tempdir().unwrap();
    let ranges = |store| Ranges::at(root.path(), store, 1000 * u64::from(KIB));
    for number in 0..8 {
        let store = if number % 2 == 0 { "even" } else { "odd" };
        keep(&ranges(store), number, 0..100 * KIB);
    }
    let old = SystemTime::now() - Duration::from_secs(10 * CACHE_DATED_SECONDS);
    for (number, path) in files(root.path()).into_keys().enumerate() {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(old + Duration::from_secs(number as u64)).unwrap();
    }
    // by its date, this range would be removed first
    assert!(read(&ranges("even"), 0, 0..10).is_some());
    keep(&ranges("odd"), 9, 0..300 * KIB);
    assert!(read(&ranges("even"), 0, 0..10).is_some(), "it was used a moment ago");
    assert!(read(&ranges("even"), 2, 0..10).is_none(), "it was used least recently");
    assert!(read(&ranges("odd"), 7, 0..10).is_some());
    assert!(!root.path().join("even").join(RANGES).join(block(2).to_string()).exists());
}

#[derive(Clone, Debug)]
enum Step {
    Keep {
        block: u8,
        start: u32,
        bytes: u32,
    },
    Read {
        block: u8,
        start: u32,
        bytes: u32,
    },
    Forget {
        block: u8,
        start: u32,
    },
    /// Another process begins to use the ranges.
    Anew {
        process: usize,
        most_kib: u64,
    },
    /// A process is killed after it has made room, or while it writes.
    Die {
        block: u8,
        bytes: u32,
    },
    SpoilLedger(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let place = (0..4u8, (0..40u32).prop_map(|unit| unit * 10 * KIB), 1..300 * KIB);
    prop_oneof![
        6 => place.clone().prop_map(|(block, start, bytes)| Step::Keep { block, start, bytes }),
        3 => place.clone().prop_map(|(block, start, bytes)| Step::Read { block, start, bytes }),
        1 => place.clone().prop_map(|(block, start, _)| Step::Forget { block, start }),
        1 => (0..3usize, 400..1500u64).prop_map(|(process, most_kib)| Step::Anew { process, most_kib }),
        1 => place.prop_map(|(block, _, bytes)| Step::Die { block, bytes }),
        1 => proptest::collection::vec(any::<u8>(), 0..7).prop_map(Step::SpoilLedger),
        1 => Just(Step::SpoilLedger(vec![0xff; 8])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The cap holds after each step, and reads return the bytes that were kept.
    #[test]
    fn the_cap_is_held(steps in proptest::collection::vec((0..3usize, step()), 1..60)) {
        let root = tempfile::tempdir().unwrap();
        let open = |most_kib: u64| Ranges::at(root.path(), "one", most_kib * u64::from(KIB));
        let mut caps = [1000; 3];
        let mut processes = [open(1000), open(1000), open(1000)];
        for (process, step) in steps {
            let ranges = &processes[process];
            match step {
                Step::Keep { block, start, bytes } => {
                    let before = counted(root.path());
                    keep(ranges, block, start..start + bytes);
                    // Another process may have a higher cap. Also, the ranges of a process with a higher cap
                    // stay after it has ended, until a process keeps a new range.
                    let most = *caps.iter().max().unwrap() * u64::from(KIB);
                    prop_assert!(counted(root.path()) <= most.max(before));
                }
                Step::Read { block, start, bytes } => {
                    let wanted = start..start + bytes;
                    if let Some(found) = read(ranges, block, wanted.clone()) {
                        prop_assert!(found == content(block, &wanted));
                    }
                }
                Step::Forget { block: number, start } => {
                    ranges.forget(&block(number), &(start..start + 1));
                    prop_assert!(read(ranges, number, start..start + 1).is_none());
                }
                Step::Anew { process, most_kib } => {
                    (caps[process], processes[process]) = (most_kib, open(most_kib));
                }
                Step::Die { block: number, bytes } => {
                    let folder = root.path().join("one").join(RANGES).join(block(number).to_string());
                    let room = Room::new(root.path().to_owned(), caps[process] * u64::from(KIB));
                    let begun = room.begin(u64::from(bytes), || {
                        fs::create_dir_all(&folder)?;
                        begin_file(&folder, &(0..bytes), u64::from(bytes))
                    });
                    if let Ok(begun) = begun {
                        drop(begun.keep().unwrap());
                    }
                }
                Step::SpoilLedger(bytes) => {
                    fs::create_dir_all(root.path()).unwrap();
                    fs::write(root.path().join("ranges.lock"), bytes).unwrap();
                }
            }
        }
        // the process with the lowest cap shrinks all to its cap
        let least = *caps.iter().min().unwrap() * u64::from(KIB);
        Room::new(root.path().to_owned(), least).shrink().unwrap();
        prop_assert!(counted(root.path()) <= least);
    }
}

#[test]
fn bytes_that_several_ranges_hold_are_counted_once() {
    let kept = Kept::of(vec![100..200, 150..300, 120..130, 400..500]);
    for wanted in [0..600, 0..50, 0..150, 180..420, 125..450, 250..260, 300..400, 499..501, 10..10] {
        let is_held = |at: &u32| kept.0.iter().any(|range| range.contains(at));
        let expected = wanted.clone().filter(is_held).count() as u32;
        assert_eq!(kept.covered_bytes(&wanted), expected, "{wanted:?}");
    }
}

#[test]
fn ranges_give_way_to_what_the_same_disk_has_no_room_for_the_oldest_first() {
    let root = tempfile::tempdir().unwrap();
    let room = Room::new(root.path().join("kept"), 1 << 30);
    assert_eq!(room.give_way(root.path()).unwrap(), 0, "nothing is kept");
    let ranges = Ranges::at(&root.path().join("kept"), "one", 1 << 30);
    let part = CACHE_GIVES_WAY_BYTES as u32 / 2;
    for number in 0..3 {
        keep(&ranges, number, 0..part);
        let file =
            File::options().write(true).open(ranges.folder(&block(number)).unwrap().join(name(&(0..part))));
        let age = Duration::from_secs(100 - u64::from(number));
        file.unwrap().set_modified(SystemTime::now() - age).unwrap();
    }
    assert_eq!(room.give_way(root.path()).unwrap(), 2 * u64::from(part));
    assert!(read(&ranges, 1, 0..part).is_none() && read(&ranges, 2, 0..part).is_some());
    assert_eq!(room.give_way(root.path()).unwrap(), u64::from(part));
    assert_eq!(room.give_way(root.path()).unwrap(), 0);
    // ranges don't give way to a file on another disk
    #[cfg(target_os = "linux")]
    {
        keep(&ranges, 1, 0..part);
        assert_eq!(room.give_way(Path::new("/proc")).unwrap(), 0);
    }
}

/// The lock's holder may be stopped. Then nothing is kept, nothing is left behind, and no process waits for
/// ever.
#[test]
fn a_range_that_can_not_get_its_name_goes() {
    let root = tempfile::tempdir().unwrap();
    let (room, other) = [(), ()].map(|()| Room::new(root.path().to_owned(), 1 << 20)).into();
    let folder = root.path().join("one").join(RANGES).join(block(1).to_string());
    fs::create_dir_all(&folder).unwrap();
    let begun = room.begin(10, || begin_file(&folder, &(0..10), 10)).unwrap();
    let held = other.lock().unwrap();
    let path = folder.join(name(&(0..10)));
    let error = room.end(|| begun.persist(&path).map_err(|e| e.error)).unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    assert!(files(root.path()).is_empty());
    keep(&Ranges::at(root.path(), "one", 1 << 20), 1, 0..10);
    assert!(files(root.path()).is_empty());
    drop(held);
    keep(&Ranges::at(root.path(), "one", 1 << 20), 1, 0..10);
    assert_eq!(files(root.path()).len(), 1);
}

/// Each thread has a lock of its own, like a process.
#[test]
fn the_cap_is_held_while_eight_write_at_once() {
    let root = tempfile::tempdir().unwrap();
    let most = 3000 * u64::from(KIB);
    let running = AtomicUsize::new(8);
    let peak = std::thread::scope(|scope| {
        for thread in 0..8u8 {
            let root = root.path();
            let running = &running;
            scope.spawn(move || {
                let ranges = Ranges::at(root, ["one", "two"][usize::from(thread) % 2], most);
                for round in 0..60u32 {
                    let start = round * 1000 * KIB;
                    let range = start..start + (1 + (round * 7919 + u32::from(thread) * 104_729) % 500) * KIB;
                    keep(&ranges, thread, range.clone());
                    if let Some(found) = read(&ranges, thread, range.clone()) {
                        assert!(found == content(thread, &range));
                    }
                }
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        let room = Room::new(root.path().to_owned(), most);
        let mut peak = 0;
        while running.load(Ordering::SeqCst) > 0 {
            // other threads may hold the lock for too long
            let Ok(_held) = room.lock() else { continue };
            peak = peak.max(counted(root.path()));
        }
        peak
    });
    assert!(peak > most / 2 && peak <= most, "{peak} of {most}");
    assert!(counted(root.path()) <= most);
}

/// The user's own folder may have been restored, or filled by another program.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_read_and_a_lock_that_is_a_link_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let ranges = Ranges::at(root.path(), "one", 1 << 30);
    keep(&ranges, 1, 0..4 * KIB);
    let path = ranges.folder(&block(1)).unwrap().join(name(&(0..4 * KIB)));
    let link = || std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    let pipe = || assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    for put in [&link as &dyn Fn(), &pipe] {
        fs::remove_file(&path).unwrap();
        put();
        assert!(read(&ranges, 1, 0..4 * KIB).is_none());
        keep(&ranges, 1, 0..4 * KIB);
        assert!(read(&ranges, 1, 0..4 * KIB).is_some());
    }

    let lock = root.path().join("ranges.lock");
    let elsewhere = root.path().join("elsewhere");
    fs::rename(&lock, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &lock).unwrap();
    keep(&ranges, 2, 0..4 * KIB);
    assert!(read(&ranges, 2, 0..4 * KIB).is_none() && read(&ranges, 1, 0..4 * KIB).is_some());
    let refused = Room::new(root.path().to_owned(), 1 << 30).shrink().unwrap_err().to_string();
    assert!(refused.contains("ranges.lock") && refused.contains("symbolic link"), "{refused}");
}
