//! Mistakes of new users, and attacks on them. The answer names the remedy, in words that no terminal and no
//! shell obeys.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::data::{assert_same_file, noise};
use crate::repo::Repo;
use crate::sandbox::{Sandbox, path_str};
use crate::scan::Secrets;
use crate::storage::Kind;

fn in_folders() -> Sandbox {
    Sandbox::with(Kind::Folders, Secrets::in_use())
}

fn script(repo: &Repo, name: &str, text: &str) -> String {
    repo.write(name, format!("#!/bin/sh\n{text}\n").as_bytes());
    fs::set_permissions(repo.file(name), fs::Permissions::from_mode(0o755)).unwrap();
    path_str(&repo.file(name)).to_owned()
}

#[track_caller]
fn finds(repo: &Repo, words: &[&str]) {
    let outcome = repo.cdc(["status"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.text());
    let fits = |line: &str| line.starts_with("! ") && words.iter().all(|word| line.contains(word));
    assert!(outcome.stdout.lines().any(fits), "no finding has all of {words:?}:\n{}", outcome.text());
}

#[track_caller]
fn is_well(repo: &Repo) {
    let outcome = repo.machine.expect_success(repo.cdc(["status"]));
    assert!(outcome.stdout.ends_with("all is well\n"), "{}", outcome.text());
}

#[test]
fn text_of_a_repository_steers_no_terminal() {
    let sandbox = in_folders();
    let work = sandbox.repository_without_store("work");
    let store = sandbox.path("store");
    let hostile = "x\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}H\u{202e}all is well";
    let is_harmless = |text: &str| {
        let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(steers), "{text:?}");
    };
    for url in [format!("https://example.com/{hostile}"), format!("cdc::/srv/{hostile}")] {
        work.write(".lfsconfig", format!("[lfs]\n\turl = \"{url}\\n\"\n").as_bytes());
        for command in [&["status"][..], &["status", "--json"], &["stats"], &[hostile], &["stats", hostile]] {
            let outcome = work.cdc(command.iter().copied());
            assert_ne!(outcome.code, Some(0), "{}", outcome.text());
            is_harmless(&outcome.text());
        }
        let report = work.cdc(["status", "--json"]).stdout;
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["remotes"][0]["lfs_url"].as_str(), Some(format!("{url}\n").as_str()));
    }
    // the output of git-lfs, and the log: its URLs may have other such characters
    work.write(".lfsconfig", "[lfs]\n\turl = \"cdc::/srv/\u{9b}2J\u{202e}x\"\n".as_bytes());
    work.write("a.bin", &noise(1, 1000));
    work.commit("content");
    let push = work.git(["push", "origin", "HEAD"]);
    work.machine.expect_failure(push, &["git-lfs-cdc: ", "is not the URL of a store"]);
    is_harmless(&fs::read_to_string(work.file(".git/lfs/cdc/log")).unwrap());
    let outcome = work.machine.expect_success(work.cdc(["init", path_str(&store)]));
    is_harmless(&outcome.text());
    assert!(outcome.stdout.contains("OLD_LFS_URL"), "{}", outcome.text());
}

#[test]
fn text_to_paste_is_one_word_for_a_shell() {
    let sandbox = in_folders();
    let work = sandbox.repository_without_store("work");
    work.write(".lfsconfig", b"[lfs]\n\turl = \"https://x;touch pwned;: $(touch pwned) '\"\n");
    let outcome = work.machine.expect_success(work.cdc(["init", path_str(&sandbox.path("store"))]));
    let line = outcome.stdout.lines().find(|line| line.contains("fetch --all")).unwrap();
    let command = line.split("   (").next().unwrap().replace("git ", "printf '<%s>' ");
    let pasted = work.machine.run(&work.path, "sh", ["-c", &command]);
    assert!(
        pasted.stdout.starts_with("<-c><lfs.url=https://x;touch pwned;: $(touch pwned) '>"),
        "{}",
        pasted.text()
    );
    assert!(!work.file("pwned").exists());
}

#[test]
fn install_names_a_path_that_an_upgrade_keeps_and_status_checks_it() {
    let sandbox = in_folders();
    let work = sandbox.repository("work");
    let machine = &sandbox.machine;
    is_well(&work);
    let folder = sandbox.path("stable/bin");
    fs::create_dir_all(&folder).unwrap();
    let link = folder.join("git-lfs-cdc");
    symlink(machine.agent(), &link).unwrap();
    let path = format!("PATH={}:{}", path_str(&folder), std::env::var("PATH").unwrap());
    let install = ["git", "lfs-cdc", "install"];
    machine.expect_success(machine.run(&work.path, "env", [&path[..]].into_iter().chain(install)));
    let key = "lfs.customtransfer.cdc.path";
    assert_eq!(work.must(["config", key]).trim(), path_str(&link));
    is_well(&work);

    let another = script(&work, "another", "echo Something else 3.1");
    let old = script(&work, "old", "echo git-lfs-cdc 0.0.9");
    let gone = path_str(&sandbox.path("gone")).to_owned();
    for (path, words) in [
        (another.as_str(), "is another program"),
        (&old, "is of version 0.0.9"),
        (&gone, "is gone"),
        ("/dev/null", "can't run /dev/null"),
    ] {
        work.must(["config", key, path]);
        finds(&work, &[path, words, "git lfs-cdc install"]);
    }
    work.must(["config", "--unset", key]);
    for (key, value) in
        [("lfs.customtransfer.cdc.args", "move"), ("lfs.customtransfer.cdc.direction", "upload")]
    {
        work.must(["config", key, value]);
        finds(&work, &[key, value]);
        work.must(["config", "--unset", key]);
    }
    is_well(&work);
}

#[test]
fn commands_in_the_wrong_place_say_so_in_words_of_their_own() {
    let sandbox = in_folders();
    let machine = &sandbox.machine;
    let nowhere = sandbox.path("nowhere");
    fs::create_dir(&nowhere).unwrap();
    for command in
        [&["status"][..], &["stats"], &["compact"], &["init", "s3://team/x"], &["install", "--local"]]
    {
        let outcome = machine.cdc(&nowhere, command.iter().copied());
        assert_eq!(outcome.code, Some(2), "{}", outcome.text());
        assert!(!outcome.text().contains("rev-parse"), "{}", outcome.text());
        machine.expect_failure(outcome, &["no git repository is here; change to the folder of one"]);
    }
    let lost = machine.clone().with_variable("GIT_DIR", path_str(&nowhere));
    lost.expect_failure(lost.cdc(&nowhere, ["status"]), &["GIT_DIR is", "unset it"]);

    let work = sandbox.repository_without_store("work");
    for (url, words) in [
        ("s3:/team/x", "did you mean s3://team/x?"),
        ("me@host:/srv/x", "nothing is stored over SSH"),
        ("store", "lies inside the work tree; name a folder outside of it, or a bucket by its URL"),
    ] {
        let outcome = work.cdc(["init", url]);
        assert_eq!(outcome.code, Some(2), "{}", outcome.text());
        machine.expect_failure(outcome, &[words]);
    }
    assert_eq!(work.must(["status", "--porcelain"]), "", "something was made");
    assert_eq!(work.cdc(["no-such-command"]).code, Some(2));
    assert_eq!(work.cdc(std::iter::empty()).code, Some(2));

    // a user tries `transfer` by hand
    let command = format!("{} transfer", path_str(&machine.agent()));
    let outcome =
        machine.run(&work.path, "script", ["--quiet", "--return", "--command", &command, "/dev/null"]);
    assert_eq!(outcome.code, Some(2), "{}", outcome.text());
    assert!(outcome.text().contains("git-lfs runs this command by itself"), "{}", outcome.text());
}

#[test]
fn a_hook_in_the_place_of_git_lfss_is_found() {
    let sandbox = in_folders();
    let work = sandbox.repository_without_store("work");
    work.must(["config", "core.hooksPath", ".husky/_"]);
    script(&work, ".husky/_/pre-push", ". \"$(dirname \"$0\")/h\"");
    script(&work, ".husky/_/h", "n=$(basename \"$0\"); sh -e \"$(dirname \"$(dirname \"$0\")\")/$n\" \"$@\"");
    let hook = script(&work, ".husky/pre-push", "# git lfs pre-push\ntrue");
    let outcome = work.machine.expect_success(work.cdc(["init", path_str(&sandbox.path("store"))]));
    let remedy = "add the line `git lfs pre-push \"$@\"` to";
    assert!(outcome.stdout.contains(remedy), "{}", outcome.text());
    work.write("a.bin", &noise(1, 1000));
    work.commit("content");
    finds(&work, &["pre-push hook", remedy, ".husky/pre-push"]);

    fs::write(&hook, "#!/bin/sh\ngit lfs pre-push \"$@\"\ntrue\n").unwrap();
    is_well(&work);
    work.push();
    assert_eq!(sandbox.store().segments().len(), 1);

    fs::set_permissions(work.file(".husky/_/pre-push"), fs::Permissions::from_mode(0o644)).unwrap();
    finds(&work, &["not executable", "chmod +x"]);
    work.must(["config", "core.hooksPath", "/dev/null"]);
    finds(&work, &["no pre-push hook", "git lfs update"]);
    work.must(["config", "--unset", "core.hooksPath"]);
    work.must(["lfs", "update"]);
    is_well(&work);
}

#[test]
fn init_installs_the_hook_of_git_lfs() {
    let sandbox = in_folders();
    let work = sandbox.repository_without_store("work");
    let hook = work.file(".git/hooks/pre-push");
    let _ = fs::remove_file(&hook);
    work.init(path_str(&sandbox.path("store")));
    assert!(fs::read_to_string(&hook).unwrap().contains("git lfs pre-push"));
    is_well(&work);
}

#[test]
fn status_names_the_remedy_in_a_clone_of_a_commit_before_the_store() {
    let sandbox = in_folders();
    let work = sandbox.repository_without_store("work");
    work.write("a.bin", &noise(1, 3000));
    work.commit("before the store");
    work.must(["branch", "old"]);
    work.init(path_str(&sandbox.path("store's")));
    work.commit("store");
    work.must(["lfs", "push", "--all", "origin"]);
    work.must(["push", "--quiet", "origin", "HEAD", "old"]);

    let other = sandbox.other_machine("other");
    let remote = sandbox.remote("work");
    let clone = ["clone", "--branch", "old", path_str(&remote), "copy"];
    assert!(!other.git(&sandbox.path("other"), clone).success());
    let copy = other.repo_at("other/copy");
    let outcome = copy.cdc(["status"]);
    let finding = outcome.stdout.lines().find(|line| line.contains("older than .lfsconfig")).unwrap();
    let commands: Vec<&str> = finding.split('`').skip(1).step_by(2).collect();
    assert_eq!(commands.len(), 2, "{finding}");
    for command in commands {
        other.expect_success(other.run(&copy.path, "sh", ["-c", command]));
    }
    assert!(fs::read(copy.file("a.bin")).unwrap() == noise(1, 3000));
    is_well(&copy);
}

#[test]
fn a_pointer_with_a_wrong_size_is_told_from_a_missing_object() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("work");
    work.publish("a.bin", &noise(1, 3000));
    let pointer = work.must(["show", "HEAD:a.bin"]);
    let wrong = pointer.replace("size 3000", "size 3001");
    work.write("b.bin", wrong.as_bytes());
    work.commit("a wrong pointer");
    work.must(["push", "--quiet", "--no-verify", "origin", "HEAD"]);
    let other = sandbox.other_machine("other");
    let outcome = other.git(&sandbox.path("other"), ["clone", path_str(&sandbox.remote("work")), "copy"]);
    other.expect_failure(outcome, &["has 3000 bytes in the store, and its pointer says 3001"]);
    let copy = other.repo_at("other/copy");
    copy.git(["checkout", "--force", "HEAD", "--", "a.bin"]);
    assert_same_file(&work.file("a.bin"), &copy.file("a.bin"));
}
