//! A repository on a machine, and the steps that many tests share.

use std::fs;
use std::path::PathBuf;

use crate::data;
use crate::machine::Machine;
use crate::process::Outcome;

/// A work tree (or a bare repository) and the machine that it is on.
#[derive(Clone)]
pub struct Repo {
    pub machine: Machine,
    pub path: PathBuf,
}

impl Repo {
    pub fn git<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Outcome {
        self.machine.git(&self.path, args)
    }

    #[track_caller]
    pub fn must<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> String {
        self.machine.must(&self.path, args)
    }

    pub fn cdc<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Outcome {
        self.machine.cdc(&self.path, args)
    }

    /// Runs `git-lfs-cdc init URL`.
    #[track_caller]
    pub fn init(&self, url: &str) {
        self.machine.expect_success(self.cdc(["init", url]));
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Commits everything in the work tree.
    #[track_caller]
    pub fn commit(&self, message: &str) {
        self.must(["add", "--all"]);
        self.must(["commit", "--quiet", "--allow-empty", "--message", message]);
    }

    /// Pushes the current branch.
    #[track_caller]
    pub fn push(&self) {
        self.must(["push", "--quiet", "origin", "HEAD"]);
    }

    /// Writes one file, commits and pushes it.
    #[track_caller]
    pub fn publish(&self, name: &str, bytes: &[u8]) {
        self.write(name, bytes);
        self.commit(name);
        self.push();
    }

    /// The oid in the pointer that HEAD has for a file; panics if it is no LFS pointer.
    #[track_caller]
    pub fn oid(&self, name: &str) -> String {
        let pointer = self.must(["show", &format!("HEAD:{name}")]);
        let oid = pointer.lines().find_map(|line| line.strip_prefix("oid sha256:"));
        oid.unwrap_or_else(|| panic!("{name} is not in LFS: {pointer}")).to_owned()
    }

    /// Where git-lfs keeps the object of a file.
    #[track_caller]
    pub fn local_object(&self, name: &str) -> PathBuf {
        let oid = self.oid(name);
        self.path.join(".git/lfs/objects").join(&oid[..2]).join(&oid[2..4]).join(oid)
    }

    /// Removes all local objects, so that the next checkout needs the store, and says how many there were.
    pub fn forget_objects(&self) -> usize {
        let objects = self.path.join(".git/lfs/objects");
        let count = data::listing(&objects).len();
        fs::remove_dir_all(objects).unwrap();
        count
    }
}
