//! Downloads under way, while other git-lfs commands sweep and fetch in the same LFS storage.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::data::{listing, noise};
use crate::machine::Machine;
use crate::repo::Repo;
use crate::sandbox::{Sandbox, path_str};

const LARGE: usize = 9_000_000;

/// Publishes versions with a large object and some small ones each. Returns the number of objects.
fn publish_versions(work: &Repo) -> usize {
    for version in 0..3 {
        work.write("large.bin", &noise(version, LARGE));
        for number in 0..10 {
            work.write(&format!("{number}.bin"), &noise(100 + 10 * version + number, 3000));
        }
        work.commit(&version.to_string());
    }
    work.push();
    33
}

/// A clone on a machine without its LFS objects, with a setting.
fn clone_without(machine: &Machine, remote: &Path, into: &Path, setting: &str) -> Repo {
    let folder = into.parent().unwrap();
    let pointers = machine.clone().with_variable("GIT_LFS_SKIP_SMUDGE", "1");
    pointers.must(folder, ["clone", "--quiet", "--config", setting, path_str(remote), path_str(into)]);
    Repo { machine: machine.clone(), path: into.to_path_buf() }
}

/// Fetches everything with several commands at once in these clones. Other commands sweep at the same time.
fn fetch_at_once(clones: &[&Repo]) {
    let mut commands = Vec::new();
    for repo in clones {
        for _ in 0..4 {
            commands.push(repo.machine.start(&repo.path, "git", ["lfs", "fetch", "--all"]));
        }
        commands.push(repo.machine.start(&repo.path, "git", ["lfs", "status"]));
        commands.push(repo.machine.start(&repo.path, "git", ["lfs", "ls-files", "--all"]));
    }
    for command in commands {
        clones[0].machine.expect_success(command.wait());
    }
}

#[test]
fn several_commands_at_once_in_one_clone() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("busy");
    let count = publish_versions(&work);
    let other = sandbox.other_machine("other");
    let path = sandbox.path("other/busy");
    let copy = clone_without(&other, &sandbox.remote("busy"), &path, "lfs.concurrenttransfers=8");
    for _ in 0..2 {
        fetch_at_once(&[&copy]);
        assert_eq!(copy.forget_objects(), count);
        assert!(listing(&copy.file(".git/lfs/cdc/downloads")).is_empty());
        assert!(!copy.file(".git/lfs/tmp/cdc").exists(), "git-lfs sweeps there");
    }
}

#[test]
fn clones_that_share_their_storage_fetch_at_once() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("busy");
    let count = publish_versions(&work);
    let other = sandbox.other_machine("other");
    let storage = sandbox.path("other/storage");
    let setting = format!("lfs.storage={}", path_str(&storage));
    let [one, two] = ["one", "two"].map(|name| {
        clone_without(&other, &sandbox.remote("busy"), &sandbox.path("other").join(name), &setting)
    });
    fetch_at_once(&[&one, &two]);
    assert_eq!(listing(&storage.join("objects")).len(), count);
    assert!(listing(&storage.join("cdc/downloads")).is_empty());
}

/// Wherever the storage is, git-lfs leaves an unfinished download alone, and the next fetch goes on with it.
#[test]
fn an_unfinished_download_outlives_every_sweep_for_three_days() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("unfinished");
    let content = noise(1, LARGE);
    work.publish("large.bin", &content);
    let oid = work.oid("large.bin");
    let other = sandbox.other_machine("other").with_variable("GIT_LFS_CDC_LOG", "debug");
    let absolute = sandbox.path("other/storage");
    for (name, setting, storage) in [
        ("usual", "lfs.concurrenttransfers=8".to_owned(), sandbox.path("other/usual/.git/lfs")),
        ("relative", "lfs.storage=../beside".to_owned(), sandbox.path("other/relative/beside")),
        ("absolute", format!("lfs.storage={}", path_str(&absolute)), absolute.clone()),
    ] {
        let path = sandbox.path("other").join(name);
        let copy = clone_without(&other, &sandbox.remote("unfinished"), &path, &setting);
        let downloads = storage.join("cdc/downloads");
        let partial = downloads.join(format!("{oid}.partial"));
        fs::create_dir_all(&downloads).unwrap();
        fs::write(&partial, &content[..LARGE - 100_000]).unwrap();
        let file = File::options().write(true).open(&partial).unwrap();
        file.set_len(LARGE as u64).unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(2 * 24 * 60 * 60);
        file.set_modified(long_ago).unwrap();
        File::open(&downloads).unwrap().set_modified(long_ago).unwrap();
        for command in [["lfs", "status"], ["lfs", "ls-files"], ["lfs", "env"]] {
            copy.must(command);
        }
        assert!(partial.exists(), "{name}: git-lfs has removed it");
        copy.must(["-c", "lfs-cdc.cacheSize=0", "lfs", "fetch"]);
        let log = fs::read_to_string(copy.file(".git/lfs/cdc/log")).unwrap();
        let words = " bytes of an earlier download";
        let line = log.lines().find_map(|line| line.split_once(words)).map(|(before, _)| before);
        let taken = line.and_then(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
        assert!(taken.is_some_and(|taken| taken > LARGE / 2), "{name}: {taken:?}\n{log}");
        assert!(!partial.exists() && storage.join("objects").is_dir(), "{name}");
        // the next clone of this machine would take the object from here
        fs::remove_dir_all(storage).unwrap();
    }
}
