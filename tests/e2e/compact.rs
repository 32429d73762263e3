//! `git lfs-cdc compact`: few segments in place of many, while others push and clone.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::data::{assert_same_tree, noise};
use crate::repo::Repo;
use crate::s3::Role;
use crate::sandbox::Sandbox;
use crate::scan::Secrets;
use crate::storage::Kind;

/// The same repository with a key that may delete, where stores need keys.
fn with_admin_key(repo: &Repo, kind: Kind) -> Repo {
    let machine = repo.machine.clone();
    let machine = if kind == Kind::S3 { machine.with_keys(Role::Admin) } else { machine };
    Repo { machine, path: repo.path.clone() }
}

/// A report in JSON of a command that succeeds.
#[track_caller]
fn report(repo: &Repo, command: &str) -> serde_json::Value {
    let outcome = repo.machine.expect_success(repo.cdc([command, "--json"]));
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {}", outcome.text()))
}

fn publish_small(repo: &Repo, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        repo.publish(&format!("{seed}.bin"), &noise(seed, 200_000));
    }
}

#[test]
fn many_small_pushes_become_one_segment_and_everybody_goes_on() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("many");
    publish_small(&work, 0..8);
    // its cache keeps the index as it is now
    let old = sandbox.clone_elsewhere("many");
    publish_small(&work, 8..32);
    let stats = report(&work, "stats");
    assert!(stats["replaced_segments"].as_u64().unwrap() > 8, "{stats}");

    let admin = with_admin_key(&work, Kind::asked_for());
    let done = report(&admin, "compact");
    assert_eq!((&done["segments_after"], &done["shards_after"]), (&1.into(), &1.into()), "{done}");
    // pushes have merged some of the shards, and those were merged here
    let deleted = |what: &str| done[what].as_u64() >= Some(32);
    assert!(deleted("deleted_segments") && deleted("deleted_shards"), "{done}");
    assert_eq!((sandbox.store().segments().len(), report(&work, "stats")["objects"].as_u64()), (1, Some(32)));
    assert_eq!(report(&work, "stats")["replaced_segments"], 0);
    assert_same_tree(&work.path, &sandbox.clone_elsewhere("many").path);
    work.must(["lfs", "push", "--all", "origin"]);
    assert_eq!(sandbox.store().segments().len(), 1, "all of it is there, and known to be");

    old.must(["pull", "--quiet"]);
    assert_same_tree(&work.path, &old.path);
    // little of the others' content is sent again: only the chunks at the joints between two files
    let before = sandbox.store().total_bytes();
    let known: Vec<u8> = (0..32).flat_map(|seed| noise(seed, 200_000)).collect();
    old.publish("all.bin", &known);
    let added = sandbox.store().total_bytes() - before;
    assert!(added < 1_600_000, "{added} bytes were added");
    work.must(["pull", "--quiet", "origin", "main"]);
    assert_same_tree(&work.path, &old.path);

    let outcome = admin.machine.expect_success(admin.cdc(["compact"]));
    assert!(outcome.stdout.contains("2 → 1"), "{}", outcome.text());
    assert_same_tree(&work.path, &sandbox.clone_elsewhere("many").path);
    let outcome = admin.machine.expect_success(admin.cdc(["compact"]));
    assert!(outcome.stdout.contains("nothing: no segment is replaced"), "{}", outcome.text());
}

#[test]
#[ignore = "needs an S3 server"]
fn a_key_that_may_not_delete_merges_and_says_so() {
    let sandbox = Sandbox::in_s3(Secrets::in_use());
    let work = sandbox.repository("kept");
    publish_small(&work, 0..5);
    let before = sandbox.store().files();
    let outcome = work.machine.expect_success(work.cdc(["compact"]));
    assert!(
        outcome.stdout.contains("5 segments are replaced, but this key may not delete them"),
        "{}",
        outcome.text()
    );
    let now = sandbox.store().files();
    assert!(before.keys().all(|name| now.contains_key(name)), "something was deleted");
    let done = report(&work, "compact");
    assert_eq!((&done["may_delete"], &done["segments_before"]), (&false.into(), &1.into()), "{done}");
    assert_eq!(sandbox.store().files(), now, "nothing was left to merge");
    assert_same_tree(&work.path, &sandbox.clone_elsewhere("kept").path);

    let done = report(&with_admin_key(&work, Kind::S3), "compact");
    assert_eq!((&done["may_delete"], &done["deleted_segments"]), (&true.into(), &5.into()), "{done}");
    assert_eq!((&done["deleted_shards"], sandbox.store().segments().len()), (&5.into(), 1), "{done}");
    assert_same_tree(&work.path, &sandbox.clone_elsewhere("kept").path);

    let reader = work.machine.clone().with_keys(Role::Pull);
    publish_small(&work, 5..7);
    let outcome = reader.cdc(&work.path, ["compact"]);
    reader.expect_failure(outcome, &["denied", "s3:PutObject"]);
}

/// A loop of compactions beside pushes and clones: all of them succeed, each time.
fn compacting_beside(sandbox: &Sandbox, kind: Kind) {
    let one = sandbox.repository("busy");
    let two = sandbox.clone_elsewhere("busy");
    let admin = with_admin_key(&one, kind);
    let ends = AtomicBool::new(false);
    let push = |repo: &Repo, branch: &str, seed: u64| {
        repo.must(["checkout", "--quiet", "-b", branch]);
        for round in 0..12 {
            repo.publish(&format!("{branch}-{round}.bin"), &noise(seed + round, 120_000));
        }
    };
    let compactions = thread::scope(|scope| {
        let compacting = scope.spawn(|| {
            let mut count = 0;
            while !ends.load(Ordering::SeqCst) {
                admin.machine.expect_success(admin.cdc(["compact"]));
                count += 1;
            }
            count
        });
        let cloning = scope.spawn(|| {
            while !ends.load(Ordering::SeqCst) {
                let copy = sandbox.clone_elsewhere("busy");
                for branch in ["one", "two"] {
                    // which may not have been pushed yet
                    if copy.git(["rev-parse", "--verify", "--quiet", &format!("origin/{branch}")]).success() {
                        copy.must(["checkout", "--quiet", branch]);
                    }
                }
            }
        });
        let pushing = [scope.spawn(|| push(&one, "one", 1000)), scope.spawn(|| push(&two, "two", 2000))];
        let pushed = pushing.map(|thread| thread.join());
        ends.store(true, Ordering::SeqCst);
        cloning.join().unwrap();
        let count = compacting.join().unwrap();
        pushed.into_iter().for_each(|pushed| pushed.unwrap());
        count
    });
    assert!(compactions > 2, "only {compactions} compactions");
    admin.machine.expect_success(admin.cdc(["compact"]));
    assert_eq!(sandbox.store().segments().len(), 1);
    let copy = sandbox.clone_elsewhere("busy");
    for (repo, branch) in [(&one, "one"), (&two, "two")] {
        copy.must(["checkout", "--quiet", branch]);
        assert_same_tree(&repo.path, &copy.path);
    }
}

#[test]
fn compactions_beside_pushes_and_clones() {
    compacting_beside(&Sandbox::new(), Kind::asked_for());
}

#[test]
#[ignore = "needs an S3 server"]
fn compactions_beside_pushes_and_clones_in_a_bucket() {
    let sandbox = Sandbox::in_s3(Secrets::in_use());
    compacting_beside(&sandbox, Kind::S3);
}

#[test]
fn help_and_errors_teach() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("help");
    let help = work.machine.expect_success(work.cdc(["compact", "--help"])).stdout;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in ["may go on meanwhile", "may delete", "Examples:", "Exit codes"] {
        assert!(help.contains(word), "{word}: {help}");
    }
    let outcome = work.cdc(["compact", "https://127.0.0.1:1/store"]);
    work.machine.expect_failure(outcome, &["127.0.0.1"]);
    assert_eq!(work.machine.cdc(Path::new("/"), ["compact"]).code, Some(2));
}
