//! Sources of credentials: which of them wins, and the messages where credentials are missing or wrong.
//!
//! A [`TokenServer`] stands in for AWS's token and metadata services. These are not tried here: a completed
//! sign-in through SSO, Google and Azure.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;

use crate::data::{assert_same_tree, noise};
use crate::machine::Machine;
use crate::repo::Repo;
use crate::s3::{self, PUBLIC_BUCKET, Role};
use crate::sandbox::{Sandbox, path_str};
use crate::scan::Secrets;
use crate::servers;
use crate::storage::Kind;
use crate::token_server::{JOB_TOKEN, ROLE, TokenServer};

/// A sandbox with something to clone, and a machine there that has no keys yet.
fn with_store() -> (Sandbox, Machine) {
    let sandbox = Sandbox::in_s3(Secrets::in_use());
    sandbox.repository("shared").publish("a.bin", &noise(1, 300_000));
    let machine = sandbox.other_machine("reader").without_keys();
    (sandbox, machine)
}

/// A repository with its store elsewhere than the sandbox has its stores, pushed by a machine with these
/// keys.
fn with_store_at(sandbox: &Sandbox, url: &str, role: Role) -> Repo {
    let (_, endpoint) = url.split_once("endpoint=").expect("it is not at AWS");
    sandbox.trust(endpoint);
    let work = sandbox.repository_without_store("shared");
    let work = Repo { machine: work.machine.with_keys(role), ..work };
    work.init(url);
    work.publish("a.bin", &noise(1, 300_000));
    work
}

/// Clones, which has to work.
fn clones(sandbox: &Sandbox, machine: &Machine, into: &str) -> Repo {
    let copy = machine.clone_of(&sandbox.remote("shared"), &format!("reader/{into}"));
    assert_same_tree(&sandbox.machine.repo_at("shared").path, &copy.path);
    copy
}

/// Clones, which has to fail with these words.
fn is_refused(sandbox: &Sandbox, machine: &Machine, into: &str, words: &[&str]) {
    let remote = sandbox.remote("shared");
    let outcome = machine.git(&sandbox.path("reader"), ["clone", path_str(&remote), into]);
    machine.expect_failure(outcome, words);
}

/// Gives a home its `~/.aws`, which leads out of the sandbox: no secret may be found in there.
pub fn put_aws_files(home: &Path, folder: &Path, config: &str, credentials: &str) {
    fs::write(folder.join("config"), config).unwrap();
    fs::write(folder.join("credentials"), credentials).unwrap();
    symlink(folder, home.join(".aws")).unwrap();
}

/// A profile with the keys of a role.
pub fn profile(name: &str, role: Role) -> String {
    let (id, secret) = role.keys();
    format!("[{name}]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n")
}

#[test]
#[ignore = "needs an S3 server"]
fn profiles_give_keys() {
    let (sandbox, machine) = with_store();
    let folder = tempfile::tempdir().unwrap();
    let (id, secret) = Role::Pull.keys();
    let program = folder.path().join("give-keys");
    let json = format!(r#"{{"Version": 1, "AccessKeyId": "{id}", "SecretAccessKey": "{secret}"}}"#);
    fs::write(&program, format!("#!/bin/sh\necho '{json}'\n")).unwrap();
    let config = format!("[profile program]\ncredential_process = sh {}\n", program.display());

    is_refused(
        &sandbox,
        &machine,
        "none",
        &["no credentials were found", "AWS_ACCESS_KEY_ID", "lfs-cdc.profile"],
    );
    put_aws_files(&sandbox.path("reader"), folder.path(), &config, &profile("team", Role::Pull));
    is_refused(&sandbox, &machine, "none-by-default", &["no credentials were found"]);
    clones(&sandbox, &machine.clone().with_variable("AWS_PROFILE", "team"), "by-variable");
    clones(&sandbox, &machine.clone().with_variable("AWS_PROFILE", "program"), "by-program");
    machine.must(&sandbox.path("reader"), ["config", "--global", "lfs-cdc.profile", "program"]);
    clones(&sandbox, &machine, "by-setting");
    // the setting beats the environment
    let other = machine.clone().with_variable("AWS_PROFILE", "absent");
    clones(&sandbox, &other.with_variable("AWS_ACCESS_KEY_ID", "nobody"), "by-setting-first");
    // for one store only, with its endpoint; another one doesn't take it, nor the same name elsewhere
    machine.must(&sandbox.path("reader"), ["config", "--global", "--unset", "lfs-cdc.profile"]);
    let url = sandbox.machine.repo_at("shared").must(["config", "lfs.url"]);
    let place = url.split('?').next().unwrap();
    let at_endpoint = format!("{place}?endpoint={}", s3::server());
    for (number, (setting, counts)) in
        [(url.trim(), true), (&at_endpoint, true), (place, false), (&format!("{at_endpoint}0"), false)]
            .into_iter()
            .enumerate()
    {
        let setting = format!("lfs-cdc.{setting}.profile");
        machine.must(&sandbox.path("reader"), ["config", "--global", &setting, "team"]);
        if counts {
            clones(&sandbox, &machine, &format!("of-the-store-{number}"));
        } else {
            let into = format!("of-another-{number}");
            is_refused(&sandbox, &machine, &into, &["no credentials were found"]);
        }
        machine.must(&sandbox.path("reader"), ["config", "--global", "--unset", &setting]);
    }
}

#[test]
#[ignore = "needs an S3 server"]
fn line_ends_and_spaces_around_credentials_do_no_harm() {
    let (sandbox, machine) = with_store();
    let (id, secret) = Role::Pull.keys();
    let location = sandbox.store().location();
    let endpoint = s3::server();
    let look = |variables: &[(&str, String)]| {
        let usual = [
            ("AWS_ACCESS_KEY_ID", id.clone()),
            ("AWS_SECRET_ACCESS_KEY", secret.clone()),
            ("AWS_ENDPOINT_URL", endpoint.clone()),
        ];
        let all = usual
            .iter()
            .chain(variables)
            .fold(machine.clone(), |machine, (name, value)| machine.with_variable(name, value));
        all.cdc(&sandbox.path("reader"), ["stats", &location])
    };
    for end in ["\n", "\r\n", " ", "\t"] {
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", &id),
            ("AWS_SECRET_ACCESS_KEY", &secret),
            ("AWS_ENDPOINT_URL", &endpoint),
            ("AWS_REGION", &s3::REGION.to_owned()),
        ] {
            machine.expect_success(look(&[(name, format!("{end}{value}{end}"))]));
        }
    }
    for (name, value, words) in [
        ("AWS_ACCESS_KEY_ID", format!("{id}\nx"), "the access key id has a line end"),
        ("AWS_SECRET_ACCESS_KEY", format!("{secret}\rx"), "the secret access key has a line end"),
        ("AWS_SESSION_TOKEN", "to\u{f6}ken".to_owned(), "the session token has a line end"),
        ("AWS_REGION", "us east".to_owned(), "can't be the name of a region"),
        ("HTTP_PROXY", "http://127.0.0.1:1\n".to_owned(), "HTTP_PROXY can't be used"),
        ("HTTP_PROXY", "gopher://127.0.0.1:1".to_owned(), "gopher:// is not a kind of proxy"),
    ] {
        machine.expect_failure(look(&[(name, value)]), &[words]);
    }

    let text = format!("\u{feff}{}", profile("default", Role::Pull)).replace('\n', "\r\n");
    let folder = tempfile::tempdir().unwrap();
    put_aws_files(&sandbox.path("reader"), folder.path(), "", &text);
    clones(&sandbox, &machine, "by-file");
}

#[test]
#[ignore = "needs an S3 server"]
fn a_default_profile_is_used_and_keys_in_the_environment_beat_it() {
    let (sandbox, machine) = with_store();
    let folder = tempfile::tempdir().unwrap();
    put_aws_files(&sandbox.path("reader"), folder.path(), "", &profile("default", Role::Pull));
    let copy = clones(&sandbox, &machine, "by-default");
    copy.write("b.bin", &noise(2, 1000));
    copy.commit("content");
    let outcome = copy.git(["push", "origin", "HEAD"]);
    machine.expect_failure(outcome, &["access is denied", "s3:PutObject"]);
    let copy = Repo { machine: machine.with_keys(Role::Push), ..copy };
    copy.push();
}

#[test]
#[ignore = "needs an S3 server"]
fn a_profile_that_is_named_has_to_be_there() {
    let (sandbox, machine) = with_store();
    let folder = tempfile::tempdir().unwrap();
    let config = "[profile sso]\nsso_session = team\nsso_account_id = 123456789012\nsso_role_name = reader\n\
                  [sso-session team]\nsso_region = us-east-1\nsso_start_url = https://127.0.0.1:1/start\n\
                  [profile broken]\ncredential_process = exit 3\n";
    put_aws_files(&sandbox.path("reader"), folder.path(), config, "");
    for (profile, words) in
        [("absent", "`absent` was not defined"), ("sso", "SSO"), ("broken", "exit status: 3")]
    {
        let words = ["credentials can't be used", words, "aws sso login", "AWS_PROFILE", "cdc/log"];
        let machine = machine.clone().with_variable("AWS_PROFILE", profile);
        is_refused(&sandbox, &machine, &format!("variable-{profile}"), &words);
        let reader = sandbox.path("reader");
        machine.must(&reader, ["config", "--global", "lfs-cdc.profile", profile]);
        // not even keys in the environment are taken instead
        let machine = machine.with_keys(Role::Pull);
        is_refused(&sandbox, &machine, &format!("setting-{profile}"), &words);
        machine.must(&reader, ["config", "--global", "--unset", "lfs-cdc.profile"]);
    }
}

#[test]
#[ignore = "needs an S3 server"]
fn wrong_keys_are_told_from_missing_rights() {
    let (sandbox, machine) = with_store();
    let (id, _) = Role::Pull.keys();
    let wrong = machine.clone().with_variable("AWS_ACCESS_KEY_ID", &id);
    let wrong = wrong.with_variable("AWS_SECRET_ACCESS_KEY", "wrong");
    is_refused(&sandbox, &wrong, "wrong-secret", &["the credentials are wrong", "SignatureDoesNotMatch"]);
    let unknown = machine.with_variable("AWS_ACCESS_KEY_ID", "nobody");
    let unknown = unknown.with_variable("AWS_SECRET_ACCESS_KEY", "wrong");
    is_refused(&sandbox, &unknown, "unknown-key", &["the credentials are wrong", "InvalidAccessKeyId"]);
}

#[test]
#[ignore = "needs an S3 server that takes any session token"]
fn jobs_containers_and_machines_have_roles() {
    let endpoint = servers::variable("GIT_LFS_CDC_TEST_RCLONE");
    let sandbox = Sandbox::with(Kind::Folders, Secrets::in_use());
    let prefix = sandbox.path("").file_name().unwrap().to_str().unwrap().to_owned();
    with_store_at(&sandbox, &format!("s3://lfs/{prefix}?endpoint={endpoint}"), Role::Admin);
    let server = TokenServer::start(Role::Admin);
    let reader = sandbox.other_machine("reader").without_keys();
    // as rclone answers requests that are not signed
    is_refused(&sandbox, &reader, "none", &["UnsupportedAlgorithm"]);

    let token = sandbox.path("token");
    fs::write(&token, JOB_TOKEN).unwrap();
    let job =
        reader.clone().with_variable("AWS_ENDPOINT_URL_STS", &server.url).with_variable("AWS_ROLE_ARN", ROLE);
    let job = job.with_variable("AWS_WEB_IDENTITY_TOKEN_FILE", path_str(&token));
    clones(&sandbox, &job, "web-identity");
    let stranger = job.clone().with_variable("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/other");
    is_refused(&sandbox, &stranger, "other-role", &["credentials can't be used"]);

    let uri = format!("{}/container", server.url);
    clones(&sandbox, &reader.clone().with_variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", &uri), "container");
    let machine = reader.with_variable("AWS_EC2_METADATA_DISABLED", "false");
    clones(&sandbox, &machine.with_variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", &server.url), "instance");
}

#[test]
#[ignore = "needs an S3 server"]
fn a_public_bucket_is_read_without_credentials() {
    let sandbox = Sandbox::in_s3(Secrets::in_use());
    let prefix = sandbox.path("").file_name().unwrap().to_str().unwrap().to_owned();
    let endpoint = s3::server();
    with_store_at(&sandbox, &format!("s3://{PUBLIC_BUCKET}/{prefix}?endpoint={endpoint}"), Role::Public);
    let reader = sandbox.other_machine("reader").without_keys();
    let copy = clones(&sandbox, &reader, "copy");
    let status = reader.expect_success(copy.cdc(["status"]));
    assert!(status.text().contains("reachable, without credentials"), "{}", status.text());

    copy.write("b.bin", &noise(2, 1000));
    copy.commit("content");
    let outcome = copy.git(["push", "origin", "HEAD"]);
    reader.expect_failure(outcome, &["access is denied, and no credentials were found", "AWS_ACCESS_KEY_ID"]);
}

#[test]
#[ignore = "needs an S3 server"]
fn a_setting_beats_the_url_and_that_beats_the_environment() {
    let (sandbox, machine) = with_store();
    let machine = machine.with_keys(Role::Pull);
    let reader = sandbox.path("reader");
    let endpoint = s3::server();
    machine.must(&reader, ["config", "--global", "lfs-cdc.retryTime", "4"]);
    let nowhere = "http://127.0.0.1:1";
    let place = sandbox.store().location();
    let look = |machine: &Machine, url: &str| machine.cdc(&reader, ["stats", url]);
    let bare = place.clone();
    let right = format!("{place}?endpoint={endpoint}");
    let wrong = format!("{place}?endpoint={nowhere}");

    let general = machine.clone().with_variable("AWS_ENDPOINT_URL", &endpoint);
    general.expect_success(look(&general, &bare));
    let specific = machine.clone().with_variable("AWS_ENDPOINT_URL", nowhere);
    let specific = specific.with_variable("AWS_ENDPOINT_URL_S3", &endpoint);
    specific.expect_success(look(&specific, &bare));
    let misled = machine.clone().with_variable("AWS_ENDPOINT_URL_S3", nowhere);
    misled.expect_failure(look(&misled, &bare), &["127.0.0.1 can't be reached"]);
    misled.expect_success(look(&misled, &right));
    machine.expect_failure(look(&machine, &wrong), &["127.0.0.1 can't be reached"]);
    machine.must(&reader, ["config", "--global", "lfs-cdc.endpoint", &endpoint]);
    machine.expect_success(look(&machine, &wrong));
    misled.expect_success(look(&misled, &wrong));
}

#[test]
#[ignore = "needs an S3 server"]
fn a_proxy_is_asked_unless_the_host_is_excepted() {
    let (sandbox, machine) = with_store();
    machine.must(&sandbox.path("reader"), ["config", "--global", "lfs-cdc.retryTime", "4"]);
    // nobody listens there
    for (proxy, exception) in
        [("HTTP_PROXY", "NO_PROXY"), ("http_proxy", "no_proxy"), ("ALL_PROXY", "NO_PROXY")]
    {
        let machine = machine.clone().with_keys(Role::Pull).with_variable(proxy, "http://127.0.0.1:1");
        is_refused(&sandbox, &machine, &format!("by-{proxy}"), &["can't be reached", "HTTPS_PROXY"]);
        clones(&sandbox, &machine.with_variable(exception, "127.0.0.1"), &format!("excepted-{proxy}"));
    }
}

#[test]
#[ignore = "needs an S3 server"]
fn every_address_is_excepted_by_an_asterisk_and_one_by_its_network() {
    let (sandbox, machine) = with_store();
    machine.must(&sandbox.path("reader"), ["config", "--global", "lfs-cdc.retryTime", "4"]);
    let machine = machine.with_keys(Role::Pull).with_variable("ALL_PROXY", "http://127.0.0.1:1");
    for (number, names) in ["*", "example.com, *", "127.0.0.0/8"].into_iter().enumerate() {
        clones(&sandbox, &machine.clone().with_variable("NO_PROXY", names), &format!("excepted-{number}"));
    }

    // services that give credentials are asked the same way
    let server = TokenServer::start(Role::Pull);
    let token = sandbox.path("token");
    fs::write(&token, JOB_TOKEN).unwrap();
    let job = machine.without_keys().with_variable("AWS_ENDPOINT_URL_STS", &server.url);
    let job = job.with_variable("AWS_ROLE_ARN", &format!("{ROLE}\n"));
    let job = job.with_variable("AWS_WEB_IDENTITY_TOKEN_FILE", &format!("{}\n", path_str(&token)));
    let job = job.with_variable("ALL_PROXY", "http://127.0.0.1:1");
    is_refused(&sandbox, &job.clone().with_variable("NO_PROXY", "x"), "job", &["credentials can't be used"]);
    // SeaweedFS knows no session tokens: that it is asked shows that there were credentials
    let outcome = job
        .with_variable("NO_PROXY", "*")
        .git(&sandbox.path("reader"), ["clone", path_str(&sandbox.remote("shared")), "job-excepted"]);
    assert!(!outcome.text().contains("credentials can't be used"), "{}", outcome.text());
}

/// A SOCKS5 proxy, as far as it is asked for connections to addresses and names.
fn socks_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // ends with the tests
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || socks_connection(stream));
        }
    });
    address.to_string()
}

fn socks_connection(mut client: TcpStream) -> std::io::Result<()> {
    let mut head = [0; 2];
    client.read_exact(&mut head)?;
    client.read_exact(&mut vec![0; usize::from(head[1])])?;
    client.write_all(&[5, 0])?;
    let mut request = [0; 4];
    client.read_exact(&mut request)?;
    let host = match request[3] {
        1 => {
            let mut address = [0; 4];
            client.read_exact(&mut address)?;
            std::net::Ipv4Addr::from(address).to_string()
        }
        _ => {
            let mut length = [0];
            client.read_exact(&mut length)?;
            let mut name = vec![0; usize::from(length[0])];
            client.read_exact(&mut name)?;
            String::from_utf8_lossy(&name).into_owned()
        }
    };
    let mut port = [0; 2];
    client.read_exact(&mut port)?;
    let mut server = TcpStream::connect((host.as_str(), u16::from_be_bytes(port)))?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    let mut requests = client.try_clone()?;
    let mut to_server = server.try_clone()?;
    thread::spawn(move || std::io::copy(&mut requests, &mut to_server));
    std::io::copy(&mut server, &mut client).map(drop)
}

#[test]
#[ignore = "needs an S3 server"]
fn socks_proxies_are_asked() {
    let (sandbox, machine) = with_store();
    machine.must(&sandbox.path("reader"), ["config", "--global", "lfs-cdc.retryTime", "4"]);
    let machine = machine.with_keys(Role::Pull);
    let proxy = socks_server();
    for scheme in ["socks5", "socks5h"] {
        let machine = machine.clone().with_variable("ALL_PROXY", &format!("{scheme}://{proxy}"));
        clones(&sandbox, &machine, scheme);
    }
    let nobody = machine.with_variable("ALL_PROXY", "socks5h://127.0.0.1:1");
    is_refused(&sandbox, &nobody, "nobody", &["can't be reached"]);
}
