//! `git lfs-cdc install` and `uninstall`: the registration of this program with git-lfs, once on each
//! machine.

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
/// The oldest usable version. Older ones look for the agent by the remote's own URL, and never by `lfs.url`.
const OLDEST_GIT_LFS: [u32; 2] = [3, 0];

/// The choice of one of git's configuration files.
#[derive(Args)]
pub(super) struct Scope {
    /// Use the configuration of this user (the default)
    #[arg(long, conflicts_with_all = ["local", "system"])]
    global: bool,
    /// Use the configuration of this repository only
    #[arg(long, conflicts_with = "system")]
    local: bool,
    /// Use the configuration of the whole machine
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

/// Register this program with git-lfs
///
/// From then on git-lfs runs this program for URLs that begin with `cdc::`. Other URLs and their agents stay
/// as they are. Runs `git lfs install` if nobody has done that.
#[derive(Args)]
#[command(after_help = "Examples:\n  git lfs-cdc install             for this user\n  \
                        sudo git lfs-cdc install --system  for all users of this machine\n\n\
                        Next, run `git lfs-cdc init URL` in each repository.")]
pub(super) struct Install {
    #[command(flatten)]
    scope: Scope,
}

impl Install {
    pub(super) fn run(self) -> Result<Outcome> {
        let scope = self.scope.flag()?;
        let program = lasting_path()?;
        let program = program.to_str().ok_or_else(|| {
            Error::invalid(format!("git can't store the path {}, which is not UTF-8", program.display()))
                .remedy("install this program in another folder")
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
            print::line("ran `git lfs install`, because nobody had done that yet");
        }
        for (key, value) in [(PATH_KEY, program), (ARGUMENTS_KEY, ARGUMENTS), (AGENT_KEY, "cdc")] {
            git(&["config", scope, "--replace-all", key, value])?;
        }
        print::line(format!("{} runs {program} for URLs that begin with cdc::", version.trim()));
        print::line("next: `git lfs-cdc init URL` in each repository");
        Ok(Outcome::Fine)
    }
}

/// Undo `git lfs-cdc install`
///
/// Removes the settings that `install` has made. Stores, repositories and git-lfs itself stay as they are.
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
        print::line(if removed == 0 {
            "this program is not registered in that configuration"
        } else {
            "git-lfs does not run this program any more; stores and repositories stay as they are"
        });
        Ok(Outcome::Fine)
    }
}

/// Returns a path of this program that stays valid after an upgrade: the path on `PATH`, or the path that the
/// user has typed, with its links. The path behind the links often contains a version (Homebrew, Nix).
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

/// Returns the problem with the installation that git sees here, and its remedy.
pub(super) fn problem(config: &Config) -> Option<String> {
    let agent = config.get(AGENT_KEY).or_else(|| config.get("lfs.standalonetransferagent"));
    let problem = match (agent, config.get(PATH_KEY)) {
        (None, _) => "git-lfs does not know this program".to_owned(),
        (Some("cdc"), None) => format!("{PATH_KEY} is not set"),
        (Some("cdc"), Some(path)) => program_problem(config, path)?,
        (Some(other), _) => format!("{AGENT_KEY} names the agent {other}"),
    };
    Some(format!("{problem}; run `git lfs-cdc install`"))
}

/// Returns the problem with the program at `path`, which git-lfs would run.
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
    let own_version = env!("CARGO_PKG_VERSION");
    if numbers(version) >= numbers(own_version) {
        return None;
    }
    Some(format!("git-lfs runs {path}, which is of version {version}; this is {own_version}"))
}

/// Returns the numbers of a version, up to the first part that is no number.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

/// Returns the problem with a git-lfs that reports this version (`git-lfs/3.3.0 (…)`), and its remedy.
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
