//! Where credentials come from, and what is said when they are missing or wrong. Instance roles, containers, web identity
//! and a completed sign-in through SSO need a cloud, and are not tried here.

use std::fs;
use std::path::Path;

use crate::data::{assert_same_tree, noise};
use crate::machine::Machine;
use crate::s3::Role;
use crate::sandbox::{Sandbox, path_str};
use crate::scan::Secrets;

/// A sandbox with something to clone, and a machine there that has no keys yet.
fn with_store(what: &str) -> Option<(Sandbox, Machine)> {
    let sandbox = Sandbox::in_s3(what, Secrets::in_use())?;
    sandbox.repository("shared").publish("a.bin", &noise(1, 300_000));
    let machine = sandbox.other_machine("reader").without_keys();
    Some((sandbox, machine))
}

/// Clones, which has to work.
fn clones(sandbox: &Sandbox, machine: &Machine, into: &str) {
    let copy = machine.clone_of(&sandbox.remote("shared"), &format!("reader/{into}"));
    assert_same_tree(&sandbox.machine.repo_at("shared").path, &copy.path);
}

/// Clones, which has to fail with these words.
fn is_refused(sandbox: &Sandbox, machine: &Machine, into: &str, words: &[&str]) {
    let remote = sandbox.remote("shared");
    let outcome = machine.git(&sandbox.path("reader"), ["clone", path_str(&remote), into]);
    machine.expect_failure(outcome, words);
}

/// The machine with AWS's two files: outside of the sandbox, where no secret may be found.
fn with_files(machine: Machine, folder: &Path, config: &str, credentials: &str) -> Machine {
    for (name, variable, text) in
        [("config", "AWS_CONFIG_FILE", config), ("credentials", "AWS_SHARED_CREDENTIALS_FILE", credentials)]
    {
        fs::write(folder.join(name), text).unwrap();
        assert!(folder.is_absolute(), "{variable}");
    }
    machine
        .with_variable("AWS_CONFIG_FILE", path_str(&folder.join("config")))
        .with_variable("AWS_SHARED_CREDENTIALS_FILE", path_str(&folder.join("credentials")))
}

#[test]
fn profiles_give_keys() {
    let Some((sandbox, machine)) = with_store("profiles") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (id, secret) = Role::Pull.keys();
    let program = folder.path().join("give-keys");
    let json = format!(r#"{{"Version": 1, "AccessKeyId": "{id}", "SecretAccessKey": "{secret}"}}"#);
    fs::write(&program, format!("#!/bin/sh\necho '{json}'\n")).unwrap();
    let config = format!("[profile program]\ncredential_process = sh {}\n", program.display());
    let credentials = format!("[team]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    let machine = with_files(machine, folder.path(), &config, &credentials);

    is_refused(&sandbox, &machine, "none", &["no credentials were found", "AWS_ACCESS_KEY_ID"]);
    clones(&sandbox, &machine.clone().with_variable("AWS_PROFILE", "team"), "by-variable");
    clones(&sandbox, &machine.clone().with_variable("AWS_PROFILE", "program"), "by-program");
    machine.must(&sandbox.path("reader"), ["config", "--global", "lfs-cdc.profile", "program"]);
    clones(&sandbox, &machine, "by-setting");
}

#[test]
fn a_profile_that_is_named_has_to_be_there() {
    let Some((sandbox, machine)) = with_store("missing profiles") else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = "[profile sso]\nsso_session = team\nsso_account_id = 123456789012\nsso_role_name = reader\n\
                  [sso-session team]\nsso_region = us-east-1\nsso_start_url = https://127.0.0.1:1/start\n";
    let machine = with_files(machine, folder.path(), config, "");
    for profile in ["absent", "sso"] {
        let machine = machine.clone().with_variable("AWS_PROFILE", profile);
        is_refused(&sandbox, &machine, profile, &["credentials can't be used", "aws sso login", "cdc/log"]);
    }
}

#[test]
fn wrong_keys_are_told_from_missing_rights() {
    let Some((sandbox, machine)) = with_store("wrong keys") else { return };
    let (id, _) = Role::Pull.keys();
    let wrong = machine.clone().with_variable("AWS_ACCESS_KEY_ID", &id);
    let wrong = wrong.with_variable("AWS_SECRET_ACCESS_KEY", "wrong");
    is_refused(&sandbox, &wrong, "wrong-secret", &["the credentials are wrong", "SignatureDoesNotMatch"]);
    let unknown = machine.with_variable("AWS_ACCESS_KEY_ID", "nobody");
    let unknown = unknown.with_variable("AWS_SECRET_ACCESS_KEY", "wrong");
    is_refused(&sandbox, &unknown, "unknown-key", &["the credentials are wrong", "InvalidAccessKeyId"]);
}

#[test]
fn a_proxy_is_asked_unless_the_host_is_excepted() {
    let Some((sandbox, machine)) = with_store("proxies") else { return };
    // nobody listens there
    let machine = machine.with_keys(Role::Pull).with_variable("HTTP_PROXY", "http://127.0.0.1:1");
    machine.must(&sandbox.path("reader"), ["config", "--global", "lfs-cdc.retryTime", "4"]);
    is_refused(&sandbox, &machine, "by-proxy", &["can't be reached", "HTTPS_PROXY"]);
    clones(&sandbox, &machine.with_variable("NO_PROXY", "127.0.0.1"), "excepted");
}
