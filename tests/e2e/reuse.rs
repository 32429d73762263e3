//! Reuse of content that a machine has already: whole files in the places that a user names and in other
//! clones, and chunks that an object shares with others. Tests take away the blocks that must not be needed,
//! or count bytes at a proxy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::counted::Counted;
use crate::data::{assert_same_file, assert_same_tree, damage, noise};
use crate::machine::{Identity, Machine, give};
use crate::process::say;
use crate::repo::Repo;
use crate::sandbox::{Sandbox, path_str};
use crate::skip::skip;
use crate::storage::Storage;

/// Files of a repository in these tests, and their sizes.
const FILES: [(&str, usize); 4] =
    [("large.bin", 20_000_000), ("middle.bin", 700_000), ("small.bin", 900), ("one.bin", 1)];

/// A repository with something of every size in it.
fn repository(sandbox: &Sandbox, name: &str) -> Repo {
    keeps_no_blocks(&sandbox.machine, sandbox);
    let work = sandbox.repository(name);
    for (number, (file, bytes)) in FILES.into_iter().enumerate() {
        work.write(file, &noise(number as u64, bytes));
    }
    work.commit("files of every size");
    work.push();
    work
}

/// Removes blocks from a store. A download that needs one fails.
pub fn remove_blocks(store: &Storage, blocks: &[String]) {
    assert!(!blocks.is_empty());
    blocks.iter().for_each(|block| store.remove(block));
}

/// Copies the files of a repository into a folder, each to the path that `place` gives for its oid.
fn fill(work: &Repo, folder: &Path, place: Place) {
    for (file, _) in FILES {
        let path = folder.join(place(&work.oid(file)));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(work.file(file), path).unwrap();
    }
}

/// Returns the path of an oid's file in a folder.
type Place = fn(&str) -> String;

fn fanned(oid: &str) -> String {
    format!("{}/{}/{oid}", &oid[..2], &oid[2..4])
}

/// Turns off the machine's cache of blocks. Then objects that aren't in the store must come from other files.
pub fn keeps_no_blocks(machine: &Machine, sandbox: &Sandbox) {
    machine.must(&sandbox.path(""), ["config", "--global", "lfs-cdc.cacheSize", "0"]);
}

fn use_source(machine: &Machine, sandbox: &Sandbox, source: &Path) {
    machine.must(&sandbox.path(""), ["config", "--global", "--add", "lfs-cdc.source", path_str(source)]);
}

fn log(repo: &Repo) -> String {
    fs::read_to_string(repo.file(".git/lfs/cdc/log")).unwrap()
}

#[test]
fn a_source_that_has_the_files_spares_all_blocks() {
    let sandbox = Sandbox::new();
    let work = repository(&sandbox, "sources");
    let layouts: [(&str, Place); 5] = [
        ("flat", str::to_owned),
        ("objects", fanned),
        ("clone", |oid| format!(".git/lfs/objects/{}", fanned(oid))),
        ("hub", |oid| format!("models--org--{}/blobs/{oid}", &oid[..1])),
        ("huggingface", |oid| format!("hub/datasets--org--name/blobs/{oid}")),
    ];
    remove_blocks(&sandbox.store(), &sandbox.store().blocks());
    for (name, place) in layouts {
        let source = sandbox.path(&format!("source-{name}"));
        fill(&work, &source, place);
        let machine = sandbox.other_machine(name);
        keeps_no_blocks(&machine, &sandbox);
        use_source(&machine, &sandbox, &source);
        let copy = machine.clone_of(&sandbox.remote("sources"), &format!("{name}/copy"));
        assert_same_tree(&work.path, &copy.path);
        // the clone has copies of its own
        fs::remove_dir_all(&source).unwrap();
        copy.must(["lfs", "fsck"]);
    }
}

#[test]
fn several_sources_complete_each_other_and_a_bad_one_does_no_harm() {
    let sandbox = Sandbox::new();
    let work = repository(&sandbox, "several");
    let sources = ["missing", "file", "damaged", "half"].map(|name| sandbox.path(name));
    let [missing, file, damaged, half] = &sources;
    fs::write(file, b"no folder").unwrap();
    fill(&work, damaged, str::to_owned);
    for (name, _) in FILES {
        damage(&damaged.join(work.oid(name)));
    }
    fill(&work, half, str::to_owned);
    fs::remove_file(half.join(work.oid("middle.bin"))).unwrap();
    let machine = sandbox.other_machine("other");
    keeps_no_blocks(&machine, &sandbox);
    sources.iter().for_each(|source| use_source(&machine, &sandbox, source));
    let copy = machine.clone_of(&sandbox.remote("several"), "other/copy");
    assert_same_tree(&work.path, &copy.path);
    let log = log(&copy);
    let status = copy.cdc(["status"]);
    assert_eq!(status.code, Some(1), "{}", status.text());
    for source in [missing, file] {
        assert!(
            status.text().contains(&format!("{}, which is no folder", path_str(source))),
            "{}",
            status.text()
        );
    }
    for source in [missing, file, damaged] {
        let is_warning = |line: &&str| line.contains("WARN") && line.contains(path_str(source));
        assert!(log.lines().any(|line| is_warning(&line)), "no warning of {}:\n{log}", source.display());
    }
    for (name, _) in FILES {
        assert!(log.contains(&format!("object {} is not taken from", work.oid(name))), "{log}");
    }
}

/// A file system in a file, mounted until this is dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// None if this machine can't make such a file system, or may not mount it.
    fn new(kind: &str, image: &Path, at: &Path) -> Option<Mounted> {
        let run = |program: &str, args: &[&str]| {
            Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
        };
        fs::File::create(image).unwrap().set_len(400 << 20).unwrap();
        fs::create_dir(at).unwrap();
        let image = path_str(image);
        let at = path_str(at);
        let is_mounted =
            run(&format!("mkfs.{kind}"), &["-q", image]) && run("mount", &["-o", "loop", image, at]);
        is_mounted.then(|| Mounted(at.into()))
    }

    fn used_bytes(&self) -> u64 {
        rustix::fs::syncfs(fs::File::open(&self.0).unwrap()).unwrap();
        let about = rustix::fs::statvfs(&self.0).unwrap();
        (about.f_blocks - about.f_bfree) * about.f_frsize
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
#[ignore = "needs root, to mount file systems"]
fn an_object_shares_its_extents_with_the_source_on_xfs_and_btrfs() {
    let sandbox = Sandbox::new();
    let work = repository(&sandbox, "sharing");
    remove_blocks(&sandbox.store(), &sandbox.store().blocks());
    for kind in ["xfs", "btrfs"] {
        let folder = sandbox.path(kind);
        let Some(mounted) = Mounted::new(kind, &sandbox.path(&format!("{kind}.image")), &folder) else {
            skip(&format!("no {kind} can be made and mounted here"));
            continue;
        };
        fill(&work, &folder.join("source"), str::to_owned);
        let machine = sandbox.other_machine(&format!("{kind}-home"));
        keeps_no_blocks(&machine, &sandbox);
        use_source(&machine, &sandbox, &folder.join("source"));
        let pointers_only = machine.clone().with_variable("GIT_LFS_SKIP_SMUDGE", "1");
        let copy = pointers_only.clone_of(&sandbox.remote("sharing"), &format!("{kind}/copy"));
        let before = mounted.used_bytes();
        copy.must(["lfs", "fetch"]);
        let grown = mounted.used_bytes().saturating_sub(before);
        let content: u64 = FILES.iter().map(|(_, bytes)| *bytes as u64).sum();
        say(&format!("{kind}: {content} bytes of objects took {grown} bytes of the disk"));
        assert!(grown < content / 10, "{grown}");
        let before = mounted.used_bytes();
        fs::write(folder.join("afresh"), noise(9, FILES[0].1)).unwrap();
        let grown = mounted.used_bytes() - before;
        assert!(grown > content * 9 / 10, "what shares nothing took {grown} bytes");
        // a change of the source doesn't change the object
        fs::write(folder.join("source").join(work.oid("large.bin")), noise(9, 1000)).unwrap();
        copy.must(["lfs", "fsck"]);
        copy.must(["lfs", "checkout"]);
        assert_same_file(&work.file("large.bin"), &copy.file("large.bin"));
    }
}

/// The author of `.lfsconfig` must not choose the files that the machines of others read.
#[test]
fn a_committed_source_is_not_read() {
    let sandbox = Sandbox::new();
    let work = repository(&sandbox, "committed");
    let source = sandbox.path("source");
    fill(&work, &source, str::to_owned);
    work.must(["config", "--file", ".lfsconfig", "lfs-cdc.source", path_str(&source)]);
    work.commit("a source");
    work.push();
    remove_blocks(&sandbox.store(), &sandbox.store().blocks());
    let other = sandbox.other_machine("other");
    keeps_no_blocks(&other, &sandbox);
    let outcome =
        other.git(&sandbox.path("other"), ["clone", path_str(&sandbox.remote("committed")), "copy"]);
    other.expect_failure(outcome, &["is missing in the store"]);
    use_source(&other, &sandbox, &source);
    other.repo_at("other/copy").must(["reset", "--quiet", "--hard"]);
}

#[test]
fn a_second_clone_takes_everything_from_the_first() {
    let sandbox = Sandbox::new();
    let work = repository(&sandbox, "twice");
    let first = sandbox.clone_elsewhere("twice");
    keeps_no_blocks(&first.machine, &sandbox);
    remove_blocks(&sandbox.store(), &sandbox.store().blocks());
    let second = first.machine.clone_of(&sandbox.remote("twice"), "second");
    assert_same_tree(&work.path, &second.path);
    // the first clone is gone, and there is a third
    fs::remove_dir_all(&first.path).unwrap();
    let third = first.machine.clone_of(&sandbox.remote("twice"), "third");
    assert_same_tree(&work.path, &third.path);
    // another machine doesn't know them
    let other = sandbox.other_machine("other");
    keeps_no_blocks(&other, &sandbox);
    let outcome = other.git(&sandbox.path("other"), ["clone", path_str(&sandbox.remote("twice")), "copy"]);
    other.expect_failure(outcome, &["is missing in the store"]);
}

/// Files that others have put into a clone are taken only where the user has named it.
#[test]
#[ignore = "needs root, to act as another user"]
fn files_of_other_users_are_taken_from_named_sources_only() {
    let sandbox = Sandbox::new();
    let identity = Identity { uid: 4711, gid: 4711, umask: "022" };
    let Some(user) = sandbox.user("user", identity) else {
        return skip("it needs root and setpriv");
    };
    keeps_no_blocks(&user, &sandbox);
    let work = repository(&sandbox, "users");
    let first = user.clone_of(&sandbox.remote("users"), "user/first");
    assert_same_tree(&work.path, &first.path);
    let objects = first.file(".git/lfs/objects");
    give(&objects, &Identity { uid: 0, gid: 0, umask: "022" });
    remove_blocks(&sandbox.store(), &sandbox.store().blocks());
    let clone = |into| user.git(&sandbox.path("user"), ["clone", path_str(&sandbox.remote("users")), into]);
    user.expect_failure(clone("second"), &["is missing in the store"]);
    use_source(&user, &sandbox, &objects);
    user.expect_success(clone("third"));
    assert_same_tree(&work.path, &sandbox.path("user/third"));
}

/// Returns a version of a text. Each version changes some lines here and there, as an export of a database
/// does.
fn version(number: u64) -> Vec<u8> {
    let line = |line: u64| {
        let changed = (1..=number)
            .rev()
            .find(|version| (line * 7919 + version * 104_729).is_multiple_of(1500))
            .unwrap_or(0);
        format!("{line} {}\n", hex::encode(noise(line << 8 | changed, 40)))
    };
    (0..120_000).flat_map(|number| line(number).into_bytes()).collect()
}

/// Five versions of a file in a store, and a clone with the first four.
pub struct Versions {
    pub copy: Repo,
    /// Blocks of the first four versions.
    pub old_blocks: Vec<String>,
    /// Bytes that the fifth version has added to the store.
    pub added_bytes: u64,
}

impl Versions {
    /// Publishes the versions by their numbers.
    pub fn publish(sandbox: &Sandbox, work: &Repo, publish: impl Fn(u64)) -> Versions {
        (1..=4).for_each(&publish);
        let name = work.path.file_name().unwrap().to_str().unwrap().to_owned();
        let copy = sandbox.clone_elsewhere(&name);
        keeps_no_blocks(&copy.machine, sandbox);
        copy.must(["lfs", "fetch", "--all"]);
        let old_blocks = sandbox.store().blocks();
        let before = sandbox.store().total_bytes();
        publish(5);
        Versions { copy, old_blocks, added_bytes: sandbox.store().total_bytes() - before }
    }
}

#[test]
fn only_new_chunks_of_a_new_version_are_fetched() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("versions");
    let Versions { copy, old_blocks, added_bytes } =
        Versions::publish(&sandbox, &work, |number| work.publish("a.bin", &version(number)));
    let kept: Vec<_> = old_blocks.iter().map(|block| (block, sandbox.store().read(block))).collect();
    remove_blocks(&sandbox.store(), &old_blocks);
    // a clone without any version takes chunks from the clone that has them
    let beside = copy.machine.clone_of(&sandbox.remote("versions"), "beside");
    assert_same_file(&work.file("a.bin"), &beside.file("a.bin"));
    fs::remove_dir_all(&beside.path).unwrap();
    copy.must(["pull", "--quiet"]);
    assert_same_file(&work.file("a.bin"), &copy.file("a.bin"));
    say(&format!("version 5 of {} bytes: {added_bytes} bytes are new in the store", version(5).len()));
    kept.iter().for_each(|(block, bytes)| sandbox.store().write(block, bytes));

    // the same with a damaged object in the way: its wrong chunks come from the store
    let hurt = sandbox.clone_elsewhere("versions");
    hurt.must(["checkout", "--quiet", "HEAD~1"]);
    let present = hurt.local_object("a.bin");
    hurt.must(["checkout", "--quiet", "main"]);
    fs::remove_file(hurt.local_object("a.bin")).unwrap();
    damage(&present);
    fs::remove_file(hurt.file("a.bin")).unwrap();
    hurt.must(["checkout", "--quiet", "--", "a.bin"]);
    assert_same_file(&work.file("a.bin"), &hurt.file("a.bin"));
    assert!(log(&hurt).contains(present.file_name().unwrap().to_str().unwrap()), "{}", log(&hurt));
}

#[test]
#[ignore = "needs an S3 server"]
fn a_second_clone_and_a_source_cost_no_block_over_the_network() {
    let counted = Counted::new();
    let Counted { sandbox, work, .. } = &counted;
    for (number, (file, bytes)) in FILES.into_iter().enumerate() {
        work.write(file, &noise(number as u64, bytes));
    }
    work.commit("files");
    work.push();
    let content: u64 = FILES.iter().map(|(_, bytes)| *bytes as u64).sum();
    let first = sandbox.clone_elsewhere("counted");
    keeps_no_blocks(&first.machine, sandbox);
    let moved = counted.moved_by("a second clone", || {
        let second = first.machine.clone_of(&sandbox.remote("counted"), "second");
        assert_same_tree(&work.path, &second.path);
    });
    assert!(moved.block_bytes == 0 && moved.bytes <= content / 100, "{}", moved.bytes);
    let source = sandbox.path("source");
    let machine = sandbox.other_machine("other");
    keeps_no_blocks(&machine, sandbox);
    fill(work, &source, str::to_owned);
    use_source(&machine, sandbox, &source);
    let moved = counted.moved_by("a clone with a source", || {
        let copy = machine.clone_of(&sandbox.remote("counted"), "other/copy");
        assert_same_tree(&work.path, &copy.path);
    });
    assert!(moved.block_bytes == 0 && moved.bytes <= content / 100, "{}", moved.bytes);
}
