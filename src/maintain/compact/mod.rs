//! The compaction of a store, `git lfs-cdc compact`. It merges the index and small shards as far as that
//! pays, and deletes replaced files. *Merging* in `docs/format.md` says why nothing is lost, even if it stops
//! at any moment.

pub(crate) mod removal;

use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::format::limits;
use crate::format::merge::Merge;
use crate::id::{CommitId, SegmentId, now_milliseconds};
use crate::index::cached_reads::{CachedStore, cache_of};
use crate::index::merge_policy::{COMPACTED_BYTES, MERGED_BYTES, after, sizes, unload};
use crate::index::{Index, Watch, shard_merge};
use crate::local::metadata_cache::Kept;
use crate::store::{Moved, Pending, Store};

/// A large segment is merged with small ones if it is at most this many times as large as they are together.
const WORTH_MERGING: u64 = 4;
/// Tries of a compaction. It begins again if another compaction has deleted a file that it was about to read.
const COMPACTIONS_TRIED: usize = 3;
/// Pause between two reports of a compaction that moves a large file.
const WATCH_MS: u64 = 1000;

/// The result of a compaction. The names are part of the command line's contract.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Compaction {
    /// Segments that no other replaces, before.
    pub segments_before: u64,
    /// The same after.
    pub segments_after: u64,
    /// Bytes of these segments, before.
    pub bytes_before: u64,
    /// The same after.
    pub bytes_after: u64,
    /// Shards that these segments name, before.
    pub shards_before: u64,
    /// The same after.
    pub shards_after: u64,
    /// Replaced segments that stood before anything was deleted, from this merge and earlier ones.
    pub replaced: u64,
    /// Replaced segments that were deleted.
    pub deleted_segments: u64,
    /// Bytes of the deleted segments.
    pub deleted_bytes: u64,
    /// Shards that were deleted.
    pub deleted_shards: u64,
    /// True if this key may delete. Unknown if there was nothing to delete.
    pub may_delete: Option<bool>,
    /// Damage of the store, with its remedies.
    pub findings: Vec<String>,
}

/// Compacts the index of a store. Everything that it writes is durable before anything is deleted. It may be
/// stopped at any time, and the next run goes on.
pub fn compact(store: &Store, watch: Watch<'_>) -> Result<Compaction> {
    compact_with(CachedStore { store, cache: &cache_of(store) }, watch)
}

pub(crate) fn compact_with(stored: CachedStore<'_>, watch: Watch<'_>) -> Result<Compaction> {
    stored.store.prepare_writing()?;
    for _ in 0..COMPACTIONS_TRIED {
        watch("reading the index".into());
        let mut index = Index::default();
        index.refresh(stored)?;
        match compact_index(stored, index, watch) {
            // another compaction has deleted the segments that it replaced
            Err(e) if e.kind() == Kind::NotFound => {
                stored.store.confirm()?;
                tracing::info!("the index was changed by somebody else, and is read again: {e}");
            }
            done => return done,
        }
    }
    Err(Error::busy("another compaction works on this store at the same time; nothing is lost")
        .remedy("run this again when that one has ended"))
}

/// Compacts the index in the state in which it was read. Fails with [`Kind::NotFound`] if a part is gone.
fn compact_index(stored: CachedStore<'_>, mut index: Index, watch: Watch<'_>) -> Result<Compaction> {
    let mut done = Compaction::default();
    (done.segments_before, done.bytes_before, done.shards_before) = count(stored, &index)?;
    let mut has_merged = false;
    for group in groups(stored, &index) {
        has_merged |= merge_group(stored, &index, &group, &mut done.findings, watch)?;
    }
    if has_merged {
        // the merged segments are not needed any more; the new ones count only if a LIST that begins now
        // shows them
        index = Index::default();
        index.refresh(stored)?;
    }
    done.findings.extend(index.damage().map(Error::to_string));
    (done.segments_after, done.bytes_after, done.shards_after) = count(stored, &index)?;
    removal::remove_replaced(stored, &index, &mut done, watch)?;
    Ok(done)
}

/// Counts segments, their bytes, and the shards that they name.
fn count(stored: CachedStore<'_>, index: &Index) -> Result<(u64, u64, u64)> {
    let bytes = index.segments().map(|segment| segment.size_bytes).sum();
    Ok((index.segments().count() as u64, bytes, index.shards(stored)?.len() as u64))
}

/// Returns groups of segments. Each group is to become one segment.
fn groups(stored: CachedStore<'_>, index: &Index) -> Vec<Vec<SegmentId>> {
    let all = divide(sizes(index));
    // a single segment is written again only to merge its shards
    let pays = |group: &Vec<_>| group.len() > 1 || shard_merge::are_many(stored, index, group);
    all.into_iter().filter(pays).collect()
}

/// Divides segments into groups that are worth merging, each in the order of ids. All small segments are
/// together. A larger one joins them if they are not too small beside it. No group is larger than the bound
/// for one segment.
fn divide(mut sizes: Vec<(SegmentId, u64)>) -> Vec<Vec<SegmentId>> {
    sizes.sort_by_key(|(id, bytes)| (*bytes, *id));
    let mut groups: Vec<(Vec<SegmentId>, u64)> = Vec::new();
    for (id, bytes) in sizes {
        match groups.last_mut() {
            Some((group, sum))
                if *sum + bytes <= COMPACTED_BYTES
                    && (*sum + bytes <= MERGED_BYTES || bytes <= *sum * WORTH_MERGING) =>
            {
                group.push(id);
                *sum += bytes;
            }
            _ => groups.push((vec![id], bytes)),
        }
    }
    let mut divided: Vec<(Vec<SegmentId>, u64)> = Vec::new();
    for (mut group, bytes) in groups.into_iter().rev() {
        // a group that is written anyway takes smaller segments along
        let fits =
            |(others, sum): &&mut (Vec<SegmentId>, u64)| others.len() > 1 && *sum + bytes <= COMPACTED_BYTES;
        match divided.iter_mut().find(fits) {
            Some((others, sum)) => {
                others.append(&mut group);
                *sum += bytes;
            }
            None => divided.push((group, bytes)),
        }
    }
    divided.iter_mut().for_each(|(group, _)| group.sort());
    divided.into_iter().map(|(group, _)| group).rev().collect()
}

/// Merges a group into one segment, and returns true if it has written one. Deletes nothing.
fn merge_group(
    stored: CachedStore<'_>,
    index: &Index,
    group: &[SegmentId],
    findings: &mut Vec<String>,
    watch: Watch<'_>,
) -> Result<bool> {
    let moved = shard_merge::merge_small(stored, index, group, watch)?;
    watch(format!("merging {} index segments", group.len()));
    let standing = index.segments().filter(|segment| group.binary_search(&segment.id).is_ok());
    let sources: Vec<_> = standing.map(|s| Ok((s.id, s.whole(stored)?))).collect::<Result<_>>()?;
    let has_moved = !moved.is_empty();
    unload(stored.store, sources.iter().map(|(_, segment)| segment), &moved)?;
    let mut merge = Merge::with_shards(moved);
    let mut merged = Vec::new();
    for (id, segment) in &sources {
        match merge.add(segment) {
            Ok(()) => {
                merge.replace(*id, segment, |id| index.listed().contains_key(id));
                merged.push(id.id);
            }
            Err(e) => findings.push(e.context(format!("index/{id} is left as it is")).to_string()),
        }
    }
    let is_worth_it = merged.len() > 1 || (has_moved && !merged.is_empty());
    if !is_worth_it {
        return Ok(false);
    }
    let id = after(CommitId::new(now_milliseconds())?, &merged)?;
    let segment = merge.finish()?;
    let size_bytes = segment.size_bytes() as u64;
    let id = SegmentId { id, hash: segment.hash() };
    if size_bytes > limits::SEGMENT_READ_BYTES as u64 {
        return Err(Error::internal(format!("a merged segment of {size_bytes} bytes")));
    }
    let pieces = segment.into_pieces();
    // if another store was mounted meanwhile, the segment would name blocks that are not there
    stored.store.confirm()?;
    let moved = Moved::default();
    let putting = stored.store.put_segment(&id, pieces.clone(), &moved);
    wait("storing what was merged", putting, &moved, size_bytes, watch)?;
    stored.cache.keep_stored(Kept::Index, &id.to_string(), &pieces);
    tracing::debug!("index/{id} merges {} segments", merged.len());
    Ok(true)
}

/// Waits for a request that moves so many bytes, and reports its progress.
fn wait<T: Send + 'static>(
    doing: &str,
    pending: Pending<'_, T>,
    moved: &Moved,
    size_bytes: u64,
    watch: Watch<'_>,
) -> Result<T> {
    let (sender, answer) = crossbeam_channel::bounded(1);
    pending.hand_to(move |answer| drop(sender.send(answer)));
    loop {
        watch(format!("{doing}: {} of {} MB", moved.bytes() / 1_000_000, size_bytes / 1_000_000));
        match answer.recv_timeout(Duration::from_millis(WATCH_MS)) {
            Ok(answer) => return answer,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::internal("a request of the store stopped"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ContentHash;

    fn divided(sizes: &[u64]) -> Vec<Vec<u64>> {
        let id = |number| SegmentId { id: CommitId::new(number).unwrap(), hash: ContentHash([0; 32]) };
        let sizes = sizes.iter().enumerate().map(|(number, bytes)| (id(number as u64), *bytes)).collect();
        let numbers = |group: Vec<SegmentId>| group.iter().map(|id| id.id.milliseconds()).collect();
        divide(sizes).into_iter().map(numbers).collect()
    }

    #[test]
    fn small_ones_become_one_and_large_ones_are_left_alone_unless_it_pays() {
        const MIB: u64 = crate::units::MIB as u64;
        assert_eq!(divided(&[1, 1000, 1, 31 * MIB]), [[0, 1, 2, 3]]);
        assert_eq!(divided(&[400 * MIB, 1, 300, 5]), [vec![1, 2, 3], vec![0]]);
        assert_eq!(
            divided(&[20 * MIB, 80 * MIB, 300 * MIB]),
            [[0, 1, 2]],
            "each at most four times as large"
        );
        assert_eq!(divided(&[20 * MIB, 81 * MIB]), [[0], [1]]);
        assert_eq!(divided(&[200 * MIB; 5]), [vec![0, 1], vec![2, 3], vec![4]], "no more than allowed");
        assert_eq!(divided(&[]), [[0; 0]; 0]);
    }

    /// The index of ten million objects, and of eighty million.
    #[test]
    fn few_stand_after_it_however_large_the_index_is_and_a_second_one_finds_nothing_to_do() {
        const MIB: u64 = crate::units::MIB as u64;
        for (count, most) in [(45, 3), (256, 32)] {
            let mut sizes = vec![32 * MIB; count];
            sizes.extend([2000; 20]);
            let after: Vec<u64> =
                divided(&sizes).iter().map(|group| group.iter().map(|n| sizes[*n as usize]).sum()).collect();
            assert!(after.len() <= most, "{} segments", after.len());
            assert!(divided(&after).iter().all(|group| group.len() == 1), "{after:?}");
        }
    }
}
