//! A push, one object: is it there already? Else cut, look up, pack, put, commit, check.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::commit::{self, Change, Relied};
use super::copies::copies;
use super::index::Found;
use super::pack::{self, Packed};
use super::{Engine, Progress, View};
use crate::error::{Error, Kind, Result};
use crate::format::shard::Shard;
use crate::id::{Oid, ShardId};
use crate::limit;
use crate::local::cache::Kept;

/// Makes sure that the store has the object in the file `path`. When this returns, everything that
/// the object needs is durable, and a read of the condemned lists that began after the commit showed
/// none of it (invariant I1 in `docs/format.md`).
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
        read_index(engine, view)?;
        view.condemned.refresh(&engine.store, &engine.cache)?;
        view.listed = true;
    }
    for _ in 0..limit::COMMIT_ATTEMPTS {
        progress.restart();
        let relied = match find_usable(engine, view, oid, size_bytes) {
            Present::Fresh(relied) => relied,
            Present::Renewable(found) => commit_change(engine, view, Change::renewed(&found))?,
            Present::No => {
                let packed = pack_object(engine, view, oid, size_bytes, path, progress)?;
                commit_change(engine, view, Change::packed(packed))?
            }
        };
        if is_sound(engine, view, &relied)? {
            return Ok(());
        }
        tracing::warn!("object {oid}: what it relied on was condemned meanwhile or is lost; uploading again");
    }
    Err(Error::busy(format!(
        "what object {oid} relies on was condemned or lost {} times while it was pushed",
        limit::COMMIT_ATTEMPTS
    ))
    .remedy("push again when the garbage collection has ended"))
}

/// Reads what is new in the index. What is relied on must not be lost with the power, even if another
/// pusher has only just written it.
fn read_index(engine: &Engine, view: &mut View) -> Result<()> {
    view.index.refresh(&engine.store, &engine.cache)?;
    engine.store.settle_segments()
}

/// Learns what the store has, and now and again what other agents have committed meanwhile: for objects
/// that are worth it, and as often as that takes a small share of the time. With thousands of commits a
/// look costs more than a small object.
fn learn_chunks(engine: &Engine, view: &mut View, size_bytes: u64) -> Result<()> {
    let worth = size_bytes >= limit::LEARN_FILE_BYTES;
    let due = |(at, cost): (Instant, Duration)| worth && at.elapsed() >= cost * limit::LEARN_INTERVAL;
    let due = view.learned.is_none_or(due);
    if due {
        let start = Instant::now();
        read_index(engine, view)?;
        read_shards(engine, view)?;
        view.learned = Some((Instant::now(), start.elapsed()));
    }
    Ok(())
}

/// Reads every shard that counts and was not read yet: deduplication is exact.
fn read_shards(engine: &Engine, view: &mut View) -> Result<()> {
    let (store, cache) = (&engine.store, &engine.cache);
    let new: Vec<ShardId> = view.index.shards().into_keys().filter(|id| !view.shards.contains(id)).collect();
    for (id, bytes) in copies(cache, Kept::Shards, new, |id| id.hash, |id| store.get_shard(id)) {
        match bytes.and_then(|bytes| Shard::parse(&bytes)) {
            Ok(shard) => {
                let View { known, condemned, lost, .. } = view;
                known.add(shard.blocks, |block| !condemned.has_block(block) && !lost.contains(block));
            }
            // shards are hints: without one, its chunks are stored again
            Err(e) if !matches!(e.kind(), Kind::Unreachable | Kind::Internal) => {
                tracing::warn!("shard {id} is not used: {e}");
            }
            Err(e) => return Err(e),
        }
        view.shards.insert(id);
    }
    Ok(())
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

fn find_usable(engine: &Engine, view: &View, oid: &Oid, size_bytes: u64) -> Present {
    let mut found = view.index.find(oid).found;
    found.retain(|f| f.record.size_bytes == size_bytes && f.blocks.iter().all(|b| view.may_use(&b.id)));
    let now = commit::now_milliseconds();
    // a clock that was wrong must not keep a record fresh for ever
    let fresh_times = now.saturating_sub(limit::RECORD_FRESH_MS)..=now + limit::RECORD_AHEAD_MS;
    let fresh = found.iter().find(|f| {
        f.repository == engine.settings.repository
            && fresh_times.contains(&f.record.commit.milliseconds())
            && !view.condemned.has_record(&Relied::on(f).record)
    });
    match fresh {
        Some(fresh) => Present::Fresh(Relied::on(fresh)),
        None => found.into_iter().next().map_or(Present::No, Present::Renewable),
    }
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
    learn_chunks(engine, view, size_bytes)?;
    let failed = |e| Error::io(format!("opening {}", path.display()), &e);
    let file = File::open(path).map_err(failed)?;
    let (suite, level) = (engine.store.description().suite, engine.settings.compression_level);
    let packed = pack::pack(
        file.take(size_bytes.saturating_add(1)),
        suite,
        level,
        &view.known,
        &engine.store,
        progress,
    )?;
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
    // where another store is mounted meanwhile, a commit would name blocks that are not there
    engine.store.confirm()?;
    let View { index, known, shards, .. } = view;
    let (relied, new) = commit::commit(&engine.store, index, &engine.settings.repository, change)?;
    view.has_committed = true;
    for (id, blocks) in new {
        shards.insert(id);
        known.add(blocks, |_| true);
    }
    Ok(relied)
}

/// Whether nothing that the acknowledgement stands on is condemned, by a read that begins now; whether its
/// blocks are there; and whether the store is still the one that was written to.
fn is_sound(engine: &Engine, view: &mut View, relied: &Relied) -> Result<bool> {
    engine.store.confirm()?;
    view.condemned.refresh(&engine.store, &engine.cache)?;
    let unseen = relied.blocks.iter().filter(|b| !view.seen.contains(&b.id) && !view.lost.contains(&b.id));
    let asked: Vec<_> = unseen.map(|block| (block, engine.store.block_bytes(&block.id))).collect();
    for (block, found) in asked {
        if found.wait()? == Some(u64::from(block.size_bytes)) {
            view.seen.insert(block.id);
        } else {
            tracing::error!(
                "block {} is missing or cut short in the store; its chunks are stored again",
                block.id
            );
            view.lost.insert(block.id);
        }
    }
    let sound = !relied.is_condemned(&view.condemned)
        && !relied.blocks.iter().any(|block| view.lost.contains(&block.id));
    if !sound {
        let View { known, condemned, lost, .. } = view;
        known.retain(|block| !condemned.has_block(block) && !lost.contains(block));
    }
    Ok(sound)
}
