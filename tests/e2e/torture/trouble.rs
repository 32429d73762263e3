//! Commands in trouble: some of their processes are killed, at some moment of the time that such a command
//! takes.

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::world::World;
use crate::dice::Dice;
use crate::machine::Machine;
use crate::process::{Outcome, Running, signal, wait_until};

/// No command takes this long unless it hangs.
const HANGS: Duration = Duration::from_secs(180);
/// One of so many commands is killed.
const KILLED: u64 = 3;
const AGENT: &str = "git-lfs-cdc";

/// Does one kind of command again and again.
pub struct Trouble {
    dice: Dice,
    /// How long the last command took that was not killed.
    usual: Duration,
}

impl Trouble {
    pub fn new(dice: &mut Dice) -> Trouble {
        Trouble { dice: dice.other(), usual: Duration::from_millis(500) }
    }

    /// Runs a command. It has to succeed if it was not killed and its link was sound.
    pub fn run<'a>(
        &mut self,
        world: &World,
        machine: &Machine,
        dir: &Path,
        program: &str,
        args: impl IntoIterator<Item = &'a str>,
    ) -> Outcome {
        let faults = world.faults();
        let begun = Instant::now();
        let mut running = machine.start(dir, program, args.into_iter().map(OsStr::new));
        let is_killed = self.dice.one_in(KILLED) && self.kill(&mut running);
        let outcome = running.wait_within(HANGS);
        if is_killed {
            world.tally.kills.one_more();
        } else {
            self.usual = begun.elapsed();
        }
        assert!(!outcome.text().contains("panicked"), "{}: {}", outcome.command, outcome.text());
        if outcome.success() {
            return outcome;
        }
        world.tally.failures.one_more();
        let is_excused = is_killed || world.faults() > faults;
        if is_excused { outcome } else { machine.expect_success(outcome) }
    }

    /// Kills some of a command's processes; false if it was over before.
    fn kill(&mut self, running: &mut Running) -> bool {
        let mut moment = self.usual.mul_f64(self.dice.below(1000) as f64 / 1000.0);
        if self.dice.one_in(2) {
            // its agents run for a part of the time only
            let is_agent = |(_, name): &(u32, String)| name == AGENT;
            wait_until(HANGS, || running.finished() || running.members().iter().any(is_agent));
            moment /= 4;
        }
        let who = self.dice.below(5);
        if wait_until(moment, || running.finished()) {
            return false;
        }
        let members = running.members();
        let of = |program: &str| -> Vec<u32> {
            members.iter().filter(|(_, name)| name == program).map(|(id, _)| *id).collect()
        };
        let agents = of(AGENT);
        let victims = match who {
            // the oldest is most likely the coordinator
            0 => agents.into_iter().take(1).collect(),
            1 => agents.into_iter().take(3).collect(),
            2 => agents,
            3 => of("git-lfs"),
            _ => {
                running.destroy();
                wait_until(HANGS, || running.members().is_empty());
                return true;
            }
        };
        victims.iter().for_each(|id| signal("KILL", &id.to_string()));
        !victims.is_empty()
    }
}
