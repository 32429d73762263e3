//! The world that all actors share: the store with the link to it, the remote, the ledger, and machines of
//! their own.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::clock::Clocks;
use super::ledger::{Ledger, Tally};
use super::link::Link;
use crate::dice::Dice;
use crate::machine::Machine;
use crate::repo::Repo;
use crate::s3::{self, REGION};
use crate::sandbox::{Sandbox, full};
use crate::storage::{Kind, Storage};

/// How long one request is tried again while the link is faulty.
const RETRY_SECONDS: &str = "10";
const REPOSITORY: &str = "game";

pub struct World {
    pub sandbox: Sandbox,
    /// None where the store is in a folder.
    pub link: Option<Link>,
    pub ledger: Ledger,
    pub tally: Tally,
    clocks: Clocks,
    has_failed: AtomicBool,
    unused: AtomicU64,
}

impl World {
    /// A repository without content, initialised for a store of the kind that `GIT_LFS_CDC_TEST_STORE` asks
    /// for.
    pub fn new(dice: &mut Dice) -> World {
        let mut world = World {
            sandbox: Sandbox::new(),
            link: (Kind::asked_for() == Kind::S3).then(|| Link::new(dice)),
            ledger: Ledger::default(),
            tally: Tally::default(),
            clocks: Clocks::find(),
            has_failed: AtomicBool::new(false),
            unused: AtomicU64::new(1),
        };
        world.sandbox.machine = world.equipped(world.sandbox.machine.clone());
        let repo = world.sandbox.repository_without_store(REPOSITORY);
        // each machine has a setting for the endpoint: an auditor's link is sound
        let url = match world.sandbox.store() {
            Storage::Folder(path) => path.to_str().unwrap().to_owned(),
            bucket @ Storage::Bucket(_) => format!("{}?region={REGION}", bucket.location()),
        };
        repo.init(&url);
        repo.commit("set up");
        repo.push();
        world
    }

    pub fn remote(&self) -> PathBuf {
        self.sandbox.remote(REPOSITORY)
    }

    /// The work tree in which everything was set up.
    pub fn first(&self) -> Repo {
        Repo { machine: self.sandbox.machine.clone(), path: self.sandbox.path(REPOSITORY) }
    }

    /// A name that nobody has.
    pub fn name(&self, kind: &str) -> String {
        format!("{kind}-{}", self.unused.fetch_add(1, Ordering::SeqCst))
    }

    /// A machine that has nothing, on the faulty link, maybe with a clock that is off.
    pub fn machine(&self, name: &str, dice: &mut Dice) -> Machine {
        let machine = self.equipped(self.sandbox.other_machine(name));
        if dice.one_in(2) {
            return machine;
        }
        match self.clocks.put_off(machine.clone(), dice) {
            Some(off) => {
                self.tally.clocks_off.one_more();
                off
            }
            None => machine,
        }
    }

    fn equipped(&self, machine: Machine) -> Machine {
        if let Some(link) = &self.link {
            machine.configure("lfs-cdc.endpoint", &link.url());
            machine.configure("lfs-cdc.retryTime", RETRY_SECONDS);
        }
        // shows which objects git-lfs was told of
        machine.with_variable("GIT_TRANSFER_TRACE", "1")
    }

    /// A machine that has nothing, with nothing in its way.
    pub fn sound_machine(&self, name: &str) -> Machine {
        let machine = self.sandbox.other_machine(name);
        if self.link.is_some() {
            machine.configure("lfs-cdc.endpoint", &s3::server());
        }
        machine
    }

    pub fn faults(&self) -> usize {
        self.link.as_ref().map_or(0, Link::faults)
    }

    pub fn calm(&self) {
        if let Some(link) = &self.link {
            link.calm();
        }
    }

    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::SeqCst)
    }

    /// Tells all others when the thread that holds it panics.
    pub fn witness(&self) -> Witness<'_> {
        Witness(&self.has_failed)
    }

    pub fn summary(&self) -> String {
        let objects = self.ledger.objects().len();
        format!("{objects} acknowledged objects, {} faults, {}", self.faults(), self.tally)
    }

    /// Panics if too little happened for the torture to mean anything. In the short form on a busy machine
    /// that is no fault.
    pub fn expect_action(&self) {
        let tally = &self.tally;
        let counts = [&tally.pushes, &tally.pulls, &tally.compactions, &tally.kills];
        if full() {
            assert!(counts.iter().all(|count| count.get() >= 50), "too little happened");
            assert!(self.link.is_none() || self.faults() >= 50, "the link was sound");
        }
    }
}

pub struct Witness<'a>(&'a AtomicBool);

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

/// Removes the locks of git itself that killed commands have left, below a folder. Those of LFS are not
/// git's.
pub fn unlock(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if entry.file_name() != "lfs" && entry.file_name() != "objects" {
                unlock(&path);
            }
        } else if path.extension().is_some_and(|extension| extension == "lock") {
            let _ = std::fs::remove_file(path);
        }
    }
}
