//! What a machine keeps of what it has fetched: later clones take it from there, it stays within its bound, and
//! whatever happens to it, what is delivered is right.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::data::{assert_same_file, assert_same_tree, damage, listing, noise, total_bytes};
use crate::machine::Machine;
use crate::network_faults::scene::Scene;
use crate::process::{say, signal};
use crate::proxy::{Exchange, Thing};
use crate::repo::Repo;
use crate::sandbox::{Sandbox, path_str};
use crate::scan::Secrets;
use crate::storage::Kind;
use crate::store_faults::SmallDisk;

const MB: usize = 1_000_000;

/// Bytes that went to the client, and those of them that are of blocks.
fn received(record: &[Exchange]) -> (u64, u64) {
    let all = record.iter().map(|e| e.received_bytes).sum();
    (all, record.iter().filter(|e| e.is("GET", Thing::Block)).map(|e| e.received_bytes).sum())
}

/// A store with a large object, some middle ones and many small ones.
fn with_content(test: &str) -> Option<Scene> {
    let scene = Scene::new(test)?;
    scene.work.write("large.bin", &noise(1, 30 * MB));
    for number in 0..4u64 {
        scene.work.write(&format!("middle-{number}.bin"), &noise(10 + number, MB));
    }
    for number in 0..100u64 {
        scene.work.write(&format!("small-{number}.bin"), &noise(100 + number, 10_000));
    }
    scene.work.commit("content");
    scene.usual_agents();
    scene.push();
    scene.proxy.take_record();
    Some(scene)
}

/// A clone of what the scene holds on a machine, into a folder that must not be there.
fn clone_on(scene: &Scene, machine: &Machine, home: &Path, into: &str) -> Repo {
    let path = home.join(into);
    machine.must(home, ["clone", "--quiet", path_str(&scene.remote()), path_str(&path)]);
    Repo { machine: machine.clone(), path }
}

/// What a first clone on a machine fetches; the clone is removed, and only what the machine keeps is left.
fn cloned_before(scene: &Scene, machine: &Machine, home: &Path) {
    let first = clone_on(scene, machine, home, "first");
    assert_same_tree(&scene.work.path, &first.path);
    let (_, of_blocks) = received(&scene.proxy.take_record());
    assert!(of_blocks > 30 * MB as u64, "{of_blocks}");
    fs::remove_dir_all(first.path).unwrap();
}

fn kept(home: &Path) -> PathBuf {
    home.join(".cache/git-lfs-cdc")
}

/// The ranges of blocks that are kept or being written, also while others write and remove some.
fn ranges(home: &Path) -> Vec<PathBuf> {
    let files = ["-path", "*/ranges/*", "-type", "f"];
    let found = Command::new("find").arg(kept(home)).args(files).output().unwrap().stdout;
    String::from_utf8(found).unwrap().lines().map(PathBuf::from).collect()
}

#[test]
fn a_second_clone_on_a_machine_takes_almost_nothing_from_the_store() {
    let Some(scene) = with_content("a_second_clone_on_a_machine_takes_almost_nothing_from_the_store") else {
        return;
    };
    let (machine, home) = scene.fresh_machine();
    cloned_before(&scene, &machine, &home);
    let second = clone_on(&scene, &machine, &home, "second");
    assert_same_tree(&scene.work.path, &second.path);
    let ((all, of_blocks), content) = (received(&scene.proxy.take_record()), total_bytes(&second.path));
    say(&format!("a second clone of {content} bytes received {all} bytes, {of_blocks} of blocks"));
    assert!(all <= content / 100, "{all} of {content}");
    let log = fs::read_to_string(second.path.join(".git/lfs/cdc/log")).unwrap();
    assert!(!log.contains("WARN"), "{log}");

    let report = machine.expect_success(machine.cdc(&home, ["cache", "--json"])).stdout;
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["stores"].as_array().unwrap().len(), 1);
    let store = &report["stores"][0];
    assert!(scene.url.starts_with(store["location"].as_str().unwrap().split(' ').next().unwrap()));
    assert!(store["kinds"]["ranges"]["bytes"].as_u64().unwrap() > 30 * MB as u64);
    let shown = machine.expect_success(machine.cdc(&home, ["cache", "show", "--blocks"])).stdout;
    assert!(shown.contains(store["location"].as_str().unwrap()) && shown.contains("4.3 GB"), "{shown}");
    for block in store["blocks"].as_object().unwrap().keys() {
        assert!(shown.contains(block), "{shown}");
    }
    let shown = machine.expect_success(machine.cdc(&home, ["cache", "show", "--objects"])).stdout;
    let report = machine.expect_success(machine.cdc(&home, ["cache", "show", "--objects", "--json"])).stdout;
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let objects = report["stores"][0]["objects"].as_array().unwrap();
    assert_eq!(objects.len(), 105, "all that were fetched");
    for object in objects {
        assert_eq!(object["kept_bytes"], object["needed_bytes"]);
        assert!(shown.contains(object["oid"].as_str().unwrap()), "{shown}");
    }

    // nothing is old, so nothing goes
    machine.expect_success(machine.cdc(&home, ["cache", "prune"]));
    assert!(total_bytes(&kept(&home)) > 30 * MB as u64);
    machine.must(&home, ["config", "--global", "lfs-cdc.cacheSize", "10m"]);
    machine.expect_success(machine.cdc(&home, ["cache", "prune"]));
    assert!(total_bytes(&kept(&home)) <= 11 << 20);
    machine.expect_failure(
        machine.cdc(&home, ["cache", "clear", "--store", "s3://elsewhere/x"]),
        &["cache show"],
    );
    machine.expect_success(machine.cdc(&home, ["cache", "clear", "--store", &scene.url]));
    assert!(ranges(&home).is_empty());
    // which clones there are is not of a store
    let left: Vec<_> = listing(&kept(&home)).into_keys().filter(|name| !name.starts_with("clones")).collect();
    assert_eq!(left, [Path::new("ranges.lock")]);
}

#[test]
fn a_size_of_0_turns_it_off() {
    let Some(scene) = with_content("a_size_of_0_turns_it_off") else { return };
    let (machine, home) = scene.fresh_machine();
    cloned_before(&scene, &machine, &home);
    machine.must(&home, ["config", "--global", "lfs-cdc.cacheSize", "0"]);
    let before = ranges(&home);
    let second = clone_on(&scene, &machine, &home, "second");
    assert_same_tree(&scene.work.path, &second.path);
    let (_, of_blocks) = received(&scene.proxy.take_record());
    assert!(of_blocks > 30 * MB as u64, "nothing is read: {of_blocks}");
    machine.expect_success(machine.cdc(&home, ["cache", "clear"]));
    clone_on(&scene, &machine, &home, "third");
    assert!(!before.is_empty() && ranges(&home).is_empty(), "nothing is written");
}

#[test]
fn what_is_damaged_there_is_fetched_again() {
    let Some(scene) = with_content("what_is_damaged_there_is_fetched_again") else { return };
    let (machine, home) = scene.fresh_machine();
    cloned_before(&scene, &machine, &home);
    ranges(&home).iter().for_each(|path| damage(path));
    let second = clone_on(&scene, &machine, &home, "second");
    assert_same_tree(&scene.work.path, &second.path);
    let (_, of_blocks) = received(&scene.proxy.take_record());
    assert!(of_blocks > 0);
    let log = fs::read_to_string(second.path.join(".git/lfs/cdc/log")).unwrap();
    assert!(log.contains("what was kept of it is fetched again"), "{log}");
}

#[test]
fn a_full_disk_there_is_no_reason_to_fail() {
    let Some(scene) = with_content("a_full_disk_there_is_no_reason_to_fail") else { return };
    let (machine, home) = scene.fresh_machine();
    // smaller than any but the smallest ranges; and so full that nothing can be written at all
    for (round, options) in
        ["size=2m,mode=700", "size=8k,mode=700", "nr_inodes=4,mode=700"].iter().enumerate()
    {
        let Some(_disk) = SmallDisk::mount(kept(&home), options) else {
            return say("skipped: a_full_disk_there_is_no_reason_to_fail, mounting is not allowed here");
        };
        let copy = clone_on(&scene, &machine, &home, &format!("copy-{round}"));
        assert_same_tree(&scene.work.path, &copy.path);
        let log = fs::read_to_string(copy.path.join(".git/lfs/cdc/log")).unwrap();
        let says =
            |line: &str| line.contains("is not kept on this machine") && line.contains("free some space");
        assert!(log.lines().any(says), "{options}: {log}");
    }
}

/// A disk that could hold what is kept, or the objects, but not both.
#[test]
fn what_is_kept_gives_way_to_objects() {
    let Some(scene) = with_content("what_is_kept_gives_way_to_objects") else { return };
    let (machine, home) = scene.fresh_machine();
    let Some(_disk) = SmallDisk::mount(home.join(".cache"), "size=60m,mode=700") else {
        return say("skipped: what_is_kept_gives_way_to_objects, mounting is not allowed here");
    };
    cloned_before(&scene, &machine, &home);
    assert!(kept_now(&home) > 30 * MB as u64);
    let without_content = machine.clone().with_variable("GIT_LFS_SKIP_SMUDGE", "1");
    let copy = clone_on(&scene, &without_content, &home, ".cache/copy");
    copy.must(["lfs", "fetch", "origin", "HEAD"]);
    copy.must(["lfs", "fsck", "--objects"]);
    assert!(kept_now(&home) < 30 * MB as u64);
    let log = fs::read_to_string(copy.path.join(".git/lfs/cdc/log")).unwrap();
    assert!(log.contains("bytes of blocks are not kept any more"), "{log}");
}

/// Eight clones at once with room for a third of what each fetches, some of them killed: the cap holds at every moment.
#[test]
fn the_cap_is_held_by_eight_clones_at_once() {
    const MOST: u64 = 10 << 20;
    let Some(scene) = with_content("the_cap_is_held_by_eight_clones_at_once") else { return };
    let (machine, home) = scene.fresh_machine();
    machine.must(&home, ["config", "--global", "lfs-cdc.cacheSize", "10m"]);
    let clone = |number: usize| {
        let path = home.join(format!("copy-{number}"));
        machine.start(&home, "git", ["clone", "--quiet", path_str(&scene.remote()), path_str(&path)])
    };
    let mut running: Vec<_> = (0..8).map(clone).collect();
    let (mut peak, mut looks) = (0, 0);
    while running.iter_mut().any(|running| !running.finished()) {
        peak = peak.max(kept_now(&home));
        looks += 1;
        if looks == 20 {
            machine.agents().iter().take(2).for_each(|id| signal("KILL", &id.to_string()));
        }
        thread::sleep(Duration::from_millis(5));
    }
    running.into_iter().for_each(|running| drop(running.wait()));
    for number in 0..8 {
        let copy = Repo { machine: machine.clone(), path: home.join(format!("copy-{number}")) };
        copy.must(["reset", "--quiet", "--hard"]);
        assert_same_tree(&scene.work.path, &copy.path);
    }
    say(&format!("eight clones at once kept at most {peak} bytes of {MOST}, seen in {looks} looks"));
    assert!(peak > 0 && peak <= MOST, "{peak}");
    assert!(kept_now(&home) <= MOST);
    assert!(ranges(&home).iter().all(|path| !path_str(path).ends_with(".part")), "left by killed agents");
}

/// Bytes of ranges that stand there at one moment: seen twice, as what is removed and written meanwhile is seen in one.
fn kept_now(home: &Path) -> u64 {
    let sizes = || -> BTreeMap<u64, u64> {
        let files = ranges(home).into_iter().filter_map(|path| fs::metadata(path).ok());
        files.map(|metadata| (metadata.ino(), metadata.len())).collect()
    };
    let (first, second) = (sizes(), sizes());
    second.iter().filter(|(inode, _)| first.contains_key(inode)).map(|(_, bytes)| bytes).sum()
}

#[test]
fn agents_killed_while_they_keep_what_they_fetch() {
    let Some(scene) = with_content("agents_killed_while_they_keep_what_they_fetch") else { return };
    let (machine, home) = scene.fresh_machine();
    for round in 0..4 {
        let path = home.join(format!("copy-{round}"));
        let mut running =
            machine.start(&home, "git", ["clone", "--quiet", path_str(&scene.remote()), path_str(&path)]);
        while ranges(&home).len() <= round && !running.finished() {
            thread::sleep(Duration::from_millis(2));
        }
        machine.agents().iter().for_each(|id| signal("KILL", &id.to_string()));
        running.wait();
        let copy = Repo { machine: machine.clone(), path };
        copy.must(["reset", "--quiet", "--hard"]);
        assert_same_tree(&scene.work.path, &copy.path);
        fs::remove_dir_all(copy.path).unwrap();
    }
    assert!(!ranges(&home).is_empty());
}

/// Releases one after the other, each in a clone of its own: of each, only what is new comes from the store.
#[test]
fn names_release_by_release() {
    let Some(corpora) = std::env::var_os("GIT_LFS_CDC_CORPORA") else {
        return say("skipped: names_release_by_release, GIT_LFS_CDC_CORPORA is not set");
    };
    let Some(scene) = Scene::new("names_release_by_release") else { return };
    scene.usual_agents();
    scene.work.write(".gitattributes", b"*.json filter=lfs diff=lfs merge=lfs -text\n");
    let file_of = |release: usize| Path::new(&corpora).join(format!("names/v{release}/names.json"));
    let releases = (1..).take_while(|release| file_of(*release).is_file()).count();
    assert!(releases >= 2, "{corpora:?} has no releases of names");
    for release in 1..=releases {
        let file = file_of(release);
        scene.work.write("names.json", &fs::read(file).unwrap());
        scene.work.commit("release");
        scene.push();
    }
    let (machine, home) = scene.fresh_machine();
    let skipping = machine.clone().with_variable("GIT_LFS_SKIP_SMUDGE", "1");
    scene.proxy.take_record();
    let mut last = 0;
    for release in 1..=releases {
        let copy = clone_on(&scene, &skipping, &home, "copy");
        copy.must(["checkout", "--quiet", &format!("main~{}", releases - release)]);
        let copy = Repo { machine: machine.clone(), path: copy.path };
        copy.must(["lfs", "pull"]);
        assert_same_file(&file_of(release), &copy.file("names.json"));
        let record = scene.proxy.take_record();
        let gets = record.iter().filter(|e| e.is("GET", Thing::Block)).count();
        last = received(&record).1;
        say(&format!("names, release {release}: {last} bytes of blocks in {gets} requests"));
        fs::remove_dir_all(copy.path).unwrap();
    }
    assert!(last <= 11 * MB as u64, "{last}");
}

/// What stands in a directory is on a disk already.
#[test]
fn of_a_directory_nothing_is_kept() {
    let sandbox = Sandbox::with(Kind::Folders, Secrets::in_use());
    let work = sandbox.repository("work");
    work.publish("a.bin", &noise(1, 3 * MB));
    let copy = sandbox.clone_elsewhere("work");
    assert_same_tree(&work.path, &copy.path);
    let report =
        copy.machine.expect_success(copy.machine.cdc(&copy.path, ["cache", "show", "--json"])).stdout;
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert!(report["stores"][0]["kinds"]["index"].is_object() && report["counted_bytes"] == 0, "{report}");
}
