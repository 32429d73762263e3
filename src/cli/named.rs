//! The store that a command's argument names, or else the one of this repository.

use std::path::PathBuf;

use super::{print, settings};
use crate::error::{Error, Result};
use crate::repo::{Config, Direction, Repo};
use crate::store::{Access, ChosenBy, Intent, SCHEME, Store, StoreUrl};

/// Opens it and does `work` there, for a command that a person waits for: a service that fails is given up soon.
pub(super) fn look<T>(
    argument: Option<&str>,
    intent: Intent,
    work: impl FnOnce(&Store) -> Result<T>,
) -> Result<(Store, T)> {
    let named = Named::find(argument)?;
    let access = settings::hurried_access(&named.config, &named.configured, named.chosen_by, intent)?;
    print::while_waiting(named.url.shown(), || {
        let store = named.open(&access)?;
        let done = work(&store)?;
        Ok((store, done))
    })
}

/// Opens it for work that may take hours, and that writes; waits out a fault then. One that is there from the start is
/// told as soon as by [`look`].
pub(super) fn open_for_long_work(argument: Option<&str>) -> Result<Store> {
    let named = Named::find(argument)?;
    let (config, configured, chosen_by) = (&named.config, &named.configured, named.chosen_by);
    let hurried = settings::hurried_access(config, configured, chosen_by, Intent::Write)?;
    let store = print::while_waiting(named.url.shown(), || named.open(&hurried))?;
    let access = settings::access(config, configured, chosen_by, Intent::Write)?;
    if access == hurried { Ok(store) } else { named.open(&access) }
}

/// What names a store, and where that was said.
struct Named {
    url: StoreUrl,
    /// The URL as settings for one store name it: as git-lfs has it.
    configured: String,
    /// A URL that was typed is the user's own choice.
    chosen_by: ChosenBy,
    top: PathBuf,
    config: Config,
}

impl Named {
    fn find(argument: Option<&str>) -> Result<Self> {
        let (text, top, config, chosen_by) = match argument {
            Some(text) => (text.to_owned(), here()?, Config::here()?, ChosenBy::User),
            None => {
                let repo = Repo::discover()?;
                let chosen_by = settings::chosen_by(&repo.config, "origin", Direction::Upload);
                let text = configured(&repo)?;
                let top = settings::top(&repo, &StoreUrl::parse(&text)?)?.to_owned();
                (text, top, repo.config, chosen_by)
            }
        };
        let url = StoreUrl::parse(&text)?;
        let configured = format!("{SCHEME}{}", text.trim_start_matches(SCHEME));
        for note in settings::passed_over(&config, &configured) {
            tracing::warn!("{note}");
        }
        Ok(Self { url, configured, chosen_by, top, config })
    }

    fn open(&self, access: &Access) -> Result<Store> {
        Store::open(&self.url, &self.top, access)
    }
}

/// The URL that this repository pushes to.
fn configured(repo: &Repo) -> Result<String> {
    let configured = repo.config.lfs_url("origin", Direction::Upload);
    configured.filter(|url| url.starts_with(SCHEME)).ok_or_else(|| {
        Error::invalid("this repository has no store").remedy("run `git lfs-cdc init URL`, or name a store")
    })
}

fn here() -> Result<PathBuf> {
    std::env::current_dir().map_err(|e| Error::io("finding the current directory", &e))
}
