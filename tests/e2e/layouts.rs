//! Layouts of repositories: shallow, with worktrees, bare, with submodules, with their objects elsewhere.

use std::path::Path;

use crate::data::{assert_same_file, assert_same_tree, listing, noise};
use crate::sandbox::{Sandbox, path_str};
use crate::storage::only_for_folders;

#[test]
fn shallow_clone() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("deep");
    for version in 0..3 {
        work.publish("a.bin", &noise(version, 200_000));
    }
    let other = sandbox.other_machine("other");
    let url = format!("file://{}", path_str(&sandbox.remote("deep")));
    other.must(&sandbox.path("other"), ["clone", "--quiet", "--depth", "1", &url, "shallow"]);
    let shallow = other.repo_at("other/shallow");
    assert_same_tree(&work.path, &shallow.path);

    shallow.publish("b.bin", &noise(9, 200_000));
    work.must(["pull", "--quiet", "origin", "main"]);
    assert_same_tree(&work.path, &shallow.path);

    shallow.must(["fetch", "--quiet", "--unshallow"]);
    shallow.must(["checkout", "--quiet", "HEAD~3"]);
    work.must(["checkout", "--quiet", "HEAD~3"]);
    assert_same_tree(&work.path, &shallow.path);
}

#[test]
fn worktrees_push_and_check_out() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("trees");
    work.must(["worktree", "add", "--quiet", "-b", "second", "../trees-second"]);
    let second = work.machine.repo_at("trees-second");
    work.publish("a.bin", &noise(1, 300_000));
    second.publish("b.bin", &noise(2, 300_000));

    let copy = sandbox.clone_elsewhere("trees");
    copy.must(["worktree", "add", "--quiet", "../copy-second", "second"]);
    assert_same_tree(&work.path, &copy.path);
    assert_same_tree(&second.path, &copy.path.with_file_name("copy-second"));
}

#[test]
fn bare_clone_fetches_and_pushes() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("source");
    for version in 0..3 {
        work.publish("a.bin", &noise(version, 300_000));
    }
    let other = sandbox.other_machine("other");
    let remote = sandbox.remote("source");
    other.must(&sandbox.path("other"), ["clone", "--quiet", "--bare", path_str(&remote), "bare.git"]);
    let bare = other.repo_at("other/bare.git");
    bare.must(["lfs", "fetch", "--all"]);
    assert_eq!(listing(&bare.file("lfs/objects")).len(), 3);

    let second_store = sandbox.storage("second-store");
    other.create_store(&second_store);
    let url = format!("lfs.url={}", second_store.lfs_url("mirror"));
    bare.must(["-c", &url, "lfs", "push", "--all", "origin"]);
    let third = sandbox.other_machine("third");
    let into = path_str(&work.path.with_file_name("mirror")).to_owned();
    third.must(&sandbox.path("third"), ["-c", &url, "clone", "--quiet", path_str(&remote), &into]);
    assert_same_tree(&work.path, Path::new(&into));
}

#[test]
fn submodules() {
    let sandbox = Sandbox::new();
    let library = sandbox.repository("library");
    library.publish("inner.bin", &noise(1, 300_000));
    let program = sandbox.repository("program");
    program.must(["submodule", "--quiet", "add", path_str(&sandbox.remote("library")), "lib"]);
    program.publish("outer.bin", &noise(2, 300_000));

    let other = sandbox.other_machine("other");
    let remote = sandbox.remote("program");
    other.must(
        &sandbox.path("other"),
        ["clone", "--quiet", "--recurse-submodules", path_str(&remote), "copy"],
    );
    let copy = other.repo_at("other/copy");
    assert_same_tree(&program.path, &copy.path);
    assert_same_file(&library.file("inner.bin"), &copy.file("lib/inner.bin"));

    let inner = other.repo_at("other/copy/lib");
    inner.must(["checkout", "--quiet", "-B", "main"]);
    inner.publish("more.bin", &noise(3, 300_000));
    library.must(["pull", "--quiet", "origin", "main"]);
    assert_same_file(&library.file("more.bin"), &inner.file("more.bin"));
}

#[test]
fn relative_store_path_used_from_a_subdirectory() {
    if only_for_folders("a relative path") {
        return;
    }
    let sandbox = Sandbox::new();
    let work = sandbox.repository_without_store("relative");
    work.init("../store");
    let lfsconfig = std::fs::read_to_string(work.file(".lfsconfig")).unwrap();
    assert!(lfsconfig.contains("cdc::../store"), "{lfsconfig}");
    work.write("sub/dir/a.bin", &noise(1, 300_000));
    work.commit("content");
    let below = work.machine.repo_at("relative/sub/dir");
    below.push();
    below.must(["lfs", "push", "--all", "origin"]);
    assert!(sandbox.store().folder().join("store.json").is_file());

    let other = sandbox.other_machine("other");
    let remote = sandbox.remote("relative");
    let outcome = other.run(
        &sandbox.path("."),
        "env",
        ["GIT_LFS_SKIP_SMUDGE=1", "git", "clone", path_str(&remote), "copy"],
    );
    other.expect_success(outcome);
    let copy = other.repo_at("copy/sub/dir");
    copy.must(["lfs", "fetch"]);
    copy.must(["lfs", "pull"]);
    assert_same_tree(&below.path, &copy.path);
}

#[test]
fn lfs_storage_in_another_place() {
    let sandbox = Sandbox::new();
    let elsewhere = another_file_system();
    let storage = |name: &str| format!("lfs.storage={}", path_str(&elsewhere.path().join(name)));
    let work = sandbox.repository("stored");
    work.must(["config", "lfs.storage", &storage("work")["lfs.storage=".len()..]]);
    work.publish("a.bin", &noise(1, 300_000));

    let other = sandbox.other_machine("other");
    let remote = sandbox.remote("stored");
    other.must(
        &sandbox.path("other"),
        ["clone", "--quiet", "-c", &storage("copy"), path_str(&remote), "copy"],
    );
    assert_same_tree(&work.path, &sandbox.path("other/copy"));
    for name in ["work", "copy"] {
        assert_eq!(listing(&elsewhere.path().join(name).join("objects")).len(), 1, "{name}");
    }
}

/// A folder that cannot be renamed into from the sandbox, where the machine has such a place.
fn another_file_system() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
