//! Merging of small shards into large ones, so that a process that reads all shards has few to read.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use super::cached_reads::{CachedStore, shard_copies};
use super::{Index, Watch};
use crate::error::{Error, Kind, Result};
use crate::format::limits;
use crate::format::merge_shards::MergeShards;
use crate::format::segment::ShardEntry;
use crate::format::shard::{self, Recipes, Shard};
use crate::id::{ContentHash, Nonce, SegmentId, ShardId};
use crate::local::metadata_cache::Kept;
use crate::units::MIB;

/// Most bytes of a merged shard. Shards of at least half as many are left alone.
const SHARD_MERGED_BYTES: u32 = 4 * MIB as u32;

/// The place of each merged shard's content: in a new shard, or nowhere if the shard was gone.
pub(crate) type MovedShards = HashMap<ShardId, Option<ShardEntry>>;

/// Returns true if merging the shards of these segments leaves at most half of them.
pub(crate) fn are_many(stored: CachedStore<'_>, index: &Index, group: &[SegmentId]) -> bool {
    let Ok(shards) = shards_of(stored, index, group) else { return false };
    let runs = runs(&shards);
    let saved = runs.iter().map(|run| run.len() - 1).sum::<usize>();
    saved > 0 && saved * 2 >= shards.len()
}

/// Merges the small shards that these segments name. When this returns, the merged ones are durable and were
/// read back.
pub(crate) fn merge_small(
    stored: CachedStore<'_>,
    index: &Index,
    group: &[SegmentId],
    watch: Watch<'_>,
) -> Result<MovedShards> {
    let runs = runs(&shards_of(stored, index, group)?);
    let mut moved = MovedShards::new();
    let all = runs.iter().map(Vec::len).sum::<usize>();
    let mut done = 0;
    for run in runs {
        watch(format!("merging small shards: {done} of {all}"));
        done += run.len();
        merge_run(stored, shard_copies(stored, index.inline(), run), &mut moved)?;
    }
    Ok(moved)
}

/// Does the same for shards with bytes `at_hand`. It reads only the merged shards, to check them.
pub(crate) fn merge_at_hand(
    stored: CachedStore<'_>,
    shards: Vec<ShardEntry>,
    at_hand: impl Fn(&ShardId) -> Option<Bytes>,
) -> Result<MovedShards> {
    let mut here = HashMap::new();
    let mut moved = MovedShards::new();
    let mut small: Vec<ShardEntry> = shards.into_iter().filter(is_small).collect();
    small.retain(|shard| {
        !here.contains_key(&shard.id)
            && at_hand(&shard.id).is_some_and(|bytes| here.insert(shard.id, bytes).is_none())
    });
    for run in runs(&small) {
        let run = run.iter().filter_map(|shard| Some((shard.id, Ok(here.remove(&shard.id)?))));
        merge_run(stored, run, &mut moved)?;
    }
    Ok(moved)
}

/// Returns the shards that the segments name, each once, in the order of the commits. So chunks that were
/// pushed together stay together.
fn shards_of(stored: CachedStore<'_>, index: &Index, group: &[SegmentId]) -> Result<Vec<ShardEntry>> {
    let mut seen = BTreeSet::new();
    let mut shards = Vec::new();
    for segment in index.segments().filter(|segment| group.binary_search(&segment.id).is_ok()) {
        shards.extend(segment.shards(stored)?.into_iter().filter(|shard| seen.insert(shard.id)));
    }
    Ok(shards)
}

fn is_small(shard: &ShardEntry) -> bool {
    shard.size_bytes < SHARD_MERGED_BYTES / 2 && (shard.chunk_count as usize) < limits::SHARD_CHUNKS / 2
}

/// Returns groups of shards that are worth merging, one for each new shard. Full shards are left alone.
fn runs(shards: &[ShardEntry]) -> Vec<Vec<ShardEntry>> {
    let mut runs: Vec<Vec<ShardEntry>> = Vec::new();
    let mut bytes = 0;
    let mut chunks = 0;
    for shard in shards.iter().filter(|shard| is_small(shard)) {
        bytes += shard.size_bytes;
        chunks += shard.chunk_count as usize;
        match runs.last_mut() {
            Some(run) if bytes <= SHARD_MERGED_BYTES && chunks <= limits::SHARD_CHUNKS => run.push(*shard),
            _ => {
                (bytes, chunks) = (shard.size_bytes, shard.chunk_count as usize);
                runs.push(vec![*shard]);
            }
        }
    }
    runs.retain(|run| run.len() > 1);
    runs
}

/// Writes one shard with the content of all these, and notes its place for each of them. A damaged shard is
/// left alone.
fn merge_run(
    stored: CachedStore<'_>,
    run: impl Iterator<Item = (ShardId, Result<Bytes>)>,
    moved: &mut MovedShards,
) -> Result<()> {
    let mut merge = MergeShards::default();
    let mut merged = Vec::new();
    for (id, bytes) in run {
        match bytes.and_then(|bytes| add(&mut merge, &bytes)) {
            Ok(true) => merged.push(id),
            Ok(false) => {}
            // another compaction has merged it, and named the merged one elsewhere
            Err(e) if e.kind() == Kind::NotFound => drop(moved.insert(id, None)),
            Err(e) if e.kind() == Kind::Corrupt => tracing::warn!("shard {id} is left as it is: {e}"),
            Err(e) => return Err(e),
        }
    }
    if merged.len() < 2 {
        return Ok(());
    }
    let (blocks, recipes) = merge.finish();
    let (bytes, recipe_bytes) = match shard::write(&blocks, &recipes) {
        Ok(written) => written,
        Err(e) => {
            tracing::warn!("{} shards are left as they are: {e}", merged.len());
            return Ok(());
        }
    };
    let id = ShardId { hash: ContentHash::of(&bytes), nonce: Nonce::random()? };
    let entry = ShardEntry {
        id,
        size_bytes: bytes.len() as u32,
        recipe_bytes: recipe_bytes as u32,
        chunk_count: blocks.iter().map(|(_, directory)| directory.chunks.len() as u32).sum(),
    };
    let bytes = Bytes::from(bytes);
    stored.store.put_shard(&id, bytes.clone()).wait()?;
    if stored.store.hash_shard(&id, u64::from(entry.size_bytes)).wait()? != id.hash {
        return Err(Error::corrupt(format!("shard {id} is not what was just written"))
            .remedy("check the disk or the service that the store is on; nothing was deleted"));
    }
    stored.cache.keep_stored(Kept::Shards, &id.to_string(), &[bytes]);
    moved.extend(merged.into_iter().map(|old| (old, Some(entry))));
    Ok(())
}

/// Adds a shard. Returns false if a newer version has written data into it that merging would lose.
fn add(merge: &mut MergeShards, bytes: &Bytes) -> Result<bool> {
    if !shard::can_merge(bytes)? {
        return Ok(false);
    }
    merge.add(Shard::parse(bytes)?, Recipes::parse(bytes)?)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_shards_are_put_together_and_full_ones_left_alone() {
        let shard = |(size_bytes, chunk_count): (u32, u32)| ShardEntry {
            id: ShardId { hash: ContentHash([0; 32]), nonce: Nonce([0; 8]) },
            size_bytes,
            recipe_bytes: 0,
            chunk_count,
        };
        let sizes = |shards: &[(u32, u32)]| -> Vec<Vec<u32>> {
            let shards: Vec<_> = shards.iter().copied().map(shard).collect();
            runs(&shards).iter().map(|run| run.iter().map(|shard| shard.size_bytes).collect()).collect()
        };
        let most = SHARD_MERGED_BYTES;
        assert_eq!(sizes(&[(1000, 1), (2000, 1)]), [[1000, 2000]]);
        assert_eq!(sizes(&[(1000, 1), (most / 2, 1), (2000, 1)]), [[1000, 2000]], "half a full one stays");
        assert_eq!(sizes(&[(1000, 1), (1000, 50_000)]), [[0; 0]; 0], "as does one of many chunks");
        let third = most / 3;
        assert_eq!(sizes(&[(third, 1); 7]), [vec![third; 3], vec![third; 3]], "one alone is no run");
        assert_eq!(sizes(&[(1000, 49_000); 3]), [[1000, 1000]]);
    }
}
