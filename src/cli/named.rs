//! The store that a command's argument names, or else the one of this repository.

use std::path::PathBuf;

use super::settings;
use crate::error::{Error, Result};
use crate::repo::{Config, Direction, Repo};
use crate::store::{ChosenBy, Intent, SCHEME, Store, StoreUrl};

/// Opens it. A URL that was typed is the user's own choice.
pub(super) fn open(argument: Option<&str>, intent: Intent) -> Result<Store> {
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
    // settings for one store are named by its URL as git-lfs has it
    let as_configured = format!("{SCHEME}{}", text.trim_start_matches(SCHEME));
    for note in settings::passed_over(&config, &as_configured) {
        tracing::warn!("{note}");
    }
    let access = settings::access(&config, &as_configured, chosen_by, intent)?;
    Store::open(&url, &top, &access)
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
