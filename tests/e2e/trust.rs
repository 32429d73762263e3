//! Trust in endpoints. An endpoint that only a repository names gets no signed request, because it could
//! forward the request to the team's own service. A team needs one step to trust its endpoint.
//!
//! The proxy is that endpoint. It forwards requests with their `Host` as they are, and SeaweedFS takes
//! signatures for any host.

use std::fs;

use crate::credentials::{profile, put_aws_files};
use crate::data::{assert_same_tree, noise};
use crate::machine::Machine;
use crate::proxy::{Exchange, Proxy};
use crate::repo::Repo;
use crate::s3::{self, REGION, Role};
use crate::sandbox::{Sandbox, path_str};
use crate::scan::Secrets;

const TOKEN: &str = "a-session-token-of-the-victim";

/// A private store with one object, and a repository of somebody else that names it at another endpoint.
struct Hostile {
    sandbox: Sandbox,
    relay: Proxy,
    /// The URL in the hostile `.lfsconfig`.
    url: String,
}

impl Hostile {
    fn new() -> Hostile {
        let sandbox = Sandbox::in_s3(Secrets::in_use().and(TOKEN));
        let private = sandbox.repository("private");
        private.publish("secret.bin", &noise(1, 300_000));
        let relay = Proxy::start(&s3::server());
        let url = format!("cdc::{}?region={REGION}&endpoint={}", sandbox.store().location(), relay.url());
        let remote = sandbox.remote("hostile");
        private.machine.must(&private.path, ["clone", "--quiet", "--bare", ".", path_str(&remote)]);
        let scratch = sandbox.path("hostile");
        private
            .machine
            .must(&sandbox.path(""), ["clone", "--quiet", "--no-checkout", path_str(&remote), "hostile"]);
        let hostile = Repo { machine: private.machine.clone(), path: scratch };
        hostile.must(["reset", "--quiet"]);
        hostile.must(["config", "--file", ".lfsconfig", "lfs.url", &url]);
        hostile.must(["add", ".lfsconfig"]);
        hostile.must(["commit", "--quiet", "--message", "hostile"]);
        hostile.must(["-c", "core.hooksPath=/dev/null", "push", "--quiet", "origin", "HEAD"]);
        Hostile { sandbox, relay, url }
    }

    /// Takes the requests that have come. None may be of use to anybody else.
    fn requests(&self, what: &str) -> Vec<Exchange> {
        let record = self.relay.take_record();
        for exchange in &record {
            let head = &exchange.request.head;
            assert!(!exchange.request.has_credentials() && !head.contains(TOKEN), "{what}: {head}");
            assert!(["GET", "LIST", "HEAD"].contains(&exchange.request.verb), "{what}: {exchange:?}");
            assert!(
                !exchange.upstream_status.is_some_and(|s| (200..300).contains(&s)),
                "{what}: {exchange:?}"
            );
        }
        record
    }

    /// The words of each refusal.
    fn words(&self) -> [String; 3] {
        let trusts = format!("git config --global --add lfs-cdc.trustedEndpoint '{}'", self.relay.url());
        [self.relay.url(), "only the repository names it".to_owned(), trusts]
    }

    #[track_caller]
    fn clone_is_refused(&self, machine: &Machine, home: &str) -> Repo {
        let outcome = machine
            .git(&self.sandbox.path(home), ["clone", path_str(&self.sandbox.remote("hostile")), "copy"]);
        let words = self.words();
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["go unsigned"]).collect();
        let fits = |line: &str| words.iter().all(|word| line.contains(word));
        assert!(outcome.text().lines().any(fits), "{words:?}: {}", outcome.text());
        machine.expect_failure(outcome, &words);
        machine.repo_at(&format!("{home}/copy"))
    }
}

/// Writes a program that gives keys, and leaves a mark when it was asked.
fn key_program(folder: &std::path::Path) -> String {
    let (id, secret) = Role::Push.keys();
    let json = format!(r#"{{"Version": 1, "AccessKeyId": "{id}", "SecretAccessKey": "{secret}"}}"#);
    let script = format!("#!/bin/sh\ntouch '{}'\necho '{json}'\n", folder.join("asked").display());
    fs::write(folder.join("give-keys"), script).unwrap();
    format!("credential_process = sh {}\n", folder.join("give-keys").display())
}

#[test]
#[ignore = "needs an S3 server"]
fn a_hostile_repository_gets_no_signature_and_nothing_of_the_store() {
    let hostile = Hostile::new();
    let victim = hostile.sandbox.stranger("victim").with_variable("AWS_SESSION_TOKEN", TOKEN);
    let copy = hostile.clone_is_refused(&victim, "victim");
    assert!(!hostile.requests("clone").is_empty(), "nothing was tried");

    let words = hostile.words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let stored = hostile.sandbox.store().files();
    copy.must(["restore", "--staged", "."]);
    copy.write("mine.bin", &noise(2, 1000));
    copy.must(["add", "mine.bin"]);
    copy.must(["commit", "--quiet", "--message", "mine"]);
    victim.expect_failure(copy.git(["push", "origin", "HEAD"]), &words);
    for command in [&["compact"][..], &["manifest"]] {
        victim.expect_failure(copy.cdc(command.iter().copied()), &words);
    }
    assert!(hostile.requests("writing").is_empty(), "something was sent before it was refused");
    for command in [&["status"][..], &["stats"], &["status", "--probe"]] {
        victim.expect_failure(copy.cdc(command.iter().copied()), &words);
    }
    hostile.requests("looking");
    assert_eq!(stored, hostile.sandbox.store().files());

    // a URL that the repository has for pushes only is no better
    copy.must(["config", "--file", ".lfsconfig", "lfs.pushurl", &hostile.url]);
    copy.must(["config", "--file", ".lfsconfig", "lfs.url", &hostile.sandbox.store().lfs_url("private")]);
    victim.expect_failure(copy.git(["push", "origin", "HEAD"]), &words);
    assert!(hostile.requests("pushurl").is_empty());
}

#[test]
#[ignore = "needs an S3 server"]
fn no_program_is_asked_for_keys_that_a_hostile_repository_would_get() {
    let hostile = Hostile::new();
    let folder = tempfile::tempdir().unwrap();
    let config = format!("[profile team]\nregion = {REGION}\n{}", key_program(folder.path()));
    let victim = hostile.sandbox.stranger("victim").without_keys();
    let home = hostile.sandbox.path("victim");
    put_aws_files(&home, folder.path(), &config, "");
    // settings of the user for the same bucket and prefix are for the service that they name
    let place = format!("cdc::{}", hostile.sandbox.store().location());
    let set = |name: &str, value: &str| {
        victim.must(&home, ["config", "--global", &format!("lfs-cdc.{place}.{name}"), value]);
    };
    set("profile", "team");
    set("allowHttp", "true");
    let copy = hostile.clone_is_refused(&victim, "victim");
    let status = copy.cdc(["status"]);
    victim.expect_failure(status, &["profile doesn't count", "whose endpoint is another"]);
    let general = victim.clone().with_variable("AWS_PROFILE", "team");
    general.expect_failure(copy.cdc(["status"]), &["go unsigned"]);
    hostile.requests("profile");
    assert!(!folder.path().join("asked").exists(), "the program was asked");

    // plain HTTP to another machine is refused too, even where the user's setting allows it for their own
    victim.must(&home, ["config", "--global", "lfs-cdc.allowHttp", "true"]);
    for (endpoint, words) in [
        ("http://203.0.113.7:9000", "plain HTTP to another machine"),
        ("http://169.254.169.254", "inside a machine or its cloud"),
        ("http://2852039166", "inside a machine or its cloud"),
        ("https://metadata.google.internal", "inside a machine or its cloud"),
    ] {
        let url = format!("{place}?endpoint={endpoint}");
        copy.must(["config", "--file", ".lfsconfig", "lfs.url", &url]);
        victim.expect_failure(copy.cdc(["status"]), &[words]);
    }
}

#[test]
#[ignore = "needs an S3 server"]
fn a_colleague_trusts_the_endpoint_in_one_step() {
    let sandbox = Sandbox::in_s3(Secrets::in_use());
    let founder = sandbox.stranger("founder");
    let work = Repo { machine: founder.clone(), ..sandbox.repository_without_store("team") };
    let endpoint = s3::server();
    let trusted = || {
        founder.must(&sandbox.path("founder"), ["config", "--global", "--get-all", "lfs-cdc.trustedEndpoint"])
    };
    let outcome = founder.expect_success(work.cdc(["init", &sandbox.store().url()]));
    assert!(outcome.text().contains(&format!("requests to {endpoint} are signed")), "{}", outcome.text());
    let again = founder.expect_success(work.cdc(["init", &sandbox.store().url()]));
    assert!(!again.text().contains("are signed"), "{}", again.text());
    assert_eq!(trusted().trim(), endpoint, "once");
    work.publish("a.bin", &noise(1, 300_000));
    // in another clone of the same user only .lfsconfig names it
    let second = founder.clone_of(&sandbox.remote("team"), "founder/second");
    assert_same_tree(&work.path, &second.path);

    let colleague = sandbox.stranger("colleague");
    let home = sandbox.path("colleague");
    let outcome = colleague.git(&home, ["clone", path_str(&sandbox.remote("team")), "copy"]);
    let text = outcome.text();
    let (_, rest) = text.split_once("run `").unwrap_or_else(|| panic!("no command: {text}"));
    let (step, _) = rest.split_once('`').unwrap();
    colleague.expect_success(colleague.run(&home, "sh", ["-c", step]));
    let copy = colleague.repo_at("colleague/copy");
    copy.must(["restore", "--source=HEAD", ":/"]);
    assert_same_tree(&work.path, &copy.path);
    copy.publish("b.bin", &noise(2, 1000));

    // a job needs no more than a variable, and none at all where the environment names the whole URL
    let job = sandbox.stranger("job").with_variable("AWS_ENDPOINT_URL", &endpoint);
    work.must(["pull", "--quiet", "origin", "HEAD"]);
    assert_same_tree(&work.path, &job.clone_of(&sandbox.remote("team"), "job/copy").path);
    let job = sandbox.stranger("job-by-url").with_variable("GIT_CONFIG_COUNT", "1");
    let job = job.with_variable("GIT_CONFIG_KEY_0", "lfs.url");
    let job = job.with_variable("GIT_CONFIG_VALUE_0", &sandbox.store().lfs_url("team"));
    assert_same_tree(&work.path, &job.clone_of(&sandbox.remote("team"), "job-by-url/copy").path);
}

#[test]
#[ignore = "needs an S3 server"]
fn a_profile_names_the_endpoint_too() {
    let sandbox = Sandbox::in_s3(Secrets::in_use());
    sandbox.repository("shared").publish("a.bin", &noise(1, 1000));
    let endpoint = s3::server();
    let services = format!("services = mine\n[services mine]\ns3 =\n  endpoint_url = {endpoint}\n");
    let elsewhere = format!("endpoint_url = http://127.0.0.1:1\n{services}");
    for (number, more) in [format!("endpoint_url = {endpoint}\n"), services, elsewhere].iter().enumerate() {
        let name = format!("reader-{number}");
        let folder = tempfile::tempdir().unwrap();
        let reader = sandbox.stranger(&name).without_keys();
        let config = format!("{}{more}", profile("default", Role::Pull));
        put_aws_files(&sandbox.path(&name), folder.path(), &config, "");
        // the repository names it, and the profile too: so it is the user's
        let copy = reader.clone_of(&sandbox.remote("shared"), &format!("{name}/copy"));
        // the URL names no endpoint: the profile's is taken
        reader.expect_success(copy.cdc(["stats", &sandbox.store().location()]));
        // the environment beats the profile
        let misled = reader.with_variable("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
        misled.must(&copy.path, ["config", "lfs-cdc.retryTime", "2"]);
        misled.expect_failure(
            misled.cdc(&copy.path, ["stats", &sandbox.store().location()]),
            &["can't be reached"],
        );
    }
}
