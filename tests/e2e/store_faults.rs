//! Faults of stores in use: gone, read-only, full, or no store. The error is clear, nothing is lost, and the
//! next push succeeds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::data::{assert_same_tree, noise};
use crate::machine::{Identity, give};
use crate::repo::Repo;
use crate::sandbox::{Sandbox, path_str};
use crate::skip::skip;
use crate::storage::only_for_folders;

/// The log that each message has to point to.
const LOG: &str = "cdc/log";

fn with_unpushed_commit(sandbox: &Sandbox, len: usize) -> Repo {
    let work = sandbox.repository("work");
    work.publish("pushed.bin", &noise(1, 500_000));
    work.write("waiting.bin", &noise(2, len));
    work.commit("waiting");
    work
}

#[track_caller]
fn push_fails(work: &Repo, expected: &[&str]) {
    let before = work.must(["ls-remote", "origin"]);
    work.machine.expect_failure(work.git(["push", "origin", "HEAD"]), expected);
    assert_eq!(before, work.must(["ls-remote", "origin"]), "the ref was pushed");
}

#[track_caller]
fn push_succeeds(sandbox: &Sandbox, work: &Repo) {
    work.push();
    assert_same_tree(&work.path, &sandbox.clone_elsewhere("work").path);
}

#[test]
fn store_vanished() {
    let sandbox = Sandbox::new();
    let work = with_unpushed_commit(&sandbox, 500_000);
    let away = sandbox.store().take_away();
    push_fails(&work, &[&sandbox.store().location(), LOG]);
    assert!(!sandbox.store().exists(), "a transfer never creates a store");

    let other = sandbox.other_machine("other");
    let outcome = other.git(&sandbox.path("other"), ["clone", path_str(&sandbox.remote("work")), "copy"]);
    other.expect_failure(outcome, &[&sandbox.store().location()]);

    away.bring_back();
    push_succeeds(&sandbox, &work);
    let copy = other.repo_at("other/copy");
    copy.must(["reset", "--quiet", "--hard"]);
    copy.must(["pull", "--quiet"]);
    assert_same_tree(&work.path, &copy.path);
}

#[test]
fn folder_without_store_json() {
    let sandbox = Sandbox::new();
    let work = with_unpushed_commit(&sandbox, 500_000);
    let marker = sandbox.store().read("store.json");
    sandbox.store().remove("store.json");
    push_fails(&work, &["no store", &sandbox.store().location(), LOG]);
    assert!(!sandbox.store().files().contains_key("store.json"), "a transfer never creates a store");
    sandbox.store().write("store.json", &marker);
    push_succeeds(&sandbox, &work);
}

#[test]
fn store_json_without_meaning() {
    let sandbox = Sandbox::new();
    let work = with_unpushed_commit(&sandbox, 500_000);
    let original = sandbox.store().read("store.json");
    sandbox.store().write("store.json", b"{}");
    push_fails(&work, &["store.json", LOG]);
    sandbox.store().write("store.json", &original);
    push_succeeds(&sandbox, &work);
}

#[test]
fn read_only_store() {
    if only_for_folders("permissions of files") {
        return;
    }
    let sandbox = Sandbox::new();
    let work = with_unpushed_commit(&sandbox, 500_000);
    // Permissions mean nothing to root, so root pushes as another user from that user's repository.
    let nobody = Identity { uid: 65534, gid: 65534, umask: "022" };
    let writer = sandbox.user("nobody", nobody.clone());
    let pusher = match (&writer, effective_user_is_root()) {
        (Some(machine), _) => {
            give(&work.path, &nobody);
            give(&sandbox.remote("work"), &nobody);
            give(sandbox.store().folder(), &nobody);
            machine.repo_at("work")
        }
        (None, false) => work.clone(),
        (None, true) => return skip("root may not change its user here"),
    };
    let before = sandbox.store().files();
    set_writable(sandbox.store().folder(), false);
    let outcome = pusher.git(["push", "origin", "HEAD"]);
    set_writable(sandbox.store().folder(), true);
    pusher.machine.expect_failure(outcome, &["denied", LOG]);
    assert_eq!(before, sandbox.store().files());
    push_succeeds(&sandbox, &pusher);
}

fn effective_user_is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout == b"0\n"
}

fn set_writable(root: &Path, writable: bool) {
    let (folder_mode, file_mode) = if writable { (0o755, 0o644) } else { (0o555, 0o444) };
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(folder_mode)).unwrap();
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.metadata().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                fs::set_permissions(entry.path(), fs::Permissions::from_mode(file_mode)).unwrap();
            }
        }
    }
}

/// A small file system in memory, unmounted when dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None where mounting isn't allowed.
    pub fn mount(path: PathBuf, options: &str) -> Option<SmallDisk> {
        fs::create_dir_all(&path).unwrap();
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&path).output();
        output.is_ok_and(|output| output.status.success()).then_some(SmallDisk(path))
    }

    fn grow(&self, options: &str) {
        let status = Command::new("mount").args(["-o", options]).arg(&self.0).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since a failed test may have left a process in it.
        let status = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
#[ignore = "needs root, to mount a file system"]
fn full_disk() {
    if only_for_folders("a full disk") {
        return;
    }
    let sandbox = Sandbox::new();
    let Some(disk) = SmallDisk::mount(sandbox.store().folder().to_path_buf(), "size=20m,mode=755") else {
        return skip("no file system may be mounted here");
    };
    let work = with_unpushed_commit(&sandbox, 40_000_000);
    let shards = || sandbox.store().files().into_keys().filter(|name| name.starts_with("shards/")).count();
    let before = shards();
    for _ in 0..3 {
        push_fails(&work, &["space", LOG]);
    }
    assert_eq!(shards(), before, "a push that fails leaves a shard behind each time");
    disk.grow("remount,size=200m");
    push_succeeds(&sandbox, &work);
}

/// Folders of some shares can't be opened, or can't be synced.
#[test]
#[ignore = "needs root, to act as another user"]
fn folders_that_cannot_be_synced() {
    if only_for_folders("folders to sync") {
        return;
    }
    let sandbox = Sandbox::new();
    let work = with_unpushed_commit(&sandbox, 500_000);
    let nobody = Identity { uid: 65534, gid: 65534, umask: "022" };
    let Some(machine) = sandbox.user("nobody", nobody.clone()) else {
        return skip("it needs root and setpriv");
    };
    for folder in [&work.path, &sandbox.remote("work"), sandbox.store().folder()] {
        give(folder, &nobody);
    }
    let pusher = machine.repo_at("work");
    let store = sandbox.store().folder().to_path_buf();
    let set_mode = |mode| {
        for top in ["blocks", "shards"] {
            for fan in fs::read_dir(store.join(top)).unwrap() {
                fs::set_permissions(fan.unwrap().path(), fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    };
    // files can be made and found in such a folder, but it can't be opened
    set_mode(0o300);
    pusher.push();
    let log = fs::read_to_string(pusher.file(".git/lfs/cdc/log")).unwrap();
    assert!(log.contains("can't sync") && log.contains("power failure"), "{log}");
    assert_same_tree(&work.path, &sandbox.clone_elsewhere("work").path);
    set_mode(0o755);
}

/// Files that other programs leave in a store are no reason to fail, and missing empty folders aren't either.
#[test]
fn other_programs_files_and_missing_folders() {
    if only_for_folders("folders that can be missing") {
        return;
    }
    let sandbox = Sandbox::new();
    let work = with_unpushed_commit(&sandbox, 500_000);
    let store = sandbox.store().folder().to_path_buf();
    for name in ["condemned/Thumbs.db", "index/desktop.ini"] {
        fs::write(store.join(name), b"x").unwrap();
    }
    push_succeeds(&sandbox, &work);
    let status = work.machine.expect_success(work.cdc(["status"]));
    assert!(status.stdout.contains("condemned/Thumbs.db"), "{}", status.text());
    fs::remove_file(store.join("condemned/Thumbs.db")).unwrap();
    let removed = Command::new("find").arg(&store).args(["-type", "d", "-empty", "-delete"]).status();
    assert!(removed.unwrap().success() && !store.join("condemned").exists());
    work.publish("more.bin", &noise(3, 500_000));
    push_succeeds(&sandbox, &work);
    work.machine.expect_success(work.cdc(["compact"]));
    // a newer version's kind of condemnation stops a push
    fs::create_dir_all(store.join("condemned")).unwrap();
    fs::write(store.join("condemned/v2-anything"), b"x").unwrap();
    work.write("last.bin", &noise(4, 500_000));
    work.commit("last");
    push_fails(&work, &["newer version", LOG]);
    // a block that is gone
    let block = sandbox.store().blocks().pop().unwrap();
    sandbox.store().remove(&block);
    let other = sandbox.other_machine("other");
    let outcome = other.git(&sandbox.path("other"), ["clone", path_str(&sandbox.remote("work")), "copy"]);
    other.expect_failure(outcome, &["is missing in the store", "backup", "git lfs push --all"]);
}

/// The unfinished download of another object gives way. Where that is not enough, no unfinished download
/// stays.
#[test]
#[ignore = "needs root, to mount a file system"]
fn full_disk_of_a_clone() {
    let sandbox = Sandbox::new();
    let work = with_unpushed_commit(&sandbox, 20_000_000);
    push_succeeds(&sandbox, &work);
    let copy = sandbox.other_machine("small").with_variable("GIT_LFS_SKIP_SMUDGE", "1");
    let copy = copy.clone_of(&sandbox.remote("work"), "small/copy");
    let Some(disk) = SmallDisk::mount(copy.file(".git/lfs"), "size=12m,mode=755") else {
        return skip("no file system may be mounted here");
    };
    let left = copy.file(".git/lfs/cdc/downloads").join(format!("{}.partial", "0".repeat(64)));
    fs::create_dir_all(left.parent().unwrap()).unwrap();
    let leave = || fs::write(&left, noise(3, 8_400_000)).unwrap();
    leave();
    let fetch = ["lfs", "fetch", "origin", "HEAD"];
    copy.machine.expect_failure(copy.git(fetch), &["space", LOG]);
    assert_eq!(fs::read_dir(left.parent().unwrap()).unwrap().count(), 0, "it would be in the way");
    disk.grow("remount,size=26m");
    leave();
    copy.must(fetch);
    assert!(!left.exists() && copy.local_object("waiting.bin").exists());
}
