//! The chunks that a push learns from the store. It reads all shards while they are small together.
//! Otherwise it reads only the shards that key chunks lead to.

use std::time::{Duration, Instant};

use super::Uploader;
use super::chunk_index::KnownChunks;
use super::push_state::PushState;
use super::sparse::Keys;
use crate::error::{Kind, Result};
use crate::format::segment::ShardEntry;
use crate::format::shard::Shard;
use crate::id::ShardId;
use crate::index::cached_reads::{shard_copies, skip_shard};
use crate::index::catalog::Snapshot;
use crate::local::metadata_cache::Kept;
use crate::units::MIB;

/// Least size of an object before which a push looks at the commits that others have made meanwhile.
const LEARN_FILE_BYTES: u64 = MIB as u64;
/// A push looks again after this many times the cost of its last look.
const LEARN_INTERVAL: u32 = 10;

/// Learns the chunks that the store has, and later the chunks that other agents have committed meanwhile.
///
/// It looks again only for objects of [`LEARN_FILE_BYTES`] and more, and only so often that this
/// takes a small share of the time. With thousands of commits, one look costs more than a small object.
pub(super) fn learn(uploader: &Uploader, state: &mut PushState, size_bytes: u64) -> Result<()> {
    let worth = size_bytes >= LEARN_FILE_BYTES;
    let due = |(at, cost): (Instant, Duration)| worth && at.elapsed() >= cost * LEARN_INTERVAL;
    if !state.learned.last.is_none_or(due) {
        return Ok(());
    }
    let start = Instant::now();
    let looked = match state.learned.last {
        // the index has just been read
        None => state.look_cost,
        Some(_) => read_index(uploader).map(|()| Duration::ZERO)?,
    };
    let catalog = &uploader.catalog;
    let snapshot = catalog.snapshot();
    let shards = snapshot.index.shards(catalog.stored())?;
    let bytes: u64 = shards.values().map(|shard| u64::from(shard.size_bytes)).sum();
    // removes the copies of shards that were merged since
    let named = |name: &str| ShardId::parse(name).is_ok_and(|id| shards.contains_key(&id));
    catalog.cache.retain(Kept::Shards, named);
    if bytes <= uploader.settings.shard_cache_bytes {
        state.learned.keys = None;
        if read_shards(uploader, state, &snapshot, shards.into_values().collect())? {
            // a compaction may have merged a shard since the index was read
            read_index(uploader)?;
            let snapshot = catalog.snapshot();
            let shards = snapshot.index.shards(catalog.stored())?;
            read_shards(uploader, state, &snapshot, shards.into_values().collect())?;
        }
    } else {
        let count = shards.len();
        // frees memory, because a list of many shards is larger than the data learned instead
        drop(shards);
        tracing::debug!("{count} shards of {bytes} bytes: only those are read that key chunks lead to");
        state.learned.keys = Some(Keys::read(&snapshot.index, catalog.stored())?);
    }
    state.learned.last = Some((Instant::now(), looked + start.elapsed()));
    Ok(())
}

/// Reads the new part of the index. A power failure must not lose the segments that the push relies on,
/// even if another push has only just written them.
fn read_index(uploader: &Uploader) -> Result<()> {
    uploader.catalog.refresh_index()?;
    uploader.catalog.store.settle_segments()
}

/// Reads those `shards` that were not read yet. Returns true if one was gone.
fn read_shards(
    uploader: &Uploader,
    state: &mut PushState,
    snapshot: &Snapshot,
    mut shards: Vec<ShardEntry>,
) -> Result<bool> {
    let mut is_gone = false;
    shards.retain(|shard| !state.learned.shards.contains(&shard.id));
    for (id, bytes) in shard_copies(uploader.catalog.stored(), snapshot.index.inline(), shards) {
        match bytes.and_then(|bytes| Shard::parse(&bytes)) {
            Ok(shard) => {
                let PushState { learned, lost, .. } = state;
                let may_use = |block: &_| !snapshot.condemned.has_block(block) && !lost.contains(block);
                learned.known.add(shard.blocks, may_use);
            }
            Err(e) => {
                is_gone |= e.kind() == Kind::NotFound;
                skip_shard(&id, e)?;
            }
        }
        state.learned.shards.insert(id);
    }
    Ok(is_gone)
}

/// Forgets the learned chunks if they are too many. The caller reads the journal only after this.
pub(super) fn make_room(uploader: &Uploader, state: &mut PushState) {
    let most = uploader.settings.sparse_chunks() / 2;
    if state.learned.keys.is_some() && state.learned.known.chunks() > most {
        state.learned.known = KnownChunks::default();
        state.learned.shards.clear();
        state.is_resumed = false;
    }
}
