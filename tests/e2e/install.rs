//! Commands for setup and reports: install, uninstall, init, status, stats.

use std::fs;

use crate::data::{assert_same_tree, noise};
use crate::machine::Machine;
use crate::repo::Repo;
use crate::sandbox::{Sandbox, path_str};

fn setting(machine: &Machine, key: &str) -> Option<String> {
    let outcome =
        machine.git(&machine.config_file().with_file_name(""), ["config", "--global", "--get", key]);
    outcome.success().then(|| outcome.stdout.trim_end().to_owned())
}

/// A setting of this repository itself.
fn setting_in(repo: &Repo, key: &str) -> Option<String> {
    let outcome = repo.git(["config", "--local", key]);
    outcome.success().then(|| outcome.stdout.trim_end().to_owned())
}

#[test]
fn install_writes_the_settings_once_and_uninstall_removes_just_these() {
    let sandbox = Sandbox::new();
    let machine = &sandbox.machine;
    let home = sandbox.path("home");
    assert_eq!(setting(machine, "lfs.customtransfer.cdc.path").as_deref(), Some(path_str(&machine.agent())));
    assert_eq!(setting(machine, "lfs.customtransfer.cdc.args").as_deref(), Some("transfer"));
    assert_eq!(setting(machine, "lfs.cdc::.standalonetransferagent").as_deref(), Some("cdc"));
    assert!(setting(machine, "filter.lfs.process").is_some(), "git-lfs's filter is set up along with it");

    let once = fs::read_to_string(machine.config_file()).unwrap();
    machine.install();
    assert_eq!(once, fs::read_to_string(machine.config_file()).unwrap());

    for _ in 0..2 {
        machine.expect_success(machine.cdc(&home, ["uninstall", "--global"]));
        assert_eq!(setting(machine, "lfs.customtransfer.cdc.path"), None);
        assert_eq!(setting(machine, "lfs.cdc::.standalonetransferagent"), None);
        assert!(setting(machine, "filter.lfs.process").is_some());
        assert_eq!(setting(machine, "user.name").as_deref(), Some("Someone"));
    }
}

#[test]
fn local_install_serves_one_repository() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("local");
    work.publish("a.bin", &noise(1, 300_000));
    let machine = &sandbox.machine;
    machine.expect_success(machine.cdc(&sandbox.path("home"), ["uninstall", "--global"]));
    machine.expect_success(work.cdc(["install", "--local"]));
    assert_eq!(setting(machine, "lfs.customtransfer.cdc.path"), None);
    work.publish("a.bin", &noise(2, 300_000));
    machine.expect_success(work.cdc(["uninstall", "--local"]));
    work.write("a.bin", &noise(3, 300_000));
    work.commit("no agent");
    machine.expect_failure(work.git(["push", "origin", "HEAD"]), &["missing protocol", "cdc::"]);
}

#[test]
fn clone_without_the_agent_is_repaired_by_installing_it() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("game");
    work.publish("a.bin", &noise(1, 300_000));

    let other = sandbox.other_machine("other");
    let home = sandbox.path("other");
    other.expect_success(other.cdc(&home, ["uninstall", "--global"]));
    let outcome = other.git(&home, ["clone", path_str(&sandbox.remote("game")), "copy"]);
    assert_eq!(outcome.code, Some(128));
    other.expect_failure(outcome, &["missing protocol", "cdc::"]);

    other.install();
    let copy = other.repo_at("other/copy");
    copy.must(["reset", "--quiet", "--hard"]);
    assert_same_tree(&work.path, &copy.path);

    work.publish("a.bin", &noise(2, 300_000));
    other.expect_success(other.cdc(&home, ["uninstall", "--global"]));
    copy.git(["pull", "--quiet"]);
    other.install();
    copy.must(["reset", "--quiet", "--hard", "origin/main"]);
    copy.must(["lfs", "pull"]);
    assert_same_tree(&work.path, &copy.path);
}

#[test]
fn init_takes_each_form_of_a_url() {
    let sandbox = Sandbox::new();
    let url = sandbox.store().url();
    let mut forms = vec![url.clone(), format!("cdc::{url}")];
    if !url.contains("://") {
        forms.extend([format!("file://{url}"), format!("cdc::file://{url}")]);
    }
    for (index, form) in forms.iter().enumerate() {
        let name = format!("form-{index}");
        let work = sandbox.repository_without_store(&name);
        let outcome = work.machine.expect_success(work.cdc(["init", form, "--repository", &name]));
        assert!(outcome.text().contains("git lfs push --all"), "{}", outcome.text());
        let ending = format!("repository={name}");
        for file in [&["config", "--file", ".lfsconfig", "lfs.url"][..], &["config", "--local", "lfs.url"]] {
            let url = work.must(file.iter().copied());
            assert!(url.starts_with("cdc::") && url.trim().ends_with(&ending), "{form} became {url}");
        }
        work.publish("a.bin", &noise(index as u64, 300_000));
        assert_same_tree(&work.path, &sandbox.clone_elsewhere(&name).path);
    }
    let commits = sandbox.store().segments().len();
    assert_eq!(commits, forms.len(), "all repositories are in one store");
}

#[test]
fn status_and_stats() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("reports");
    let content = noise(1, 5_000_000);
    work.publish("a.bin", &content);
    work.publish("b.bin", &content[..4_000_000]);

    assert_eq!(work.cdc(["status"]).code, Some(0));
    let status = work.cdc(["status", "--json"]);
    assert_eq!(status.code, Some(0));
    serde_json::from_str::<serde_json::Value>(&status.stdout).expect(&status.stdout);

    let outcome = work.machine.expect_success(work.cdc(["stats", "--json"]));
    let stats: serde_json::Value = serde_json::from_str(&outcome.stdout).expect(&outcome.stdout);
    let number = |key: &str| stats[key].as_u64().unwrap_or_else(|| panic!("{key} in {stats}"));
    assert_eq!(number("objects"), 2);
    assert_eq!(number("logical_bytes"), 9_000_000);
    let unique = 5_000_000..5_200_000;
    assert!(unique.contains(&number("unique_bytes")), "{stats}");
    assert!(unique.contains(&number("stored_bytes")), "{stats}");
    for key in ["chunks", "blocks", "shards", "segments"] {
        assert!(number(key) > 0, "{key} in {stats}");
    }
    let named = work.machine.expect_success(work.cdc(["stats", &sandbox.store().url(), "--json"]));
    assert_eq!(named.stdout, outcome.stdout);

    let _gone = sandbox.store().take_away();
    assert_ne!(work.cdc(["status"]).code, Some(0));
    assert_eq!(work.cdc(["stats"]).code, Some(2));
}

#[test]
fn init_sets_the_number_of_agents_in_this_clone_unless_the_user_has_set_it() {
    let sandbox = Sandbox::new();
    let transfers = |repo: &Repo| {
        let outcome = repo.cdc(["status", "--json"]);
        let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        (setting_in(repo, "lfs.concurrenttransfers"), report["concurrent_transfers"].as_u64().unwrap())
    };
    sandbox.machine.leave_agents_to_init();
    let work = sandbox.repository("work");
    assert_eq!(transfers(&work), (Some("100".to_owned()), 100));
    assert_eq!(setting(&work.machine, "lfs.concurrenttransfers"), None, "it would count for other servers");
    let copy = sandbox.clone_elsewhere("work");
    copy.machine.leave_agents_to_init();
    assert_eq!(transfers(&copy), (None, 8));
    let told = copy.machine.expect_success(copy.cdc(["status"])).stdout;
    assert!(told.contains("git config lfs.concurrenttransfers 100"), "{told}");

    copy.must(["config", "--global", "lfs.concurrentTransfers", "3"]);
    copy.init(&sandbox.store().url());
    assert_eq!(transfers(&copy), (None, 3));
    work.must(["config", "lfs.concurrenttransfers", "20"]);
    work.init(&sandbox.store().url());
    assert_eq!(transfers(&work), (Some("20".to_owned()), 20));
}

#[test]
fn each_command_has_a_line_in_the_list_and_a_longer_help() {
    let sandbox = Sandbox::new();
    let machine = &sandbox.machine;
    let help = |command: &[&str]| {
        let arguments = command.iter().copied().chain(["--help"]);
        machine.expect_success(machine.cdc(&sandbox.path(""), arguments)).stdout
    };
    let all = help(&[]);
    let listed =
        all.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<(&str, &str)> = listed
        .map(|line| line.trim().split_once("  ").unwrap())
        .filter(|(name, _)| *name != "help")
        .collect();
    assert!(commands.len() >= 9, "{all}");
    for (name, line) in commands {
        let help = help(&[name]);
        let mut paragraphs = help.split("\n\n").take_while(|paragraph| !paragraph.starts_with("Usage:"));
        assert_eq!(paragraphs.next(), Some(line.trim()));
        assert!(paragraphs.next().is_some(), "{help}");
    }
}

#[test]
fn git_finds_the_command_on_the_path() {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("path");
    let folder = sandbox.machine.agent().with_file_name("");
    let inherited = std::env::var("PATH").unwrap();
    let path = format!("PATH={}:{inherited}", path_str(&folder));
    let outcome = work.machine.run(&work.path, "env", [&path, "git", "lfs-cdc", "status"]);
    work.machine.expect_success(outcome);
}

#[test]
fn the_git_lfs_under_test_is_the_one_asked_for() {
    let sandbox = Sandbox::new();
    let version = sandbox.machine.must(&sandbox.path("home"), ["lfs", "version"]);
    crate::process::say(&format!("tested with {}", version.trim()));
    if let Some(folder) = std::env::var_os("GIT_LFS_CDC_TEST_GIT_LFS") {
        let binary = std::path::Path::new(&folder).join("git-lfs");
        let direct = sandbox.machine.run(&sandbox.path("home"), path_str(&binary), ["version"]);
        assert_eq!(direct.stdout, version);
    }
}
