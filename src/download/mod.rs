//! The download of one object. Many downloads may be under way at once, each on its caller's thread.
//!
//! A download first looks for the whole file on this machine. Otherwise it finds the object's recipe and
//! takes the chunks that other local objects have. It plans the ranges that are still missing, fetches them
//! in parallel, writes every chunk at its place, and verifies every term.

mod block_sources;
mod buffer_pool;
mod cover;
mod decode;
mod delta;
mod fetch;
mod plan;
mod resume;
mod reuse;
mod single_flight;
mod spill;
mod whole_file;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use self::block_sources::{BlockSources, SharedFetches};
use self::reuse::Reuse;
use crate::config::Settings;
use crate::error::{Error, Kind, Result};
use crate::id::Oid;
#[cfg(test)]
use crate::index::catalog::Snapshot;
use crate::index::catalog::{Catalog, Refreshed};
use crate::index::placed::{self, Placed};
use crate::index::relied::Relied;
use crate::index::{Found, Lookup};
use crate::local::cache_admin;
use crate::local::partial_download::Scratch;
use crate::local::quota::Room;
use crate::local::whole_files::Sources;
use crate::progress::Progress;
#[cfg(test)]
use crate::store::Store;
use crate::threads;

/// The downloads of one store. Any thread may call it; each download runs on its caller's thread.
pub(crate) struct Downloader {
    catalog: Arc<Catalog>,
    settings: Arc<Settings>,
    scratch: Mutex<Option<Scratch>>,
    /// Held during a look at the store's index, so that downloads that miss something share one look.
    looks: Mutex<Looks>,
    /// The number of looks that were begun.
    begun_looks: AtomicU64,
    pub(crate) fetching: SharedFetches,
    /// The sources, opened when the first object is asked for.
    sources: OnceLock<Sources>,
    reuse: Reuse,
}

/// The looks at the store's index.
#[derive(Default)]
struct Looks {
    /// True if a look was made, with or without success.
    has_looked: bool,
    /// The number of the last look that succeeded.
    last: Option<u64>,
    /// The error of a look before the first object came. The next object takes it.
    failed: Option<Error>,
}

impl Downloader {
    /// Creates a downloader. Reads nothing yet.
    pub(crate) fn new(catalog: Arc<Catalog>, settings: Arc<Settings>) -> Self {
        Self {
            scratch: Mutex::default(),
            looks: Mutex::default(),
            begun_looks: AtomicU64::new(0),
            fetching: SharedFetches::new(&catalog.store, &settings),
            sources: OnceLock::new(),
            reuse: Reuse::new(catalog.clone(), settings.clone()),
            catalog,
            settings,
        }
    }

    /// Starts the threads and reads the index for the first object. An error becomes that object's error.
    /// Returns at once if another thread looks at the index.
    pub(crate) fn prepare(&self) {
        let Ok(mut looks) = self.looks.try_lock() else { return };
        // an object that came earlier has reported an error itself
        if looks.has_looked {
            return;
        }
        let prepared = threads::cores().and_then(|_| self.look(&mut looks));
        looks.failed = prepared.err();
    }

    /// Puts the object into a temporary file and returns its path. After an error, only the partial file of a
    /// large object stays, for the next download.
    pub(crate) fn download(&self, oid: &Oid, size_bytes: u64, progress: &Arc<Progress>) -> Result<PathBuf> {
        let scratch = self.scratch()?;
        let sources = self.sources();
        if let Some(path) = whole_file::find(sources, &scratch, oid, size_bytes, progress)? {
            self.reuse.add_whole(oid, size_bytes, &path);
            return Ok(path);
        }
        let looks_at_first = self.begun_looks();
        let mut failed = None;
        // the index that was read may be old, so a failure leads to one more look
        for again in [false, true] {
            let newer_than = match (again, &failed) {
                (false, _) => None,
                (true, None) => Some(looks_at_first),
                (true, Some(_)) => Some(self.begun_looks()),
            };
            let Lookup { found, damaged } = self.find(oid, newer_than)?;
            let found = of_size(found, size_bytes)?;
            failed = failed.or(damaged.map(|e| not_found(oid, e)));
            if let Some(path) = self.try_each(&scratch, found, progress, &mut failed)? {
                return Ok(path);
            }
            // another look helps only if something has changed in the store
            if !failed.as_ref().is_none_or(is_of_the_store) {
                break;
            }
        }
        if failed.as_ref().is_none_or(is_of_the_store) {
            let hidden = self.find_replaced(oid, size_bytes);
            let mut hidden_failed = None;
            if let Some(path) = self.try_each(&scratch, hidden, progress, &mut hidden_failed)? {
                tracing::warn!(
                    "object {oid} was found by an index segment that others replace: run `git lfs-cdc status`"
                );
                return Ok(path);
            }
            failed = failed.or(hidden_failed);
        }
        Err(failed.unwrap_or_else(|| self.is_missing(oid)))
    }

    fn is_missing(&self, oid: &Oid) -> Error {
        let store = &self.catalog.store;
        let remedy = if store.is_read_only() {
            "its manifest may be behind: run `git lfs-cdc manifest BUCKET_URL` where that can be written"
        } else {
            "push it from a clone that has it: git lfs push --all"
        };
        Error::not_found(format!("object {oid} is not in the store {}", store.location())).remedy(remedy)
    }

    /// Assembles the object by the first of its records that leads to all its content. Leaves the last error
    /// in `failed`.
    fn try_each(
        &self,
        scratch: &Scratch,
        records: Vec<Found>,
        progress: &Progress,
        failed: &mut Option<Error>,
    ) -> Result<Option<PathBuf>> {
        for found in records {
            match self.assemble(scratch, &found, progress) {
                Ok(path) => return Ok(Some(path)),
                Err(e) => {
                    progress.check()?;
                    tracing::warn!("object {} by commit {}: {e}", found.record.oid, found.record.commit);
                    *failed = Some(if is_of_the_store(&e) {
                        not_found(&found.record.oid, self.blamed(&found, e))
                    } else {
                        e.context(format!("object {}", found.record.oid))
                    });
                }
            }
        }
        Ok(None)
    }

    /// Adds the segment of the record to an error, because that segment may be wrong.
    fn blamed(&self, found: &Found, error: Error) -> Error {
        match self.catalog.snapshot().index.segment_of(self.catalog.stored(), found) {
            Some(segment) => error.context(format!("by the record in index/{segment}")),
            None => error,
        }
    }

    /// Returns every record of the object in replaced segments, and uses the blocks that these carry from now
    /// on. Leaves out condemned records, because a collector may have dropped them.
    fn find_replaced(&self, oid: &Oid, size_bytes: u64) -> Vec<Found> {
        self.catalog.read_replaced();
        let snapshot = self.catalog.snapshot();
        let mut found = snapshot.index.find_replaced(self.catalog.stored(), oid).found;
        found.retain(|f| {
            f.record.size_bytes == size_bytes && !snapshot.condemned.has_record(&Relied::on(f).record)
        });
        found
    }

    /// Returns the folder for downloads. The first call opens and sweeps it.
    fn scratch(&self) -> Result<Scratch> {
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scratch) = &*scratch {
            return Ok(scratch.clone());
        }
        let Settings { lfs_storage, modes, cache_bytes, .. } = &*self.settings;
        let root = if *cache_bytes > 0 { cache_admin::root() } else { None };
        let ranges = root.map(|root| Room::new(root, *cache_bytes));
        Ok(scratch.insert(Scratch::open(lfs_storage, *modes, ranges)?).clone())
    }

    /// Returns the places on this machine that may have whole objects.
    fn sources(&self) -> &Sources {
        let Settings { sources, clones, lfs_storage, .. } = &*self.settings;
        self.sources.get_or_init(|| Sources::open(sources, clones, lfs_storage))
    }

    /// Returns every record of the object: records without condemned blocks first, then the newest.
    ///
    /// Any look will do, unless `newer_than` is given: then the look must have begun after that number.
    /// Downloads that miss something at the same time share one look. No lock is held during the lookup.
    fn find(&self, oid: &Oid, newer_than: Option<u64>) -> Result<Lookup> {
        let mut looks = self.looks();
        if let Some(e) = looks.failed.take() {
            return Err(e);
        }
        let is_new_enough = |last: u64| newer_than.is_none_or(|number| last > number);
        if !looks.last.is_some_and(is_new_enough) {
            self.look(&mut looks)?;
        }
        drop(looks);
        let snapshot = self.catalog.snapshot();
        let mut lookup = snapshot.index.find(self.catalog.stored(), oid);
        lookup.found.sort_by_key(|f| Relied::on(f).is_condemned(&snapshot.condemned));
        Ok(lookup)
    }

    /// Reads the new part of the index.
    fn look(&self, looks: &mut Looks) -> Result<()> {
        looks.has_looked = true;
        let number = self.begun_looks.fetch_add(1, Ordering::SeqCst) + 1;
        let Refreshed { index, condemned } = self.catalog.refresh();
        index?;
        // condemned lists only order the records here
        if let Err(e) = condemned {
            tracing::warn!("the condemned lists are not used: {e}");
        }
        looks.last = Some(number);
        Ok(())
    }

    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begun_looks(&self) -> u64 {
        self.begun_looks.load(Ordering::SeqCst)
    }

    /// Keeps other downloads from looking at the index, as long as the guard lives.
    #[cfg(test)]
    pub(crate) fn hold_looks(&self) -> impl Drop + use<'_> {
        self.looks()
    }

    #[cfg(test)]
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.catalog.snapshot()
    }

    #[cfg(test)]
    pub(crate) fn store(&self) -> &Store {
        &self.catalog.store
    }

    fn assemble(&self, scratch: &Scratch, found: &Found, progress: &Progress) -> Result<PathBuf> {
        progress.restart();
        let file = scratch.create(&found.record.oid, found.record.size_bytes)?;
        let missing = resume::missing(placed::terms(found), &file, progress)?;
        let at_first = content_bytes(&missing);
        let missing = self.reuse.place(found, missing, &file, progress, self.sources())?;
        let to_fetch = content_bytes(&missing);
        let snapshot = self.catalog.snapshot();
        let sources = BlockSources {
            store: &self.catalog.store,
            inline: snapshot.index.inline(),
            shared: &self.fetching,
            reuse: &self.reuse,
        };
        fetch::fetch(sources, found, missing, &file, progress)?;
        let path = file.hand_over()?;
        self.reuse.add(found, &path);
        tracing::debug!(
            "object {} is complete by commit {}: {} bytes of an earlier download, {} of other objects on this \
             machine, {to_fetch} of the store",
            found.record.oid,
            found.record.commit,
            found.record.size_bytes - at_first,
            at_first - to_fetch,
        );
        Ok(path)
    }
}

/// Returns the records with this size. Fails if there are only records with another size: the oid is the hash
/// of the content, so the pointer can't mean other content.
fn of_size(mut found: Vec<Found>, size_bytes: u64) -> Result<Vec<Found>> {
    let another = found.iter().find(|f| f.record.size_bytes != size_bytes).map(|f| f.record.clone());
    found.retain(|f| f.record.size_bytes == size_bytes);
    match another {
        Some(record) if found.is_empty() => Err(Error::invalid(format!(
            "object {} has {} bytes in the store, and its pointer says {size_bytes}",
            record.oid, record.size_bytes
        ))
        .remedy("correct the size in the file's pointer, and commit that")),
        _ => Ok(found),
    }
}

/// Returns the error of an object that was not found because of another error.
fn not_found(oid: &Oid, cause: Error) -> Error {
    cause.context(format!("object {oid} is not found"))
}

/// Returns true if the error is about the content of the store.
fn is_of_the_store(error: &Error) -> bool {
    matches!(error.kind(), Kind::NotFound | Kind::Corrupt)
}

fn content_bytes(terms: &[Placed]) -> u64 {
    terms.iter().map(|placed| u64::from(placed.term.content_bytes)).sum()
}
