//! `git lfs-cdc cache`: the command that shows and clears this machine's cache of all stores.

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

/// Show or clear this machine's cache
///
/// The cache holds copies of stores' metadata, and ranges of blocks that downloads have fetched over a
/// network. Removing it costs time and nothing else, because the stores have everything. It is no backup.
///
/// The ranges of all stores together take at most lfs-cdc.cacheSize (4g by default, 0 keeps none). The ranges
/// that were used least recently make room for new ones.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  git lfs-cdc cache                                    list the stores\n  \
                        git lfs-cdc cache show --objects                     list the objects too\n  \
                        git lfs-cdc cache prune --unused-for 7               remove old data\n  \
                        git lfs-cdc cache clear --store s3://bucket/prefix   remove one store's data\n  \
                        git config --global lfs-cdc.cacheSize 20g            keep more"
)]
pub(super) struct Cache {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Action {
    /// Show the size of the cache for each store (the default)
    Show {
        /// Also list the blocks that have ranges in the cache
        #[arg(long)]
        blocks: bool,
        /// Also list the objects that these ranges belong to, and the cached share of each
        #[arg(long)]
        objects: bool,
    },
    /// Remove old data, ranges beyond lfs-cdc.cacheSize, and leftovers of killed processes
    Prune {
        /// Remove data that nobody has used for this many days
        #[arg(long, value_name = "DAYS", default_value_t = CACHE_UNUSED_DAYS)]
        unused_for: u64,
    },
    /// Remove the whole cache, or the data of one store
    Clear {
        /// The URL or the id of the store
        #[arg(long, value_name = "URL")]
        store: Option<String>,
    },
}

#[derive(Serialize)]
struct Report {
    folder: Option<PathBuf>,
    /// The limit for the counted bytes of all ranges together.
    cap_bytes: u64,
    /// The counted bytes of all ranges now.
    counted_bytes: u64,
    /// The files of the whole cache.
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
            Action::Prune { unused_for } => {
                remove(self.json, |stores| prune(stores, unused_for, cap_bytes))?;
            }
            Action::Clear { store: None } => {
                remove(self.json, |stores| stores.iter().try_for_each(cache_admin::clear))?;
            }
            Action::Clear { store: Some(named) } => remove(self.json, |stores| clear_one(stores, &named))?,
        }
        Ok(Outcome::Fine)
    }
}

fn stores() -> Vec<KeptStore> {
    cache_admin::root().map(|root| cache_admin::stores(&root)).unwrap_or_default()
}

/// Removes the data that nobody has used for `unused_days`, and the ranges beyond `cap_bytes`.
fn prune(stores: &[KeptStore], unused_days: u64, cap_bytes: u64) -> Result<()> {
    let age = Duration::from_secs(unused_days.saturating_mul(24 * 60 * 60));
    let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    for store in stores {
        cache_admin::prune(store, before)?;
    }
    match cache_admin::root() {
        Some(root) => Room::new(root, cap_bytes).shrink(),
        None => Ok(()),
    }
}

/// Removes the data of the store that `named` means. Fails if the cache has none.
fn clear_one(stores: &[KeptStore], named: &str) -> Result<()> {
    let meant: Vec<_> = stores.iter().filter(|store| is_named(store, named)).collect();
    if meant.is_empty() {
        return Err(Error::not_found(format!("the cache has no data of the store {named}"))
            .remedy("name a store that `git lfs-cdc cache show` lists"));
    }
    meant.into_iter().try_for_each(cache_admin::clear)
}

/// Returns true if `text` means this store. It may be the shown location, the URL with or without its query,
/// the id, or the name of the folder.
fn is_named(store: &KeptStore, text: &str) -> bool {
    let folder = store.folder.file_name().unwrap_or_default();
    if store.id.as_deref() == Some(text) || folder == text {
        return true;
    }
    store.location.as_deref().is_some_and(|location| location == text || place(location) == place(text))
}

/// Returns a URL without its scheme, its query and the words after it.
fn place(url: &str) -> &str {
    let url = url.strip_prefix(SCHEME).unwrap_or(url);
    url.split(['?', ' ']).next().unwrap_or_default().trim_end_matches('/')
}

/// A store's part of the cache, as the report shows it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    store: KeptStore,
    /// The objects that the ranges belong to, if the user asked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    objects: Option<Vec<KeptObject>>,
}

impl Report {
    fn new(cap_bytes: u64, with_objects: bool) -> Self {
        let stores = stores();
        let total = cache_admin::sum(&stores);
        let counted_bytes = total.counted_bytes;
        let shown = |store| Shown { objects: with_objects.then(|| kept_objects(&store)), store };
        let stores = stores.into_iter().map(shown).collect();
        Self { folder: cache_admin::root(), cap_bytes, counted_bytes, total, stores }
    }

    fn print(&self, with_blocks: bool) {
        if let Some(root) = &self.folder {
            print::line(format!("cache in {}", root.display()));
        }
        self.stores.iter().for_each(|shown| shown.print(with_blocks));
        print::line("");
        print::line(format!("total       {}", described(&self.total)));
        let cap = match self.cap_bytes {
            0 => "and are not used (lfs-cdc.cacheSize is 0)".to_owned(),
            cap_bytes => format!("of {} (lfs-cdc.cacheSize)", print::bytes(cap_bytes)),
        };
        print::line(format!("ranges take {:>10} {cap}", print::bytes(self.counted_bytes)));
    }
}

impl Shown {
    fn print(&self, with_blocks: bool) {
        let Self { store, objects } = self;
        print::line("");
        print::line(store.location.as_deref().unwrap_or("a store of unknown location"));
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
            objects.iter().flatten().for_each(print_object);
        }
    }
}

fn print_object(object: &KeptObject) {
    let percent = object.kept_bytes * 100 / object.needed_bytes.max(1);
    let size = print::bytes(object.size_bytes);
    print::line(format!("    {}  {size:>10}  {percent:>3} % cached", object.oid));
}

fn described(files: &Files) -> String {
    let count = files.files;
    let bytes = print::bytes(files.bytes);
    format!("{count:>7} files {bytes:>10}, oldest {}, newest {}", ago(files.oldest), ago(files.newest))
}

/// Returns the time since `seconds` after 1970 in words, in the largest unit that fits.
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

/// Runs `work` on the stores of the cache, and reports the files that it removed.
fn remove(as_json: bool, work: impl FnOnce(&[KeptStore]) -> Result<()>) -> Result<()> {
    let stores_before = stores();
    work(&stores_before)?;
    let before = cache_admin::sum(&stores_before);
    let left = cache_admin::sum(&stores());
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
