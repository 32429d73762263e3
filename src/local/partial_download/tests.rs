//! Tests of the files of downloads: keeping them, going on with them, giving them back and removing them.

use super::finished::hold;
use super::*;
use crate::local::partial_download::{HAND_OVER_MS, PARTIAL_BYTES, PARTIAL_STALE_SECONDS};

const LARGE: u64 = PARTIAL_BYTES;

fn files(scratch: &Scratch) -> Vec<String> {
    let names = fs::read_dir(&scratch.folder).unwrap();
    let mut names: Vec<_> = names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_large_download_goes_on_where_the_last_one_ended() {
    let storage = tempfile::tempdir().unwrap();
    let scratch = Scratch::open(storage.path(), Modes::default(), None).unwrap();
    let oid = Oid([7; 32]);
    let first = scratch.create(&oid, LARGE).unwrap();
    assert!(!first.has_content());
    first.write_at(b"here", 1000).unwrap();
    drop(first);
    assert_eq!(files(&scratch), [format!("{oid}.partial")]);

    let second = Scratch::open(storage.path(), Modes::default(), None).unwrap().create(&oid, LARGE).unwrap();
    let mut read = [0; 4];
    second.read_at(&mut read, 1000).unwrap();
    assert!(second.has_content() && &read == b"here");
    // the same object at the same time gets a file of its own, which vanishes
    let other = scratch.create(&oid, LARGE).unwrap();
    assert!(!other.has_content() && files(&scratch).len() == 2);
    drop(other);
    let finished = second.hand_over().unwrap();
    assert_eq!(finished.metadata().unwrap().len(), LARGE);
    assert_eq!(files(&scratch), [finished.file_name().unwrap().to_str().unwrap()]);
    let _held = Finished::at(finished);
    assert!(!scratch.create(&oid, LARGE).unwrap().has_content(), "what is finished is git-lfs's");
}

#[test]
fn what_git_lfs_does_not_take_is_kept_if_it_is_large() {
    let storage = tempfile::tempdir().unwrap();
    let scratch = Scratch::open(storage.path(), Modes::default(), None).unwrap();
    let finished = |oid: &Oid, size_bytes: u64| {
        let file = scratch.create(oid, size_bytes).unwrap();
        file.write_at(b"here", 2).unwrap();
        Finished::at(file.hand_over().unwrap())
    };
    let oid = Oid([7; 32]);
    let taken = finished(&oid, LARGE);
    fs::rename(&taken.path, storage.path().join("object")).unwrap();
    drop(taken);
    drop(finished(&oid, 10));
    assert_eq!(files(&scratch), [""; 0]);
    drop(finished(&oid, LARGE));
    assert_eq!(files(&scratch), [format!("{oid}.partial")]);

    let first = finished(&oid, LARGE);
    let second = finished(&oid, LARGE);
    drop((first, second));
    assert_eq!(files(&scratch), [format!("{oid}.partial")], "one is enough");
    let at_it = scratch.create(&oid, LARGE).unwrap();
    let untaken = Finished::at(scratch.create(&oid, LARGE).unwrap().hand_over().unwrap());
    drop(untaken);
    let mut read = [0; 4];
    at_it.read_at(&mut read, 2).unwrap();
    assert!(&read == b"here" && files(&scratch).len() == 1, "what another download is at was touched");
}

#[test]
fn a_finished_download_that_nobody_holds_is_gone_on_with() {
    let storage = tempfile::tempdir().unwrap();
    let scratch = Scratch::open(storage.path(), Modes::default(), None).unwrap();
    let oid = Oid([7; 32]);
    let left = || {
        let file = scratch.create(&oid, LARGE).unwrap();
        file.write_at(b"here", 2).unwrap();
        file.hand_over().unwrap()
    };
    let old = |path: &Path, seconds: u64| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    };
    let path = left();
    let about_to_hold = std::thread::spawn({
        let path = path.clone();
        move || {
            std::thread::sleep(Duration::from_millis(HAND_OVER_MS / 20));
            hold(&path).unwrap()
        }
    });
    let other = scratch.create(&oid, LARGE).unwrap();
    assert!(!other.has_content() && path.exists(), "somebody was about to hold it");
    drop(other);
    fs::remove_file(scratch.folder.join(format!("{oid}.partial"))).unwrap();

    let held = about_to_hold.join().unwrap();
    old(&path, 60);
    assert!(!scratch.create(&oid, LARGE).unwrap().has_content(), "git-lfs may be about to take it");
    fs::remove_file(scratch.folder.join(format!("{oid}.partial"))).unwrap();

    drop(held);
    let found = scratch.create(&oid, LARGE).unwrap();
    let mut read = [0; 4];
    found.read_at(&mut read, 2).unwrap();
    assert!(found.has_content() && &read == b"here" && files(&scratch) == [format!("{oid}.partial")]);
    assert!(!scratch.create(&oid, LARGE).unwrap().has_content(), "it is locked");
}

#[test]
fn room_is_made_of_what_nobody_holds() {
    let storage = tempfile::tempdir().unwrap();
    let scratch = Scratch::open(storage.path(), Modes::default(), None).unwrap();
    drop(scratch.create(&Oid([1; 32]), LARGE).unwrap());
    let held = scratch.create(&Oid([2; 32]), LARGE).unwrap();
    let small = scratch.create(&Oid([3; 32]), 10).unwrap();
    // the second download has found the disk full before the first one has made room
    assert_eq!((scratch.make_room(0), scratch.make_room(0), scratch.make_room(1)), (Some(1), Some(1), None));
    assert!(files(&scratch).len() == 2 && held.path().exists() && small.path().exists());
}

#[test]
fn what_dead_processes_left_is_removed_and_nothing_else() {
    let storage = tempfile::tempdir().unwrap();
    let scratch = Scratch::open(storage.path(), Modes::default(), None).unwrap();
    let oid = Oid([7; 32]);
    let held = scratch.create(&oid, 10).unwrap();
    let finished = scratch.create(&oid, 10).unwrap().hand_over().unwrap();
    let folder = finished.parent().unwrap().to_owned();
    let left = |name: &str, age: u64| {
        let path = folder.join(name);
        let file = File::create(&path).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age)).unwrap();
        path
    };
    let killed = left("killed.part", 60);
    let just_created = left("created.part", 0);
    let ignored = left("ignored", 2 * 60 * 60);
    let checked = left("checked", 60);
    let old = left("old.partial", PARTIAL_STALE_SECONDS);
    let yesterdays = left("yesterdays.partial", 24 * 60 * 60);
    held.file.set_modified(std::time::SystemTime::now() - Duration::from_secs(7200)).unwrap();
    Scratch::open(storage.path(), Modes::default(), None).unwrap();
    assert!(!killed.exists() && !ignored.exists() && !old.exists() && yesterdays.exists());
    assert!(just_created.exists() && checked.exists() && finished.exists() && held.path().exists());
    let path = held.path().to_path_buf();
    drop(held);
    assert!(!path.exists(), "a failed download leaves nothing");
}

/// Other users with the right to write to the folder may have put anything there.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_neither_waited_for_nor_in_the_way() {
    let storage = tempfile::tempdir().unwrap();
    let scratch = Scratch::open(storage.path(), Modes::default(), None).unwrap();
    let oid = Oid([7; 32]);
    let (partial, elsewhere) =
        (scratch.folder.join(format!("{oid}.partial")), storage.path().join("elsewhere"));
    fs::write(&elsewhere, b"content").unwrap();
    let link = || std::os::unix::fs::symlink(&elsewhere, &partial).unwrap();
    let pipe = || assert!(std::process::Command::new("mkfifo").arg(&partial).status().unwrap().success());
    let folder = || fs::create_dir(&partial).unwrap();
    for put in [&link as &dyn Fn(), &pipe, &folder] {
        put();
        let file = scratch.create(&oid, LARGE).unwrap();
        assert!(!file.has_content());
        file.write_at(b"here", 2).unwrap();
        drop(Finished::at(file.hand_over().unwrap()));
        assert_eq!(scratch.sweep(|_| Some(Duration::ZERO)), 0);
        assert_eq!(files(&scratch), [format!("{oid}.partial")]);
        fs::remove_file(&partial).or_else(|_| fs::remove_dir(&partial)).unwrap();
    }
    assert_eq!(fs::read(&elsewhere).unwrap(), b"content");
}

#[cfg(unix)]
#[test]
fn downloads_have_the_mode_that_git_lfs_gives() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for (setting, file_mode, folder_mode) in [("group", 0o660, 0o770), ("0640", 0o640, 0o750)] {
        let storage = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(storage.path(), Modes::of(Some(setting)), None).unwrap();
        for size_bytes in [10, LARGE] {
            let finished = scratch.create(&Oid([7; 32]), size_bytes).unwrap().hand_over().unwrap();
            assert_eq!(mode(&finished), file_mode, "{setting}, {size_bytes} bytes");
        }
        assert_eq!(mode(&scratch.folder), folder_mode);
    }
}
