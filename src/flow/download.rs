//! A pull, one object: find its recipe, plan the ranges to fetch, fetch them in parallel, write every
//! chunk at its place and verify every term.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use super::commit::Relied;
use super::fetch;
use super::index::{Found, Lookup};
use super::{Engine, Progress, View};
use crate::error::{Error, Kind, Result};
use crate::id::Oid;
use crate::local::scratch::Scratch;

/// Puts the object into a temporary file and returns its path. Whatever fails, no file is left.
pub(super) fn download(
    engine: &Engine,
    oid: &Oid,
    size_bytes: u64,
    progress: &Arc<Progress>,
) -> Result<PathBuf> {
    let scratch = scratch(engine)?;
    let mut failed = None;
    // what was read of the index may be old: one more look before giving up
    for again in [false, true] {
        let Lookup { found, damaged } = find(engine, oid, size_bytes, again)?;
        failed = failed.or(damaged);
        for found in found {
            match assemble(engine, &scratch, &found, progress) {
                Ok(path) => return Ok(path),
                Err(e) => {
                    progress.check()?;
                    tracing::warn!("object {oid} by commit {}: {e}", found.record.commit);
                    failed = Some(e);
                }
            }
        }
        // another look helps only if something has changed in the store
        if failed.as_ref().is_some_and(|e| !matches!(e.kind(), Kind::NotFound | Kind::Corrupt)) {
            break;
        }
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

/// The folder for downloads; opened, and swept, at the first one.
fn scratch(engine: &Engine) -> Result<Scratch> {
    let mut scratch = engine.scratch.lock().unwrap_or_else(PoisonError::into_inner);
    match &*scratch {
        Some(scratch) => Ok(scratch.clone()),
        None => Ok(scratch.insert(Scratch::open(&engine.settings.lfs_storage)?).clone()),
    }
}

/// Every record of the object: those without condemned blocks first, then the newest.
fn find(engine: &Engine, oid: &Oid, size_bytes: u64, again: bool) -> Result<Lookup> {
    let mut view = engine.view.lock().unwrap_or_else(PoisonError::into_inner);
    let View { listed, index, condemned, .. } = &mut *view;
    if again || !*listed {
        index.refresh(&engine.store, &engine.cache)?;
        // here it only says which record to try first
        if let Err(e) = condemned.refresh(&engine.store, &engine.cache) {
            tracing::warn!("the condemned lists are not used: {e}");
        }
        *listed = true;
    }
    let mut lookup = index.find(oid);
    lookup.found.retain(|f| f.record.size_bytes == size_bytes);
    lookup.found.sort_by_key(|f| Relied::on(f).is_condemned(condemned));
    Ok(lookup)
}

fn assemble(engine: &Engine, scratch: &Scratch, found: &Found, progress: &Progress) -> Result<PathBuf> {
    progress.restart();
    let file = scratch.create(&found.record.oid, found.record.size_bytes)?;
    fetch::fetch(&engine.store, found, &file, progress)?;
    file.hand_over()
}
