//! Compaction of the index: a commit merges small segments into its own when there are many, so that readers never
//! have many to read. It only copies: what it replaces stays until somebody who may delete removes it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::shard_merge::{self, MovedShards};
use super::{Index, Standing};
use crate::error::{Error, Result};
use crate::format::inline::CarriedName;
use crate::format::merge::Merge;
use crate::format::segment::Segment;
use crate::id::{CommitId, ContentHash, SegmentId, ShardId, now_milliseconds};
use crate::limit;
use crate::local::metadata_cache::{Cache, Kept};
use crate::store::{Pending, Store};

/// The segment of a commit.
pub(crate) struct OfCommit {
    pub id: SegmentId,
    pub bytes: Bytes,
    /// Whether it has merged others. Then it carries nothing: everything has a file of its own.
    pub is_merged: bool,
}

/// The segment of a commit, from what it has to say itself: alone, or merged with small ones.
pub(crate) fn segment_of(
    reading: (&Store, &Cache),
    index: &Index,
    commit: CommitId,
    own: Vec<u8>,
) -> Result<OfCommit> {
    let (own, chosen) = (Bytes::from(own), due(sizes(index)));
    if let Some((id, bytes)) = merged(reading, index, commit, &own, &chosen)? {
        return Ok(OfCommit { id, bytes: bytes.into(), is_merged: true });
    }
    Ok(OfCommit { id: SegmentId { id: commit, hash: ContentHash::of(&own) }, bytes: own, is_merged: false })
}

/// Gives all that these segments carry files of their own, so that another segment can replace them, but for shards that were
/// `moved` into others. When this returns, they are durable.
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

/// What a commit has to say, merged with the chosen segments; nothing if none could be.
fn merged(
    reading: (&Store, &Cache),
    index: &Index,
    commit: CommitId,
    own: &Bytes,
    chosen: &[SegmentId],
) -> Result<Option<(SegmentId, Vec<u8>)>> {
    if chosen.is_empty() {
        return Ok(None);
    }
    let own = Segment::open(own.clone())?;
    let (store, cache) = reading;
    let standing = index.segments().filter(|segment| chosen.binary_search(&segment.id).is_ok());
    let read: Vec<Read> = standing.map(|segment| (segment.id, segment.whole(store, cache))).collect();
    let moved = merge_shards(reading, &read).unwrap_or_else(|e| {
        tracing::warn!("small shards are not merged: {e}");
        MovedShards::new()
    });
    let (merge, merged) = all_of(&own, &read, moved.clone(), index)?;
    if merged.is_empty() {
        return Ok(None);
    }
    let bytes = match merge.finish() {
        Ok(segment) if segment.size_bytes() <= limit::SEGMENT_READ_BYTES => segment.into_bytes(),
        // nobody could read it
        Ok(_) => return Ok(None),
        Err(e) => {
            tracing::warn!("index segments are not merged: {e}");
            return Ok(None);
        }
    };
    if let Err(e) = unload(store, readable(&read).map(|(_, segment)| segment), &moved) {
        tracing::warn!("index segments are not merged: {e}");
        return Ok(None);
    }
    // last, as a commit of what stood in a file of its own before has to be checked
    unload(store, [&own].into_iter(), &MovedShards::new())?;
    let id = SegmentId { id: after(commit, &merged)?, hash: ContentHash::of(&bytes) };
    tracing::info!("index/{id} merges {} segments", merged.len());
    Ok(Some((id, bytes)))
}

/// A segment that is to be merged, if it could be read.
type Read = (SegmentId, Result<Segment<Bytes>>);

fn readable(read: &[Read]) -> impl Iterator<Item = (SegmentId, &Segment<Bytes>)> {
    read.iter().filter_map(|(id, segment)| Some((*id, segment.as_ref().ok()?)))
}

/// What a commit and the segments that were read say together, and which of these that are: a damaged one stays as it is.
fn all_of<'s>(
    own: &'s Segment<Bytes>,
    read: &'s [Read],
    moved: MovedShards,
    index: &Index,
) -> Result<(Merge<'s>, Vec<CommitId>)> {
    let (mut merge, mut merged) = (Merge::with_shards(moved), Vec::new());
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

/// Merges the small shards that these segments name, as far as their bytes are on this machine: whoever has deduplicated
/// against all that there is has read them.
fn merge_shards(reading @ (_, cache): (&Store, &Cache), read: &[Read]) -> Result<MovedShards> {
    let (mut entries, mut carried) = (Vec::new(), HashMap::new());
    for (_, segment) in readable(read) {
        // what is damaged is not merged either
        entries.extend(segment.shards().unwrap_or_default());
        for (name, bytes) in segment.carried() {
            if let CarriedName::Shard(id) = name {
                carried.insert(id, segment.bytes().slice_ref(bytes));
            }
        }
    }
    let at_hand = |id: &ShardId| match carried.get(id) {
        Some(bytes) => Some(bytes.clone()),
        None => cache.find(Kept::Shards, &id.to_string(), &id.hash),
    };
    shard_merge::merge_at_hand(reading, entries, at_hand)
}

/// The segments that can be merged, and their sizes in bytes, without what they carry: that is not merged.
pub(crate) fn sizes(index: &Index) -> Vec<(SegmentId, u64)> {
    let last = CommitId::LAST_MILLISECONDS;
    // none could sort after one that is dated at the end of time
    let can_merge = |s: &&Arc<Standing>| s.head.can_merge() && s.id.id.milliseconds() < last;
    index.segments().filter(can_merge).map(|s| (s.id, s.own_bytes())).collect()
}

/// The segments that a commit merges, in the order of their ids. What is large is left to `git lfs-cdc compact`, as far as that
/// is run before very many stand: whoever pushes has to upload what is merged.
fn due(sizes: Vec<(SegmentId, u64)>) -> Vec<SegmentId> {
    let chosen = choose(sizes.clone(), limit::SEGMENTS_STANDING, limit::MERGED_BYTES);
    if !chosen.is_empty() || sizes.len() < limit::SEGMENTS_AT_MOST {
        return chosen;
    }
    tracing::warn!("many large index segments stand in the store: run `git lfs-cdc compact`");
    smallest(sizes, limit::SEGMENTS_AT_MOST / 4, limit::COMPACTED_BYTES)
}

/// As many of the smallest as have at most `most_bytes` together, but not more than `most`; none if it were one.
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

/// The id of a segment that replaces others: it sorts after them, whatever the clocks were, and weighs more than they do
/// together.
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

/// The segments to merge, in the order of their ids: none while fewer than `standing` are there. Else the smallest half, and larger ones as
/// long as each is no larger than all before it together: so what is large is copied seldom. Never more than
/// `most_bytes` in all, and then not few, as each commit would copy them again.
fn choose(mut sizes: Vec<(SegmentId, u64)>, standing: usize, most_bytes: u64) -> Vec<SegmentId> {
    if sizes.len() < standing {
        return Vec::new();
    }
    sizes.sort_by_key(|(id, bytes)| (*bytes, *id));
    let (half, mut sum, mut chosen) = (sizes.len() / 2, 0, Vec::new());
    for (number, (id, bytes)) in sizes.into_iter().enumerate() {
        if sum + bytes > most_bytes || (number >= half && bytes > sum) {
            break;
        }
        sum += bytes;
        chosen.push(id);
    }
    if chosen.len() < limit::FEWEST_MERGED.min(half) {
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
            let chosen = choose(standing.clone(), limit::SEGMENTS_STANDING, u64::MAX);
            let (merged, rest): (Vec<_>, Vec<_>) =
                standing.into_iter().partition(|(id, _)| chosen.contains(id));
            let sum: u64 = merged.iter().map(|(_, bytes)| bytes).sum();
            copied += sum;
            standing = rest;
            standing.push((id(number), sum + 1000));
            most = most.max(standing.len());
        }
        assert!(most <= limit::SEGMENTS_STANDING, "{most} stand");
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
        assert!(most <= limit::SEGMENTS_AT_MOST, "{most} stand");
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
