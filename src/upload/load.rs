//! The chunks that a push learns from the store. It reads all shards while they are small together.
//! Otherwise it reads only the shards that key chunks lead to.

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
use crate::local::metadata_cache::Kept;
use crate::units::MIB;

/// Least size of an object before which a push looks at the commits that others have made meanwhile.
const LEARN_FILE_BYTES: u64 = MIB as u64;
/// A push looks again after this many times the cost of its last look.
const LEARN_INTERVAL: u32 = 10;

/// The chunks that a push may deduplicate against.
#[derive(Default)]
pub(crate) struct Learned {
    pub known: KnownChunks,
    /// The shards that were read or could not be read.
    pub shards: HashSet<ShardId>,
    /// The keys that lead to the other shards, if there are too many shards to read them all.
    pub keys: Option<Keys>,
    /// The time of the last look at the index for this, and how long it took.
    pub last: Option<(Instant, Duration)>,
}

/// Learns the chunks that the store has, and later the chunks that other agents have committed meanwhile.
///
/// It looks again only for objects of [`LEARN_FILE_BYTES`] and more, and only so often that this
/// takes a small share of the time. With thousands of commits, one look costs more than a small object.
pub(super) fn learn(engine: &Engine, view: &mut View, size_bytes: u64) -> Result<()> {
    let worth = size_bytes >= LEARN_FILE_BYTES;
    let due = |(at, cost): (Instant, Duration)| worth && at.elapsed() >= cost * LEARN_INTERVAL;
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
    // removes the copies of shards that were merged since
    let named = |name: &str| ShardId::parse(name).is_ok_and(|id| shards.contains_key(&id));
    engine.cache.retain(Kept::Shards, named);
    if bytes <= engine.settings.shard_cache_bytes {
        view.learned.keys = None;
        if read_shards(engine, view, shards.into_values().collect())? {
            // a compaction may have merged a shard since the index was read
            read_index(engine, view)?;
            let shards = view.index.shards(&engine.store, &engine.cache)?;
            read_shards(engine, view, shards.into_values().collect())?;
        }
    } else {
        let count = shards.len();
        // frees memory, because a list of many shards is larger than the data learned instead
        drop(shards);
        tracing::debug!("{count} shards of {bytes} bytes: only those are read that key chunks lead to");
        view.learned.keys = Some(Keys::read(&view.index, &engine.store, &engine.cache)?);
    }
    view.learned.last = Some((Instant::now(), looked + start.elapsed()));
    Ok(())
}

/// Reads the new part of the index. A power failure must not lose the segments that the push relies on,
/// even if another push has only just written them.
fn read_index(engine: &Engine, view: &mut View) -> Result<()> {
    view.index.refresh(&engine.store, &engine.cache)?;
    engine.store.settle_segments()
}

/// Reads those `shards` that were not read yet. Returns true if one was gone.
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

/// Forgets the learned chunks if they are too many. The caller reads the journal only after this.
pub(super) fn make_room(engine: &Engine, view: &mut View) {
    if view.learned.keys.is_some() && view.learned.known.chunks() > engine.settings.sparse_chunks() / 2 {
        view.learned.known = KnownChunks::default();
        view.learned.shards.clear();
        view.resumed = false;
    }
}
