//! Audits: machines that have nothing fetch the acknowledged objects, and compare them with the ledger.

use std::fs;
use std::path::Path;

use super::ledger::Object;
use super::world::World;
use crate::process::Outcome;
use crate::repo::Repo;

/// Fetches these objects, whether a ref leads to them or not, before anything can mend them.
pub fn these(world: &World, objects: &[Object]) {
    let name = world.name("auditor");
    let machine = world.sound_machine(&name);
    let repo = machine.repo_at(&format!("{name}/pointers"));
    machine.must(&world.sandbox.path(&name), ["init", "--quiet", "pointers"]);
    let remote = world.remote();
    repo.must(["remote", "add", "origin", remote.to_str().unwrap()]);
    let url = world.first().must(["config", "--file", ".lfsconfig", "lfs.url"]);
    repo.must(["config", "lfs.url", url.trim()]);
    for object in objects {
        repo.write(&object.oid, object.pointer().as_bytes());
    }
    repo.commit("pointers");
    let outcome = repo.git(["lfs", "fetch", "origin", "HEAD"]);
    compare(world, &repo, objects, outcome);
    fs::remove_dir_all(world.sandbox.path(&name)).unwrap();
}

/// Clones, fetches all objects of all branches, and compares them with the whole ledger.
pub fn every_branch(world: &World) {
    let name = world.name("auditor");
    let machine = world.sound_machine(&name).with_variable("GIT_LFS_SKIP_SMUDGE", "1");
    let copy = machine.clone_of(&world.remote(), &format!("{name}/copy"));
    let outcome = copy.git(["lfs", "fetch", "--all", "origin"]);
    compare(world, &copy, &world.ledger.objects(), outcome);
    copy.must(["lfs", "fsck"]);
    fs::remove_dir_all(world.sandbox.path(&name)).unwrap();
}

#[track_caller]
fn compare(world: &World, repo: &Repo, objects: &[Object], outcome: Outcome) {
    let lost: Vec<_> = objects.iter().filter(|object| !is_right(&repo.path, object)).collect();
    assert!(lost.is_empty(), "{} acknowledged objects are lost: {lost:?}\n{}", lost.len(), outcome.text());
    repo.machine.expect_success(outcome);
    world.tally.audits.one_more();
}

/// Returns true if git-lfs has the object, byte for byte.
fn is_right(repo: &Path, object: &Object) -> bool {
    let oid = &object.oid;
    let path = repo.join(".git/lfs/objects").join(&oid[..2]).join(&oid[2..4]).join(oid);
    fs::read(path).is_ok_and(|content| Object::of(&content) == *object)
}
