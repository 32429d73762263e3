//! File systems with fewer features than local ones. Clones and caches stand on
//! `tests/setup/without_locks.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use crate::data::{assert_same_tree, noise};
use crate::process::wait_until;
use crate::sandbox::Sandbox;
use crate::scan::Secrets;
use crate::skip::skip;

/// A mounted file system; unmounted when dropped.
struct WithoutLocks {
    process: Child,
    mount: PathBuf,
}

impl WithoutLocks {
    /// None where there is no FUSE.
    fn mount(folder: &Path, mount: &Path) -> Option<WithoutLocks> {
        let python = std::env::var_os("GIT_LFS_CDC_TEST_FUSE")?;
        fs::create_dir_all(folder).unwrap();
        fs::create_dir_all(mount).unwrap();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/setup/without_locks.py");
        let process = Command::new(python).arg(program).args([folder, mount]).spawn().unwrap();
        let mounted = WithoutLocks { process, mount: mount.to_path_buf() };
        let is_there = || Command::new("mountpoint").arg("-q").arg(mount).status().unwrap().success();
        assert!(wait_until(Duration::from_secs(20), is_there), "the file system is not mounted");
        Some(mounted)
    }
}

impl Drop for WithoutLocks {
    fn drop(&mut self) {
        // lazily, since a failed test may have left a process in it
        let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The clone, the home and the cache stand there.
#[test]
#[ignore = "needs an S3 server, and root to mount a FUSE file system"]
fn everything_works_without_locks_and_the_log_names_the_weaker_promises() {
    let sandbox = Sandbox::in_s3(Secrets::in_use());
    let mount = sandbox.path("mount");
    let Some(_mounted) = WithoutLocks::mount(&sandbox.path("behind"), &mount) else {
        return skip("GIT_LFS_CDC_TEST_FUSE is not set, because no FUSE file system may be mounted here");
    };
    let work = sandbox.repository("unlocked");
    work.write("large.bin", &noise(1, 9_000_000));
    for number in 0..5 {
        work.write(&format!("{number}.bin"), &noise(10 + number, 3000));
    }
    work.commit("content");
    work.push();
    let other = sandbox.other_machine("mount/home");
    let copy = other.clone_of(&sandbox.remote("unlocked"), "mount/copy");
    assert_same_tree(&work.path, &copy.path);
    copy.publish("new.bin", &noise(2, 9_000_000));
    work.must(["pull", "--quiet", "origin", "main"]);
    assert_same_tree(&work.path, &copy.path);
    for command in [["cache", "show"], ["cache", "prune"], ["cache", "clear"]] {
        other.expect_success(copy.cdc(command));
    }
    let left = fs::read_dir(copy.file(".git/lfs/cdc/downloads")).unwrap().count();
    assert_eq!(left, 0, "downloads are left");
    let log = fs::read_to_string(copy.file(".git/lfs/cdc/log")).unwrap();
    for weaker in ["an interrupted download begins anew", "may keep more there than lfs-cdc.cacheSize"] {
        assert!(log.lines().any(|line| line.contains("WARN") && line.contains(weaker)), "{log}");
    }
}
