//! Pushers: each edits files and pushes them to a branch of its own.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::Actor;
use super::audit;
use super::ledger::Object;
use super::trouble::Trouble;
use super::world::{World, unlock};
use crate::data::noise;
use crate::dice::Dice;
use crate::process::{Outcome, wait_until};
use crate::random_kills::acknowledged;
use crate::repo::Repo;

/// More than these are not kept in the work tree.
const FILES: usize = 24;
const PATIENTLY: &str = "lfs-cdc.retryTime=120";

pub struct Pusher {
    repo: Repo,
    branch: String,
    dice: Dice,
    trouble: Trouble,
    /// Files of the work tree.
    files: BTreeMap<String, Vec<u8>>,
    /// Objects of commits that were not pushed yet.
    pending: BTreeMap<String, Object>,
    commits: u64,
}

impl Pusher {
    /// Pushers with clones of their own. The second one is on the machine of the first.
    pub fn several(world: &World, dice: &mut Dice, count: usize) -> Vec<Pusher> {
        let mut pushers: Vec<Pusher> = Vec::new();
        for number in 0..count {
            let name = world.name("pusher");
            let mut dice = dice.other();
            let machine = match pushers.first() {
                Some(first) if number == 1 => first.repo.machine.clone(),
                _ => world.machine(&name, &mut dice),
            };
            let repo = machine.clone_of(&world.remote(), &format!("{name}-copy"));
            repo.must(["checkout", "--quiet", "-b", &name]);
            repo.push();
            let trouble = Trouble::new(&mut dice);
            pushers.push(Pusher {
                repo,
                branch: name,
                dice,
                trouble,
                files: BTreeMap::new(),
                pending: BTreeMap::new(),
                commits: 0,
            });
        }
        pushers
    }

    /// Changes one file, or adds or removes one; names it if it is there.
    fn edit(&mut self) -> Option<String> {
        let dice = &mut self.dice;
        let names: Vec<String> = self.files.keys().cloned().collect();
        let old = if names.is_empty() { None } else { Some(dice.pick(&names).clone()) };
        let fresh = format!("{:04}.bin", dice.below(10_000));
        let (name, content) = match (dice.below(12), old) {
            (0, Some(old)) => {
                self.files.remove(&old);
                fs::remove_file(self.repo.file(&old)).unwrap();
                return None;
            }
            (1 | 2, Some(old)) => {
                let content = with_insertion(dice, &self.files[&old]);
                (old, content)
            }
            (3, Some(old)) => {
                let more = some_noise(dice, 1, 200_000);
                let content = [self.files[&old].as_slice(), &more].concat();
                (old, content)
            }
            (4, Some(old)) => (fresh, with_insertion(dice, &self.files[&old])),
            (5, Some(old)) => (fresh, self.files[&old].clone()),
            // others push this content too
            (6, _) => (fresh, noise(dice.below(20), 400_000)),
            (7, _) if dice.one_in(3) => (fresh, some_noise(dice, 1_000_000, 6_000_000)),
            _ => (fresh, some_noise(dice, 1, 60_000)),
        };
        self.repo.write(&name, &content);
        self.files.insert(name.clone(), content);
        if self.files.len() > FILES {
            let (first, _) = self.files.pop_first().unwrap();
            fs::remove_file(self.repo.file(&first)).unwrap();
        }
        Some(name)
    }

    fn commit_edits(&mut self) {
        let edits = self.dice.between(2, 16);
        let changed: Vec<String> = (0..edits).filter_map(|_| self.edit()).collect();
        self.commits += 1;
        self.repo.commit(&format!("{} {}", self.branch, self.commits));
        // content that a later edit has replaced is in no commit
        let contents = changed.iter().filter_map(|name| self.files.get(name));
        let objects = contents.map(|content| Object::of(content));
        self.pending.extend(objects.map(|object| (object.oid.clone(), object)));
    }

    /// Enters the acknowledged objects into the ledger. Returns those of a push that failed.
    fn enter(&mut self, world: &World, outcome: &Outcome) -> Vec<Object> {
        if outcome.success() {
            world.tally.pushes.one_more();
            world.ledger.add(std::mem::take(&mut self.pending).into_values());
            return Vec::new();
        }
        let oids = acknowledged(outcome);
        let objects: Vec<_> = oids.iter().filter_map(|oid| self.pending.get(oid).cloned()).collect();
        world.ledger.add(objects.clone());
        objects
    }
}

impl Actor for Pusher {
    fn act(&mut self, world: &World) {
        self.commit_edits();
        let machine = &self.repo.machine;
        let path = &self.repo.path;
        let push_all = self.dice.one_in(10);
        let args: &[&str] = if push_all {
            &["lfs", "push", "--all", "origin"]
        } else {
            &["push", "--quiet", "origin", "HEAD"]
        };
        let outcome = self.trouble.run(world, machine, path, "git", args.iter().copied());
        unlock(&self.repo.file(".git"));
        let _ = fs::remove_file(world.remote().join(format!("refs/heads/{}.lock", self.branch)));
        let without_ref = self.enter(world, &outcome);
        // before the next push could mend it
        if !without_ref.is_empty() {
            audit::these(world, &without_ref);
        }
    }

    fn finish(&mut self, world: &World) {
        let machine = self.repo.machine.clone();
        for args in [&["push", "--quiet", "origin", "HEAD"] as &[&str], &["lfs", "push", "--all", "origin"]] {
            let args = ["-c", PATIENTLY].into_iter().chain(args.iter().copied());
            let outcome = machine.expect_success(self.repo.git(args));
            self.enter(world, &outcome);
        }
        let gone = wait_until(Duration::from_secs(60), || machine.agents().is_empty());
        assert!(gone, "agents still run on {}", self.branch);
        assert!(machine.left_by_agents().is_empty(), "{:?}", machine.left_by_agents());
        let outcome = machine.expect_success(self.repo.cdc(["status"]));
        assert!(outcome.stdout.contains("all is well"), "{}", outcome.text());
    }
}

fn some_noise(dice: &mut Dice, from: u64, to: u64) -> Vec<u8> {
    let length = dice.between(from, to);
    noise(dice.seed(), length as usize)
}

/// The same with a few bytes more at some place.
fn with_insertion(dice: &mut Dice, content: &[u8]) -> Vec<u8> {
    let place = dice.below(content.len() as u64 + 1) as usize;
    let inserted = some_noise(dice, 1, 2_000);
    let (head, tail) = content.split_at(place);
    [head, &inserted, tail].concat()
}
