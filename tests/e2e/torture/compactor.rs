//! Compactors: each compacts the store's index again and again.

use std::thread::sleep;
use std::time::Duration;

use super::Actor;
use super::trouble::Trouble;
use super::world::World;
use crate::dice::Dice;
use crate::process::Outcome;
use crate::repo::Repo;
use crate::s3::Role;
use crate::sandbox::path_str;
use crate::storage::Kind;

pub struct Compactor {
    repo: Repo,
    dice: Dice,
    trouble: Trouble,
}

impl Compactor {
    pub fn new(world: &World, dice: &mut Dice) -> Compactor {
        let name = world.name("compactor");
        let mut dice = dice.other();
        let mut repo = world.machine(&name, &mut dice).clone_of(&world.remote(), &format!("{name}/copy"));
        if Kind::asked_for() == Kind::S3 {
            repo.machine = repo.machine.with_keys(Role::Admin);
        }
        let trouble = Trouble::new(&mut dice);
        Compactor { repo, dice, trouble }
    }

    fn run(&mut self, world: &World, command: &str) -> Outcome {
        let machine = &self.repo.machine;
        self.trouble.run(world, machine, &self.repo.path, path_str(&machine.agent()), [command, "--json"])
    }
}

impl Actor for Compactor {
    fn act(&mut self, world: &World) {
        if self.run(world, "compact").success() {
            world.tally.compactions.one_more();
        }
        if self.dice.one_in(4) {
            self.run(world, "status");
        }
        sleep(Duration::from_millis(self.dice.below(1500)));
    }

    fn finish(&mut self, world: &World) {
        let machine = &self.repo.machine;
        machine.expect_success(self.repo.cdc(["compact"]));
        let outcome = machine.expect_success(self.repo.cdc(["compact", "--json"]));
        let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(
            (&report["segments_before"], &report["segments_after"]),
            (&1.into(), &1.into()),
            "{report}"
        );
        // in a folder, a killed writer leaves its unfinished file under a hidden name
        let mut segments = world.sandbox.store().segments();
        segments.retain(|name| !name.starts_with("index/."));
        assert_eq!(segments.len(), 1, "{segments:?}");
        let outcome = machine.expect_success(self.repo.cdc(["status"]));
        assert!(outcome.stdout.contains("all is well"), "{}", outcome.text());
    }
}
