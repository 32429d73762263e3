//! The deletion of replaced files. Its order makes sure that nothing is lost, even if it ends at any moment.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::{Compaction, wait};
use crate::error::{Error, Kind, Result};
use crate::format::inline::CarriedName;
use crate::format::segment::Segment;
use crate::id::{BlockId, ContentHash, Oid, SegmentId, ShardId};
use crate::index::cached_reads::{COPIES_IN_FLIGHT, CachedStore};
use crate::index::condemned::CondemnedNames;
use crate::index::merge_policy::MERGED_BYTES;
use crate::index::{Index, Standing, Watch, manifest};
use crate::local::metadata_cache::Kept;
use crate::maintain::replaced_records::check_said;
use crate::store::{Moved, Pending, Store};

/// Number of replaced segments from which listing the index is slow: one page of a LIST.
pub(crate) const SEGMENTS_REPLACED: usize = 1000;

/// Deletes each replaced segment, and the shards that only such segments name. Before that, it checks that
/// the replacing segment stands, is whole, and has all its records. The index was just listed and read.
pub(super) fn remove_replaced(
    stored: CachedStore<'_>,
    index: &Index,
    done: &mut Compaction,
    watch: Watch<'_>,
) -> Result<()> {
    let replaced = index.replaced_by();
    done.replaced = replaced.len() as u64;
    if replaced.is_empty() {
        return Ok(());
    }
    check_whole(stored.store, index, &replaced, watch)?;
    let (segments, shards) = removable(stored, index, &replaced, &mut done.findings, watch)?;
    let gone: HashSet<SegmentId> = segments.iter().copied().collect();
    let keeps_manifest = stored.store.keeps_manifest().wait()?;
    // a reader that uses the manifest must not look for deleted segments
    let write_manifest =
        || if keeps_manifest { manifest::write_without(stored.store, &gone).map(drop) } else { Ok(()) };
    write_manifest().map_err(|e| e.context("nothing was deleted, as the manifest is to be written first"))?;
    stored.store.confirm()?;
    done.may_delete = Some(true);
    match delete(stored.store, &segments, &shards, index, done, watch) {
        Err(e) if e.kind() == Kind::Denied => {
            tracing::debug!("{e}");
            done.may_delete = Some(false);
        }
        deleted => deleted?,
    }
    // a process that listed before the merge may have written its manifest meanwhile
    write_manifest()
}

/// Fails unless each replacing segment is whole in the store itself. A copy on this machine proves nothing.
fn check_whole(
    store: &Store,
    index: &Index,
    replaced: &BTreeMap<SegmentId, Vec<Arc<Standing>>>,
    watch: Watch<'_>,
) -> Result<()> {
    let standing: BTreeSet<SegmentId> = replaced.values().flatten().map(|segment| segment.id).collect();
    for id in &standing {
        let size_bytes = index.listed().get(id).copied().unwrap_or_default();
        let moved = Moved::default();
        let hashing = store.hash_segment(id, size_bytes, &moved);
        if wait("reading back what replaces others", hashing, &moved, size_bytes, watch)? != id.hash {
            return Err(Error::corrupt(format!(
                "index/{id} is not what was written, so nothing was deleted"
            ))
            .remedy(
                "move that file away: what it has merged still stands, and is read instead; then \
                 `git lfs push --all` from a clone that has the objects of the commit that merged it",
            ));
        }
    }
    Ok(())
}

/// Returns the files that may be deleted: replaced segments of which all records stand in the replacing ones,
/// and the shards that only these segments name. A segment with a missing record is a finding, and stays.
fn removable(
    stored: CachedStore<'_>,
    index: &Index,
    replaced: &BTreeMap<SegmentId, Vec<Arc<Standing>>>,
    findings: &mut Vec<String>,
    watch: Watch<'_>,
) -> Result<(Vec<SegmentId>, Vec<ShardId>)> {
    let mut condemned = CondemnedNames::default();
    condemned.refresh(stored)?;
    let mut segments = Vec::new();
    let mut named = BTreeSet::new();
    let mut kept = BTreeSet::new();
    let standing: BTreeSet<SegmentId> = replaced.values().flatten().map(|segment| segment.id).collect();
    let standing = index.segments().filter(|segment| standing.contains(&segment.id));
    let standing: BTreeMap<SegmentId, Segment<Bytes>> =
        standing.map(|s| Ok((s.id, s.whole(stored)?))).collect::<Result<_>>()?;
    let mut done = 0;
    for part in parts(index, replaced.keys().copied()) {
        watch(format!("checking what is replaced: {done} of {} segments", replaced.len()));
        done += part.len();
        let opened: Vec<_> =
            read(stored, index, &part).into_iter().map(|bytes| bytes.and_then(Segment::open)).collect();
        let unloaded: Vec<_> = opened
            .iter()
            .map(|segment| segment.as_ref().map(|segment| unloaded(stored.store, segment)))
            .collect();
        for ((id, segment), unloaded) in part.iter().zip(&opened).zip(unloaded) {
            let segment = match segment {
                Ok(segment) => segment,
                // another process has deleted it already, or is deleting it now
                Err(e) if e.kind() == Kind::NotFound => continue,
                Err(e) if e.kind() == Kind::Corrupt => {
                    findings.push(e.clone().context(format!("index/{id} is replaced, and kept")).to_string());
                    continue;
                }
                Err(e) => return Err(e.clone()),
            };
            let by: Vec<_> = replaced[id].iter().filter_map(|by| standing.get(&by.id)).collect();
            let find = |oid: &Oid| {
                let found = by.iter().map(|by| by.head().find(&&by.bytes()[..], oid));
                Ok(found.collect::<Result<Vec<_>>>()?.concat())
            };
            // shards that it carries vanish with it
            let carries = |id: &ShardId| segment.carried().any(|(name, _)| name == CarriedName::Shard(*id));
            let ids = segment.shards()?.into_iter().map(|shard| shard.id).filter(|id| !carries(id));
            let said = check_said(segment, usize::MAX, find, &condemned);
            match said.and_then(|()| unloaded.unwrap_or_default().into_iter().try_for_each(check_unloaded)) {
                Ok(()) => {
                    segments.push(*id);
                    named.extend(ids);
                }
                Err(e) if e.kind() == Kind::Unreachable => return Err(e),
                Err(e) => {
                    findings.push(e.context(format!("index/{id} is replaced, and kept")).to_string());
                    kept.extend(ids);
                }
            }
        }
    }
    let still_named = index.shards(stored)?;
    let shards = named.into_iter().filter(|id| !kept.contains(id) && !still_named.contains_key(id));
    Ok((segments, shards.collect()))
}

/// Divides segments into parts that fit into memory.
fn parts(index: &Index, ids: impl Iterator<Item = SegmentId>) -> Vec<Vec<SegmentId>> {
    let mut parts: Vec<Vec<SegmentId>> = Vec::new();
    let mut sum = 0;
    for id in ids {
        let bytes = index.listed().get(&id).copied().unwrap_or_default();
        sum = bytes.saturating_add(sum);
        match parts.last_mut() {
            Some(part) if part.len() < COPIES_IN_FLIGHT && sum <= MERGED_BYTES => part.push(id),
            _ => {
                parts.push(vec![id]);
                sum = bytes;
            }
        }
    }
    parts
}

/// Reads segments by their names, all at once. Keeps no copies, because they will not be read again.
fn read(stored: CachedStore<'_>, index: &Index, ids: &[SegmentId]) -> Vec<Result<Bytes>> {
    let begin = |id: &SegmentId| {
        let copy = stored.cache.find(Kept::Index, &id.to_string(), &id.hash);
        let size_bytes = index.listed().get(id).copied().unwrap_or_default();
        let pending = copy.is_none().then(|| stored.store.get_segment(id, size_bytes));
        (*id, copy, pending)
    };
    let begun: Vec<_> = ids.iter().map(begin).collect();
    let wait = |(id, copy, pending): (SegmentId, Option<Bytes>, Option<Pending<'_, Bytes>>)| {
        let bytes = pending.map_or_else(|| Ok(copy.unwrap_or_default()), Pending::wait)?;
        if ContentHash::of(&bytes) == id.hash {
            Ok(bytes)
        } else {
            Err(Error::corrupt("it is not what was written").remedy("move that file away"))
        }
    };
    begun.into_iter().map(wait).collect()
}

/// A block that a replaced segment carries, and the hash of the block's own file, which is being read.
type Unloaded<'s> = (BlockId, Pending<'s, ContentHash>);

/// Begins to read the blocks that a segment carries, in the files that stay when the segment is gone.
fn unloaded<'s>(store: &'s Store, segment: &Segment<Bytes>) -> Vec<Unloaded<'s>> {
    let blocks = segment.carried().filter_map(|(name, bytes)| match name {
        CarriedName::Block(id) => Some((id, store.hash_unloaded(&id, segment.bytes().slice_ref(bytes)))),
        CarriedName::Shard(_) => None,
    });
    blocks.collect()
}

/// Fails unless the block's own file is whole.
fn check_unloaded((id, hash): Unloaded<'_>) -> Result<()> {
    let found = hash.wait().map_err(|e| e.context(format!("block {id}, which it carries")))?;
    if found == id.hash {
        return Ok(());
    }
    Err(Error::corrupt(format!("block {id}, which it carries, is another one in a file of its own"))
        .remedy("keep it; move that file away, and compact again"))
}

/// Deletes shards first. As long as the segments stand that named them, the next run finds the shards that
/// are left.
fn delete(
    store: &Store,
    segments: &[SegmentId],
    shards: &[ShardId],
    index: &Index,
    done: &mut Compaction,
    watch: Watch<'_>,
) -> Result<()> {
    let part = SEGMENTS_REPLACED;
    for shards in shards.chunks(part) {
        watch(format!("deleting shards: {} are done", done.deleted_shards));
        store.remove_shards(shards)?;
        done.deleted_shards += shards.len() as u64;
    }
    for segments in segments.chunks(part) {
        watch(format!("deleting replaced segments: {} are done", done.deleted_segments));
        store.remove_segments(segments)?;
        done.deleted_segments += segments.len() as u64;
        done.deleted_bytes += segments.iter().filter_map(|id| index.listed().get(id)).sum::<u64>();
    }
    Ok(())
}
