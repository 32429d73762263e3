//! Agents killed at random moments of pushes and pulls, by a seed. The next command succeeds, and all
//! acknowledged objects are there.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use crate::data::{assert_same_tree, listing, noise};
use crate::dice::Dice;
use crate::kill::{pushed, start};
use crate::machine::Machine;
use crate::process::{Outcome, Running, say, signal};
use crate::repo::Repo;
use crate::sandbox::{Sandbox, full, path_str};

/// Kills some of the command's agents, at some moment of the time that it took before.
fn kill_some(machine: &Machine, mut running: Running, usual: Duration, dice: &mut Dice) -> (Outcome, bool) {
    sleep(usual.mul_f64(dice.below(1000) as f64 / 1000.0));
    let agents = machine.agents();
    let victims: Vec<u32> = match dice.below(4) {
        // the oldest is most likely the coordinator
        0 => agents.into_iter().take(1).collect(),
        1 => agents.into_iter().take(3).collect(),
        2 if !agents.is_empty() => vec![agents[dice.below(agents.len() as u64) as usize]],
        _ => agents,
    };
    let has_hit = !victims.is_empty() && !running.finished();
    victims.iter().for_each(|id| signal("KILL", &id.to_string()));
    (running.wait(), has_hit)
}

/// The oids of acknowledged objects, from git-lfs's trace. A line that a kill has cut short doesn't count.
pub fn acknowledged(outcome: &Outcome) -> Vec<String> {
    let oid_of = |line: &str| {
        let answer = line.split_once("received response: ")?.1;
        let answer: serde_json::Value = serde_json::from_str(answer).ok()?;
        let is_good = answer["event"] == "complete" && answer["error"].is_null();
        answer["oid"].as_str().filter(|_| is_good).map(str::to_owned)
    };
    outcome.stderr.lines().filter_map(oid_of).collect()
}

/// Fetches the acknowledged objects to a machine that has nothing, before anything else is pushed.
fn assert_there(sandbox: &Sandbox, work: &Repo, acknowledged: &[String], round: u64) {
    let tracked = work.must(["ls-files", "*.bin"]);
    let wanted: Vec<&str> = tracked.lines().filter(|file| acknowledged.contains(&work.oid(file))).collect();
    if wanted.is_empty() {
        return;
    }
    let label = format!("auditor-{round}");
    let auditor = sandbox.other_machine(&label).with_variable("GIT_LFS_SKIP_SMUDGE", "1");
    let copy = auditor.clone_of(&work.path, &format!("{label}/copy"));
    copy.must(["lfs", "fetch", "--include", &wanted.join(","), "origin", "HEAD"]);
    for file in wanted {
        assert_eq!(
            copy.local_object(file).metadata().unwrap().len(),
            work.file(file).metadata().unwrap().len()
        );
    }
    fs::remove_dir_all(sandbox.path(&label)).unwrap();
}

fn write_content(work: &Repo, round: u64, dice: &mut Dice) {
    for index in 0..24 {
        let len = if index < 6 { 4_000_000 + dice.below(12_000_000) } else { 1 + dice.below(60_000) };
        work.write(&format!("{index}.bin"), &noise(1000 * (round + 1) + index, len as usize));
    }
    work.commit(&format!("round {round}"));
}

/// How long a command's agents work when nothing happens to them.
fn usual(machine: &Machine, dir: &Path, args: &[&str]) -> Duration {
    let running = start(machine, dir, args);
    let begun = Instant::now();
    machine.expect_success(running.wait());
    begun.elapsed()
}

const PUSH: [&str; 4] = ["push", "--quiet", "origin", "HEAD"];

fn clone_of<'a>(remote: &'a Path, copy: &'a Path) -> [&'a str; 4] {
    ["clone", "--quiet", path_str(remote), path_str(copy)]
}

/// The parts that killed agents have left are removed by the next download, once they are some seconds old.
fn assert_leftovers_go(copy: &Repo) {
    let downloads = copy.path.join(".git/lfs/cdc/downloads");
    let left = || listing(&downloads).into_keys().filter(|file| path_str(file).ends_with(".part"));
    for part in left() {
        let part = fs::File::options().write(true).open(downloads.join(part)).unwrap();
        part.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    }
    let objects = copy.path.join(".git/lfs/objects");
    let first = listing(&objects).into_keys().next().unwrap();
    fs::remove_file(objects.join(first)).unwrap();
    copy.must(["lfs", "fetch"]);
    assert_eq!(left().collect::<Vec<_>>(), Vec::<PathBuf>::new());
}

#[test]
fn agents_killed_at_random_moments() {
    let rounds = if full() { 25 } else { 4 };
    let mut dice = Dice::new(20_261_126);
    let sandbox = Sandbox::new();
    let mut work = sandbox.repository("killed");
    work.machine = work.machine.clone().with_variable("GIT_TRANSFER_TRACE", "1");
    write_content(&work, 1000, &mut dice);
    let usual_push = usual(&work.machine, &work.path, &PUSH);
    let remote = sandbox.remote("killed");
    let other = sandbox.other_machine("first");
    let copy = sandbox.path("first/copy");
    let usual_clone = usual(&other, &sandbox.path("first"), &clone_of(&remote, &copy));
    let mut hits = 0;
    let mut failures = 0;
    let mut kept = 0;
    for round in 0..rounds {
        write_content(&work, round, &mut dice);
        let running = start(&work.machine, &work.path, &PUSH);
        let (outcome, has_hit) = kill_some(&work.machine, running, usual_push, &mut dice);
        assert_eq!(outcome.success(), pushed(&work), "{}", outcome.text());
        let acknowledged = acknowledged(&outcome);
        assert_there(&sandbox, &work, &acknowledged, round);
        hits += u32::from(has_hit);
        kept += acknowledged.len();
        failures += u32::from(!outcome.success());
        work.push();

        let label = format!("other-{round}");
        let other = sandbox.other_machine(&label);
        let copy = sandbox.path(&label).join("copy");
        let running = start(&other, &sandbox.path(&label), &clone_of(&remote, &copy));
        let (outcome, has_hit) = kill_some(&other, running, usual_clone, &mut dice);
        hits += u32::from(has_hit);
        failures += u32::from(!outcome.success());
        let copy = Repo { machine: other, path: copy };
        copy.must(["reset", "--quiet", "--hard"]);
        assert_same_tree(&work.path, &copy.path);
        assert_leftovers_go(&copy);
        fs::remove_dir_all(sandbox.path(&label)).unwrap();
    }
    say(&format!(
        "{} moments, {hits} of them in time, {failures} commands failed, {kept} objects acknowledged by pushes",
        2 * rounds
    ));
    assert!(hits > 0, "the agents were killed too late");
}
