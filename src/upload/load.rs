//! What a push learns of the chunks that the store has: all of them while that is little to read, else what key chunks
//! lead to.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::chunk_index::KnownChunks;
use super::sparse::Keys;
use crate::engine::{Engine, View};
use crate::error::{Kind, Result};
use crate::format::segment::ShardEntry;
use crate::format::shard::Shard;
use crate::id::ShardId;
use crate::index::cached_reads::{shard_copies, skip_shard};
use crate::limit;
use crate::local::metadata_cache::Kept;

/// What may be deduplicated against.
#[derive(Default)]
pub(crate) struct Learned {
    pub known: KnownChunks,
    /// The shards that were read, or could not be.
    pub shards: HashSet<ShardId>,
    /// What leads to the others, if they are too many to read them all.
    pub keys: Option<Keys>,
    /// When the index was read for it last, and how long that took.
    pub last: Option<(Instant, Duration)>,
}

/// Learns what the store has, and now and again what other agents have committed meanwhile: for objects
/// that are worth it, and as often as that takes a small share of the time. With thousands of commits a
/// look costs more than a small object.
pub(super) fn learn(engine: &Engine, view: &mut View, size_bytes: u64) -> Result<()> {
    let worth = size_bytes >= limit::LEARN_FILE_BYTES;
    let due = |(at, cost): (Instant, Duration)| worth && at.elapsed() >= cost * limit::LEARN_INTERVAL;
    if !view.learned.last.is_none_or(due) {
        return Ok(());
    }
    let start = Instant::now();
    let looked = match view.learned.last {
        // the index has just been read
        None => view.look_cost,
        Some(_) => read_index(engine, view).map(|()| Duration::ZERO)?,
    };
    let shards = view.index.shards(&engine.store, &engine.cache)?;
    let bytes: u64 = shards.values().map(|shard| u64::from(shard.size_bytes)).sum();
    // copies of those that were merged since
    let named = |name: &str| ShardId::parse(name).is_ok_and(|id| shards.contains_key(&id));
    engine.cache.retain(Kept::Shards, named);
    if bytes <= engine.settings.shard_cache_bytes {
        view.learned.keys = None;
        if read_shards(engine, view, shards.into_values().collect())? {
            // a compaction may have merged it since the index was read
            read_index(engine, view)?;
            let shards = view.index.shards(&engine.store, &engine.cache)?;
            read_shards(engine, view, shards.into_values().collect())?;
        }
    } else {
        let count = shards.len();
        // of a store with many, this takes more than what is learned instead
        drop(shards);
        tracing::debug!("{count} shards of {bytes} bytes: only those are read that key chunks lead to");
        view.learned.keys = Some(Keys::read(&view.index, &engine.store, &engine.cache)?);
    }
    view.learned.last = Some((Instant::now(), looked + start.elapsed()));
    Ok(())
}

/// Reads what is new in the index. What is relied on must not be lost with the power, even if another
/// pusher has only just written it.
fn read_index(engine: &Engine, view: &mut View) -> Result<()> {
    view.index.refresh(&engine.store, &engine.cache)?;
    engine.store.settle_segments()
}

/// Reads those of `shards` that were not read yet. Says whether one was gone.
fn read_shards(engine: &Engine, view: &mut View, mut shards: Vec<ShardEntry>) -> Result<bool> {
    let mut is_gone = false;
    let (store, cache) = (&engine.store, &engine.cache);
    shards.retain(|shard| !view.learned.shards.contains(&shard.id));
    for (id, bytes) in shard_copies(store, cache, shards) {
        match bytes.and_then(|bytes| Shard::parse(&bytes)) {
            Ok(shard) => {
                let View { learned, condemned, lost, .. } = view;
                let may_use = |block: &_| !condemned.has_block(block) && !lost.contains(block);
                learned.known.add(shard.blocks, may_use);
            }
            Err(e) => {
                is_gone |= e.kind() == Kind::NotFound;
                skip_shard(&id, e)?;
            }
        }
        view.learned.shards.insert(id);
    }
    Ok(is_gone)
}

/// Forgets what was learned, where that has become too much. To be called before the journal is read.
pub(super) fn make_room(engine: &Engine, view: &mut View) {
    if view.learned.keys.is_some() && view.learned.known.chunks() > engine.settings.sparse_chunks() / 2 {
        view.learned.known = KnownChunks::default();
        view.learned.shards.clear();
        view.resumed = false;
    }
}
