//! The index: every segment that the store lists and that no other segment has replaced.

pub(crate) mod cached_reads;
pub(crate) mod catalog;
pub(crate) mod condemned;
pub(crate) mod inline_files;
pub(crate) mod local_file;
pub mod manifest;
pub(crate) mod merge_policy;
pub(crate) mod placed;
pub mod reachable;
pub(crate) mod relied;
mod replaced_segments;
pub(crate) mod segment;
pub(crate) mod shard_merge;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::cached_reads::CachedStore;
use self::inline_files::InlineFiles;
use self::segment::Coming;
pub(crate) use self::segment::Standing;
use crate::error::{Error, Kind, Result};
pub(crate) use crate::format::lookup::Found;
use crate::format::segment::{Key, ShardEntry};
use crate::id::{CommitId, Oid, SegmentId, ShardId};
use crate::index::cached_reads::COPIES_IN_FLIGHT;
use crate::local::metadata_cache::{Cache, Kept};
use crate::store::Store;
use crate::threads;

/// Lists of the index at most. It is listed again if a segment vanished while it was read.
const LIST_ATTEMPTS: usize = 10;
/// Pause before the third list. Each further pause is twice as long, so all take half a minute.
const LIST_PAUSE_MS: u64 = 100;

/// A listener for progress: it gets each step that may take long, in a few words.
pub type Watch<'w> = &'w dyn Fn(String);

/// The standing segments, by their names. A copy is cheap, so no thread holds the original while the store
/// answers.
#[derive(Clone, Default)]
pub(crate) struct Index {
    segments: BTreeMap<SegmentId, Arc<Standing>>,
    /// Listed segments whose bytes differ from those that were written. Readers skip them until something is
    /// missing.
    damaged: BTreeMap<SegmentId, Error>,
    /// The names and sizes in bytes of the last LIST, and of the segments that this process has committed
    /// since.
    listed: BTreeMap<SegmentId, u64>,
    /// Replaced segments that a pull has read because it missed something.
    replaced_read: BTreeMap<SegmentId, Arc<Standing>>,
    /// The files inside the segments.
    inline: InlineFiles,
}

/// The answer of the index about an object.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// Every record, the newest commit first.
    pub found: Vec<Found>,
    /// Damage that may hide further records.
    pub damaged: Option<Error>,
}

impl Index {
    /// Brings the index up to date with one LIST, and reads the segments that are missing here. If a segment
    /// vanishes meanwhile, another has merged it. Then the store is listed again.
    pub(crate) fn refresh(&mut self, stored: CachedStore<'_>) -> Result<()> {
        self.refresh_by(None, stored)
    }

    /// Does the same as [`Index::refresh`], but begins with a list that was made already.
    pub(crate) fn refresh_by(
        &mut self,
        mut listed: Option<Result<Vec<(SegmentId, u64)>>>,
        stored: CachedStore<'_>,
    ) -> Result<()> {
        for attempt in 0..LIST_ATTEMPTS {
            pause_before(stored.store, attempt);
            let listed = listed.take().unwrap_or_else(|| stored.store.list_segments())?;
            if self.read_listed(listed, stored)?.is_some() {
                let stands = |id: &SegmentId| self.segments.contains_key(id);
                stored.cache.retain(Kept::Index, |name| SegmentId::parse(name).is_ok_and(|id| stands(&id)));
                return Ok(());
            }
        }
        Err(never_whole(stored.store))
    }

    /// Reads all commits, as `docs/format.md` defines it. Ends when two LISTs in a row are equal, and every
    /// listed segment was read or is replaced by one that was read.
    pub(crate) fn read_all_commits(&mut self, stored: CachedStore<'_>) -> Result<()> {
        let mut before = None;
        for _ in 0..LIST_ATTEMPTS {
            let listed = self.read_listed(stored.store.list_segments()?, stored)?;
            if listed.is_some() && listed == before {
                return Ok(());
            }
            before = listed;
            if let Some(damage) = self.damaged.values().next() {
                return Err(damage.clone());
            }
        }
        Err(never_whole(stored.store))
    }

    /// Reads the listed segments that are missing here, and forgets those that are not listed any more.
    /// Returns the list, or None if a listed segment was gone before it was read.
    fn read_listed(
        &mut self,
        listed: Vec<(SegmentId, u64)>,
        stored: CachedStore<'_>,
    ) -> Result<Option<Vec<SegmentId>>> {
        let read = self.read_new(listed, stored);
        // even after a failure, because the segments that were read are used
        self.collect_inline_files();
        read
    }

    fn read_new(
        &mut self,
        listed: Vec<(SegmentId, u64)>,
        stored: CachedStore<'_>,
    ) -> Result<Option<Vec<SegmentId>>> {
        self.listed = listed.iter().copied().collect();
        self.segments.retain(|id, _| self.listed.contains_key(id));
        self.damaged.retain(|id, _| self.listed.contains_key(id));
        self.replaced_read.retain(|id, _| self.listed.contains_key(id));
        let mut replaced: HashSet<SegmentId> = self.replaced().collect();
        let mut vanished = Vec::new();
        let mut coming: VecDeque<(SegmentId, u64, Coming<'_>)> = VecDeque::new();
        let seen = |id: &SegmentId| self.segments.contains_key(id) || self.damaged.contains_key(id);
        let mut left: Vec<(SegmentId, u64)> =
            listed.iter().rev().copied().filter(|(id, _)| !seen(id)).collect();
        loop {
            left.retain(|(id, _)| !replaced.contains(id));
            while coming.len() < COPIES_IN_FLIGHT
                && let Some(place) = next_to_read(&coming, &left)
            {
                let (id, size_bytes) = left.remove(place);
                coming.push_back((id, size_bytes, Coming::begin(stored, id, size_bytes)));
            }
            let Some((id, size_bytes, next)) = coming.pop_front() else { break };
            match next.wait(stored, id, size_bytes) {
                Ok(standing) => {
                    replaced.extend(standing.head.replaces().iter().copied());
                    self.segments.insert(id, Arc::new(standing));
                }
                Err(e) if e.kind() == Kind::NotFound => vanished.push(id),
                Err(e) if e.kind() == Kind::Corrupt => {
                    let e = if e.to_string().contains(&id.to_string()) {
                        e
                    } else {
                        e.context(format!("index/{id}"))
                    };
                    tracing::warn!("skipping a damaged index segment: {e}");
                    self.damaged.insert(id, e);
                }
                Err(e) => return Err(e.context(format!("index/{id}"))),
            }
        }
        self.segments.retain(|id, _| !replaced.contains(id));
        self.damaged.retain(|id, _| !replaced.contains(id));
        let all = vanished.iter().all(|id| replaced.contains(id));
        Ok(all.then(|| listed.into_iter().map(|(id, _)| id).collect()))
    }

    fn collect_inline_files(&mut self) {
        let all = self.segments.values().chain(self.replaced_read.values());
        self.inline = all.flat_map(|segment| segment.inline_files()).collect();
    }

    /// Returns the files inside the segments.
    pub(crate) fn inline(&self) -> &InlineFiles {
        &self.inline
    }

    fn replaced(&self) -> impl Iterator<Item = SegmentId> {
        self.segments.values().flat_map(|s| s.head.replaces().iter().copied())
    }

    /// Returns the names and sizes in bytes of all segments of the last LIST: read, damaged and replaced
    /// ones.
    pub(crate) fn listed(&self) -> &BTreeMap<SegmentId, u64> {
        &self.listed
    }

    /// Makes the entry of a segment that this process has just committed, and keeps a copy for the next
    /// command.
    pub(crate) fn committed(cache: &Cache, id: SegmentId, bytes: Bytes) -> Result<Arc<Standing>> {
        let bytes = cache.keep(Kept::Index, &id.to_string(), &id.hash, bytes)?;
        Ok(Arc::new(Standing::from_memory(id, bytes)?))
    }

    /// Adds a committed segment, and removes the segments that it has merged.
    pub(crate) fn add(&mut self, segment: Arc<Standing>) {
        self.listed.insert(segment.id, segment.size_bytes);
        for replaced in segment.head.replaces() {
            self.segments.remove(replaced);
        }
        self.segments.insert(segment.id, segment);
        self.collect_inline_files();
    }

    /// Adds the segments that this process has committed while this index was read: those of `now` that were
    /// not there `before`.
    fn keep_added(&mut self, before: &Self, now: &Self) {
        for (id, segment) in &now.segments {
            if !before.segments.contains_key(id) && !self.segments.contains_key(id) {
                self.add(segment.clone());
            }
        }
    }

    /// Returns true if finding an object asks the store.
    pub(crate) fn needs_network(&self) -> bool {
        self.segments.values().any(|segment| segment.needs_network())
    }

    /// Returns all segments, in the order of their names.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &Arc<Standing>> {
        self.segments.values()
    }

    /// Returns the damage of listed segments.
    pub(crate) fn damage(&self) -> impl Iterator<Item = &Error> {
        self.damaged.values()
    }

    /// Returns every shard that a committed segment names. Shards are hints, so damaged entries are skipped.
    pub(crate) fn shards(&self, stored: CachedStore<'_>) -> Result<BTreeMap<ShardId, ShardEntry>> {
        let mut shards = BTreeMap::new();
        for (segment, listed) in of_each(self.segments.values(), |segment| segment.shards(stored)) {
            match listed {
                Ok(listed) => shards.extend(listed.into_iter().map(|shard| (shard.id, shard))),
                Err(e) => skip(segment, e)?,
            }
        }
        Ok(shards)
    }

    /// Returns the shards of each segment, and the keys that lead to them.
    pub(crate) fn keys(&self, stored: CachedStore<'_>) -> Result<Vec<(Vec<ShardEntry>, Vec<Key>)>> {
        let read = |segment: &Standing| Ok((segment.shards(stored)?, segment.keys(stored)?));
        let mut keys = Vec::new();
        for (segment, read) in of_each(self.segments.values(), read) {
            match read {
                Ok(read) => keys.push(read),
                Err(e) => skip(segment, e)?,
            }
        }
        Ok(keys)
    }

    /// Finds every record of an object.
    pub(crate) fn find(&self, stored: CachedStore<'_>, oid: &Oid) -> Lookup {
        let mut lookup = find_in(self.segments.values(), stored, oid);
        lookup.damaged = lookup.damaged.or_else(|| self.damaged.values().next().cloned());
        lookup
    }

    /// Returns the newest segment that has this record.
    pub(crate) fn segment_of(&self, stored: CachedStore<'_>, found: &Found) -> Option<SegmentId> {
        let all = self.segments.values().chain(self.replaced_read.values());
        let has = |segment: &Standing| Ok(segment.find(stored, &found.record.oid)?.contains(found));
        let have = of_each(all, has).into_iter().filter(|(_, has)| matches!(has, Ok(true)));
        have.map(|(segment, _)| segment.id).max()
    }
}

/// Finds every record of an object in these segments.
fn find_in<'s>(
    segments: impl Iterator<Item = &'s Arc<Standing>>,
    stored: CachedStore<'_>,
    oid: &Oid,
) -> Lookup {
    let mut found: BTreeMap<(CommitId, String), Found> = BTreeMap::new();
    let mut damaged = None;
    for (segment, here) in of_each(segments, |segment| segment.find(stored, oid)) {
        match here {
            Ok(here) => {
                found.extend(here.into_iter().map(|f| ((f.record.commit, f.repository.clone()), f)));
            }
            Err(e) => {
                let e = e.context(format!("index/{}", segment.id));
                tracing::warn!("skipping a damaged index segment: {e}");
                damaged = Some(e);
            }
        }
    }
    Lookup { found: found.into_values().rev().collect(), damaged }
}

/// Asks each segment. The segments that are not on this machine are asked at the same time, each on a thread.
fn of_each<'s, T: Send>(
    segments: impl Iterator<Item = &'s Arc<Standing>>,
    ask: impl Fn(&Standing) -> Result<T> + Sync,
) -> Vec<(&'s Arc<Standing>, Result<T>)> {
    std::thread::scope(|scope| {
        let ask = &ask;
        // if the system refuses a thread, this one asks
        let begin = |segment| threads::spawn_scoped(scope, "segment", move || ask(segment)).ok();
        let far = |segment: &'s Arc<Standing>| segment.needs_network().then(|| begin(segment)).flatten();
        let asked: Vec<_> = segments.map(|segment| (segment, far(segment))).collect();
        let panicked = |_| Err(Error::internal("reading an index segment panicked"));
        let mut answers = Vec::with_capacity(asked.len());
        for (segment, far) in asked {
            let answer = match far {
                Some(far) => far.join().unwrap_or_else(panicked),
                None => ask(segment),
            };
            answers.push((segment, answer));
        }
        answers
    })
}

/// Returns the place of the newest segment of `left` that no unread segment may replace. `left` is sorted,
/// newest first. So a segment is read only after all segments that may replace it. No segment is read in
/// vain, however many replaced ones stand.
fn next_to_read(coming: &VecDeque<(SegmentId, u64, Coming<'_>)>, left: &[(SegmentId, u64)]) -> Option<usize> {
    // the heaviest segment before this one
    let mut heaviest: Option<CommitId> = None;
    left.iter().position(|(SegmentId { id, .. }, _)| {
        let is_blocked = heaviest.is_some_and(|newer| newer.may_replace(id))
            || coming.iter().any(|(newer, ..)| newer.id.may_replace(id));
        heaviest = heaviest.into_iter().chain([*id]).max_by_key(CommitId::weight);
        !is_blocked
    })
}

/// Waits before the index is listed again: not at first, then longer each time. A network file system may go
/// on showing an old state of a folder, with segments that were merged and deleted since.
fn pause_before(store: &Store, attempt: usize) {
    if let Some(doublings) = attempt.checked_sub(2).filter(|_| !store.is_read_only()) {
        std::thread::sleep(Duration::from_millis(LIST_PAUSE_MS << doublings));
    }
}

/// Makes the error for an index of which a listed segment was gone in each attempt.
fn never_whole(store: &Store) -> Error {
    if store.is_read_only() {
        return Error::not_found("the manifest names index segments that are gone")
            .remedy("run `git lfs-cdc manifest BUCKET_URL` where that can be written, then pull again");
    }
    Error::busy("the store's index changes faster than it can be read").remedy("try again")
}

/// Skips the shards that a segment names, because they are hints. But a store that doesn't answer is an
/// error.
fn skip(segment: &Standing, error: Error) -> Result<()> {
    if matches!(error.kind(), Kind::Unreachable | Kind::Internal) {
        return Err(error.context(format!("index/{}", segment.id)));
    }
    tracing::warn!("the shards of index/{} are not known: {error}", segment.id);
    Ok(())
}
