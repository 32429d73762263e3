//! Recipes of `docs/operations/`, run as they stand there, on a runner on which nothing is installed.
//!
//! This runs the lines below a workflow's `run` and `script` with the variables of the workflow, and the
//! commands of that runner's checkout. Other actions stand for programs that a runner has.

use std::fs;
use std::path::{Path, PathBuf};

use yaml_rust2::{Yaml, YamlLoader};

use crate::credentials::{profile, put_aws_files};
use crate::data::{assert_same_file, assert_same_tree, noise};
use crate::machine::{Machine, copy_program};
use crate::process::Outcome;
use crate::repo::Repo;
use crate::s3::Role;
use crate::sandbox::{Sandbox, path_str};
use crate::scan::Secrets;
use crate::servers::{self, Web};
use crate::storage::Kind;
use crate::token_server::{JOB_TOKEN, TokenServer};

/// The store that the workflows name.
const DOCUMENTED_STORE: &str = "cdc::s3://team-lfs/game?region=eu-central-1";
/// The home of GitHub's runners.
const DOCUMENTED_HOME: &str = "/home/runner";

/// All pages on operations, one behind the other in the order of their names.
fn pages() -> String {
    let entries = fs::read_dir("docs/operations").unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// The block behind a recipe's mark.
fn recipe(name: &str) -> String {
    let text = pages();
    let mark = format!("<!-- tried: {name} -->\n```");
    let (_, behind) = text.split_once(&mark).unwrap_or_else(|| panic!("there is no recipe {name:?}"));
    let (_, block) = behind.split_once('\n').unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

fn workflow(name: &str) -> Yaml {
    let mut documents = YamlLoader::load_from_str(&recipe(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(documents.len(), 1, "{name}");
    documents.remove(0)
}

/// A computer that runs jobs.
struct Runner {
    machine: Machine,
    home: PathBuf,
    /// Shell lines before each step.
    prelude: String,
}

impl Runner {
    /// A runner with git and git-lfs, and without the program.
    fn new(sandbox: &Sandbox, name: &str) -> Runner {
        let machine = sandbox.other_machine(name);
        let home = sandbox.path(name);
        machine.expect_success(machine.cdc(&home, ["uninstall", "--global"]));
        machine.must(&home, ["config", "--global", "--remove-section", "filter.lfs"]);
        // real runners don't set these
        let prelude = "unset GIT_CONFIG_GLOBAL XDG_CACHE_HOME XDG_CONFIG_HOME\n".to_owned();
        Runner { machine, home, prelude }
    }

    /// Sets a variable for all steps. No secret may be set like this: it would stand in a command line.
    fn set(&mut self, name: &str, value: &str) {
        assert!(!value.contains('\''), "{value}");
        self.prelude.push_str(&format!("export {name}='{value}'\n"));
    }

    /// Offers the program at the URL that jobs fetch it from.
    fn offer_program(&mut self) {
        let program = path_str(&self.machine.agent()).to_owned();
        let sum = self.machine.run(&self.home, "sha256sum", [&program]).stdout;
        self.set("PROGRAM_URL", &format!("file://{program}"));
        self.set("PROGRAM_SHA256", sum.split(' ').next().unwrap());
    }

    /// Puts the program on `PATH`, as in an image with the program.
    fn put_program(&mut self) {
        copy_program(&self.machine.agent(), &self.home.join("bin"));
        self.prelude.push_str("PATH=$HOME/bin:$PATH\n");
    }

    /// Runs a script as runners do, in a shell that ends at the first failure.
    fn run(&self, folder: &Path, script: &str) -> Outcome {
        self.machine.run(folder, "bash", ["-e", "-o", "pipefail", "-c", &format!("{}{script}", self.prelude)])
    }

    #[track_caller]
    fn must(&self, folder: &Path, script: &str) {
        self.machine.expect_success(self.run(folder, script));
    }

    /// Sets the `env` or `variables` of a workflow, with the examples of the document replaced.
    fn set_all(&mut self, variables: &Yaml, replaced: &[(&str, &str)]) {
        for (name, value) in variables.as_hash().expect("variables are a map") {
            let name = name.as_str().unwrap();
            let value = scalar(value);
            if !name.starts_with("PROGRAM_") {
                self.set(name, &replaced.iter().fold(value, |text, (from, to)| text.replace(from, to)));
            }
        }
    }

    /// The folder that the workflow tells the runner to keep has files of the store's index.
    fn has_cached(&self, folder: &Path) {
        let is_used = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
        assert!(is_used, "nothing is in {}", folder.display());
    }
}

fn scalar(value: &Yaml) -> String {
    match value {
        Yaml::String(text) => text.clone(),
        Yaml::Integer(number) => number.to_string(),
        other => panic!("{other:?} is no value of a variable"),
    }
}

/// The commands of GitHub's checkout, with `lfs` or without.
fn checkout(remote: &Path, lfs: bool) -> String {
    let remote = path_str(remote);
    let fetch =
        format!("git init -q . && git remote add origin '{remote}' && git fetch -q --depth=1 origin main\n");
    if !lfs {
        return format!("export GIT_LFS_SKIP_SMUDGE=1\n{fetch}git checkout -q FETCH_HEAD\n");
    }
    format!(
        "temporary=$(mktemp -d) && trap 'rm -rf \"$temporary\"' EXIT && cp ~/.gitconfig \"$temporary/\"\n\
         export HOME=$temporary\n{fetch}\
         git lfs install --local\ngit lfs fetch origin FETCH_HEAD\ngit checkout -q FETCH_HEAD\n"
    )
}

/// Runs the one job of a GitHub workflow in `folder`, and gives the folder that is to be cached.
#[track_caller]
fn run_github(runner: &mut Runner, workflow: &Yaml, sandbox: &Sandbox, folder: &Path) -> (Outcome, PathBuf) {
    let home = path_str(&runner.home).to_owned();
    let store = sandbox.store().lfs_url("shared");
    runner.set_all(&workflow["env"], &[(DOCUMENTED_HOME, &home)]);
    runner.set("GITHUB_WORKSPACE", path_str(folder));
    let mut cached = None;
    let mut last = None;
    for step in workflow["jobs"]["build"]["steps"].as_vec().expect("a job has steps") {
        let script = match (step["uses"].as_str(), step["run"].as_str()) {
            (None, Some(script)) => script.replace(DOCUMENTED_STORE, &store),
            (Some("actions/checkout@v4"), None) => {
                let with = |option: &str| step["with"][option].as_bool() == Some(true);
                let own = checkout(&sandbox.remote("shared"), with("lfs"));
                let submodules = "git submodule sync -q\ngit submodule update -q --init --force --depth=1\n";
                if with("submodules") { own + submodules } else { own }
            }
            (Some("actions/cache@v4"), None) => {
                let path = step["with"]["path"].as_str().unwrap();
                cached = Some(PathBuf::from(path.replace('~', &home).replace(DOCUMENTED_HOME, &home)));
                continue;
            }
            // the keys are in the environment from the start
            (Some("aws-actions/configure-aws-credentials@v4"), None) => continue,
            other => panic!("nobody knows how to do {other:?}"),
        };
        let outcome = runner.run(folder, &script);
        let failed = !outcome.success();
        last = Some(outcome);
        if failed {
            break;
        }
    }
    (last.unwrap(), cached.expect("something is cached"))
}

/// A sandbox in S3 with something to check out, and a runner there that may only read.
fn prepare() -> (Sandbox, Repo, Runner) {
    let sandbox = Sandbox::in_s3(Secrets::in_use());
    let work = sandbox.repository("shared");
    work.publish("a.bin", &noise(1, 700_000));
    let mut runner = Runner::new(&sandbox, "runner");
    runner.machine = runner.machine.without_keys();
    (sandbox, work, runner)
}

#[test]
#[ignore = "needs an S3 server"]
fn a_plain_shell_runner() {
    let (sandbox, work, mut runner) = prepare();
    let folder = tempfile::tempdir().unwrap();
    put_aws_files(&runner.home, folder.path(), "", &profile("game-pull", Role::Pull));
    runner.offer_program();
    runner.must(&runner.home, &recipe("fetch"));
    runner.set("REPOSITORY", path_str(&sandbox.remote("shared")));
    runner.must(&runner.home, &recipe("shell runner"));
    assert_same_tree(&work.path, &runner.home.join("work"));
    runner.has_cached(&runner.home.join(".cache/git-lfs-cdc"));
}

#[test]
fn a_program_that_is_not_the_expected_one_is_not_installed() {
    let sandbox = Sandbox::new();
    let mut runner = Runner::new(&sandbox, "runner");
    runner.offer_program();
    runner.set("PROGRAM_SHA256", &"0".repeat(64));
    let outcome = runner.run(&runner.home, &recipe("fetch"));
    runner.machine.expect_failure(outcome, &["did NOT match"]);
    let agent = runner.machine.git(&runner.home, ["config", "lfs.customtransfer.cdc.path"]);
    assert!(!agent.success(), "installed as {}", agent.stdout);
}

#[test]
#[ignore = "needs an S3 server"]
fn github_pulls_after_the_checkout() {
    let (sandbox, work, mut runner) = prepare();
    runner.machine = runner.machine.with_keys(Role::Pull);
    runner.offer_program();
    let folder = sandbox.path("runner/work");
    fs::create_dir(&folder).unwrap();
    let (outcome, cached) = run_github(&mut runner, &workflow("github pull"), &sandbox, &folder);
    runner.machine.expect_success(outcome);
    assert_same_tree(&work.path, &folder);
    runner.has_cached(&cached);
}

#[test]
#[ignore = "needs an S3 server"]
fn github_checks_out_with_lfs_before_there_is_a_head() {
    let (sandbox, work, mut runner) = prepare();
    runner.machine = runner.machine.with_keys(Role::Pull);
    runner.offer_program();
    // a submodule stands in another store
    let engine = sandbox.repository_without_store("engine");
    engine.init(&sandbox.storage("engine-store").url());
    engine.publish("e.bin", &noise(2, 700_000));
    work.must(["submodule", "--quiet", "add", path_str(&sandbox.remote("engine")), "engine"]);
    work.commit("with a submodule");
    work.push();
    let folder = sandbox.path("runner/work");
    let without = sandbox.path("runner/without");
    fs::create_dir(&folder).unwrap();
    fs::create_dir(&without).unwrap();
    let (outcome, cached) = run_github(&mut runner, &workflow("github lfs"), &sandbox, &folder);
    runner.machine.expect_success(outcome);
    assert_same_tree(&work.path, &folder);
    runner.has_cached(&cached);

    // it fails where the store isn't named, so naming it helps
    let outcome = runner.run(&without, &checkout(&sandbox.remote("shared"), true));
    assert!(!outcome.success(), "the store need not be named any more: {}", outcome.text());
}

#[test]
fn a_fork_takes_new_objects() {
    let sandbox = Sandbox::with(Kind::Folders, Secrets::in_use());
    let work = sandbox.repository("shared");
    (1..4).for_each(|version| work.publish("a.bin", &noise(version, 3000)));
    let remote = path_str(&sandbox.remote("shared")).to_owned();
    let copy = sandbox.clone_elsewhere("shared");
    copy.must(["checkout", "--quiet", "-b", "feature"]);
    copy.write("b.bin", &noise(9, 3000));
    copy.commit("feature");
    let run = |script: &str| copy.machine.run(&copy.path, "bash", ["-e", "-c", script]);
    for (name, prepared) in
        [("fork", &["clone", "--bare", "--quiet", &remote][..]), ("empty", &["init", "--bare"])]
    {
        let there = sandbox.path(name);
        copy.machine.must(&sandbox.path(""), prepared.iter().copied().chain([path_str(&there)]));
        copy.must(["remote", "add", name, path_str(&there)]);
        let push = copy.git(["push", name, "feature"]);
        copy.machine.expect_failure(push, &["missing or corrupt local objects"]);
    }
    copy.machine.expect_success(run(&recipe("fork")));
    copy.machine.expect_success(run(&recipe("empty remote")));
    for name in ["fork", "empty"] {
        let reader = sandbox.other_machine(&format!("reader-{name}"));
        let there = sandbox.path(name);
        let clone = ["clone", "--quiet", "--branch", "feature", path_str(&there), "copy"];
        reader.must(&sandbox.path(&format!("reader-{name}")), clone);
        assert_same_tree(&copy.path, &sandbox.path(&format!("reader-{name}/copy")));
    }
}

/// The other clouds' steps are only parsed, because nothing here could run them.
#[test]
fn steps_for_other_clouds_can_be_read() {
    let text = pages();
    let blocks: Vec<_> =
        text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 4, "one of them is not tried");
    let steps = blocks.iter().find(|block| block.trim_start().starts_with("- uses: google")).unwrap();
    let steps = YamlLoader::load_from_str(steps).unwrap();
    for (step, action) in [(0, "google-github-actions/auth@v2"), (1, "azure/login@v2")] {
        assert_eq!(steps[0][step]["uses"].as_str(), Some(action));
        assert!(steps[0][step]["with"].as_hash().is_some_and(|with| !with.is_empty()));
    }
}

#[test]
#[ignore = "needs an S3 server that takes any session token"]
fn gitlab_pulls_in_its_script() {
    let endpoint = servers::variable("GIT_LFS_CDC_TEST_RCLONE");
    let sandbox = Sandbox::with(Kind::Folders, Secrets::in_use());
    sandbox.trust(&endpoint);
    let prefix = sandbox.path("").file_name().unwrap().to_str().unwrap().to_owned();
    let work = sandbox.repository_without_store("shared");
    let work = Repo { machine: work.machine.with_keys(Role::Admin), ..work };
    work.init(&format!("s3://lfs/{prefix}?endpoint={endpoint}"));
    work.publish("a.bin", &noise(1, 700_000));

    let mut runner = Runner::new(&sandbox, "runner");
    let server = TokenServer::start(Role::Admin);
    let machine = runner.machine.without_keys().with_variable("AWS_ENDPOINT_URL_STS", &server.url);
    let machine = machine.with_variable("GIT_CONFIG_SYSTEM", path_str(&sandbox.path("runner/system-config")));
    runner.machine = machine.with_variable("GIT_CONFIG_NOSYSTEM", "0").with_variable("AWS_TOKEN", JOB_TOKEN);
    runner.put_program();
    runner.must(&runner.home, &recipe("image"));

    let job = &workflow("gitlab")["build"];
    let folder = sandbox.path("runner/project");
    fs::create_dir(&folder).unwrap();
    runner.set_all(&job["variables"], &[("$CI_PROJECT_DIR", path_str(&folder))]);
    // GitLab's runner does this before the script
    let remote = path_str(&sandbox.remote("shared")).to_owned();
    let sources = format!(
        "git init -q && git remote add origin '{remote}' && git fetch -q origin +main:refs/pipelines/1\n\
         git checkout -f -q refs/pipelines/1 && git clean -q -ffdx\n"
    );
    runner.must(&folder, &sources);
    assert!(fs::read(folder.join("a.bin")).unwrap().starts_with(b"version "), "the checkout has pulled");
    let lines = job["script"].as_vec().unwrap().iter().map(|line| format!("{}\n", line.as_str().unwrap()));
    runner.must(&folder, &lines.collect::<String>());
    assert_same_file(&work.file("a.bin"), &folder.join("a.bin"));
    runner.has_cached(&folder.join(job["cache"]["paths"][0].as_str().unwrap()));
}

#[test]
#[ignore = "needs a web server"]
fn a_store_is_published_for_readers() {
    let web = Web::server();
    let root = tempfile::Builder::new().prefix("published-").tempdir_in(web.root).unwrap();
    let sandbox = Sandbox::with(Kind::Folders, Secrets::in_use());
    let work = sandbox.repository_without_store("shared");
    let mut publisher = Runner::new(&sandbox, "publisher");
    publisher.put_program();
    publisher.must(&work.path, "git-lfs-cdc install");
    publisher.set("STORE", path_str(root.path()));
    let site = format!("{}/{}", web.address, root.path().file_name().unwrap().to_str().unwrap());
    publisher.set("SITE", &site);
    publisher.must(&work.path, &recipe("publish"));
    work.publish("a.bin", &noise(1, 700_000));

    let copy = sandbox.clone_elsewhere("shared");
    assert_same_tree(&work.path, &copy.path);
    let status = copy.machine.expect_success(copy.cdc(["status"])).stdout;
    assert!(status.contains(&format!("(pull): cdc::{site}\n")), "{status}");
    assert!(
        status.contains(&format!("(push): cdc::{}?repository=shared-", root.path().display())),
        "{status}"
    );
    copy.write("b.bin", &noise(2, 700_000));
    copy.commit("content");
    copy.push();
    work.must(["pull", "--quiet", "origin", "main"]);
    let third = sandbox.clone_elsewhere("shared");
    assert_same_tree(&copy.path, &third.path);
}
