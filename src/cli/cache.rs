//! `git lfs-cdc cache`: what is kept on this machine of all stores, and how to remove it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Outcome, print, settings};
use crate::error::{Error, Result};
use crate::local::cache_admin::{self, Files, KeptStore};
use crate::local::quota::{RANGES, Room};
use crate::maintain::cache_report::{KeptObject, kept_objects};
use crate::repo::Config;
use crate::store::SCHEME;

/// Days without use after which `cache prune` removes kept data.
const CACHE_UNUSED_DAYS: u64 = 30;

/// Show or remove what this machine keeps of stores
///
/// Shows and removes what this machine keeps of stores: copies of their metadata, and ranges of blocks that were
/// fetched over a network. All of it can be had again from the stores; nothing here is a backup.
///
/// Ranges take at most lfs-cdc.cacheSize (4g unless it is set, 0 for none) for all stores together. Those that were used
/// least recently make room for new ones.
#[derive(Args)]
#[command(after_help = "Examples:\n  git lfs-cdc cache\n  git lfs-cdc cache show --objects\n  \
                        git lfs-cdc cache clear --store s3://bucket/prefix\n  \
                        git config --global lfs-cdc.cacheSize 20g")]
pub(super) struct Cache {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Action {
    /// Show what is kept, by store (this is what `cache` alone does)
    Show {
        /// Show each block of which ranges are kept
        #[arg(long)]
        blocks: bool,
        /// Show each object that these ranges are of, and how much of it is here
        #[arg(long)]
        objects: bool,
    },
    /// Remove what was not used for a while, what is beyond lfs-cdc.cacheSize, and what killed processes left
    Prune {
        /// Days after which what was not used is removed; of a store that was not used at all, everything
        #[arg(long, value_name = "DAYS", default_value_t = CACHE_UNUSED_DAYS)]
        unused_for: u64,
    },
    /// Remove everything that is kept, or all that is of one store
    Clear {
        /// The store: its URL, or its id
        #[arg(long, value_name = "URL")]
        store: Option<String>,
    },
}

#[derive(Serialize)]
struct Report {
    folder: Option<PathBuf>,
    /// What ranges may count as together.
    cap_bytes: u64,
    /// What they count as now.
    counted_bytes: u64,
    /// All that is kept.
    total: Files,
    stores: Vec<Shown>,
}

#[derive(Serialize)]
struct Removed {
    removed: Files,
    left: Files,
}

impl Cache {
    pub(super) fn run(self) -> Result<Outcome> {
        let cap_bytes = settings::cache_bytes(&Config::here()?)?;
        match self.action.unwrap_or(Action::Show { blocks: false, objects: false }) {
            Action::Show { objects, .. } if self.json => print::json(&Report::new(cap_bytes, objects))?,
            Action::Show { blocks, objects } => Report::new(cap_bytes, objects).print(blocks),
            Action::Prune { unused_for } => remove(self.json, |stores| {
                let age = Duration::from_secs(unused_for.saturating_mul(24 * 60 * 60));
                let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
                stores.iter().try_for_each(|store| cache_admin::prune(store, before))?;
                cache_admin::root().map_or(Ok(()), |root| Room::new(root, cap_bytes).shrink())
            })?,
            Action::Clear { store: None } => {
                remove(self.json, |stores| stores.iter().try_for_each(cache_admin::clear))?;
            }
            Action::Clear { store: Some(named) } => remove(self.json, |stores| {
                let meant: Vec<_> = stores.iter().filter(|store| is_named(store, &named)).collect();
                if meant.is_empty() {
                    return Err(Error::not_found(format!("nothing is kept of the store {named}"))
                        .remedy("name one that `git lfs-cdc cache show` lists"));
                }
                meant.into_iter().try_for_each(cache_admin::clear)
            })?,
        }
        Ok(Outcome::Fine)
    }
}

fn stores() -> Vec<KeptStore> {
    cache_admin::root().map(|root| cache_admin::stores(&root)).unwrap_or_default()
}

/// By its location as it is shown, by its URL with or without what stands behind the place, by its id, or by its folder.
fn is_named(store: &KeptStore, text: &str) -> bool {
    let place = |url: &str| {
        let url = url.strip_prefix(SCHEME).unwrap_or(url);
        url.split(['?', ' ']).next().unwrap_or_default().trim_end_matches('/').to_owned()
    };
    let folder = store.folder.file_name().unwrap_or_default();
    let is_at = |location: &String| location == text || place(location) == place(text);
    store.id.as_deref() == Some(text) || folder == text || store.location.as_ref().is_some_and(is_at)
}

/// What is kept of a store, as it is shown.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    store: KeptStore,
    /// The objects that the ranges are of, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    objects: Option<Vec<KeptObject>>,
}

impl Report {
    fn new(cap_bytes: u64, with_objects: bool) -> Self {
        let stores = stores();
        let total = cache_admin::sum(&stores);
        let shown = |store| Shown { objects: with_objects.then(|| kept_objects(&store)), store };
        let counted_bytes = total.counted_bytes;
        let stores = stores.into_iter().map(shown).collect();
        Self { folder: cache_admin::root(), cap_bytes, counted_bytes, total, stores }
    }

    fn print(&self, with_blocks: bool) {
        if let Some(root) = &self.folder {
            print::line(format!("kept in {}", root.display()));
        }
        self.stores.iter().for_each(|shown| shown.print(with_blocks));
        print::line("");
        print::line(format!("total       {}", described(&self.total)));
        let cap = match self.cap_bytes {
            0 => "none is kept or used (lfs-cdc.cacheSize is 0)".to_owned(),
            cap_bytes => format!("of {} (lfs-cdc.cacheSize)", print::bytes(cap_bytes)),
        };
        print::line(format!("ranges count as {:>10} {cap}", print::bytes(self.counted_bytes)));
    }
}

impl Shown {
    fn print(&self, with_blocks: bool) {
        let Self { store, objects } = self;
        print::line("");
        print::line(store.location.as_deref().unwrap_or("a store whose location was not noted"));
        let id = store.id.as_deref().unwrap_or("unknown");
        let folder = store.folder.file_name().unwrap_or_default().display();
        print::line(format!("  id {id}, folder {folder}, used {}", ago(store.last_use)));
        for (kind, files) in &store.kinds {
            print::line(format!("  {kind:<10} {}", described(files)));
            if kind != RANGES {
                continue;
            }
            if with_blocks {
                for (block, files) in &store.blocks {
                    print::line(format!("    {block}  {}", described(files)));
                }
            }
            for object in objects.iter().flatten() {
                let KeptObject { oid, size_bytes, needed_bytes, kept_bytes } = object;
                let percent = kept_bytes * 100 / needed_bytes.max(&1);
                print::line(format!("    {oid}  {:>10}  {percent:>3} % is here", print::bytes(*size_bytes)));
            }
        }
    }
}

fn described(files: &Files) -> String {
    let (count, bytes) = (files.files, print::bytes(files.bytes));
    format!("{count:>7} files {bytes:>10}, oldest {}, newest {}", ago(files.oldest), ago(files.newest))
}

/// How long ago it was, in the largest unit that fits.
fn ago(seconds: Option<u64>) -> String {
    let Some(seconds) = seconds else { return "never".into() };
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let age = SystemTime::now().duration_since(then).unwrap_or_default().as_secs();
    let units = [(24 * 60 * 60, "day"), (60 * 60, "hour"), (60, "minute")];
    match units.into_iter().find(|(unit, _)| age >= *unit) {
        Some((unit, name)) => {
            let count = age / unit;
            format!("{count} {name}{} ago", if count == 1 { "" } else { "s" })
        }
        None => "just now".into(),
    }
}

/// Does it, and says what has gone by it.
fn remove(as_json: bool, work: impl FnOnce(&[KeptStore]) -> Result<()>) -> Result<()> {
    let before = stores();
    work(&before)?;
    let (before, left) = (cache_admin::sum(&before), cache_admin::sum(&stores()));
    let removed = Files {
        files: before.files.saturating_sub(left.files),
        bytes: before.bytes.saturating_sub(left.bytes),
        counted_bytes: before.counted_bytes.saturating_sub(left.counted_bytes),
        oldest: None,
        newest: None,
    };
    if as_json {
        return print::json(&Removed { removed, left });
    }
    print::line(format!("removed {} files, {}", removed.files, print::bytes(removed.bytes)));
    print::line(format!("left    {} files, {}", left.files, print::bytes(left.bytes)));
    Ok(())
}
