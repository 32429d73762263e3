//! Modes of the files that a pull leaves in `.git/lfs`: they are the modes that git-lfs itself gives there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::data::{listing, noise};
use crate::machine::{Identity, give};
use crate::sandbox::{Sandbox, path_str};
use crate::skip::skip;

/// Umasks, and values of `core.sharedRepository`.
const TABLE: [(&str, &str); 9] = [
    ("022", "umask"),
    ("002", "umask"),
    ("077", "umask"),
    ("022", "group"),
    ("077", "group"),
    ("022", "all"),
    ("022", "0640"),
    ("077", "0660"),
    ("002", "0600"),
];

/// In octal digits.
fn mode(path: &Path) -> String {
    let found = fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    format!("{:o}", found.mode() & 0o7777)
}

/// Files and folders of a pull have the modes of an object that was added in the same clone.
#[test]
fn pulled_objects_have_the_modes_of_added_ones() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("modes");
    work.write("large.bin", &noise(1, 9_000_000));
    work.write("small.bin", &noise(2, 3000));
    work.commit("content");
    work.push();
    let large = work.oid("large.bin");
    let small = work.oid("small.bin");
    let other = sandbox.other_machine("other").with_variable("GIT_LFS_SKIP_SMUDGE", "1");
    let remote = sandbox.remote("modes");
    for (number, (umask, shared)) in TABLE.into_iter().enumerate() {
        let name = format!("other/{number}");
        let setting = format!("core.sharedRepository={shared}");
        let script = "umask $0 && git -c $1 clone --quiet -c $1 $2 $3 && cd $3 && git lfs pull && \
                      head -c 5000 large.bin > new.bin && git add new.bin";
        let arguments = ["-c", script, umask, &setting, path_str(&remote), &name];
        other.expect_success(other.run(&sandbox.path("."), "sh", arguments));
        let lfs = sandbox.path(&name).join(".git/lfs");
        let objects = lfs.join("objects");
        let mut pulled = Vec::new();
        let mut added = Vec::new();
        for file in listing(&objects).keys() {
            let is_pulled = [&large, &small].iter().any(|oid| path_str(file).ends_with(oid.as_str()));
            if is_pulled { &mut pulled } else { &mut added }.push(mode(&objects.join(file)));
        }
        assert_eq!((pulled.len(), added.len()), (2, 1), "{umask} {shared}");
        assert!(pulled.iter().all(|pulled| *pulled == added[0]), "{umask} {shared}: {pulled:?} {added:?}");
        assert_eq!(mode(&lfs.join("cdc/log")), added[0], "{umask} {shared}: the log");
        for folder in ["cdc", "cdc/downloads"] {
            let expected = mode(&lfs.join("tmp"));
            assert_eq!(mode(&lfs.join(folder)), expected, "{umask} {shared}: the folder {folder}");
        }
    }
}

/// The second user finds folders and files of the first, and may not open some of them.
#[test]
#[ignore = "needs root, to act as other users"]
fn two_users_share_a_clone() {
    const GROUP: u32 = 62_000;
    let sandbox = Sandbox::new();
    let work = sandbox.repository("shared");
    work.write("large.bin", &noise(1, 9_000_000));
    for number in 0..10 {
        work.write(&format!("{number}.bin"), &noise(10 + number, 3000));
    }
    work.commit("content");
    work.push();
    let large = work.oid("large.bin");
    let identities = [62_011, 62_012].map(|uid| Identity { uid, gid: GROUP, umask: "027" });
    let [owner, _] = identities.clone();
    let [alice, bob] = identities;
    let (Some(alice), Some(bob)) = (sandbox.user("alice", alice), sandbox.user("bob", bob)) else {
        return skip("it needs root and setpriv");
    };
    let [alice, bob] = [alice, bob].map(|machine| machine.with_variable("GIT_LFS_SKIP_SMUDGE", "1"));
    let ours = sandbox.path("ours");
    fs::create_dir(&ours).unwrap();
    give(&ours, &owner);
    fs::set_permissions(&ours, fs::Permissions::from_mode(0o2770)).unwrap();
    let shared = "core.sharedRepository=group";
    let remote = sandbox.remote("shared");
    alice.must(&ours, ["-c", shared, "clone", "--quiet", "-c", shared, path_str(&remote), "clone"]);
    let clone = ours.join("clone");
    alice.must(&clone, ["lfs", "fetch", "--include", "0.bin"]);
    let downloads = clone.join(".git/lfs/cdc/downloads");
    let unfinished = downloads.join(format!("{large}.partial"));
    alice.expect_success(alice.run(&clone, "sh", ["-c", "umask 077; echo > \"$0\"", path_str(&unfinished)]));
    bob.must(&clone, ["lfs", "fetch", "--all"]);
    assert_eq!(listing(&clone.join(".git/lfs/objects")).len(), 11);
    assert!(unfinished.exists(), "it is another user's");
    alice.must(&clone, ["lfs", "fsck", "--objects"]);
}
