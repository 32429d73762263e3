//! Limits of the machine: processes, memory, address space, open files. Transfers go on under low limits, and
//! `init` asks for fewer agents. Where a limit is too low, the message names it.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::data::{assert_same_tree, noise};
use crate::process::Outcome;
use crate::repo::Repo;
use crate::sandbox::Sandbox;
use crate::skip::skip;

/// A control group with one limit, as a container has it. Needs root.
struct Group {
    folder: PathBuf,
}

impl Group {
    /// None where no group can be made.
    fn new(controller: &str, files: [&str; 2], limit: u64) -> Option<Group> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("git-lfs-cdc-test-{controller}-{}-{number}", std::process::id());
        let old = PathBuf::from("/sys/fs/cgroup").join(controller);
        let (root, file) = if old.exists() { (old, files[1]) } else { ("/sys/fs/cgroup".into(), files[0]) };
        let folder = root.join(name);
        if fs::create_dir(&folder).is_err() || fs::write(folder.join(file), limit.to_string()).is_err() {
            let _ = fs::remove_dir(&folder);
            skip(&format!("no control group for {controller} can be made here"));
            return None;
        }
        Some(Group { folder })
    }

    fn of_processes(most: u64) -> Option<Group> {
        Group::new("pids", ["pids.max", "pids.max"], most)
    }

    fn of_memory(most_bytes: u64) -> Option<Group> {
        let group = Group::new("memory", ["memory.max", "memory.limit_in_bytes"], most_bytes)?;
        // else the test would be about swapping
        let _ = fs::write(group.folder.join("memory.swap.max"), "0");
        let _ = fs::write(group.folder.join("memory.memsw.limit_in_bytes"), most_bytes.to_string());
        Some(group)
    }

    /// A line of shell that joins the group.
    fn enter(&self) -> String {
        format!("echo $$ > {}/cgroup.procs", self.folder.display())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let since = Instant::now();
        while fs::remove_dir(&self.folder).is_err() && since.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Runs a command after a shell has done `first`.
fn limited(repo: &Repo, first: &str, command: &str) -> Outcome {
    repo.machine.run(&repo.path, "sh", ["-c", &format!("{first} && exec {command}")])
}

/// A repository whose next push has `count` small objects and one of some MB, and `agents` agents.
fn repository(sandbox: &Sandbox, name: &str, count: u64, agents: u64) -> Repo {
    let repo = sandbox.repository(name);
    repo.must(["config", "lfs.concurrenttransfers", &agents.to_string()]);
    for index in 0..count {
        repo.write(&format!("{index}.bin"), &noise(index, 2000));
    }
    repo.write("large.bin", &noise(9999, 5_000_000));
    repo.commit("content");
    repo
}

/// Pushes, and clones on another machine, after a shell has done `first`.
#[track_caller]
fn assert_push_and_clone(sandbox: &Sandbox, repo: &Repo, name: &str, first: &str) {
    let pushed = limited(repo, first, "git push --quiet origin HEAD");
    repo.machine.expect_success(pushed);
    let other = sandbox.other_machine(&format!("{name}-other"));
    let agents = repo.must(["config", "lfs.concurrenttransfers"]);
    other.must(&repo.path, ["config", "--global", "lfs.concurrenttransfers", agents.trim()]);
    let copy = other.repo_at(&format!("{name}-copy"));
    let clone = format!("git clone --quiet {} {}", sandbox.remote(name).display(), copy.path.display());
    let from = Repo { machine: other.clone(), path: repo.path.clone() };
    other.expect_success(limited(&from, first, &clone));
    assert_same_tree(&repo.path, &copy.path);
}

#[test]
#[ignore = "needs root, to make a control group"]
fn a_hundred_agents_work_where_processes_are_few() {
    for most in [512, 300] {
        let Some(group) = Group::of_processes(most) else { return };
        let sandbox = Sandbox::new();
        let repo = repository(&sandbox, "few", 150, 100);
        assert_push_and_clone(&sandbox, &repo, "few", &group.enter());
    }
}

/// Only the agents are limited: git-lfs itself may have no room for its threads then.
#[test]
fn agents_work_where_the_address_space_is_small() {
    let sandbox = Sandbox::new();
    let limited = format!("ulimit -v 1000000; exec '{}' transfer", sandbox.machine.agent().display());
    let repo = repository(&sandbox, "space", 60, 4);
    let other = sandbox.other_machine("other");
    for machine in [&repo.machine, &other] {
        machine.must(&repo.path, ["config", "--global", "lfs.customtransfer.cdc.path", "sh"]);
        let args = format!("-c \"{limited}\"");
        machine.must(&repo.path, ["config", "--global", "lfs.customtransfer.cdc.args", &args]);
    }
    repo.push();
    assert_same_tree(&repo.path, &other.clone_of(&sandbox.remote("space"), "other/space").path);
}

#[test]
#[ignore = "needs root, to make a control group"]
fn a_large_push_fits_into_a_small_container() {
    let Some(group) = Group::of_memory(256 << 20) else { return };
    let sandbox = Sandbox::new();
    let repo = sandbox.repository("memory");
    let kind = repo.machine.run(&repo.path, "stat", ["-f", "-c", "%T", "."]).stdout;
    if kind.trim() == "tmpfs" {
        return skip("the temporary folder is a tmpfs, whose files count as memory");
    }
    repo.must(["config", "lfs.concurrenttransfers", "8"]);
    for index in 0..5 {
        repo.write(&format!("{index}.bin"), &noise(index, 60_000_000));
    }
    repo.commit("content");
    assert_push_and_clone(&sandbox, &repo, "memory", &group.enter());
}

#[test]
#[ignore = "needs root, to make a control group"]
fn too_little_memory_is_named() {
    let Some(group) = Group::of_memory(100 << 20) else { return };
    let sandbox = Sandbox::new();
    let repo = repository(&sandbox, "little", 1, 1);
    let pushed = limited(&repo, &group.enter(), "git push --quiet origin HEAD");
    repo.machine.expect_failure(pushed, &["the memory limit of this container is 100 MiB", "160 MiB"]);
}

/// The output of `init`, and the number of agents that it has set.
struct Init {
    output: String,
    agents: u32,
}

/// Runs `init` after a shell has done `first`.
#[track_caller]
fn init_under(repo: &Repo, url: &str, first: &str) -> Init {
    let _ = repo.git(["config", "--local", "--unset", "lfs.concurrenttransfers"]);
    let outcome = limited(repo, first, &format!("{} init '{url}'", repo.machine.agent().display()));
    let output = repo.machine.expect_success(outcome).stdout;
    let agents = repo.must(["config", "lfs.concurrenttransfers"]).trim().parse().unwrap();
    Init { output, agents }
}

#[test]
fn init_asks_for_fewer_objects_at_a_time_where_limits_are_low() {
    let sandbox = Sandbox::new();
    sandbox.machine.leave_agents_to_init();
    let repo = sandbox.repository_without_store("init");
    let url = sandbox.store().url();
    for (limit, reason, agents) in [
        ("ulimit -n 256", "not 100, because ulimit -Hn is low", 50),
        ("ulimit -v 1000000", "because ulimit -v is low", 10),
        ("true", "few requests", 100),
    ] {
        let init = init_under(&repo, &url, limit);
        assert!(init.output.contains(reason), "{}", init.output);
        assert_eq!(init.agents, agents, "{limit}");
    }
}

#[test]
#[ignore = "needs root, to make a control group"]
fn init_asks_for_fewer_objects_at_a_time_in_a_small_container() {
    let Some(group) = Group::of_processes(300) else { return };
    let sandbox = Sandbox::new();
    sandbox.machine.leave_agents_to_init();
    let repo = sandbox.repository_without_store("init");
    let init = init_under(&repo, &sandbox.store().url(), &group.enter());
    assert!(init.output.contains("because the pids limit of this container is low"), "{}", init.output);
    assert!((30..=40).contains(&init.agents), "{}", init.agents);
}

#[test]
fn status_says_why_agents_cannot_meet() {
    let sandbox = Sandbox::new();
    let repo = sandbox.repository("meet");
    let nowhere = "export XDG_RUNTIME_DIR= TMPDIR=/proc/nowhere XDG_CACHE_HOME=/proc/nowhere";
    let outcome = limited(&repo, nowhere, &format!("{} status", repo.machine.agent().display()));
    repo.machine.expect_failure(outcome, &["agents could meet", "/proc/nowhere", "set XDG_RUNTIME_DIR"]);
    assert!(repo.cdc(["status"]).success());
}
