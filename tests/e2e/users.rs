//! Two users of one group at one store, under several umasks.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::data::{assert_same_tree, noise};
use crate::machine::{Identity, Machine, give};
use crate::repo::Repo;
use crate::sandbox::{Sandbox, path_str};
use crate::skip::skip;
use crate::storage::only_for_folders;

const GROUP: u32 = 62_000;

/// The first user creates the store. Both push, and each clones the pushed files of both.
fn share(umasks: [&'static str; 2], shared: &str) {
    if only_for_folders("users with a umask") {
        return;
    }
    let sandbox = Sandbox::new();
    let [alice, bob] =
        [(62_001, umasks[0]), (62_002, umasks[1])].map(|(uid, umask)| Identity { uid, gid: GROUP, umask });
    let owner = alice.clone();
    let (Some(alice), Some(bob)) = (sandbox.user("alice", alice), sandbox.user("bob", bob)) else {
        return skip("it needs root and setpriv");
    };
    let ours = sandbox.path("ours");
    fs::create_dir(&ours).unwrap();
    give(&ours, &owner);
    fs::set_permissions(&ours, fs::Permissions::from_mode(0o2770)).unwrap();

    let remote = ours.join("game.git");
    let home = sandbox.path("alice");
    alice.must(&home, ["init", "--quiet", "--bare", "--shared=group", path_str(&remote)]);
    alice.must(&home, ["clone", "--quiet", path_str(&remote), "game"]);
    let first = alice.repo_at("alice/game");
    let store = ours.join("store");
    alice.expect_success(first.cdc(["init", path_str(&store), shared]));
    let attributes = alice.run(
        &first.path,
        "sh",
        ["-c", "echo '*.bin filter=lfs diff=lfs merge=lfs -text' > .gitattributes"],
    );
    alice.expect_success(attributes);
    publish_as(&first, "alice.bin", 1);

    let second = bob.clone_of(&remote, "bob/game");
    publish_as(&second, "bob.bin", 2);
    first.must(["pull", "--quiet", "origin", "main"]);
    assert_same_tree(&first.path, &second.path);
    publish_as(&first, "again.bin", 3);
    let outcome = bob.expect_success(second.cdc(["compact"]));
    assert!(outcome.stdout.contains("3 → 1"), "{}", outcome.text());
    for (machine, name) in [(&alice, "alice/fresh"), (&bob, "bob/fresh")] {
        assert_same_tree(&first.path, &machine.clone_of(&remote, name).path);
    }
    let log = fs::read_to_string(first.file(".git/lfs/cdc/log")).unwrap();
    assert!(!log.contains("not cached"), "the store's mode has spread to the user's own cache:\n{log}");
    assert_group_access(&store);
    assert_writable_by_group(&bob, &store);
}

/// Files in the work tree have to belong to the user, so their shell writes them.
#[track_caller]
fn publish_as(repo: &Repo, name: &str, seed: u64) {
    let machine = &repo.machine;
    let folder = repo.path.parent().unwrap();
    let content = folder.join("content");
    fs::write(&content, noise(seed, 700_000)).unwrap();
    fs::set_permissions(&content, fs::Permissions::from_mode(0o644)).unwrap();
    machine.expect_success(machine.run(&repo.path, "cp", [path_str(&content), name]));
    repo.commit(name);
    repo.push();
}

/// Every folder lets the group in to write, every file to read.
fn assert_group_access(root: &std::path::Path) {
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let mode = fs::metadata(&folder).unwrap().mode();
        assert_eq!(mode & 0o070, 0o070, "{} has mode {mode:o}", folder.display());
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            let entry = entry.path();
            if metadata.is_dir() {
                folders.push(entry);
            } else {
                assert_eq!(metadata.gid(), GROUP, "{}", entry.display());
                assert_eq!(
                    metadata.mode() & 0o040,
                    0o040,
                    "{} has mode {:o}",
                    entry.display(),
                    metadata.mode()
                );
            }
        }
    }
}

fn assert_writable_by_group(machine: &Machine, store: &std::path::Path) {
    for folder in ["blocks", "shards", "index", "condemned"] {
        let outcome = machine.run(store, "test", ["-w", folder]);
        assert!(outcome.success(), "the second user can't write to {folder}");
    }
}

#[test]
#[ignore = "needs root, to act as other users"]
fn careful_user_first() {
    share(["077", "022"], "--shared");
}

#[test]
#[ignore = "needs root, to act as other users"]
fn open_user_first() {
    share(["022", "077"], "--shared=group");
}

#[test]
#[ignore = "needs root, to act as other users"]
fn both_careful_with_an_octal_mode() {
    share(["077", "077"], "--shared=0660");
}
