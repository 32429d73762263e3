//! Secrets stay secret. Every test ends with a scan, and these tests check that the scan finds a secret.
//! There is none even at the most talkative level.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::data::{assert_same_tree, noise};
use crate::machine::Machine;
use crate::sandbox::{Sandbox, path_str};
use crate::scan::Secrets;
use crate::storage::Kind;

/// A secret that nobody else has, with characters that URLs don't have as they are, and how they have it.
fn planted() -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let nonce = path_str(folder.path()).rsplit(['.', '/']).next().unwrap().to_owned();
    (format!("planted/secret+{nonce}=="), format!("planted%2Fsecret%2B{nonce}%3D%3D"))
}

/// The message with which a test that runs `this` would fail.
fn complaint(this: impl FnOnce()) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(this)) else { return "nothing".to_owned() };
    *panic.downcast::<String>().expect("a message")
}

/// The message about a line of shell that finds the secret in the files `secret` and `in-url`.
fn run_with_secret(script: &str) -> String {
    let (secret, in_url) = planted();
    let sandbox = Sandbox::with(Kind::Folders, Secrets::default().and(&secret));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), secret).unwrap();
    fs::write(folder.path().join("in-url"), in_url).unwrap();
    complaint(|| {
        sandbox.machine.run(folder.path(), "sh", ["-c", script]);
    })
}

#[test]
fn a_secret_in_an_output_is_found() {
    for script in ["cat secret", "cat secret >&2", "cat in-url"] {
        let found = run_with_secret(script);
        assert!(found.starts_with("the output of"), "{script}: {found}");
    }
    assert_eq!(run_with_secret("echo planted"), "nothing");
}

#[cfg(target_os = "linux")]
#[test]
fn a_secret_in_a_command_line_is_found() {
    // the program that shows it is no direct child of the tests
    let found = run_with_secret("sh -c 'sleep 20; :' sh \"$(cat secret)\"; :");
    assert!(found.starts_with("the command line of sh shows a secret"), "{found}");
    assert_eq!(run_with_secret("sh -c 'sleep 0.1; :' sh planted; :"), "nothing");
}

#[test]
fn a_secret_in_a_log_is_found() {
    let (secret, _) = planted();
    let leave = |name: &str, content: &str| {
        let sandbox = Sandbox::with(Kind::Folders, Secrets::default().and(&secret));
        let path = sandbox.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        complaint(|| drop(sandbox))
    };
    let long = format!("{}{secret}\n", "a line of a log\n".repeat(100_000));
    for (name, content) in [
        ("work/.git/lfs/cdc/log", &*long),
        ("work/.git/lfs/logs/20260101T000000.log", &*long),
        ("work/.lfsconfig", &*secret),
        ("home/.cache/git-lfs-cdc/x/store.json", &*secret),
    ] {
        let found = leave(name, content);
        assert!(found.starts_with("there is a secret in") && found.ends_with(name), "{name}: {found}");
    }
    assert_eq!(leave("work/.git/lfs/cdc/log", "a line of a log\n"), "nothing");
}

/// A machine that says as much as it can.
fn talkative(machine: Machine) -> Machine {
    let variables = ["GIT_TRACE", "GIT_TRANSFER_TRACE", "GIT_CURL_VERBOSE"];
    let machine = machine.with_variable("GIT_LFS_CDC_LOG", "trace");
    variables.iter().fold(machine, |machine, name| machine.with_variable(name, "1"))
}

/// Each command looks for secrets in its output, and the sandbox looks for them in its files when it is
/// dropped.
#[test]
#[ignore = "needs an S3 server"]
fn nothing_is_revealed_at_the_most_talkative_level() {
    let wrong = "not/the+secret+of/this/key==";
    let mut sandbox = Sandbox::in_s3(Secrets::in_use().and(wrong));
    sandbox.machine = talkative(sandbox.machine.clone());
    let work = sandbox.repository("loud");
    work.publish("a.bin", &noise(1, 700_000));
    work.machine.expect_success(work.cdc(["status", "--probe"]));
    let other = talkative(sandbox.other_machine("other"));
    let remote = sandbox.remote("loud");
    let copy = other.clone_of(&remote, "other/copy");
    assert_same_tree(&work.path, &copy.path);

    let stranger = talkative(sandbox.other_machine("stranger")).with_variable("AWS_SECRET_ACCESS_KEY", wrong);
    let outcome = stranger.git(&sandbox.path("stranger"), ["clone", path_str(&remote), "copy"]);
    stranger.expect_failure(outcome, &["the credentials are wrong", "AWS_SECRET_ACCESS_KEY"]);

    for repo in [work, copy, stranger.repo_at("stranger/copy")] {
        let log = fs::read_to_string(repo.file(".git/lfs/cdc/log")).unwrap();
        assert!(log.contains("DEBUG"), "{} says no more than usual:\n{log}", repo.path.display());
    }
}
