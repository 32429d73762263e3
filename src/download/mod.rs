//! The download of one object. Many downloads may be under way at once, each on its caller's thread.
//!
//! A download first looks for the whole file on this machine. Otherwise it finds the object's recipe and
//! takes the chunks that other local objects have. It plans the ranges that are still missing, fetches them
//! in parallel, writes every chunk at its place, and verifies every term.

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
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use self::reuse::Reuse;
use crate::engine::{Engine, Settings, View};
use crate::error::{Error, Kind, Result};
use crate::id::Oid;
use crate::index::placed::{self, Placed};
use crate::index::relied::Relied;
use crate::index::{Found, Lookup};
use crate::local::cache_admin;
use crate::local::partial_download::Scratch;
use crate::local::quota::Room;
use crate::local::whole_files::Sources;
use crate::progress::Progress;
use crate::store::Store;

/// The state that all downloads of an engine share.
pub(crate) struct Downloads {
    scratch: Mutex<Option<Scratch>>,
    /// The number of looks at the store's index that were begun. `last_look` is the number of the last one
    /// that succeeded.
    looks: AtomicU64,
    last_look: AtomicU64,
    pub fetching: fetch::Shared,
    /// The sources, opened when the first object is asked for.
    sources: OnceLock<Sources>,
    reuse: Reuse,
}

impl Downloads {
    pub(crate) fn new(store: &Store, settings: &Settings) -> Self {
        let fetching = fetch::Shared::new(store, settings);
        let (looks, last_look) = (AtomicU64::new(0), AtomicU64::new(0));
        let (sources, reuse) = (OnceLock::new(), Reuse::default());
        Self { scratch: Mutex::default(), looks, last_look, fetching, sources, reuse }
    }

    /// Returns the places on this machine that may have whole objects.
    pub(crate) fn sources(&self, settings: &Settings) -> &Sources {
        let Settings { sources, clones, lfs_storage, .. } = settings;
        self.sources.get_or_init(|| Sources::open(sources, clones, lfs_storage))
    }
}

/// Puts the object into a temporary file and returns its path. After an error, only the partial file of a
/// large object stays, for the next download.
pub(crate) fn download(
    engine: &Engine,
    oid: &Oid,
    size_bytes: u64,
    progress: &Arc<Progress>,
) -> Result<PathBuf> {
    let scratch = scratch(engine)?;
    let sources = engine.downloads.sources(&engine.settings);
    if let Some(path) = whole_file::find((sources, &scratch), oid, size_bytes, progress)? {
        engine.downloads.reuse.add_whole(engine, oid, size_bytes, &path);
        return Ok(path);
    }
    let looks = || engine.downloads.looks.load(Ordering::SeqCst);
    let at_first = looks();
    let mut failed = None;
    // the index that was read may be old, so a failure leads to one more look
    for again in [false, true] {
        let newer_than = again.then(|| if failed.is_some() { looks() } else { at_first });
        let Lookup { mut found, damaged } = find(engine, oid, newer_than)?;
        let another_size = found.iter().map(|f| f.record.size_bytes).find(|size| *size != size_bytes);
        found.retain(|f| f.record.size_bytes == size_bytes);
        if let (true, Some(other)) = (found.is_empty(), another_size) {
            // the oid is the hash of the content, so the pointer can't mean other content
            let what =
                format!("object {oid} has {other} bytes in the store, and its pointer says {size_bytes}");
            return Err(
                Error::invalid(what).remedy("correct the size in the file's pointer, and commit that")
            );
        }
        failed = failed.or(damaged);
        if let Some(path) = try_each(engine, &scratch, found, progress, &mut failed)? {
            return Ok(path);
        }
        // another look helps only if something has changed in the store
        if !failed.as_ref().is_none_or(is_of_the_store) {
            break;
        }
    }
    if failed.as_ref().is_none_or(is_of_the_store) {
        let hidden = find_replaced(engine, oid, size_bytes);
        let mut hidden_failed = None;
        if let Some(path) = try_each(engine, &scratch, hidden, progress, &mut hidden_failed)? {
            tracing::warn!(
                "object {oid} was found by an index segment that others replace: run `git lfs-cdc status`"
            );
            return Ok(path);
        }
        failed = failed.or(hidden_failed);
    }
    let failed = failed.map(|e| match e.to_string().contains(&oid.to_string()) {
        true => e,
        false => e.context(format!("object {oid} is not found")),
    });
    Err(failed.unwrap_or_else(|| {
        Error::not_found(format!("object {oid} is not in the store {}", engine.store.location())).remedy(
            match engine.store.is_read_only() {
                true => "its manifest may be behind: run `git lfs-cdc manifest BUCKET_URL` where that can be written",
                false => "push it from a clone that has it: git lfs push --all",
            },
        )
    }))
}

/// Returns true if the error is about the content of the store.
fn is_of_the_store(error: &Error) -> bool {
    matches!(error.kind(), Kind::NotFound | Kind::Corrupt)
}

/// Assembles the object by the first of its records that leads to all its content. Leaves the last error in
/// `failed`.
fn try_each(
    engine: &Engine,
    scratch: &Scratch,
    records: Vec<Found>,
    progress: &Progress,
    failed: &mut Option<Error>,
) -> Result<Option<PathBuf>> {
    for found in records {
        match assemble(engine, scratch, &found, progress) {
            Ok(path) => return Ok(Some(path)),
            Err(e) => {
                progress.check()?;
                tracing::warn!("object {} by commit {}: {e}", found.record.oid, found.record.commit);
                *failed = Some(if is_of_the_store(&e) { blamed(engine, &found, e) } else { e });
            }
        }
    }
    Ok(None)
}

/// Adds the segment of the record to an error, because that segment may be wrong.
fn blamed(engine: &Engine, found: &Found, error: Error) -> Error {
    let index = engine.view.lock().unwrap_or_else(PoisonError::into_inner).index.clone();
    match index.segment_of(&engine.store, &engine.cache, found) {
        Some(segment) => error.context(format!("by the record in index/{segment}")),
        None => error,
    }
}

/// Returns every record of the object in replaced segments, and uses the blocks that these carry from now
/// on. Leaves out condemned records, because a collector may have dropped them.
fn find_replaced(engine: &Engine, oid: &Oid, size_bytes: u64) -> Vec<Found> {
    let mut view = engine.view.lock().unwrap_or_else(PoisonError::into_inner);
    view.index.read_replaced(&engine.store);
    let index = view.index.clone();
    drop(view);
    let mut found = index.find_replaced(&engine.store, &engine.cache, oid).found;
    let view = engine.view.lock().unwrap_or_else(PoisonError::into_inner);
    found.retain(|f| f.record.size_bytes == size_bytes && !view.condemned.has_record(&Relied::on(f).record));
    found
}

/// Returns the folder for downloads. The first call opens and sweeps it.
fn scratch(engine: &Engine) -> Result<Scratch> {
    let mut scratch = engine.downloads.scratch.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(scratch) = &*scratch {
        return Ok(scratch.clone());
    }
    let Settings { lfs_storage, modes, cache_bytes, .. } = &engine.settings;
    let root = if *cache_bytes > 0 { cache_admin::root() } else { None };
    let ranges = root.map(|root| Room::new(root, *cache_bytes));
    Ok(scratch.insert(Scratch::open(lfs_storage, *modes, ranges)?).clone())
}

/// Returns every record of the object: records without condemned blocks first, then the newest.
///
/// Any look will do, unless `newer_than` is given: then the look must have begun after that number.
/// Downloads that miss something at the same time share one look. The view is not locked during the lookup.
fn find(engine: &Engine, oid: &Oid, newer_than: Option<u64>) -> Result<Lookup> {
    let mut view = engine.view.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(e) = view.failed.take() {
        return Err(e);
    }
    let last_look = || engine.downloads.last_look.load(Ordering::SeqCst);
    if !view.listed || newer_than.is_some_and(|number| last_look() <= number) {
        look(engine, &mut view)?;
    }
    // unlocked, so that other downloads may look meanwhile
    let index = view.index.clone();
    drop(view);
    let mut lookup = index.find(&engine.store, &engine.cache, oid);
    let view = engine.view.lock().unwrap_or_else(PoisonError::into_inner);
    lookup.found.sort_by_key(|f| Relied::on(f).is_condemned(&view.condemned));
    Ok(lookup)
}

/// Reads the new part of the index.
pub(crate) fn look(engine: &Engine, view: &mut View) -> Result<()> {
    let number = engine.downloads.looks.fetch_add(1, Ordering::SeqCst) + 1;
    let (index, condemned) = view.look(engine);
    index?;
    // condemned lists only order the records here
    if let Err(e) = condemned {
        tracing::warn!("the condemned lists are not used: {e}");
    }
    view.listed = true;
    engine.downloads.last_look.store(number, Ordering::SeqCst);
    Ok(())
}

fn assemble(engine: &Engine, scratch: &Scratch, found: &Found, progress: &Progress) -> Result<PathBuf> {
    progress.restart();
    let file = scratch.create(&found.record.oid, found.record.size_bytes)?;
    let Downloads { fetching, reuse, .. } = &engine.downloads;
    let missing = resume::missing(placed::terms(found), &file, progress)?;
    let at_first = content_bytes(&missing);
    let missing = reuse.place(engine, found, missing, &file, progress)?;
    let to_fetch = content_bytes(&missing);
    fetch::fetch((&engine.store, fetching, reuse), found, missing, &file, progress)?;
    let path = file.hand_over()?;
    reuse.add(engine, found, &path);
    tracing::debug!(
        "object {} is complete by commit {}: {} bytes of an earlier download, {} of other objects on this machine, {to_fetch} of the store",
        found.record.oid,
        found.record.commit,
        found.record.size_bytes - at_first,
        at_first - to_fetch,
    );
    Ok(path)
}

fn content_bytes(terms: &[Placed]) -> u64 {
    terms.iter().map(|placed| u64::from(placed.term.content_bytes)).sum()
}
