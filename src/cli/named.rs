//! The store that a command's argument names, or else the store of this repository.

use std::path::PathBuf;

use super::{print, settings};
use crate::error::{Error, Result};
use crate::repo::{Config, Direction, Repo};
use crate::store::{Access, ChosenBy, Intent, SCHEME, Store, StoreUrl};

/// Opens the store and does `work` on it, for a command that a person waits for. So it gives up soon if the
/// service fails.
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

/// Opens the store for work that writes and may take hours. That work waits until a fault of the service is
/// over. But if the service fails from the start, this fails as soon as [`look`] does.
pub(super) fn open_for_long_work(argument: Option<&str>) -> Result<Store> {
    let named = Named::find(argument)?;
    let hurried = settings::hurried_access(&named.config, &named.configured, named.chosen_by, Intent::Write)?;
    let store = print::while_waiting(named.url.shown(), || named.open(&hurried))?;
    let access = settings::access(&named.config, &named.configured, named.chosen_by, Intent::Write)?;
    if access == hurried { Ok(store) } else { named.open(&access) }
}

/// A named store, with the configuration that counts for it.
struct Named {
    url: StoreUrl,
    /// The URL as git-lfs has it. Settings for one store use it in this form.
    configured: String,
    /// The user, if the user has typed the URL.
    chosen_by: ChosenBy,
    top: PathBuf,
    config: Config,
}

impl Named {
    fn find(argument: Option<&str>) -> Result<Self> {
        let named = match argument {
            Some(text) => Self::typed(text)?,
            None => Self::of_repository()?,
        };
        for note in settings::ignored(&named.config, &named.configured) {
            tracing::warn!("{note}");
        }
        Ok(named)
    }

    fn typed(text: &str) -> Result<Self> {
        Ok(Self {
            url: StoreUrl::parse(text)?,
            configured: with_scheme(text),
            chosen_by: ChosenBy::User,
            top: here()?,
            config: Config::here()?,
        })
    }

    fn of_repository() -> Result<Self> {
        let repo = Repo::discover()?;
        let text = configured(&repo)?;
        let url = StoreUrl::parse(&text)?;
        Ok(Self {
            configured: with_scheme(&text),
            chosen_by: settings::chosen_by(&repo.config, "origin", Direction::Upload),
            top: settings::top(&repo, &url)?.to_owned(),
            url,
            config: repo.config,
        })
    }

    fn open(&self, access: &Access) -> Result<Store> {
        Store::open(&self.url, &self.top, access)
    }
}

fn with_scheme(text: &str) -> String {
    format!("{SCHEME}{}", text.trim_start_matches(SCHEME))
}

/// Returns the LFS URL that this repository pushes to.
fn configured(repo: &Repo) -> Result<String> {
    let configured = repo.config.lfs_url("origin", Direction::Upload);
    configured.filter(|url| url.starts_with(SCHEME)).ok_or_else(|| {
        Error::invalid("this repository has no store")
            .remedy("run `git lfs-cdc init URL`, or add the URL of a store to this command")
    })
}

fn here() -> Result<PathBuf> {
    std::env::current_dir().map_err(|e| Error::io("finding the current directory", &e))
}
