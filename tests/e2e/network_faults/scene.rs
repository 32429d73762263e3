//! A scene: one repository with its store in a bucket behind a proxy, and the steps that tests of network
//! faults share.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use crate::data::{assert_same_tree, noise};
use crate::machine::Machine;
use crate::process::Outcome;
use crate::proxy::{Exchange, Hits, Proxy, Thing, overwritten};
use crate::repo::Repo;
use crate::s3::{self, REGION};
use crate::sandbox::{Sandbox, path_str};
use crate::scan::Secrets;
use crate::servers;
use crate::storage::Kind;

/// The log that each message has to point to.
const LOG: &str = "cdc/log";
/// The time in which one request is tried again, where a test doesn't say otherwise.
const RETRY_SECONDS: &str = "6";

/// For commands without a fault: a busy machine is no fault.
const PATIENTLY: &str = "lfs-cdc.retryTime=120";

/// A request as the store's documents have it: the verb, and the kind of file.
pub type Place = (&'static str, Thing);

pub struct Scene {
    sandbox: Sandbox,
    pub proxy: Proxy,
    pub work: Repo,
    /// Of the store; requests to it go to the proxy.
    pub url: String,
    variables: Vec<(&'static str, String)>,
    /// Git settings of all machines, the fresh ones included.
    settings: Mutex<BTreeMap<&'static str, String>>,
    /// Numbers that were not used yet, for content and machines.
    unused: AtomicU64,
}

impl Scene {
    /// A repository that is set up and pushed, with nothing in LFS yet. Needs the S3 server.
    #[track_caller]
    pub fn new() -> Scene {
        Scene::before_init().set_up()
    }

    /// The same before `git-lfs-cdc init`.
    #[track_caller]
    pub fn before_init() -> Scene {
        let sandbox = Sandbox::in_s3(Secrets::in_use());
        let proxy = Proxy::start(&s3::server());
        sandbox.trust(&proxy.url());
        let url = format!("{}?region={REGION}&endpoint={}", sandbox.store().location(), proxy.url());
        Scene::with(sandbox, proxy, url, Vec::new(), [])
    }

    /// The same in Azure's Blob Storage. Needs its server.
    #[track_caller]
    pub fn in_azure() -> Scene {
        let endpoint = servers::variable("GIT_LFS_CDC_TEST_AZURE");
        let key = servers::variable("GIT_LFS_CDC_TEST_AZURE_KEY");
        let account = endpoint.rsplit('/').next().unwrap().to_owned();
        let sandbox = Sandbox::with(Kind::Folders, Secrets::in_use());
        let proxy = Proxy::start(&endpoint);
        let own = sandbox.path("").file_name().unwrap().to_string_lossy().replace('.', "");
        let settings =
            [("lfs-cdc.endpoint", format!("{}/{account}", proxy.url())), ("lfs-cdc.account", account)];
        let variables = vec![("AZURE_STORAGE_ACCOUNT_KEY", key)];
        Scene::with(sandbox, proxy, format!("az://lfs/{own}"), variables, settings).set_up()
    }

    fn with<const N: usize>(
        mut sandbox: Sandbox,
        proxy: Proxy,
        url: String,
        variables: Vec<(&'static str, String)>,
        settings: [(&'static str, String); N],
    ) -> Scene {
        sandbox.machine = with_variables(sandbox.machine.clone(), &variables);
        let work = sandbox.repository_without_store("work");
        let usual = [
            ("lfs-cdc.retryTime", RETRY_SECONDS.to_owned()),
            // one agent, so that it is known which request comes when
            ("lfs.concurrentTransfers", "1".to_owned()),
        ];
        let settings = Mutex::new(usual.into_iter().chain(settings).collect());
        let scene = Scene { sandbox, proxy, work, url, variables, settings, unused: AtomicU64::new(1) };
        scene.equip(&scene.work.machine);
        scene
    }

    fn set_up(self) -> Scene {
        self.work.init(&self.url);
        // `init` has tried its rights, and cleaned up
        self.proxy.take_record();
        self.work.commit("set up");
        self.push();
        self
    }

    fn equip(&self, machine: &Machine) {
        for (name, value) in self.settings.lock().unwrap().iter() {
            machine.configure(name, value);
        }
    }

    fn set(&self, name: &'static str, value: &str) {
        self.settings.lock().unwrap().insert(name, value.to_owned());
        self.work.machine.configure(name, value);
    }

    /// Sets the time in which one request is tried again.
    pub fn patience(&self, seconds: &str) {
        self.set("lfs-cdc.retryTime", seconds);
    }

    /// Sets git-lfs's own number of agents.
    pub fn usual_agents(&self) {
        self.agents("8");
    }

    /// Sets the number of agents.
    pub fn agents(&self, agents: &str) {
        self.set("lfs.concurrentTransfers", agents);
    }

    /// The repository that everything is pushed to.
    pub fn remote(&self) -> PathBuf {
        self.sandbox.remote("work")
    }

    /// A machine that has the keys and nothing else of the store, and the machine's folder.
    pub fn fresh_machine(&self) -> (Machine, PathBuf) {
        let label = format!("fresh-{}", self.unused.fetch_add(1, Ordering::SeqCst));
        let machine = with_variables(self.sandbox.other_machine(&label), &self.variables);
        let home = self.sandbox.path(&label);
        self.equip(&machine);
        (machine, home)
    }

    /// Commits a file of `len` bytes that no store has seen.
    pub fn add(&self, name: &str, len: usize) {
        let seed = self.unused.fetch_add(1, Ordering::SeqCst);
        self.work.write(name, &noise(seed, len));
        self.work.commit(name);
    }

    /// The commit that the remote's branch is at.
    pub fn pushed(&self) -> String {
        fs::read_to_string(self.sandbox.remote("work").join("refs/heads/main")).unwrap()
    }

    pub fn try_push(&self) -> Outcome {
        self.work.git(["push", "origin", "HEAD"])
    }

    /// The push meets the fault, and succeeds.
    #[track_caller]
    pub fn push_survives(&self, what: &str, hits: &Hits) {
        let outcome = self.work.machine.expect_success(self.try_push());
        assert!(hits.count() > 0, "{what}: nothing went wrong: {}", outcome.text());
        self.proxy.heal();
    }

    /// The push fails and says all words of `expected` in one line. Without the fault, the next push
    /// succeeds.
    #[track_caller]
    pub fn push_fails_and_is_completed(&self, what: &str, hits: &Hits, expected: &[&str]) {
        let before = self.pushed();
        let outcome = self.try_push();
        assert!(hits.count() > 0, "{what}: nothing went wrong: {}", outcome.text());
        self.says(what, &outcome, expected);
        assert_eq!(before, self.pushed(), "{what}: the ref was pushed");
        self.proxy.heal();
        self.push();
    }

    /// Pushes with nothing in its way.
    #[track_caller]
    pub fn push(&self) {
        self.work.must(["-c", PATIENTLY, "push", "--quiet", "origin", "HEAD"]);
    }

    /// The outcome is a failure. One line of its message has all words of `expected`, and the log's name.
    #[track_caller]
    pub fn says(&self, what: &str, outcome: &Outcome, expected: &[&str]) {
        let words: Vec<_> = expected.iter().copied().chain([LOG]).collect();
        assert!(!outcome.success(), "{what}: {} succeeded", outcome.command);
        let text = outcome.text().to_lowercase();
        let fits = |line: &str| words.iter().all(|word| line.contains(&word.to_lowercase()));
        assert!(text.lines().any(fits), "{what}: no line has all of {words:?}:\n{}", outcome.text());
    }

    /// Clones on a fresh machine, with the faults that the proxy has now.
    pub fn try_clone(&self) -> (Outcome, Repo) {
        self.try_git_clone(&["clone"])
    }

    fn try_git_clone(&self, clone: &[&str]) -> (Outcome, Repo) {
        let (machine, home) = self.fresh_machine();
        let remote = self.sandbox.remote("work");
        let outcome = machine.git(&home, clone.iter().copied().chain([path_str(&remote), "copy"]));
        let path = home.join("copy");
        (outcome, Repo { machine, path })
    }

    /// A clone on a fresh machine that has pointers only.
    #[track_caller]
    pub fn clone_without_content(&self) -> Repo {
        let (outcome, copy) = self.try_git_clone(&[
            "-c",
            "filter.lfs.smudge=",
            "-c",
            "filter.lfs.process=",
            "-c",
            "filter.lfs.required=false",
            "clone",
        ]);
        copy.machine.expect_success(outcome);
        copy
    }

    /// The clone meets the fault, and is right.
    #[track_caller]
    pub fn clone_survives(&self, what: &str, hits: &Hits) {
        let (outcome, copy) = self.try_clone();
        let outcome = copy.machine.expect_success(outcome);
        assert!(hits.count() > 0, "{what}: nothing went wrong: {}", outcome.text());
        self.proxy.heal();
        assert_same_tree(&self.work.path, &copy.path);
    }

    /// The clone fails, says all words of `expected` and delivers nothing wrong. Without the fault, it is
    /// completed.
    #[track_caller]
    pub fn clone_fails_and_is_completed(&self, what: &str, hits: &Hits, expected: &[&str]) {
        let (outcome, copy) = self.try_clone();
        assert!(hits.count() > 0, "{what}: nothing went wrong: {}", outcome.text());
        self.says(what, &outcome, expected);
        self.delivered_nothing_wrong(what, &copy);
        self.proxy.heal();
        check_out(&copy);
        assert_same_tree(&self.work.path, &copy.path);
    }

    /// Each file that a failed clone has put into the work tree is either right, or the pointer.
    #[track_caller]
    pub fn delivered_nothing_wrong(&self, what: &str, copy: &Repo) {
        for name in self.work.must(["ls-files", "*.bin"]).lines() {
            let Ok(found) = fs::read(copy.file(name)) else { continue };
            let right = found.starts_with(b"version https://git-lfs")
                || found == fs::read(self.work.file(name)).unwrap();
            assert!(right, "{what}: {name} is wrong in the work tree");
        }
    }

    /// Checks the promises of every push. It deletes nothing, and overwrites nothing but the manifest. A
    /// machine that never saw the content gets all acknowledged objects.
    #[track_caller]
    pub fn everything_is_there(&self) {
        self.proxy.heal();
        let record = self.proxy.record();
        let deletes: Vec<&Exchange> = record.iter().filter(|e| e.request.verb == "DELETE").collect();
        assert!(deletes.is_empty(), "{deletes:?}");
        let mut overwritten = overwritten(&record);
        overwritten.retain(|path| !path.ends_with("/index/manifest"));
        assert!(overwritten.is_empty(), "{overwritten:?}");
        let (outcome, copy) = self.try_git_clone(&["-c", PATIENTLY, "clone"]);
        copy.machine.expect_success(outcome);
        assert_same_tree(&self.work.path, &copy.path);
    }
}

/// Completes the checkout of a clone that has failed. There are no faults any more.
#[track_caller]
pub fn check_out(copy: &Repo) {
    copy.must(["-c", PATIENTLY, "reset", "--quiet", "--hard"]);
}

fn with_variables(machine: Machine, variables: &[(&str, String)]) -> Machine {
    variables.iter().fold(machine, |machine, (name, value)| machine.with_variable(name, value))
}

/// Number of cases at a time. They wait more than they work.
const AT_ONCE: usize = 8;

/// Runs the cases side by side, each for itself.
pub fn side_by_side<C: Sync>(cases: &[C], run: impl Fn(&C) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(cases.len()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    run(case);
                }
            });
        }
    });
}
