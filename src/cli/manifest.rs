//! `git lfs-cdc manifest`: the command that lets web servers publish a store.

use clap::Args;

use super::{Outcome, named, print};
use crate::error::Result;
use crate::index::manifest;
use crate::store::Intent;

/// Let web servers publish a store: write the list of its index segments
///
/// Writes index/manifest. Clones that pull through a web server or a CDN need it, because they can't list the
/// store's index segments. From then on pushes keep it up to date.
///
/// Run it again if a push could not write the manifest, or if a pull says that the manifest may be behind.
#[derive(Args)]
#[command(after_help = "Examples:\n  git lfs-cdc manifest                      this repository's store\n  \
                        git lfs-cdc manifest s3://bucket/prefix   another store")]
pub(super) struct Manifest {
    /// The URL of the store [default: the store of this repository]
    url: Option<String>,
}

impl Manifest {
    pub(super) fn run(self) -> Result<Outcome> {
        let (store, segments) = named::look(self.url.as_deref(), Intent::Write, |store| {
            store.prepare_writing()?;
            manifest::write(store)
        })?;
        print::line(format!("the manifest of {} names {segments} index segments", store.location()));
        Ok(Outcome::Fine)
    }
}
