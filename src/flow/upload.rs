//! A push, one object: is it there already? Else cut, look up, pack, put, commit, check.

use std::fs::File;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::commit::{self, Change, Relied};
use super::condemned::CondemnedNames;
use super::index::{Found, Index};
use super::known::KnownChunks;
use super::pack::{self, Packed};
use super::{Engine, Progress, View};
use crate::error::{Error, Kind, Result};
use crate::format::shard::Shard;
use crate::id::Oid;
use crate::limit;

/// Makes sure that the store has the object in the file `path`. When this returns, everything that
/// the object needs is durable, and a read of the condemned lists that began after the commit shows
/// none of it (invariant I1).
pub(super) fn upload(
    engine: &Engine,
    oid: &Oid,
    size_bytes: u64,
    path: &Path,
    progress: &Progress,
) -> Result<()> {
    let mut view = engine.view.lock().unwrap_or_else(PoisonError::into_inner);
    let view = &mut *view;
    if !view.listed {
        view.index.refresh(&engine.store, &engine.cache)?;
        view.condemned.refresh(&engine.store, &engine.cache)?;
        view.listed = true;
    }
    for _ in 0..limit::COMMIT_ATTEMPTS {
        progress.bytes.store(0, Ordering::Relaxed);
        let relied = match find_usable(engine, view, oid, size_bytes)? {
            Present::Fresh(relied) => relied,
            Present::Renewable(found) => commit_change(engine, view, Change::renewed(&found))?,
            Present::No => {
                let packed = pack_object(engine, view, oid, size_bytes, path, progress)?;
                commit_change(engine, view, Change::packed(packed))?
            }
        };
        if is_sound(engine, view, &relied)? {
            progress.bytes.store(size_bytes, Ordering::Relaxed);
            return Ok(());
        }
        tracing::warn!("object {oid}: what it relied on was condemned meanwhile; uploading again");
    }
    Err(Error::busy(format!(
        "what object {oid} relies on was condemned {} times while it was pushed",
        limit::COMMIT_ATTEMPTS
    ))
    .remedy("push again when the garbage collection has ended"))
}

/// Reads every shard that counts: deduplication is exact.
fn read_shards(engine: &Engine, index: &Index, condemned: &CondemnedNames) -> Result<KnownChunks> {
    let (store, cache) = (&engine.store, &engine.cache);
    let mut known = KnownChunks::default();
    for id in index.shards()?.into_keys() {
        let shard = match cache.get("shards", &id.to_string(), &id.hash, || store.get_shard(&id)) {
            Ok(bytes) => Shard::parse(&bytes),
            Err(e) => Err(e),
        };
        match shard {
            Ok(shard) => known.add(shard.blocks, |block| !condemned.has_block(block)),
            // shards are hints: without one, its chunks are stored again
            Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Corrupt) => {
                tracing::warn!("shard {id} is not used: {e}");
            }
            Err(e) => return Err(e),
        }
    }
    Ok(known)
}

/// Whether the store has an object.
enum Present {
    /// By a record that may be relied on as it is.
    Fresh(Relied),
    /// Its blocks may be relied on, but the record is old, condemned or another repository's: a
    /// collector could drop it, so one of our own is due.
    Renewable(Found),
    No,
}

fn find_usable(engine: &Engine, view: &View, oid: &Oid, size_bytes: u64) -> Result<Present> {
    let mut found = view.index.find(oid)?;
    found.retain(|f| {
        f.record.size_bytes == size_bytes && !f.blocks.iter().any(|b| view.condemned.has_block(&b.id))
    });
    let oldest = commit::now_milliseconds().saturating_sub(limit::RECORD_FRESH_MS);
    let fresh = found.iter().find(|f| {
        f.repository == engine.settings.repository
            && f.record.commit.milliseconds() >= oldest
            && !view.condemned.has_record(&Relied::on(f).record)
    });
    Ok(match fresh {
        Some(fresh) => Present::Fresh(Relied::on(fresh)),
        None => found.into_iter().next().map_or(Present::No, Present::Renewable),
    })
}

/// Stores the object's novel chunks. What was read must be the object: git-lfs may have a damaged file.
fn pack_object(
    engine: &Engine,
    view: &mut View,
    oid: &Oid,
    size_bytes: u64,
    path: &Path,
    progress: &Progress,
) -> Result<Packed> {
    let known = match &mut view.known {
        Some(known) => known,
        none => none.insert(read_shards(engine, &view.index, &view.condemned)?),
    };
    let failed = |e| Error::io(format!("opening {}", path.display()), &e);
    let file = File::open(path).map_err(failed)?;
    let (suite, level) = (engine.store.description().suite, engine.settings.compression_level);
    let packed = pack::pack(file, suite, level, known, &engine.store, progress)?;
    let read = &packed.object;
    if read.oid == *oid && read.size_bytes == size_bytes {
        return Ok(packed);
    }
    Err(Error::corrupt(format!(
        "the local copy of object {oid} is damaged: {} has {} of {size_bytes} bytes and the SHA-256 {}",
        path.display(),
        read.size_bytes,
        read.oid
    ))
    .remedy("restore the file from another clone, or remove it and `git add` the original again"))
}

/// Commits, and learns what the commit has added.
fn commit_change(engine: &Engine, view: &mut View, change: Change) -> Result<Relied> {
    let View { index, known, .. } = view;
    let (relied, shards) = commit::commit(&engine.store, index, &engine.settings.repository, change)?;
    if let Some(known) = known {
        shards.into_iter().for_each(|blocks| known.add(blocks, |_| true));
    }
    Ok(relied)
}

/// Whether nothing that the acknowledgement stands on is condemned, by a read that begins now; and
/// whether the store is still the one that was written to.
fn is_sound(engine: &Engine, view: &mut View, relied: &Relied) -> Result<bool> {
    engine.store.confirm()?;
    let View { condemned, known, .. } = view;
    let new = condemned.refresh(&engine.store, &engine.cache)?;
    if let Some(known) = known.as_mut().filter(|_| new) {
        known.retain(|block| !condemned.has_block(block));
    }
    Ok(!relied.is_condemned(condemned))
}
