//! `git lfs-cdc install` and `uninstall`: what git-lfs has to know, once per machine.

use clap::Args;

use super::{Outcome, print};
use crate::error::{Error, Result};
use crate::repo::{config_value, git};

const PATH_KEY: &str = "lfs.customtransfer.cdc.path";
const ARGUMENTS_KEY: &str = "lfs.customtransfer.cdc.args";
const AGENT_KEY: &str = "lfs.cdc::.standalonetransferagent";

/// Which of git's configuration files is meant.
#[derive(Args)]
pub(super) struct Scope {
    /// This user's configuration (the default)
    #[arg(long, conflicts_with_all = ["local", "system"])]
    global: bool,
    /// This repository's configuration only
    #[arg(long, conflicts_with = "system")]
    local: bool,
    /// The whole machine's configuration
    #[arg(long)]
    system: bool,
}

impl Scope {
    fn flag(&self) -> &'static str {
        match self {
            Self { local: true, .. } => "--local",
            Self { system: true, .. } => "--system",
            _ => "--global",
        }
    }
}

/// Tell git-lfs about this program
///
/// Registers this program with git-lfs for URLs that begin with `cdc::`. Other URLs, and the agents
/// configured for them, stay as they are. Runs `git lfs install` if that was never done.
#[derive(Args)]
#[command(after_help = "Examples:\n  git lfs-cdc install             for this user\n  \
                        sudo git lfs-cdc install --system  for all users of this machine")]
pub(super) struct Install {
    #[command(flatten)]
    scope: Scope,
}

impl Install {
    pub(super) fn run(self) -> Result<Outcome> {
        let scope = self.scope.flag();
        let program = std::env::current_exe().map_err(|e| Error::io("finding this program's path", &e))?;
        let program = program.to_str().ok_or_else(|| {
            Error::invalid(format!("git can't be told the path {}", program.display()))
                .remedy("install this program where the path is UTF-8")
        })?;
        let version = git(&["lfs", "version"]).map_err(|e| {
            e.context("git-lfs is not installed").remedy("install git-lfs (Debian: apt install git-lfs)")
        })?;
        if config_value(None, "filter.lfs.process")?.is_none() {
            match scope {
                "--global" => git(&["lfs", "install", "--skip-repo"])?,
                _ => git(&["lfs", "install", "--skip-repo", scope])?,
            };
            print::line("git lfs install: done, it had never been run");
        }
        for (key, value) in [(PATH_KEY, program), (ARGUMENTS_KEY, "transfer"), (AGENT_KEY, "cdc")] {
            git(&["config", scope, "--replace-all", key, value])?;
        }
        print::line(format!("{} runs {program} for URLs that begin with cdc::", version.trim()));
        print::line("next: `git lfs-cdc init URL` in each repository");
        Ok(Outcome::Fine)
    }
}

/// Undo `install`
///
/// Removes what `install` has set. Stores, repositories and git-lfs itself stay as they are.
#[derive(Args)]
pub(super) struct Uninstall {
    #[command(flatten)]
    scope: Scope,
}

impl Uninstall {
    pub(super) fn run(self) -> Result<Outcome> {
        let scope = self.scope.flag();
        let mut removed = 0;
        for key in [PATH_KEY, ARGUMENTS_KEY, AGENT_KEY] {
            if config_value(Some(scope), key)?.is_some() {
                git(&["config", scope, "--unset-all", key])?;
                removed += 1;
            }
        }
        print::line(match removed {
            0 => "nothing was installed there",
            _ => "git-lfs runs this program no more; stores and repositories are as they were",
        });
        Ok(Outcome::Fine)
    }
}

/// What is wrong with the installation that git sees here, if anything.
pub(super) fn problem(config: &crate::repo::Config) -> Option<String> {
    let agent = config.get(AGENT_KEY).or_else(|| config.get("lfs.standalonetransferagent"));
    let path = config.get(PATH_KEY);
    match (agent, path) {
        (Some("cdc"), Some(path)) if std::path::Path::new(path).exists() => None,
        (Some("cdc"), Some(path)) => {
            Some(format!("{path} is gone; run `git lfs-cdc install` with the program's new place"))
        }
        (Some("cdc"), None) => Some(format!("{PATH_KEY} is not set; run `git lfs-cdc install`")),
        (Some(other), _) => Some(format!("{AGENT_KEY} names the agent {other}; run `git lfs-cdc install`")),
        (None, _) => Some("git-lfs does not know this program; run `git lfs-cdc install`".into()),
    }
}
