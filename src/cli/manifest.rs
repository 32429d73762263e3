//! `git lfs-cdc manifest`: lets a store be read over HTTP.

use clap::Args;

use super::{Outcome, named, print};
use crate::error::Result;
use crate::index::manifest;
use crate::store::Intent;

/// Let a store be read over HTTP: write the list of its index segments
///
/// Writes index/manifest, which names the store's index segments for readers that can't list them: those
/// that pull from a web server or a CDN in front of the store. Pushes keep it up to date from then on; run
/// this when one could not, or when a pull over HTTP says that the manifest may be behind.
#[derive(Args)]
#[command(after_help = "Examples:\n  git lfs-cdc manifest\n  git lfs-cdc manifest s3://bucket/prefix")]
pub(super) struct Manifest {
    /// The store, if not the one of this repository
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
