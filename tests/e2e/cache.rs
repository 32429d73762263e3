//! The cache of a machine: later clones take blocks from it, and it stays within its bound. Delivered bytes
//! are right, even where the cache is damaged or its disk is full.

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
use crate::servers::corpora;
use crate::skip::skip;
use crate::storage::Kind;
use crate::store_faults::SmallDisk;

const MB: usize = 1_000_000;

/// Returns the bytes that went to the client, and the bytes of blocks among them.
fn received(record: &[Exchange]) -> (u64, u64) {
    let all = record.iter().map(|e| e.received_bytes).sum();
    (all, record.iter().filter(|e| e.is("GET", Thing::Block)).map(|e| e.received_bytes).sum())
}

/// A store with a large object, some middle ones and many small ones.
fn with_content() -> Scene {
    let scene = Scene::new();
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
    scene
}

/// Clones the scene's repository on a machine, into a folder that must not be there.
fn clone_on(scene: &Scene, machine: &Machine, home: &Path, into: &str) -> Repo {
    let path = home.join(into);
    machine.must(home, ["clone", "--quiet", path_str(&scene.remote()), path_str(&path)]);
    Repo { machine: machine.clone(), path }
}

/// Clones once on a machine, and removes the clone. Only the machine's cache is left.
fn fill_cache(scene: &Scene, machine: &Machine, home: &Path) {
    let first = clone_on(scene, machine, home, "first");
    assert_same_tree(&scene.work.path, &first.path);
    let (_, of_blocks) = received(&scene.proxy.take_record());
    assert!(of_blocks > 30 * MB as u64, "{of_blocks}");
    fs::remove_dir_all(first.path).unwrap();
}

fn cache_folder(home: &Path) -> PathBuf {
    home.join(".cache/git-lfs-cdc")
}

/// The ranges of blocks that are cached or being written, also while others write and remove some.
fn ranges(home: &Path) -> Vec<PathBuf> {
    let files = ["-path", "*/ranges/*", "-type", "f"];
    let found = Command::new("find").arg(cache_folder(home)).args(files).output().unwrap().stdout;
    String::from_utf8(found).unwrap().lines().map(PathBuf::from).collect()
}

#[test]
#[ignore = "needs an S3 server"]
fn a_second_clone_on_a_machine_takes_almost_nothing_from_the_store() {
    let scene = with_content();
    let (machine, home) = scene.fresh_machine();
    fill_cache(&scene, &machine, &home);
    let second = clone_on(&scene, &machine, &home, "second");
    assert_same_tree(&scene.work.path, &second.path);
    let (all, of_blocks) = received(&scene.proxy.take_record());
    let content = total_bytes(&second.path);
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
    assert!(total_bytes(&cache_folder(&home)) > 30 * MB as u64);
    machine.must(&home, ["config", "--global", "lfs-cdc.cacheSize", "10m"]);
    machine.expect_success(machine.cdc(&home, ["cache", "prune"]));
    assert!(total_bytes(&cache_folder(&home)) <= 11 << 20);
    machine.expect_failure(
        machine.cdc(&home, ["cache", "clear", "--store", "s3://elsewhere/x"]),
        &["cache show"],
    );
    machine.expect_success(machine.cdc(&home, ["cache", "clear", "--store", &scene.url]));
    assert!(ranges(&home).is_empty());
    // the list of clones belongs to no store
    let left: Vec<_> =
        listing(&cache_folder(&home)).into_keys().filter(|name| !name.starts_with("clones")).collect();
    assert_eq!(left, [Path::new("ranges.lock")]);
}

#[test]
#[ignore = "needs an S3 server"]
fn a_size_of_0_turns_it_off() {
    let scene = with_content();
    let (machine, home) = scene.fresh_machine();
    fill_cache(&scene, &machine, &home);
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
#[ignore = "needs an S3 server"]
fn damaged_ranges_are_fetched_again() {
    let scene = with_content();
    let (machine, home) = scene.fresh_machine();
    fill_cache(&scene, &machine, &home);
    ranges(&home).iter().for_each(|path| damage(path));
    let second = clone_on(&scene, &machine, &home, "second");
    assert_same_tree(&scene.work.path, &second.path);
    let (_, of_blocks) = received(&scene.proxy.take_record());
    assert!(of_blocks > 0);
    let log = fs::read_to_string(second.path.join(".git/lfs/cdc/log")).unwrap();
    assert!(log.contains("what was kept of it is fetched again"), "{log}");
}

#[test]
#[ignore = "needs an S3 server, and root to mount file systems"]
fn a_full_disk_of_the_cache_is_no_failure() {
    let scene = with_content();
    let (machine, home) = scene.fresh_machine();
    // smaller than any but the smallest ranges; and so full that nothing can be written at all
    for (round, options) in
        ["size=2m,mode=700", "size=8k,mode=700", "nr_inodes=4,mode=700"].iter().enumerate()
    {
        let Some(_disk) = SmallDisk::mount(cache_folder(&home), options) else {
            return skip("no file system may be mounted here");
        };
        let copy = clone_on(&scene, &machine, &home, &format!("copy-{round}"));
        assert_same_tree(&scene.work.path, &copy.path);
        let log = fs::read_to_string(copy.path.join(".git/lfs/cdc/log")).unwrap();
        let says =
            |line: &str| line.contains("is not kept on this machine") && line.contains("free some space");
        assert!(log.lines().any(says), "{options}: {log}");
    }
}

/// A disk with room for the cached ranges or for the objects, but not for both.
#[test]
#[ignore = "needs an S3 server, and root to mount file systems"]
fn cached_ranges_give_way_to_objects() {
    let scene = with_content();
    let (machine, home) = scene.fresh_machine();
    let Some(_disk) = SmallDisk::mount(home.join(".cache"), "size=60m,mode=700") else {
        return skip("no file system may be mounted here");
    };
    fill_cache(&scene, &machine, &home);
    assert!(cached_now(&home) > 30 * MB as u64);
    let without_content = machine.clone().with_variable("GIT_LFS_SKIP_SMUDGE", "1");
    let copy = clone_on(&scene, &without_content, &home, ".cache/copy");
    copy.must(["lfs", "fetch", "origin", "HEAD"]);
    copy.must(["lfs", "fsck", "--objects"]);
    assert!(cached_now(&home) < 30 * MB as u64);
    let log = fs::read_to_string(copy.path.join(".git/lfs/cdc/log")).unwrap();
    assert!(log.contains("bytes of blocks are not kept any more"), "{log}");
}

/// Eight clones run at once, with room for a third of the bytes that each fetches. Some are killed. The cap
/// holds at every moment.
#[test]
#[ignore = "needs an S3 server"]
fn the_cap_is_held_by_eight_clones_at_once() {
    const MOST: u64 = 10 << 20;
    let scene = with_content();
    let (machine, home) = scene.fresh_machine();
    machine.must(&home, ["config", "--global", "lfs-cdc.cacheSize", "10m"]);
    let clone = |number: usize| {
        let path = home.join(format!("copy-{number}"));
        machine.start(&home, "git", ["clone", "--quiet", path_str(&scene.remote()), path_str(&path)])
    };
    let mut running: Vec<_> = (0..8).map(clone).collect();
    let mut peak = 0;
    let mut looks = 0;
    while running.iter_mut().any(|running| !running.finished()) {
        peak = peak.max(cached_now(&home));
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
    assert!(cached_now(&home) <= MOST);
    assert!(ranges(&home).iter().all(|path| !path_str(path).ends_with(".part")), "left by killed agents");
}

/// Bytes of ranges in the cache at one moment. Counts files that two looks see, because each look takes some
/// time.
fn cached_now(home: &Path) -> u64 {
    let sizes = || -> BTreeMap<u64, u64> {
        let files = ranges(home).into_iter().filter_map(|path| fs::metadata(path).ok());
        files.map(|metadata| (metadata.ino(), metadata.len())).collect()
    };
    let first = sizes();
    let second = sizes();
    second.iter().filter(|(inode, _)| first.contains_key(inode)).map(|(_, bytes)| bytes).sum()
}

#[test]
#[ignore = "needs an S3 server"]
fn agents_killed_while_they_write_the_cache() {
    let scene = with_content();
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

/// Releases one after the other, each in a clone of its own. Only new bytes of each release come from the
/// store.
#[test]
#[ignore = "needs an S3 server and corpora"]
fn names_release_by_release() {
    let corpora = corpora();
    let scene = Scene::new();
    scene.usual_agents();
    scene.work.write(".gitattributes", b"*.json filter=lfs diff=lfs merge=lfs -text\n");
    let file_of = |release: usize| corpora.join(format!("names/v{release}/names.json"));
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

/// A store in a directory is on a disk already.
#[test]
fn nothing_of_a_store_in_a_directory_is_cached() {
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
