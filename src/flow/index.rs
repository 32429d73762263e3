//! The index as a whole: every segment that the store lists and that no other has replaced.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bytes::Bytes;

use super::copies::copies;
use crate::error::{Error, Kind, Result};
use crate::format::block::Summary;
use crate::format::recipe::Record;
use crate::format::segment::{Segment, ShardEntry};
use crate::id::{CommitId, Oid, SegmentId, ShardId};
use crate::limit;
use crate::local::cache::{Cache, Kept};
use crate::store::Store;

/// Segments in memory, by their names.
#[derive(Default)]
pub(super) struct Index {
    segments: BTreeMap<SegmentId, Segment<Bytes>>,
    /// Listed segments that are not what was written. Done without, until something is missing.
    damaged: BTreeMap<SegmentId, Error>,
    /// What the last LIST showed with sizes in bytes, and what this process has committed since.
    listed: BTreeMap<SegmentId, u64>,
}

/// What the index says of an object.
#[derive(Debug)]
pub(super) struct Lookup {
    /// Every record, the newest commit first.
    pub found: Vec<Found>,
    /// Damage that may hide others.
    pub damaged: Option<Error>,
}

/// A record, and what its numbers refer to.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub record: Record,
    pub repository: String,
    /// The blocks that the terms name, and then those that these depend on. Terms are renumbered to
    /// refer to this list.
    pub blocks: Vec<Summary>,
    /// How many of `blocks` are named by terms.
    pub named: usize,
}

impl Index {
    /// Brings the index up to date with one LIST, and what that shows to be missing here. A segment
    /// that vanishes meanwhile was merged into another: then the store is listed again.
    pub(super) fn refresh(&mut self, store: &Store, cache: &Cache) -> Result<()> {
        for attempt in 0..limit::LIST_ATTEMPTS {
            pause_before(store, attempt);
            if self.read_listed(store, cache)?.is_some() {
                return Ok(());
            }
        }
        Err(never_whole(store))
    }

    /// Reads all commits, as `docs/format.md` defines it: until two LISTs in a row are equal and every
    /// listed segment was read, or is replaced by one that was.
    pub(super) fn read_all_commits(&mut self, store: &Store, cache: &Cache) -> Result<()> {
        let mut before = None;
        for _ in 0..limit::LIST_ATTEMPTS {
            let listed = self.read_listed(store, cache)?;
            if listed.is_some() && listed == before {
                return Ok(());
            }
            before = listed;
            if let Some(damage) = self.damaged.values().next() {
                return Err(damage.clone());
            }
        }
        Err(never_whole(store))
    }

    /// Lists the segments once, reads those that are not here, and forgets those that are not listed
    /// any more. Returns the list, or nothing if a listed segment was gone when it was to be read.
    fn read_listed(&mut self, store: &Store, cache: &Cache) -> Result<Option<Vec<SegmentId>>> {
        self.listed = store.list_segments()?.into_iter().collect();
        let listed: Vec<SegmentId> = self.listed.keys().copied().collect();
        let standing: HashSet<SegmentId> = listed.iter().copied().collect();
        self.segments.retain(|id, _| standing.contains(id));
        self.damaged.retain(|id, _| standing.contains(id));
        let replaced = RefCell::new(self.replaced());
        let mut vanished = Vec::new();
        // merged segments sort after what they replace: the newest first, and most of the old ones need not
        // be read
        let seen = |id: &SegmentId| self.segments.contains_key(id) || self.damaged.contains_key(id);
        let new: Vec<SegmentId> = listed.iter().rev().copied().filter(|id| !seen(id)).collect();
        let new = new.into_iter().filter(|id| !replaced.borrow().contains(id));
        for (id, bytes) in copies(cache, Kept::Index, new, |id| id.hash, |id| store.get_segment(id)) {
            match bytes.and_then(Segment::open) {
                Ok(segment) => {
                    replaced.borrow_mut().extend(segment.replaces().iter().copied());
                    self.segments.insert(id, segment);
                }
                Err(e) if e.kind() == Kind::NotFound => vanished.push(id),
                Err(e) if e.kind() == Kind::Corrupt => {
                    let e = e.context(format!("index/{id}"));
                    tracing::warn!("done without: {e}");
                    self.damaged.insert(id, e);
                }
                Err(e) => return Err(e.context(format!("index/{id}"))),
            }
        }
        let replaced = replaced.into_inner();
        self.segments.retain(|id, _| !replaced.contains(id));
        self.damaged.retain(|id, _| !replaced.contains(id));
        Ok(vanished.iter().all(|id| replaced.contains(id)).then_some(listed))
    }

    fn replaced(&self) -> HashSet<SegmentId> {
        self.segments.values().flat_map(|s| s.replaces().iter().copied()).collect()
    }

    /// Everything that stood in the store at the last LIST, with sizes in bytes: what was read, what is damaged, and
    /// what others have replaced.
    pub(super) fn listed(&self) -> &BTreeMap<SegmentId, u64> {
        &self.listed
    }

    /// How many of these were replaced by others.
    pub(super) fn replaced_count(&self) -> usize {
        let replaced = self.replaced();
        self.listed.keys().filter(|id| replaced.contains(id)).count()
    }

    /// Adds a segment that this process has just committed, in place of those that it has merged.
    pub(super) fn add(&mut self, id: SegmentId, bytes: Vec<u8>) -> Result<()> {
        self.listed.insert(id, bytes.len() as u64);
        let segment = Segment::open(Bytes::from(bytes))?;
        segment.replaces().iter().for_each(|replaced| drop(self.segments.remove(replaced)));
        self.segments.insert(id, segment);
        Ok(())
    }

    /// All segments.
    pub(super) fn segments(&self) -> impl Iterator<Item = (&SegmentId, &Segment<Bytes>)> {
        self.segments.iter()
    }

    /// What is damaged of what the store lists.
    pub(super) fn damage(&self) -> impl Iterator<Item = &Error> {
        self.damaged.values()
    }

    /// Every shard that counts: those that a committed segment names.
    pub(super) fn shards(&self) -> BTreeMap<ShardId, ShardEntry> {
        let mut shards = BTreeMap::new();
        for (id, segment) in &self.segments {
            match segment.shards() {
                Ok(listed) => shards.extend(listed.into_iter().map(|shard| (shard.id, shard))),
                Err(e) => tracing::warn!("the shards of index/{id} are not known: {e}"),
            }
        }
        shards
    }

    /// Every record of an object.
    pub(super) fn find(&self, oid: &Oid) -> Lookup {
        let mut found: BTreeMap<(CommitId, String), Found> = BTreeMap::new();
        let mut damaged = self.damaged.values().next().cloned();
        for (id, segment) in &self.segments {
            let here = || -> Result<Vec<Found>> {
                segment.find(oid)?.into_iter().map(|record| resolve(segment, record)).collect()
            };
            match here() {
                Ok(here) => {
                    found.extend(here.into_iter().map(|f| ((f.record.commit, f.repository.clone()), f)));
                }
                Err(e) => {
                    let e = e.context(format!("index/{id}"));
                    tracing::warn!("done without: {e}");
                    damaged = Some(e);
                }
            }
        }
        Lookup { found: found.into_values().rev().collect(), damaged }
    }
}

/// The index is listed again at once, and then more and more slowly: a network file system may go on showing a folder as
/// it was, with what was merged and deleted since.
fn pause_before(store: &Store, attempt: usize) {
    if let Some(doublings) = attempt.checked_sub(2).filter(|_| !store.is_read_only()) {
        std::thread::sleep(Duration::from_millis(limit::LIST_PAUSE_MS << doublings));
    }
}

/// Each time something of what was listed was gone.
fn never_whole(store: &Store) -> Error {
    if store.is_read_only() {
        return Error::not_found("the manifest names index segments that are gone")
            .remedy("run `git lfs-cdc manifest BUCKET_URL` where that can be written, then pull again");
    }
    Error::busy("the store's index changes faster than it can be read").remedy("try again")
}

/// Looks up what the numbers in a record refer to.
fn resolve(segment: &Segment<Bytes>, mut record: Record) -> Result<Found> {
    let mut numbers: Vec<u32> = record.terms.iter().map(|t| t.block).collect();
    numbers.sort_unstable();
    numbers.dedup();
    for term in &mut record.terms {
        term.block = numbers.partition_point(|n| *n < term.block) as u32;
    }
    let named = numbers.len();
    let mut blocks = Vec::with_capacity(named);
    let mut depended_on = Vec::new();
    for number in &numbers {
        let block = segment.block(*number)?;
        blocks.push(block.summary);
        depended_on.extend(block.dependencies);
    }
    depended_on.sort_unstable();
    depended_on.dedup();
    for number in depended_on.into_iter().filter(|n| numbers.binary_search(n).is_err()) {
        blocks.push(segment.block(number)?.summary);
    }
    let repository = segment.repositories()[record.repository as usize].clone();
    Ok(Found { record, repository, blocks, named })
}
