//! Stores behind a plain web server, which knows nothing of them: clones read them over HTTP.

use std::fs;
use std::path::PathBuf;

use crate::data::{assert_same_tree, damage, noise};
use crate::repo::Repo;
use crate::sandbox::{Sandbox, path_str};
use crate::scan::Secrets;
use crate::servers::{self, Web};
use crate::storage::Kind;

/// A store in a folder that is served, with one object, and its URL.
struct Served {
    sandbox: Sandbox,
    /// Below the folder that the server shows.
    _root: tempfile::TempDir,
    store: PathBuf,
    url: String,
    work: Repo,
}

fn served() -> Served {
    let web = Web::server();
    let root = tempfile::Builder::new().prefix("store-").tempdir_in(web.root).unwrap();
    let store = root.path().join("lfs store");
    let folder = root.path().file_name().unwrap().to_str().unwrap();
    let url = format!("{}/{folder}/lfs%20store", web.address);
    let sandbox = Sandbox::with(Kind::Folders, Secrets::in_use());
    let work = sandbox.repository_without_store("work");
    work.init(path_str(&store));
    work.publish("a.bin", &noise(1, 3_000_000));
    Served { sandbox, _root: root, store, url, work }
}

impl Served {
    fn manifest(&self) -> PathBuf {
        self.store.join("index/manifest")
    }

    /// A clone on a machine of its own, with a setting that makes it pull from the web server.
    fn reader(&self, name: &str) -> Repo {
        let machine = self.sandbox.other_machine(name);
        machine
            .must(&self.sandbox.path(name), ["config", "--global", "lfs.url", &format!("cdc::{}", self.url)]);
        let remote = self.sandbox.remote("work");
        // its own setting beats the repository's .lfsconfig
        machine.clone_of(&remote, &format!("{name}/copy"))
    }
}

#[test]
#[ignore = "needs a web server"]
fn objects_pushed_to_a_folder_are_pulled_over_http() {
    let served = served();
    let copy = served.reader("reader");
    assert_same_tree(&served.work.path, &copy.path);
    served.work.publish("b.bin", &noise(2, 700_000));
    copy.must(["pull", "--quiet"]);
    assert_same_tree(&served.work.path, &copy.path);
    copy.machine.expect_success(copy.cdc(["status"]));

    copy.write("mine.bin", &noise(3, 1000));
    copy.commit("content");
    let outcome = copy.git(["push", "origin", "HEAD"]);
    copy.machine.expect_failure(outcome, &["can only be read", "lfs.pushurl", &copy.oid("mine.bin")]);
    copy.must(["config", "lfs.pushurl", &format!("cdc::{}?repository=copy", path_str(&served.store))]);
    copy.push();
    served.work.must(["pull", "--quiet", "origin", "main"]);
    assert_same_tree(&served.work.path, &copy.path);
}

#[test]
#[ignore = "needs a web server"]
fn a_manifest_that_is_behind_is_named_and_renewed() {
    let served = served();
    let old = fs::read(served.manifest()).unwrap();
    served.work.publish("b.bin", &noise(2, 700_000));
    fs::write(served.manifest(), old).unwrap();

    let machine = served.sandbox.other_machine("reader");
    let home = served.sandbox.path("reader");
    machine.must(&home, ["config", "--global", "lfs.url", &format!("cdc::{}", served.url)]);
    let remote = served.sandbox.remote("work");
    let outcome = machine.git(&home, ["clone", path_str(&remote), "copy"]);
    machine.expect_failure(
        outcome,
        &["manifest may be behind", "git lfs-cdc manifest", &served.work.oid("b.bin")],
    );
    let outcome = served.work.machine.cdc(&home, ["manifest", path_str(&served.store)]);
    served.work.machine.expect_success(outcome);
    let copy = machine.repo_at("reader/copy");
    copy.must(["reset", "--quiet", "--hard"]);
    assert_same_tree(&served.work.path, &copy.path);
}

/// A reader's manifest never names files that a compaction has deleted, unless somebody puts an old manifest
/// back.
#[test]
#[ignore = "needs a web server"]
fn a_compacted_store_is_read_over_http() {
    let served = served();
    for seed in 2..8 {
        served.work.publish(&format!("{seed}.bin"), &noise(seed, 100_000));
    }
    let outcome = served.work.cdc(["compact", &served.url]);
    served.work.machine.expect_failure(outcome, &["can only be read"]);
    let old = fs::read(served.manifest()).unwrap();
    let outcome = served.work.machine.expect_success(served.work.cdc(["compact"]));
    assert!(outcome.stdout.contains("7 → 1"), "{}", outcome.text());
    let copy = served.reader("reader");
    assert_same_tree(&served.work.path, &copy.path);

    let new = fs::read(served.manifest()).unwrap();
    fs::write(served.manifest(), old).unwrap();
    copy.forget_objects();
    fs::remove_file(copy.file("a.bin")).unwrap();
    let outcome = copy.git(["checkout", "--", "a.bin"]);
    copy.machine.expect_failure(outcome, &["names index segments that are gone", "git lfs-cdc manifest"]);
    served.work.machine.expect_success(served.work.cdc(["manifest"]));
    assert!(fs::read(served.manifest()).unwrap() == new);
    copy.must(["checkout", "--", "a.bin"]);
    assert_same_tree(&served.work.path, &copy.path);
}

#[test]
#[ignore = "needs a web server"]
fn a_missing_or_damaged_manifest_is_named() {
    let served = served();
    let copy = served.reader("reader");
    damage(&served.manifest());
    let outcome = copy.cdc(["status"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.text().contains("manifest") && outcome.text().contains("checksum"), "{}", outcome.text());
    copy.forget_objects();
    fs::remove_file(copy.file("a.bin")).unwrap();
    let checkout = |words: &[&str]| {
        copy.machine.expect_failure(copy.git(["checkout", "--", "a.bin"]), words);
    };
    checkout(&["index/manifest", "checksum", "git lfs-cdc manifest"]);
    fs::remove_file(served.manifest()).unwrap();
    let outcome = copy.cdc(["status"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.text().contains("git lfs-cdc manifest"), "{}", outcome.text());
    checkout(&["has no index/manifest", "git lfs-cdc manifest"]);
    // a machine that can list doesn't need it, and the next push writes it
    served.work.publish("b.bin", &noise(2, 700_000));
    copy.must(["checkout", "--", "a.bin"]);
    copy.must(["pull", "--quiet"]);
    assert_same_tree(&served.work.path, &copy.path);
}

#[test]
#[ignore = "needs a web server"]
fn a_machine_may_leave_the_manifest_alone() {
    let served = served();
    let before = fs::read(served.manifest()).unwrap();
    served.work.must(["config", "lfs-cdc.httpManifest", "false"]);
    served.work.publish("b.bin", &noise(2, 700_000));
    assert!(fs::read(served.manifest()).unwrap() == before);
}

#[test]
#[ignore = "needs a web server"]
fn init_joins_a_web_server_to_read() {
    let served = served();
    let other = served.sandbox.repository_without_store("other");
    let outcome = other.machine.expect_success(other.cdc(["init", &served.url]));
    assert!(outcome.text().contains("lfs.pushurl"), "{}", outcome.text());
    other.machine.expect_success(other.cdc(["status"]));
    let nothing = format!("{}/nothing", served.url);
    other.machine.expect_failure(other.cdc(["init", &nothing]), &["there is no store at", "store.json"]);
}

#[test]
#[ignore = "needs a web server"]
fn certificates_are_checked_against_the_authorities_that_are_named() {
    let address = servers::variable("GIT_LFS_CDC_TEST_HTTPS");
    let certificate = servers::variable("GIT_LFS_CDC_TEST_HTTPS_CERTIFICATE");
    let served = served();
    // the same folder, by TLS
    let (_, path) = served.url.split_once("://").unwrap().1.split_once('/').unwrap();
    let url = format!("cdc::{address}/{path}");
    let stranger = served.sandbox.other_machine("stranger");
    let home = served.sandbox.path("stranger");
    stranger.must(&home, ["config", "--global", "lfs.url", &url]);
    let remote = served.sandbox.remote("work");
    let outcome = stranger.git(&home, ["clone", path_str(&remote), "refused"]);
    stranger.expect_failure(outcome, &["the certificate of 127.0.0.1 is not trusted", "SSL_CERT_FILE"]);
    let trusting = stranger.with_variable("SSL_CERT_FILE", &certificate);
    let copy = trusting.clone_of(&remote, "stranger/copy");
    assert_same_tree(&served.work.path, &copy.path);
}
