//! Agents that die, and commands that are interrupted: nothing acknowledged is lost and nothing is left
//! running.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::data::{assert_same_tree, noise};
use crate::machine::Machine;
use crate::process::{Running, signal, wait_until};
use crate::repo::Repo;
use crate::sandbox::{Sandbox, path_str};

/// Starts a git command, and waits until its agents run.
pub fn start(machine: &Machine, dir: &Path, args: &[&str]) -> Running {
    let mut running = machine.start(dir, "git", args);
    wait_until(Duration::from_secs(120), || !machine.agents().is_empty() || running.finished());
    running
}

/// Twenty files of 10 MB.
fn write_content(repo: &Repo, seed: u64) {
    for index in 0..20 {
        repo.write(&format!("{index}.bin"), &noise(100 * seed + index, 10_000_000));
    }
    repo.commit(&format!("content {seed}"));
}

pub fn pushed(repo: &Repo) -> bool {
    let remote = repo.must(["ls-remote", "origin", "refs/heads/main"]);
    remote.starts_with(repo.must(["rev-parse", "HEAD"]).trim())
}

#[test]
fn agents_killed_at_ten_moments_of_a_push() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("killed");
    write_content(&work, 0);
    let mut delay = Duration::from_millis(15);
    for round in 0..10 {
        let running = start(&work.machine, &work.path, &["push", "--quiet", "origin", "HEAD"]);
        sleep(delay);
        // Every other time only the first agent dies: the one that the others are likely to depend on.
        let victims = if round % 2 == 0 { usize::MAX } else { 1 };
        for id in work.machine.agents().iter().take(victims) {
            signal("KILL", &id.to_string());
        }
        let outcome = running.wait();
        assert_eq!(outcome.success(), pushed(&work), "{}", outcome.text());
        if outcome.success() {
            assert_same_tree(&work.path, &sandbox.clone_elsewhere("killed").path);
            write_content(&work, round + 1);
        }
        delay = delay.mul_f64(1.6);
    }
    work.publish("last.bin", &noise(7, 1_000_000));
    assert_same_tree(&work.path, &sandbox.clone_elsewhere("killed").path);
}

#[test]
fn agents_killed_during_a_clone() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("killed");
    write_content(&work, 1);
    work.push();
    let other = sandbox.other_machine("other");
    let home = sandbox.path("other");
    let remote = sandbox.remote("killed");
    let running = start(&other, &home, &["clone", "--quiet", path_str(&remote), "copy"]);
    sleep(Duration::from_millis(60));
    for id in other.agents() {
        signal("KILL", &id.to_string());
    }
    running.wait();
    let copy = other.repo_at("other/copy");
    copy.must(["reset", "--quiet", "--hard"]);
    assert_same_tree(&work.path, &copy.path);
}

/// Interrupts a command in its transfer; panics if it came to its end all the same, or if an agent outlives
/// it.
#[track_caller]
fn interrupt(machine: &Machine, dir: &Path, args: &[&str]) {
    let running = start(machine, dir, args);
    sleep(Duration::from_millis(60));
    running.interrupt();
    let outcome = running.wait();
    assert!(!outcome.success(), "{} came to its end before the interruption", outcome.command);
    let gone = wait_until(Duration::from_secs(5), || machine.agents().is_empty());
    assert!(gone, "agents still run after {}", outcome.command);
    assert!(machine.left_by_agents().is_empty(), "{:?}", machine.left_by_agents());
}

#[test]
fn interrupted_push() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("interrupted");
    write_content(&work, 1);
    interrupt(&work.machine, &work.path, &["push", "--quiet", "origin", "HEAD"]);
    assert!(!pushed(&work));
    work.push();
    assert_same_tree(&work.path, &sandbox.clone_elsewhere("interrupted").path);
}

#[test]
fn interrupted_clone() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("interrupted");
    write_content(&work, 1);
    work.push();

    let other = sandbox.other_machine("other");
    let remote = sandbox.remote("interrupted");
    interrupt(&other, &sandbox.path("other"), &["clone", "--quiet", path_str(&remote), "copy"]);
    let copy = sandbox.path("other/copy");
    if copy.exists() {
        fs::remove_dir_all(&copy).unwrap();
    }
    assert_same_tree(&work.path, &other.clone_of(&remote, "other/copy").path);
}

#[test]
fn interrupted_pull_goes_on() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("interrupted");
    let copy = sandbox.clone_elsewhere("interrupted");
    write_content(&work, 1);
    work.push();
    copy.must(["fetch", "--quiet"]);
    interrupt(&copy.machine, &copy.path, &["lfs", "fetch", "origin", "origin/main"]);
    copy.must(["merge", "--quiet", "origin/main"]);
    assert_same_tree(&work.path, &copy.path);
    let leftovers =
        Command::new("find").arg(copy.file(".git/lfs/cdc/downloads")).args(["-type", "f"]).output().unwrap();
    assert!(leftovers.stdout.is_empty(), "{}", String::from_utf8_lossy(&leftovers.stdout));
}
