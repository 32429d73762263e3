//! `git lfs-cdc transfer`: the transfer agent, which git-lfs runs.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use clap::Args;

use super::{Outcome, print, settings};
use crate::agent::{self, Init};
use crate::coordinator::{Member, Opened};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::local::limits::OPEN_FILES;
#[cfg(unix)]
use crate::local::log;
use crate::repo::{Direction, Repo};
use crate::store::{Intent, SCHEME, Store, StoreUrl};

/// Transfer objects for git-lfs; git-lfs runs this itself
///
/// Speaks git-lfs's protocol for custom transfer agents on standard input and output. You never run it
/// yourself.
#[derive(Args)]
#[command(
    after_help = "git-lfs runs this command by itself, because `git lfs-cdc install` has registered it. The \
                        log is lfs/cdc/log in the git directory. For more in the log:\n  \
                        GIT_LFS_CDC_LOG=debug git push"
)]
pub(super) struct Transfer {}

impl Transfer {
    pub(super) fn run(self) -> Result<Outcome> {
        if std::io::stdin().is_terminal() {
            return Err(Error::invalid("git-lfs runs this command by itself").remedy(
                "use `git push`, `git pull` or `git lfs pull`; `git lfs-cdc status` shows the configuration",
            ));
        }
        // Ctrl-C reaches the whole process group; git-lfs ends, and this process ends at the end of its
        // input, so that it has time to clean up
        outlive_interrupts().map_err(|e| Error::internal(format!("Ctrl-C can't be handled: {e}")))?;
        #[cfg(unix)]
        allow_files();
        let member = |init: Init| {
            let asked = init.clone();
            Arc::new(Member::new(init, Arc::new(move || open(asked.direction, &asked.remote))))
        };
        agent::run(std::io::stdin(), print::protocol(), member)
            .map_err(|e| Error::io("answering git-lfs", &e))?;
        Ok(Outcome::Fine)
    }
}

/// Makes this process ignore Ctrl-C. Needs no thread.
#[cfg(unix)]
fn outlive_interrupts() -> std::io::Result<()> {
    let noted = Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, noted).map(drop)
}

#[cfg(windows)]
fn outlive_interrupts() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {})
}

/// Raises the limit of open files as far as the system allows, because a coordinator has a connection and
/// files for each agent.
#[cfg(unix)]
fn allow_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(OPEN_FILES).min(OPEN_FILES);
    if limit.current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit });
    }
}

/// Opens the log and the engine of one session. The log comes first, so that errors can name it.
fn open(direction: Direction, remote: &str) -> Opened {
    let repo = match Repo::discover() {
        Ok(repo) => repo,
        Err(error) => return Opened { engine: Err(error), log: None },
    };
    // objects are transferred even if the log can't be written
    let log = log::start(&repo.git_dir, repo.modes).ok();
    let engine = open_engine(&repo, direction, remote);
    Opened { engine, log: log.map(|log| shorten(&log)) }
}

/// Returns the path relative to the current folder, if it is below it.
fn shorten(path: &Path) -> std::path::PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).to_owned()
}

fn open_engine(repo: &Repo, direction: Direction, remote: &str) -> Result<Engine> {
    for key in repo.config.unknown_settings(settings::KNOWN) {
        tracing::warn!("the setting {key} is unknown; check its spelling");
    }
    let configured = repo.config.lfs_url(remote, direction).ok_or_else(|| {
        Error::invalid(format!("no LFS URL is configured for the remote {remote:?}"))
            .remedy("run `git lfs-cdc init URL` in this repository")
    })?;
    if !configured.starts_with(SCHEME) {
        return Err(Error::invalid(format!("the LFS URL {configured:?} does not begin with {SCHEME}"))
            .remedy("run `git lfs-cdc init URL`, or unset lfs.standalonetransferagent"));
    }
    let url = StoreUrl::parse(&configured)?;
    let settings = settings::read(repo, &url, &configured)?;
    settings.clones.remember(&settings.lfs_storage);
    for note in settings::ignored(&repo.config, &configured) {
        tracing::warn!("{note}");
    }
    let intent = match direction {
        Direction::Upload => Intent::Write,
        Direction::Download => Intent::Read,
    };
    let chosen_by = settings::chosen_by(&repo.config, remote, direction);
    let access = settings::access(&repo.config, &configured, chosen_by, intent)?;
    let opened = Store::open_looking(&url, settings::top(repo, &url)?, &access)?;
    if direction == Direction::Upload {
        opened.store.prepare_writing()?;
    }
    tracing::info!("{direction:?} for remote {remote:?}, store {}", opened.store.location());
    Ok(Engine::opened(opened, settings))
}
