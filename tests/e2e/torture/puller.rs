//! Pulls: clones on machines that have nothing, and pulls in a clone that lasts.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Actor;
use super::ledger::Object;
use super::trouble::Trouble;
use super::world::{World, unlock};
use crate::data::listing;
use crate::dice::Dice;
use crate::process::wait_until;
use crate::repo::Repo;
use crate::sandbox::path_str;

/// Files of killed agents may stay for this time.
const PART_LASTS: Duration = Duration::from_secs(30);

/// A branch of the remote, picked by dice.
fn any_branch(repo: &Repo, dice: &mut Dice) -> String {
    let refs = repo.must(["for-each-ref", "--format=%(refname:lstrip=3)", "refs/remotes/origin/"]);
    let branches: Vec<_> = refs.lines().filter(|name| *name != "HEAD").collect();
    dice.pick(&branches).to_string()
}

/// Panics unless each file of the work tree has the content that its pointer names.
#[track_caller]
fn assert_checked_out(repo: &Repo) {
    for line in repo.must(["lfs", "ls-files", "--long"]).lines() {
        // the oid, a mark, and the name
        let oid = &line[..64];
        let name = &line[67..];
        let content = fs::read(repo.file(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(Object::of(&content).oid, oid, "{} is wrong", repo.file(name).display());
    }
}

/// Completes the checkout of a failed command, in trouble again.
fn check_out(world: &World, trouble: &mut Trouble, repo: &Repo, commit: &str) {
    unlock(&repo.file(".git"));
    let args = ["reset", "--quiet", "--hard", commit];
    if trouble.run(world, &repo.machine, &repo.path, "git", args).success() {
        world.tally.pulls.one_more();
        assert_checked_out(repo);
    }
}

/// Clones each time on a machine that has nothing.
pub struct FreshPuller {
    dice: Dice,
    trouble: Trouble,
}

impl FreshPuller {
    pub fn new(dice: &mut Dice) -> FreshPuller {
        FreshPuller { dice: dice.other(), trouble: Trouble::new(dice) }
    }
}

impl Actor for FreshPuller {
    fn act(&mut self, world: &World) {
        let branch = any_branch(&world.first(), &mut self.dice);
        let name = world.name("fresh");
        let machine = world.machine(&name, &mut self.dice);
        let home = world.sandbox.path(&name);
        let remote = world.remote();
        let copy = machine.repo_at(&format!("{name}/copy"));
        let args = ["clone", "--quiet", "--branch", &branch, path_str(&remote), "copy"];
        let outcome = self.trouble.run(world, &machine, &home, "git", args);
        if outcome.success() {
            world.tally.pulls.one_more();
            assert_checked_out(&copy);
        } else if copy.git(["rev-parse", "--verify", "--quiet", "HEAD"]).success() {
            check_out(world, &mut self.trouble, &copy, "HEAD");
        }
        let gone = wait_until(Duration::from_secs(60), || machine.agents().is_empty());
        assert!(gone, "agents still run after {}", outcome.command);
        fs::remove_dir_all(home).unwrap();
    }

    fn finish(&mut self, _world: &World) {}
}

/// Pulls in one clone, and loses objects there.
pub struct OldPuller {
    repo: Repo,
    dice: Dice,
    trouble: Trouble,
}

impl OldPuller {
    pub fn new(world: &World, dice: &mut Dice) -> OldPuller {
        let name = world.name("old");
        let mut dice = dice.other();
        let repo = world.machine(&name, &mut dice).clone_of(&world.remote(), &format!("{name}/copy"));
        let trouble = Trouble::new(&mut dice);
        OldPuller { repo, dice, trouble }
    }

    /// Removes some of the local objects, so that the next checkout needs the store.
    fn lose_objects(&mut self) {
        let objects = self.repo.file(".git/lfs/objects");
        if !objects.exists() {
            return;
        }
        for object in listing(&objects).into_keys().filter(|_| self.dice.one_in(2)) {
            fs::remove_file(objects.join(object)).unwrap();
        }
    }

    /// Empties the work tree, so that the next checkout has to fill it.
    fn empty_work_tree(&self) {
        for file in listing(&self.repo.path).into_keys().filter(|file| path_str(file).ends_with(".bin")) {
            fs::remove_file(self.repo.path.join(file)).unwrap();
        }
    }
}

impl Actor for OldPuller {
    fn act(&mut self, world: &World) {
        unlock(&self.repo.file(".git"));
        self.repo.must(["fetch", "--quiet", "origin"]);
        let branch = any_branch(&self.repo, &mut self.dice);
        if self.dice.one_in(2) {
            self.lose_objects();
            self.empty_work_tree();
        }
        // an old commit now and then
        let back = self.dice.below(4) * self.dice.below(3);
        let old = format!("origin/{branch}~{back}");
        let exists = self.repo.git(["rev-parse", "--verify", "--quiet", &old]).success();
        let commit = if exists { old } else { format!("origin/{branch}") };
        check_out(world, &mut self.trouble, &self.repo, &commit);
    }

    fn finish(&mut self, _world: &World) {
        unlock(&self.repo.file(".git"));
        self.repo.must(["fetch", "--quiet", "origin"]);
        self.repo.must(["reset", "--quiet", "--hard", "origin/main"]);
        self.repo.must(["lfs", "fetch", "--all", "origin"]);
        let gone = wait_until(Duration::from_secs(60), || self.repo.machine.agents().is_empty());
        assert!(gone, "agents still run");
        let left = stale_parts(&self.repo.file(".git/lfs"));
        assert!(left.is_empty(), "downloads that nobody goes on with: {left:?}");
    }
}

/// Files of killed agents that no later agent has removed.
fn stale_parts(folder: &Path) -> Vec<PathBuf> {
    let is_stale = |file: &PathBuf| {
        let modified = folder.join(file).metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        path_str(file).ends_with(".part") && age.is_some_and(|age| age > PART_LASTS)
    };
    listing(folder).into_keys().filter(is_stale).collect()
}
