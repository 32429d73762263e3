//! Work trees of a repository with a relative store: linked work trees, hooks, the git directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::data::{assert_same_file, noise};
use crate::machine::Machine;
use crate::repo::Repo;
use crate::sandbox::{Sandbox, path_str};
use crate::storage::only_for_folders;

/// The store that `status` finds from a folder.
#[track_caller]
fn store_from(machine: &Machine, folder: &Path) -> String {
    let outcome = machine.cdc(folder, ["status", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap_or_default();
    let store = report["remotes"][0]["store"].as_str().map(str::to_owned);
    store.unwrap_or_else(|| panic!("no store is found from {}: {}", folder.display(), outcome.text()))
}

/// Panics unless the store is the same from all these folders.
#[track_caller]
fn assert_one_store(machine: &Machine, store: &Path, folders: &[&Path]) {
    for folder in folders {
        let found = store_from(machine, folder);
        let found = Path::new(&found).canonicalize().unwrap();
        assert_eq!(found, store.canonicalize().unwrap(), "from {}", folder.display());
    }
}

/// A repository with one object, and a relative path to its store.
fn with_relative_store(sandbox: &Sandbox, name: &str) -> Repo {
    let work = sandbox.repository_without_store(name);
    work.init("../store");
    work.publish("a.bin", &noise(1, 300_000));
    work
}

/// Adds a linked work tree where the relative path leads elsewhere. Its checkout needs the store, and has the
/// object.
#[track_caller]
fn assert_linked_is_filled(main: &Repo, git_dir: &Path, linked: &Path, expected: &Path) {
    main.must(["worktree", "add", "--quiet", "--detach", "--no-checkout", path_str(linked)]);
    fs::remove_dir_all(git_dir.join("lfs/objects")).unwrap();
    main.machine.must(linked, ["checkout", "--quiet", "HEAD", "--", "."]);
    assert_same_file(&linked.join("a.bin"), expected);
}

#[test]
fn inside_the_git_directory_and_with_another_work_tree() {
    if only_for_folders("a relative path") {
        return;
    }
    let sandbox = Sandbox::new();
    let work = with_relative_store(&sandbox, "plain");
    let git_dir = work.file(".git");
    let www = sandbox.path("deep/www");
    fs::create_dir_all(&www).unwrap();
    fs::create_dir_all(work.file("sub")).unwrap();
    let machine = &work.machine;
    assert_one_store(machine, &sandbox.path("store"), &[&work.path, &work.file("sub"), &git_dir]);
    let named = machine.clone().with_variable("GIT_DIR", path_str(&git_dir));
    assert_one_store(&named, &sandbox.path("store"), &[&www, &git_dir, &work.path]);
    let elsewhere = named.with_variable("GIT_WORK_TREE", path_str(&www));
    assert_one_store(&elsewhere, &sandbox.path("store"), &[&www, &git_dir, &work.path]);

    work.forget_objects();
    machine.must(&git_dir, ["--git-dir=.", "lfs", "fetch", "origin", "main"]);
    assert!(work.local_object("a.bin").is_file());
}

#[test]
fn a_git_directory_elsewhere_and_its_linked_work_tree() {
    if only_for_folders("a relative path") {
        return;
    }
    let sandbox = Sandbox::new();
    let work = with_relative_store(&sandbox, "separate");
    let git_dir = sandbox.path("deep/git/dir");
    let linked = sandbox.path("deep/linked");
    fs::create_dir_all(git_dir.parent().unwrap()).unwrap();
    work.must(["init", "--quiet", &format!("--separate-git-dir={}", path_str(&git_dir))]);
    assert!(work.file(".git").is_file());
    work.must(["worktree", "add", "--quiet", "--detach", "--no-checkout", path_str(&linked)]);

    // before the first command in the main work tree, nobody can know its place
    let unknown = work.machine.cdc(&linked, ["stats"]);
    work.machine.expect_failure(unknown, &["main work tree", "git lfs-cdc status"]);
    assert_one_store(&work.machine, &sandbox.path("store"), &[&work.path, &linked, &git_dir]);
    work.must(["worktree", "remove", "--force", path_str(&linked)]);
    assert_linked_is_filled(&work, &git_dir, &linked, &work.file("a.bin"));

    // the note doesn't count once the main work tree is another
    fs::rename(&work.path, sandbox.path("moved")).unwrap();
    let unknown = work.machine.cdc(&linked, ["stats"]);
    work.machine.expect_failure(unknown, &["main work tree"]);
    assert_one_store(&work.machine, &sandbox.path("store"), &[&sandbox.path("moved"), &linked]);
}

#[test]
fn a_submodule_and_its_linked_work_tree() {
    if only_for_folders("a relative path") {
        return;
    }
    let sandbox = Sandbox::new();
    let library = with_relative_store(&sandbox, "library");
    let program = sandbox.repository_without_store("program");
    // the submodule stands deeper, so its store has to be there
    let copied = program.machine.run(&sandbox.path("."), "cp", ["-r", "store", "program/store"]);
    program.machine.expect_success(copied);
    program.write(".gitignore", b"store\n");
    program.must(["submodule", "--quiet", "add", path_str(&sandbox.remote("library")), "lib"]);
    assert_same_file(&program.file("lib/a.bin"), &library.file("a.bin"));
    let module = program.file(".git/modules/lib");
    let linked = sandbox.path("deep/er/linked");
    let inner = Repo { machine: program.machine.clone(), path: program.file("lib") };
    assert_linked_is_filled(&inner, &module, &linked, &library.file("a.bin"));
    assert_one_store(&program.machine, &program.file("store"), &[&inner.path, &linked, &module]);
}

#[test]
fn a_bare_repository_with_linked_work_trees() {
    if only_for_folders("a relative path") {
        return;
    }
    let sandbox = Sandbox::new();
    let work = with_relative_store(&sandbox, "bare");
    let bare = work.machine.repo_at("copy.git");
    let remote = sandbox.remote("bare");
    work.machine.must(&sandbox.path("."), ["clone", "--quiet", "--bare", path_str(&remote), "copy.git"]);
    let linked = sandbox.path("deep/linked");
    bare.must(["lfs", "fetch", "--all"]);
    assert_linked_is_filled(&bare, &bare.path, &linked, &work.file("a.bin"));
    assert_one_store(&work.machine, &sandbox.path("store"), &[&bare.path, &linked]);
}

/// The hook checks out into a folder, as on many servers.
#[test]
fn a_hook_that_deploys() {
    if only_for_folders("a relative path") {
        return;
    }
    let sandbox = Sandbox::new();
    let work = with_relative_store(&sandbox, "deployed");
    let www = sandbox.path("deep/er/www");
    fs::create_dir_all(&www).unwrap();
    let hook = sandbox.remote("deployed").join("hooks/post-receive");
    let checkout = format!("#!/bin/sh\ngit --work-tree='{}' checkout --force main\n", www.display());
    fs::write(&hook, checkout).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    for seed in [2, 3] {
        work.publish("a.bin", &noise(seed, 300_000));
        assert_same_file(&www.join("a.bin"), &work.file("a.bin"));
    }
}
