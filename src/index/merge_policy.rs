//! The choice of small segments that a commit merges into its own, so that readers never have many to read. A
//! commit only copies. The replaced segments stay until a process that may delete removes them.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::cached_reads::CachedStore;
use super::shard_merge::{self, MovedShards};
use super::{Index, Standing};
use crate::error::{Error, Result};
use crate::format::inline::CarriedName;
use crate::format::limits;
use crate::format::merge::Merge;
use crate::format::segment::Segment;
use crate::id::{CommitId, ContentHash, SegmentId, ShardId, now_milliseconds};
use crate::local::metadata_cache::Kept;
use crate::store::{Pending, Store};
use crate::units::MIB;

/// When so many segments stand, a commit merges some. At most 32 are to stand, and other pushes may commit
/// meanwhile.
pub(crate) const SEGMENTS_STANDING: usize = 24;
/// When so many segments stand, a commit merges some even if they are large.
const SEGMENTS_AT_MOST: usize = 30;
/// Most bytes of segments that a commit merges, unless [`SEGMENTS_AT_MOST`] stand. The pushing process
/// uploads the merged segment and holds it in memory.
pub(crate) const MERGED_BYTES: u64 = 32 * MIB as u64;
/// Fewest segments that a commit merges.
const FEWEST_MERGED: usize = 4;
/// Most bytes of segments that become one merged segment. Merging takes about as much memory.
pub(crate) const COMPACTED_BYTES: u64 = 512 * MIB as u64;

/// The segment of a commit.
pub(crate) struct OfCommit {
    pub id: SegmentId,
    pub bytes: Bytes,
    /// True if it has merged others. Then it carries nothing, and everything has a file of its own.
    pub is_merged: bool,
}

/// Makes the segment of a commit from the commit's own data, alone or merged with small segments.
pub(crate) fn segment_of(
    stored: CachedStore<'_>,
    index: &Index,
    commit: CommitId,
    own: Vec<u8>,
) -> Result<OfCommit> {
    let own = Bytes::from(own);
    let chosen = due(sizes(index));
    if let Some((id, bytes)) = merged(stored, index, commit, &own, &chosen)? {
        return Ok(OfCommit { id, bytes: bytes.into(), is_merged: true });
    }
    Ok(OfCommit { id: SegmentId { id: commit, hash: ContentHash::of(&own) }, bytes: own, is_merged: false })
}

/// Writes the files that these segments carry as files of their own, so that another segment can replace the
/// segments. Skips shards that were `moved` into others. When this returns, the files are durable.
pub(crate) fn unload<'r>(
    store: &Store,
    segments: impl Iterator<Item = &'r Segment<Bytes>>,
    moved: &MovedShards,
) -> Result<()> {
    let is_wanted = |name: &CarriedName| !matches!(name, CarriedName::Shard(id) if moved.contains_key(id));
    let mut unloading = Vec::new();
    for segment in segments {
        let wanted = segment.carried().filter(|(name, _)| is_wanted(name));
        unloading.extend(wanted.map(|(name, bytes)| store.unload(&name, segment.bytes().slice_ref(bytes))));
    }
    unloading.into_iter().try_for_each(Pending::wait)
}

/// Merges a commit's own data with the chosen segments. Returns None if no segment could be merged.
fn merged(
    stored: CachedStore<'_>,
    index: &Index,
    commit: CommitId,
    own: &Bytes,
    chosen: &[SegmentId],
) -> Result<Option<(SegmentId, Vec<u8>)>> {
    if chosen.is_empty() {
        return Ok(None);
    }
    let own = Segment::open(own.clone())?;
    let standing = index.segments().filter(|segment| chosen.binary_search(&segment.id).is_ok());
    let read: Vec<Read> = standing.map(|segment| (segment.id, segment.whole(stored))).collect();
    let moved = merge_shards(stored, &read).unwrap_or_else(|e| {
        tracing::warn!("small shards are not merged: {e}");
        MovedShards::new()
    });
    let (merge, merged) = all_of(&own, &read, moved.clone(), index)?;
    if merged.is_empty() {
        return Ok(None);
    }
    let bytes = match merge.finish() {
        Ok(segment) if segment.size_bytes() <= limits::SEGMENT_READ_BYTES => segment.into_bytes(),
        // no reader could read it
        Ok(_) => return Ok(None),
        Err(e) => {
            tracing::warn!("index segments are not merged: {e}");
            return Ok(None);
        }
    };
    if let Err(e) = unload(stored.store, readable(&read).map(|(_, segment)| segment), &moved) {
        tracing::warn!("index segments are not merged: {e}");
        return Ok(None);
    }
    // last, because a commit needs a check if its files existed separately before
    unload(stored.store, [&own].into_iter(), &MovedShards::new())?;
    let id = SegmentId { id: after(commit, &merged)?, hash: ContentHash::of(&bytes) };
    tracing::info!("index/{id} merges {} segments", merged.len());
    Ok(Some((id, bytes)))
}

/// A segment that is to be merged, or the error of reading it.
type Read = (SegmentId, Result<Segment<Bytes>>);

fn readable(read: &[Read]) -> impl Iterator<Item = (SegmentId, &Segment<Bytes>)> {
    read.iter().filter_map(|(id, segment)| Some((*id, segment.as_ref().ok()?)))
}

/// Merges the data of a commit with the segments that were read. Also returns the ids of the merged segments.
/// A damaged segment is left alone.
fn all_of<'s>(
    own: &'s Segment<Bytes>,
    read: &'s [Read],
    moved: MovedShards,
    index: &Index,
) -> Result<(Merge<'s>, Vec<CommitId>)> {
    let mut merge = Merge::with_shards(moved);
    let mut merged = Vec::new();
    merge.add(own)?;
    for (id, segment) in read {
        let added = segment.as_ref().map_err(Error::clone).and_then(|segment| {
            merge.add(segment)?;
            merge.replace(*id, segment, |id| index.listed().contains_key(id));
            Ok(())
        });
        match added {
            Ok(()) => merged.push(id.id),
            Err(e) => tracing::warn!("index/{id} is not merged: {e}"),
        }
    }
    Ok((merge, merged))
}

/// Merges the small shards that these segments name, if their bytes are on this machine. A process that has
/// deduplicated against all shards has read them.
fn merge_shards(stored: CachedStore<'_>, read: &[Read]) -> Result<MovedShards> {
    let mut entries = Vec::new();
    let mut carried = HashMap::new();
    for (_, segment) in readable(read) {
        // damaged shards are not merged either
        entries.extend(segment.shards().unwrap_or_default());
        for (name, bytes) in segment.carried() {
            if let CarriedName::Shard(id) = name {
                carried.insert(id, segment.bytes().slice_ref(bytes));
            }
        }
    }
    let at_hand = |id: &ShardId| match carried.get(id) {
        Some(bytes) => Some(bytes.clone()),
        None => stored.cache.find(Kept::Shards, &id.to_string(), &id.hash),
    };
    shard_merge::merge_at_hand(stored, entries, at_hand)
}

/// Returns the segments that can be merged, and their sizes in bytes without the carried files, which are not
/// merged.
pub(crate) fn sizes(index: &Index) -> Vec<(SegmentId, u64)> {
    let last = CommitId::LAST_MILLISECONDS;
    // no segment can sort after one with the last possible time
    let can_merge = |s: &&Arc<Standing>| s.head.can_merge() && s.id.id.milliseconds() < last;
    index.segments().filter(can_merge).map(|s| (s.id, s.own_bytes())).collect()
}

/// Chooses the segments that a commit merges, in the order of their ids. Large ones are left to `git lfs-cdc
/// compact`, because a pushing process has to upload a merged segment. If very many stand, a commit merges
/// some all the same.
fn due(sizes: Vec<(SegmentId, u64)>) -> Vec<SegmentId> {
    let chosen = choose(sizes.clone(), SEGMENTS_STANDING, MERGED_BYTES);
    if !chosen.is_empty() || sizes.len() < SEGMENTS_AT_MOST {
        return chosen;
    }
    tracing::warn!("many large index segments stand in the store: run `git lfs-cdc compact`");
    smallest(sizes, SEGMENTS_AT_MOST / 4, COMPACTED_BYTES)
}

/// Chooses the smallest segments that have at most `most_bytes` together, but no more than `most`. Chooses
/// none if it were only one.
fn smallest(mut sizes: Vec<(SegmentId, u64)>, most: usize, most_bytes: u64) -> Vec<SegmentId> {
    sizes.sort_by_key(|(id, bytes)| (*bytes, *id));
    let mut sum = 0;
    let fits = |(_, bytes): &&(SegmentId, u64)| {
        sum += bytes;
        sum <= most_bytes
    };
    let mut chosen: Vec<SegmentId> = sizes.iter().take(most).take_while(fits).map(|(id, _)| *id).collect();
    chosen.sort();
    if chosen.len() < 2 { Vec::new() } else { chosen }
}

/// Returns the id of a segment that replaces others. It sorts after them, even if clocks were wrong, and
/// weighs more than all of them together.
pub(crate) fn after(commit: CommitId, replaced: &[CommitId]) -> Result<CommitId> {
    let weight = replaced.iter().fold(1u32, |sum, id| sum.saturating_add(id.weight()));
    let own = commit.weighing(weight);
    match replaced.iter().max() {
        Some(newest) if own <= *newest => {
            let later = CommitId::new(now_milliseconds().max(newest.milliseconds() + 1))?;
            Ok(later.weighing(weight))
        }
        _ => Ok(own),
    }
}

/// Chooses the segments to merge, in the order of their ids. Chooses none if fewer than `standing` are there.
/// Otherwise it takes the smallest half. It adds larger ones as long as each is no larger than all before it
/// together, so large segments are seldom copied. All together have at most `most_bytes`. If only few fit, it
/// chooses none, because each commit would copy them again.
fn choose(mut sizes: Vec<(SegmentId, u64)>, standing: usize, most_bytes: u64) -> Vec<SegmentId> {
    if sizes.len() < standing {
        return Vec::new();
    }
    sizes.sort_by_key(|(id, bytes)| (*bytes, *id));
    let half = sizes.len() / 2;
    let mut sum = 0;
    let mut chosen = Vec::new();
    for (number, (id, bytes)) in sizes.into_iter().enumerate() {
        if sum + bytes > most_bytes || (number >= half && bytes > sum) {
            break;
        }
        sum += bytes;
        chosen.push(id);
    }
    if chosen.len() < FEWEST_MERGED.min(half) {
        return Vec::new();
    }
    chosen.sort();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> SegmentId {
        SegmentId { id: CommitId::new(number).unwrap(), hash: ContentHash([number as u8; 32]) }
    }

    fn chosen(sizes: &[u64], standing: usize, most_bytes: u64) -> Vec<u64> {
        let sizes = sizes.iter().enumerate().map(|(number, bytes)| (id(number as u64), *bytes)).collect();
        choose(sizes, standing, most_bytes).iter().map(|id| id.id.milliseconds()).collect()
    }

    #[test]
    fn small_ones_are_merged_when_there_are_many() {
        assert_eq!(chosen(&[1, 1, 1], 4, 100), [0; 0]);
        assert_eq!(chosen(&[1, 100, 1, 1], 4, 1000), [0, 2, 3], "the half and one no larger than it");
        assert_eq!(chosen(&[1, 2, 3, 100], 4, 1000), [0, 1, 2]);
        assert_eq!(chosen(&[10, 20, 30, 40, 50, 60, 70, 80], 8, 100), [0, 1, 2, 3], "no more than that");
        assert_eq!(chosen(&[50, 60, 70, 80, 90, 100, 110, 120], 8, 170), [0; 0], "not worth it");
    }

    #[test]
    fn what_is_copied_grows_slowly() {
        let (mut standing, mut copied, mut most) = (Vec::new(), 0, 0);
        let commits = 10_000;
        for number in 0..commits {
            let chosen = choose(standing.clone(), SEGMENTS_STANDING, u64::MAX);
            let (merged, rest): (Vec<_>, Vec<_>) =
                standing.into_iter().partition(|(id, _)| chosen.contains(id));
            let sum: u64 = merged.iter().map(|(_, bytes)| bytes).sum();
            copied += sum;
            standing = rest;
            standing.push((id(number), sum + 1000));
            most = most.max(standing.len());
        }
        assert!(most <= SEGMENTS_STANDING, "{most} stand");
        let times = copied as f64 / (1000 * commits) as f64;
        assert!(times < 6.0, "each byte was copied {times} times");
    }

    /// Commits of 30 MB of index each, as by pushes of 300,000 small objects: together 8 GB of index.
    #[test]
    fn a_large_index_has_few_segments_too_and_is_copied_seldom() {
        let (mut standing, mut copied, mut most, commits) = (Vec::new(), 0, 0, 270);
        for number in 0..commits {
            let own = 30_000_000;
            let chosen = due(standing.clone());
            let (merged, rest): (Vec<_>, Vec<_>) =
                standing.into_iter().partition(|(id, _)| chosen.contains(id));
            let sum: u64 = merged.iter().map(|(_, bytes)| bytes).sum();
            copied += sum;
            standing = rest;
            standing.push((id(number), sum + own));
            most = most.max(standing.len());
        }
        assert!(most <= SEGMENTS_AT_MOST, "{most} stand");
        let times = copied as f64 / (30_000_000 * commits) as f64;
        assert!(times < 2.0, "each byte was copied {times} times");
    }

    #[test]
    fn the_name_sorts_after_what_is_replaced() {
        let [old, new] = [1, 2].map(|ms| CommitId::new(ms).unwrap());
        assert_eq!(after(new, &[old]).unwrap(), new.weighing(2));
        assert!(after(old, &[new]).unwrap() > new);
        let ahead = CommitId::new(CommitId::LAST_MILLISECONDS - 1).unwrap();
        assert!(after(new, &[ahead, old]).unwrap() > ahead);
        let later = after(new, &[new.weighing(7), old]).unwrap();
        assert!(later > new.weighing(7) && later.weight() == 9, "of the same millisecond: {later}");
    }

    #[test]
    fn what_replaces_others_may_replace_each_of_them_and_none_of_these_may_replace_it() {
        let heavy = CommitId::new(5).unwrap().weighing(u32::MAX - 1);
        let mut replaced = vec![CommitId::new(9).unwrap(), CommitId::new(3).unwrap().weighing(40), heavy];
        for _ in 0..3 {
            let merged = after(CommitId::new(1).unwrap(), &replaced).unwrap();
            assert!(replaced.iter().all(|id| merged.may_replace(id) && !id.may_replace(&merged)));
            replaced.push(merged);
        }
        let [old, new] = [1, 2].map(|ms| CommitId::new(ms).unwrap());
        assert!(!new.may_replace(&old), "a single commit replaces nothing");
        assert!(!new.weighing(2).may_replace(&old.weighing(2)));
    }
}
