//! The recipes for CI in `docs/operations.md` are run as they stand there, on a machine that has nothing but the program.

use std::fs;
use std::path::Path;

use crate::data::{assert_same_tree, noise};
use crate::machine::Machine;
use crate::process::Outcome;
use crate::repo::Repo;
use crate::sandbox::{Sandbox, path_str};

/// The shell lines behind a recipe's mark.
fn recipe(name: &str) -> String {
    let text = fs::read_to_string("docs/operations.md").unwrap();
    let mark = format!("<!-- tried by tests/e2e/recipes.rs: {name} -->\n```sh\n");
    let (_, behind) = text.split_once(&mark).unwrap_or_else(|| panic!("there is no recipe {name:?}"));
    behind.split_once("```").unwrap().0.to_owned()
}

/// What a runner does: a shell that ends at the first failure.
fn run(machine: &Machine, folder: &Path, script: &str) -> Outcome {
    machine.run(folder, "bash", ["-euc", script])
}

/// Something to check out, and a runner on which nothing is installed.
fn prepare() -> (Sandbox, Repo, Machine) {
    let sandbox = Sandbox::new();
    let work = sandbox.repository("shared");
    work.publish("a.bin", &noise(1, 700_000));
    let runner = sandbox.other_machine("runner");
    let home = sandbox.path("runner");
    runner.expect_success(runner.cdc(&home, ["uninstall", "--global"]));
    let program = home.join("bin/git-lfs-cdc");
    fs::copy(runner.agent(), &program).unwrap();
    let path = format!("{}:{}", path_str(&home.join("bin")), std::env::var("PATH").unwrap());
    let runner = runner.with_variable("PATH", &path);
    (sandbox, work, runner)
}

/// The steps of a runner that checks out what it has fetched, with or without LFS.
fn steps(sandbox: &Sandbox, with_lfs: bool) -> String {
    let remote = sandbox.remote("shared");
    let fetch = "git init -q work && cd work && git remote add origin \"$1\" && git fetch -q origin main";
    let fetch = fetch.replace("$1", path_str(&remote));
    match with_lfs {
        true => format!(
            "{fetch}\ngit lfs install --local\ngit lfs fetch origin FETCH_HEAD\ngit checkout -q FETCH_HEAD\n"
        ),
        false => format!("{fetch}\nGIT_LFS_SKIP_SMUDGE=1 git checkout -q FETCH_HEAD\n"),
    }
}

#[test]
fn a_plain_shell_runner() {
    let (sandbox, work, runner) = prepare();
    let runner = runner.with_variable("REPOSITORY", path_str(&sandbox.remote("shared")));
    runner.expect_success(run(&runner, &sandbox.path("runner"), &recipe("shell")));
    assert_same_tree(&work.path, &sandbox.path("runner/work"));
}

#[test]
fn checking_out_without_lfs_and_pulling_afterwards() {
    let (sandbox, work, runner) = prepare();
    let script = format!("{}{}", steps(&sandbox, false), recipe("pull afterwards"));
    runner.expect_success(run(&runner, &sandbox.path("runner"), &script));
    assert_same_tree(&work.path, &sandbox.path("runner/work"));
}

#[test]
fn checking_out_with_lfs_before_there_is_a_head() {
    let (sandbox, work, runner) = prepare();
    let url = sandbox.store().lfs_url("shared");
    let runner = runner.with_variable("STORE_URL", url.strip_prefix("cdc::").unwrap());
    let script = format!("{}{}", recipe("name the store"), steps(&sandbox, true));
    runner.expect_success(run(&runner, &sandbox.path("runner"), &script));
    assert_same_tree(&work.path, &sandbox.path("runner/work"));

    // without the recipe it does fail, so the recipe is what helps
    let machine = sandbox.other_machine("without");
    let outcome = run(&machine, &sandbox.path("without"), &steps(&sandbox, true));
    assert!(!outcome.success(), "the recipe is not needed any more: {}", outcome.text());
}

/// The steps in the workflows are the ones that are tried above.
#[test]
fn workflows_run_what_was_tried() {
    let text = fs::read_to_string("docs/operations.md").unwrap();
    let tried: Vec<String> = recipe("pull afterwards").lines().map(str::to_owned).collect();
    let workflows: Vec<&str> =
        text.split("```yaml\n").skip(1).map(|part| part.split("```").next().unwrap()).collect();
    assert_eq!(workflows.len(), 2);
    for workflow in workflows {
        let lines = workflow.lines().map(|line| line.trim().trim_start_matches("- ").to_owned());
        let found: Vec<String> = lines.filter(|line| line.starts_with("git")).collect();
        assert_eq!(found, tried, "{workflow}");
    }
}
