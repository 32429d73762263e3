//! `git lfs-cdc install` and `uninstall`: what git-lfs has to know, once per machine.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Outcome, print};
use crate::error::{Error, Result};
use crate::repo::{Config, Repo, config_value, git, version_of};

const PATH_KEY: &str = "lfs.customtransfer.cdc.path";
const ARGUMENTS_KEY: &str = "lfs.customtransfer.cdc.args";
const AGENT_KEY: &str = "lfs.cdc::.standalonetransferagent";
const DIRECTION_KEY: &str = "lfs.customtransfer.cdc.direction";
const ARGUMENTS: &str = "transfer";
const NAME: &str = "git-lfs-cdc";
/// Older ones look for the agent by the remote's own URL, and never by `lfs.url`.
const OLDEST_GIT_LFS: [u32; 2] = [3, 0];

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
    fn flag(&self) -> Result<&'static str> {
        Ok(match self {
            Self { local: true, .. } => {
                Repo::discover()?;
                "--local"
            }
            Self { system: true, .. } => "--system",
            _ => "--global",
        })
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
        let scope = self.scope.flag()?;
        let program = lasting_path()?;
        let program = program.to_str().ok_or_else(|| {
            Error::invalid(format!("git can't be told the path {}", program.display()))
                .remedy("install this program where the path is UTF-8")
        })?;
        let version = git(&["lfs", "version"]).map_err(|e| {
            e.context("git-lfs is not installed").remedy("install git-lfs (Debian: apt install git-lfs)")
        })?;
        if let Some(problem) = git_lfs_problem(&version) {
            print::line(format!("note: {problem}"));
        }
        if config_value(None, "filter.lfs.process")?.is_none() {
            match scope {
                "--global" => git(&["lfs", "install", "--skip-repo"])?,
                _ => git(&["lfs", "install", "--skip-repo", scope])?,
            };
            print::line("git lfs install: done, it had never been run");
        }
        for (key, value) in [(PATH_KEY, program), (ARGUMENTS_KEY, ARGUMENTS), (AGENT_KEY, "cdc")] {
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
        let scope = self.scope.flag()?;
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

/// The path that this program keeps when it is upgraded: as it stands on `PATH`, or as it was typed, with its links. The
/// path behind the links often has a version in it (Homebrew, Nix), and is gone after an upgrade.
fn lasting_path() -> Result<PathBuf> {
    let running = std::env::current_exe().map_err(|e| Error::io("finding this program's path", &e))?;
    let itself = running.canonicalize().unwrap_or_else(|_| running.clone());
    let file = format!("{NAME}{}", std::env::consts::EXE_SUFFIX);
    let search = std::env::var_os("PATH").unwrap_or_default();
    let typed = std::env::args_os().next().map(PathBuf::from).filter(|path| path.components().count() > 1);
    std::env::split_paths(&search)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(&file))
        .chain(typed.and_then(|path| std::path::absolute(path).ok()))
        .find(|path| path.canonicalize().is_ok_and(|path| path == itself))
        .map_or(Ok(running), Ok)
}

/// What is wrong with the installation that git sees here, if anything.
pub(super) fn problem(config: &Config) -> Option<String> {
    let agent = config.get(AGENT_KEY).or_else(|| config.get("lfs.standalonetransferagent"));
    let what = match (agent, config.get(PATH_KEY)) {
        (None, _) => "git-lfs does not know this program".to_owned(),
        (Some("cdc"), None) => format!("{PATH_KEY} is not set"),
        (Some("cdc"), Some(path)) => program_problem(config, path)?,
        (Some(other), _) => format!("{AGENT_KEY} names the agent {other}"),
    };
    Some(format!("{what}; run `git lfs-cdc install`"))
}

/// What is wrong with the program that git-lfs would run.
fn program_problem(config: &Config, path: &str) -> Option<String> {
    let arguments = config.get(ARGUMENTS_KEY).unwrap_or_default();
    if arguments != ARGUMENTS {
        return Some(format!("{ARGUMENTS_KEY} is {arguments:?}, not {ARGUMENTS:?}"));
    }
    if let Some(direction) = config.get(DIRECTION_KEY).filter(|direction| *direction != "both") {
        return Some(format!("{DIRECTION_KEY} is {direction:?}, so this program moves objects one way only"));
    }
    let said = match version_of(path) {
        Ok(said) => said,
        Err(_) if Path::new(path).is_absolute() && !Path::new(path).exists() => {
            return Some(format!("{path}, which git-lfs runs, is gone"));
        }
        Err(e) => return Some(format!("git-lfs can't run {path}: {e}")),
    };
    let Some(version) = said.strip_prefix(NAME).map(str::trim) else {
        return Some(format!("git-lfs runs {path}, which is another program: its version is {said:?}"));
    };
    let (theirs, ours) = (numbers(version), numbers(env!("CARGO_PKG_VERSION")));
    (theirs < ours).then(|| {
        format!("git-lfs runs {path}, which is of version {version}; this is {}", env!("CARGO_PKG_VERSION"))
    })
}

/// The numbers of a version, as far as they go.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

/// What is wrong with this git-lfs, by what it says of its version (`git-lfs/3.3.0 (…)`).
pub(super) fn git_lfs_problem(said: &str) -> Option<String> {
    let version = said.strip_prefix("git-lfs/")?.split([' ', '-']).next()?;
    let [major, minor] = OLDEST_GIT_LFS;
    (numbers(version).as_slice() < OLDEST_GIT_LFS.as_slice()).then(|| {
        format!(
            "git-lfs {version} is too old: it doesn't look for this program by lfs.url; install {major}.{minor} or \
             newer"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_git_lfs_that_is_too_old_is_named() {
        for (said, is_old) in [
            ("git-lfs/2.9.2 (GitHub; linux amd64; go 1.13.5)", true),
            ("git-lfs/2.13.3 (GitHub)", true),
            ("git-lfs/3.0.0-rc.1 (GitHub)", false),
            ("git-lfs/3.3.0 (Debian 3.3.0-1; linux amd64)", false),
            ("git-lfs/10.1", false),
            ("something else", false),
        ] {
            assert_eq!(git_lfs_problem(said).is_some(), is_old, "{said}");
        }
    }
}
