//! Hostile stores and services: each command ends with an error within seconds, and in little memory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_64;

use crate::data::noise;
use crate::evil_service::{self, Evil};
use crate::process::Outcome;
use crate::repo::Repo;
use crate::sandbox::{Sandbox, path_str};
use crate::storage::only_for_folders;

/// No command needs this long, even on a busy machine.
const SECONDS: u64 = 120;

/// Runs a program under a limit of 1 GiB of address space. git has no limit, because git-lfs needs more for
/// itself.
fn limited(repo: &Repo, program: &str, args: &[&str]) -> Outcome {
    let limit = if program == "git" { "unlimited" } else { "1048576" };
    let script = format!("ulimit -v {limit}; exec timeout -k 5 {SECONDS} \"$0\" \"$@\"");
    let args = ["-c", &script, program].into_iter().chain(args.iter().copied());
    let began = Instant::now();
    let outcome = repo.machine.run(&repo.path, "sh", args);
    assert!(began.elapsed() < Duration::from_secs(SECONDS), "{} hangs: {}", outcome.command, outcome.text());
    let text = outcome.text();
    for word in ["panicked", "memory allocation", "EOF", "overflow"] {
        assert!(!text.contains(word), "{}: {text}", outcome.command);
    }
    outcome
}

#[track_caller]
fn fails(repo: &Repo, program: &str, args: &[&str], expected: &str) {
    let outcome = limited(repo, program, args);
    assert!(!outcome.success(), "{} succeeded: {}", outcome.command, outcome.text());
    let text = outcome.text();
    assert!(text.contains(expected), "{} does not say {expected:?}: {text}", outcome.command);
}

/// A repository that has its objects in a hostile service.
fn at_service(sandbox: &Sandbox, evil: Evil) -> Repo {
    let machine = sandbox.other_machine(&format!("{evil:?}")).without_keys();
    let path = sandbox.path(&format!("{evil:?}/work"));
    machine.must(&sandbox.path(""), ["init", "--quiet", path_str(&path)]);
    let repo = Repo { machine, path };
    let url = format!("cdc::s3://bucket/store?endpoint={}&repository=r", evil_service::start(evil));
    repo.must(["config", "lfs.url", &url]);
    repo.must(["config", "lfs-cdc.retryTime", "3"]);
    repo
}

#[test]
fn answers_of_a_hostile_service_are_bounded() {
    let sandbox = Sandbox::new();
    for (evil, expected) in [
        (Evil::EndlessPage, "the answer has more than"),
        (Evil::EndlessPages, "doesn't end"),
        (Evil::SamePage, "doesn't end"),
        (Evil::LargeSegments, "where 100 were expected"),
        (Evil::LongRange, "the answer has more than 65536 bytes"),
        (Evil::LargeCondemned, "where 100 were expected"),
        (Evil::ManyCondemned, "the condemned lists have"),
        (Evil::LargeDescription, "has more than 65536 bytes"),
        (Evil::AbsurdPause, "the service answered 503"),
    ] {
        let repo = at_service(&sandbox, evil);
        fails(&repo, path_str(&repo.machine.agent()), &["status"], expected);
    }
}

/// Some tools make an empty object for each folder of a bucket.
#[test]
fn markers_of_folders_in_a_bucket_do_no_harm() {
    let sandbox = Sandbox::new();
    let repo = at_service(&sandbox, Evil::FolderMarkers);
    let outcome = limited(&repo, path_str(&repo.machine.agent()), &["status"]);
    assert!(outcome.stdout.contains("0 index segments"), "{}", outcome.text());
    assert!(!outcome.stdout.contains("condemned"), "{}", outcome.text());
}

/// A sparse file, which takes no room on the disk.
fn sparse(path: &Path, start: &[u8], length: u64) {
    fs::write(path, start).unwrap();
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

/// The beginning of an index segment of `length` bytes. It claims that nearly all bytes are one section.
fn large_head(length: u64, kind: u32, is_paged: bool) -> Vec<u8> {
    let mut header = b"CDCindex".to_vec();
    let mut table = Vec::new();
    header.extend([1, 0, 1, 0]);
    header.extend([0; 12]);
    header.extend(length.to_le_bytes());
    table.extend(kind.to_le_bytes());
    table.extend(u32::from(is_paged).to_le_bytes());
    table.extend(4096u64.to_le_bytes());
    table.extend((length - 4096).to_le_bytes());
    table.extend([0; 8]);
    let sum = xxh3_64(&[&header[..], &table].concat());
    [header, sum.to_le_bytes().to_vec(), table].concat()
}

#[test]
fn segments_that_claim_to_be_huge_are_refused_by_each_command() {
    if only_for_folders("forged files") {
        return;
    }
    let sandbox = Sandbox::new();
    let work = sandbox.repository("work");
    work.publish("a.bin", &noise(1, 300_000));
    let index = sandbox.store().folder().join("index");
    for (number, length, kind) in [(1, 40 << 30, 7u32), (2, 900 << 20, 7), (3, 8 << 40, 8)] {
        let name = index.join(format!("{:032x}-{:064x}", u128::MAX - number, number));
        sparse(&name, &large_head(length, kind, false), length);
        let agent = work.machine.agent();
        fails(&work, path_str(&agent), &["status"], "would have");
        let copy = sandbox.other_machine(&format!("machine-{number}"));
        let copy = copy.with_variable("GIT_LFS_SKIP_SMUDGE", "1");
        let copy = copy.clone_of(&sandbox.remote("work"), &format!("machine-{number}/copy"));
        // sound segments are found all the same
        let pulled = limited(&copy, "git", &["lfs", "pull"]);
        assert!(pulled.success(), "{}", pulled.text());
        fs::remove_file(name).unwrap();
    }
}

/// Pipes, devices, links and folders in the place of files are not opened, or not waited for.
#[test]
fn pipes_and_devices_in_the_place_of_files_are_not_waited_for() {
    if only_for_folders("pipes and links") {
        return;
    }
    let sandbox = Sandbox::new();
    let work = sandbox.repository("work");
    work.publish("a.bin", &noise(1, 300_000));
    let store = sandbox.store().folder().to_path_buf();
    let files = sandbox.store().files();
    let one_in = |folder: &str| files.keys().find(|name| name.starts_with(folder)).unwrap().clone();
    let segment = sandbox.store().segments().pop().unwrap();
    let places = ["store.json".to_owned(), segment, one_in("blocks/")];
    type Put = fn(&Path);
    let put: [(&str, Put); 4] = [
        ("pipe", |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success())),
        ("link to a device", |path| symlink("/dev/zero", path).unwrap()),
        ("link that leads nowhere", |path| symlink("/nowhere", path).unwrap()),
        ("folder", |path| fs::create_dir(path).unwrap()),
    ];
    let mut number = 0;
    for place in &places {
        let path = store.join(place);
        let kept = sandbox.path("kept");
        for (what, put) in &put {
            fs::rename(&path, &kept).unwrap();
            put(&path);
            let copy = sandbox.other_machine(&format!("machine-{number}"));
            let copy = copy.with_variable("GIT_LFS_SKIP_SMUDGE", "1");
            let copy = copy.clone_of(&sandbox.remote("work"), &format!("machine-{number}/copy"));
            number += 1;
            let outcome = limited(&copy, "git", &["lfs", "pull"]);
            assert!(!outcome.success(), "{place} is a {what}: {}", outcome.text());
            if path.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) }.unwrap();
            fs::rename(&kept, &path).unwrap();
        }
    }
    let clone = sandbox.clone_elsewhere("work");
    crate::data::assert_same_tree(&work.path, &clone.path);
}
