//! Concurrency: many agents, and many pushes, at once.

use std::thread;

use crate::data::{assert_same_tree, noise};
use crate::repo::Repo;
use crate::sandbox::Sandbox;

fn with_concurrent(setting: &str) {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("agents");
    work.must(["config", "--global", "lfs.customtransfer.cdc.concurrent", setting]);
    for index in 0..30 {
        work.write(&format!("{index}.bin"), &noise(index, 400_000));
    }
    work.commit("content");
    work.push();
    let other = sandbox.other_machine("other");
    other.must(&work.path, ["config", "--global", "lfs.customtransfer.cdc.concurrent", setting]);
    let copy = other.clone_of(&sandbox.remote("agents"), "copy");
    assert_same_tree(&work.path, &copy.path);
}

#[test]
fn one_agent() {
    with_concurrent("false");
}

#[test]
fn several_agents() {
    with_concurrent("true");
}

/// Pushes six rounds of content of its own to a branch of its own.
fn push_rounds(repo: &Repo, branch: &str, seed: u64) {
    repo.must(["checkout", "--quiet", "-b", branch]);
    for round in 0..6 {
        for file in 0..4 {
            let content = noise(seed + 10 * round + file, 150_000 + 100_000 * file as usize);
            repo.write(&format!("{branch}/{round}-{file}.bin"), &content);
        }
        repo.commit(&format!("{branch} {round}"));
        repo.push();
    }
}

fn push_at_the_same_time(sandbox: &Sandbox, one: Repo, two: Repo) {
    thread::scope(|scope| {
        scope.spawn(|| push_rounds(&one, "one", 1000));
        scope.spawn(|| push_rounds(&two, "two", 2000));
    });
    let copy = sandbox.clone_elsewhere("busy");
    for repo in [&one, &two] {
        let branch = repo.must(["branch", "--show-current"]);
        copy.must(["checkout", "--quiet", branch.trim()]);
        assert_same_tree(&repo.path, &copy.path);
    }
}

#[test]
fn two_clones_on_one_machine_push_at_the_same_time() {
    let sandbox = Sandbox::new();
    let one = sandbox.repository("busy");
    let two = sandbox.machine.clone_of(&sandbox.remote("busy"), "second");
    push_at_the_same_time(&sandbox, one, two);
}

#[test]
fn two_machines_push_at_the_same_time() {
    let sandbox = Sandbox::new();
    let one = sandbox.repository("busy");
    let two = sandbox.clone_elsewhere("busy");
    push_at_the_same_time(&sandbox, one, two);
}

#[test]
fn two_machines_push_the_same_content_at_the_same_time() {
    let sandbox = Sandbox::new();
    let one = sandbox.repository("busy");
    let two = sandbox.clone_elsewhere("busy");
    thread::scope(|scope| {
        scope.spawn(|| push_rounds(&one, "one", 1000));
        scope.spawn(|| push_rounds(&two, "two", 1000));
    });
    for branch in ["one", "two"] {
        let copy = sandbox.clone_elsewhere("busy");
        copy.must(["checkout", "--quiet", branch]);
        assert_eq!(copy.forget_objects(), 24);
    }
}
