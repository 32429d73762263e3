//! What stands on a machine already is not fetched: whole files in the places that a user names and in other clones, and
//! what an object shares with others. Blocks that must not be needed are taken away; through a proxy, bytes are counted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::data::{assert_same_file, assert_same_tree, damage, noise};
use crate::machine::{Identity, Machine, give};
use crate::process::say;
use crate::proxy::{Exchange, Proxy, Thing, summary};
use crate::repo::Repo;
use crate::s3::{self, REGION};
use crate::sandbox::{Sandbox, path_str};
use crate::scan::Secrets;
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

/// Takes away everything that can't be had without blocks.
fn remove_blocks(store: &Storage, blocks: &[String]) {
    assert!(!blocks.is_empty());
    blocks.iter().for_each(|block| store.remove(block));
}

/// Puts what the files of a repository hold into a folder, each at the path that `place` gives for its oid.
fn fill(work: &Repo, folder: &Path, place: Place) {
    for (file, _) in FILES {
        let path = folder.join(place(&work.oid(file)));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(work.file(file), path).unwrap();
    }
}

/// Where in a folder the file of an oid is.
type Place = fn(&str) -> String;

fn fanned(oid: &str) -> String {
    format!("{}/{}/{oid}", &oid[..2], &oid[2..4])
}

/// What is not in the store must come from other files then, and not from what was fetched before.
fn keeps_no_blocks(machine: &Machine, sandbox: &Sandbox) {
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
        // what the clone has is its own
        fs::remove_dir_all(&source).unwrap();
        copy.must(["lfs", "fsck"]);
    }
}

#[test]
fn several_sources_make_up_for_each_other_and_what_is_wrong_with_one_does_no_harm() {
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
    /// None where there is no such file system, or where nothing may be mounted.
    fn new(kind: &str, image: &Path, at: &Path) -> Option<Mounted> {
        let run = |program: &str, args: &[&str]| {
            Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
        };
        fs::File::create(image).unwrap().set_len(400 << 20).unwrap();
        fs::create_dir(at).unwrap();
        let (image, at) = (path_str(image), path_str(at));
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
fn where_the_file_system_can_an_object_shares_its_place_with_the_source() {
    let sandbox = Sandbox::new();
    let work = repository(&sandbox, "sharing");
    remove_blocks(&sandbox.store(), &sandbox.store().blocks());
    for kind in ["xfs", "btrfs"] {
        let folder = sandbox.path(kind);
        let Some(mounted) = Mounted::new(kind, &sandbox.path(&format!("{kind}.image")), &folder) else {
            say(&format!("skipped: sharing on {kind}, which can't be made and mounted here"));
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

/// Whoever writes `.lfsconfig` must not choose what is read on the machines of others.
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
    // the one that was the first is gone, and there is a third
    fs::remove_dir_all(&first.path).unwrap();
    let third = first.machine.clone_of(&sandbox.remote("twice"), "third");
    assert_same_tree(&work.path, &third.path);
    // on another machine nobody knows of them
    let other = sandbox.other_machine("other");
    keeps_no_blocks(&other, &sandbox);
    let outcome = other.git(&sandbox.path("other"), ["clone", path_str(&sandbox.remote("twice")), "copy"]);
    other.expect_failure(outcome, &["is missing in the store"]);
}

/// What others have put into a clone is taken only where the user has named it.
#[test]
fn files_of_other_users_are_taken_from_named_sources_only() {
    let sandbox = Sandbox::new();
    let identity = Identity { uid: 4711, gid: 4711, umask: "022" };
    let Some(user) = sandbox.user("user", identity) else {
        return say("skipped: files of other users, which takes the right to change users");
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

/// Lines of which each version changes some here and there, as an export of a database does.
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

/// A repository with four versions of a file, a clone that has them all, and then a fifth one in the store, together with
/// the blocks that were there before.
fn versions(sandbox: &Sandbox, work: &Repo, publish: impl Fn(u64)) -> (Repo, Vec<String>, u64) {
    (1..=4).for_each(&publish);
    let name = work.path.file_name().unwrap().to_str().unwrap().to_owned();
    let copy = sandbox.clone_elsewhere(&name);
    keeps_no_blocks(&copy.machine, sandbox);
    copy.must(["lfs", "fetch", "--all"]);
    let (blocks, before) = (sandbox.store().blocks(), sandbox.store().total_bytes());
    publish(5);
    (copy, blocks, sandbox.store().total_bytes() - before)
}

#[test]
fn of_a_new_version_only_what_is_new_is_fetched() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("versions");
    let (copy, old_blocks, added) =
        versions(&sandbox, &work, |number| work.publish("a.bin", &version(number)));
    let kept: Vec<_> = old_blocks.iter().map(|block| (block, sandbox.store().read(block))).collect();
    remove_blocks(&sandbox.store(), &old_blocks);
    // a clone that has none of the versions takes what it can from the one that has
    let beside = copy.machine.clone_of(&sandbox.remote("versions"), "beside");
    assert_same_file(&work.file("a.bin"), &beside.file("a.bin"));
    fs::remove_dir_all(&beside.path).unwrap();
    copy.must(["pull", "--quiet"]);
    assert_same_file(&work.file("a.bin"), &copy.file("a.bin"));
    say(&format!("version 5 of {} bytes: {added} bytes are new in the store", version(5).len()));
    kept.iter().for_each(|(block, bytes)| sandbox.store().write(block, bytes));

    // the same with a damaged object in the way: what it has wrong comes from the store
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

/// The releases of a corpus, if there is one.
fn corpus(name: &str, test: &str) -> Option<PathBuf> {
    let root = std::env::var_os("GIT_LFS_CDC_CORPORA");
    if root.is_none() {
        say(&format!("skipped: {test}, GIT_LFS_CDC_CORPORA is not set"));
    }
    let corpus = PathBuf::from(root?).join(name);
    let has_all = corpus.join("v5").is_dir();
    if !has_all {
        say(&format!("skipped: {test}, all releases are there with --full only"));
    }
    has_all.then_some(corpus)
}

/// Publishes a release of `names`.
fn release(work: &Repo, corpus: &Path, number: u64) {
    fs::copy(corpus.join(format!("v{number}/names.json")), work.file("names.bin")).unwrap();
    work.commit("release");
    work.push();
}

#[test]
fn names_version_5_needs_no_block_of_versions_1_to_4() {
    let Some(corpus) = corpus("names", "names_version_5_needs_no_block_of_versions_1_to_4") else { return };
    let sandbox = Sandbox::new();
    let work = sandbox.repository("names");
    let (copy, old_blocks, added) = versions(&sandbox, &work, |number| release(&work, &corpus, number));
    remove_blocks(&sandbox.store(), &old_blocks);
    copy.must(["pull", "--quiet"]);
    assert_same_file(&work.file("names.bin"), &copy.file("names.bin"));
    say(&format!("names, version 5: all that is new in the store are {added} bytes"));
    assert!(added <= 700_000, "{added}");
}

/// A store in a bucket behind a proxy that counts.
struct Counted {
    sandbox: Sandbox,
    proxy: Proxy,
    work: Repo,
}

impl Counted {
    fn new(test: &str) -> Option<Counted> {
        let sandbox = Sandbox::in_s3(test, Secrets::in_use())?;
        let proxy = Proxy::start(&s3::endpoint()?);
        sandbox.trust(&proxy.url());
        let url = format!("{}?region={REGION}&endpoint={}", sandbox.store().location(), proxy.url());
        keeps_no_blocks(&sandbox.machine, &sandbox);
        let work = sandbox.repository_without_store("counted");
        work.init(&url);
        work.commit("set up");
        work.push();
        Some(Counted { sandbox, proxy, work })
    }

    /// What passed while something was done: all bytes of bodies, and those of blocks.
    fn bytes(&self, what: &str, work: impl FnOnce()) -> (u64, u64) {
        self.proxy.take_record();
        work();
        let record = self.proxy.take_record();
        let bytes = |of: &dyn Fn(&&Exchange) -> bool| {
            record
                .iter()
                .filter(of)
                .map(|exchange| exchange.received_bytes + exchange.sent_bytes)
                .sum::<u64>()
        };
        let (all, blocks) = (bytes(&|_| true), bytes(&|exchange| exchange.is("GET", Thing::Block)));
        say(&format!("{what}: {all} bytes, {blocks} of blocks; {}", summary(&record)));
        (all, blocks)
    }
}

#[test]
fn names_version_5_after_1_to_4_moves_at_most_700_kb() {
    let test = "names_version_5_after_1_to_4_moves_at_most_700_kb";
    let Some((corpus, counted)) = corpus("names", test).zip(Counted::new(test)) else { return };
    let Counted { sandbox, work, .. } = &counted;
    let (copy, ..) = versions(sandbox, work, |number| release(work, &corpus, number));
    let (all, _) = counted.bytes("names, version 5 after 1 to 4", || drop(copy.must(["pull", "--quiet"])));
    assert_same_file(&work.file("names.bin"), &copy.file("names.bin"));
    assert!(all <= 700_000, "{all}");
}

#[test]
fn a_cold_clone_of_names_version_5_moves_hardly_more_with_deltas() {
    let test = "a_cold_clone_of_names_version_5_moves_hardly_more_with_deltas";
    let Some(corpus) = corpus("names", test) else { return };
    let mut moved = [0; 2];
    for (is_on, moved) in [false, true].into_iter().zip(&mut moved) {
        let Some(counted) = Counted::new(test) else { return };
        let Counted { sandbox, work, .. } = &counted;
        work.must(["config", "lfs-cdc.delta", if is_on { "true" } else { "false" }]);
        (1..=5).for_each(|number| release(work, &corpus, number));
        let machine = sandbox.other_machine("cold");
        keeps_no_blocks(&machine, sandbox);
        let clone = || drop(machine.clone_of(&sandbox.remote("counted"), "copy"));
        (*moved, _) = counted.bytes(&format!("names, a clone of version 5, deltas {is_on}"), clone);
    }
    let [without, with] = moved;
    assert!(with * 100 <= without * 115, "{with} bytes with deltas, {without} without");
}

#[test]
fn a_second_clone_and_a_source_cost_no_block_over_the_network() {
    let test = "a_second_clone_and_a_source_cost_no_block_over_the_network";
    let Some(counted) = Counted::new(test) else { return };
    let Counted { sandbox, work, .. } = &counted;
    for (number, (file, bytes)) in FILES.into_iter().enumerate() {
        work.write(file, &noise(number as u64, bytes));
    }
    work.commit("files");
    work.push();
    let content: u64 = FILES.iter().map(|(_, bytes)| *bytes as u64).sum();
    let first = sandbox.clone_elsewhere("counted");
    keeps_no_blocks(&first.machine, sandbox);
    let (all, blocks) = counted.bytes("a second clone", || {
        let second = first.machine.clone_of(&sandbox.remote("counted"), "second");
        assert_same_tree(&work.path, &second.path);
    });
    assert!(blocks == 0 && all <= content / 100, "{all}");
    let (source, machine) = (sandbox.path("source"), sandbox.other_machine("other"));
    keeps_no_blocks(&machine, sandbox);
    fill(work, &source, str::to_owned);
    use_source(&machine, sandbox, &source);
    let (all, blocks) = counted.bytes("a clone with a source", || {
        let copy = machine.clone_of(&sandbox.remote("counted"), "other/copy");
        assert_same_tree(&work.path, &copy.path);
    });
    assert!(blocks == 0 && all <= content / 100, "{all}");
}
