//! An index segment that stands in the store. Its head is always in memory. The rest is read from memory,
//! from a copy, or in parts from the store, until these reads have cost as much as a copy. Several threads
//! may read a segment; a lock lets one of them fetch the copy.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::cached_reads::CachedStore;
use super::inline_files::InlineFile;
use crate::error::{Error, Result};
use crate::format::inline::CarriedName;
use crate::format::limits;
use crate::format::lookup::{Found, Head, Source};
use crate::format::segment::{Key, Segment, ShardEntry};
use crate::id::{ContentHash, Oid, SegmentId};
use crate::local::metadata_cache::{Cache, Kept};
use crate::store::{Pending, Store};
use crate::units::{KIB, MIB};

/// A segment no larger than this is fetched whole, because several requests for parts would cost more.
pub(crate) const WHOLE_SEGMENT_BYTES: u64 = limits::CARRIER_BYTES as u64;
/// Bytes that are fetched first of a larger segment. They mostly hold all that is needed to read parts of the
/// segment.
const HEAD_BYTES: u64 = 64 * KIB as u64;
/// Bytes of each part in which a copy of a large segment is fetched.
const SEGMENT_PART_BYTES: u64 = 16 * MIB as u64;

/// A segment that stands in the store.
pub(crate) struct Standing {
    pub id: SegmentId,
    pub size_bytes: u64,
    pub head: Head,
    place: Mutex<Place>,
    /// Held by the thread that fetches a copy.
    copying: Mutex<()>,
    /// The cost of all reads from the store so far: their bytes, and the price of the requests in bytes.
    paid_bytes: AtomicU64,
}

/// The place of a segment's bytes.
#[derive(Clone)]
enum Place {
    Memory(Bytes),
    File(Arc<Mutex<File>>),
    Store,
}

/// A segment that is being read for the first time.
pub(crate) enum Coming<'s> {
    Here(Box<Standing>),
    /// A request for the whole segment.
    Whole(Pending<'s, Bytes>),
    /// A request for its beginning.
    Start(Pending<'s, Vec<u8>>),
}

impl<'s> Coming<'s> {
    /// Begins to read a segment, from the user's copy or from the store.
    pub(crate) fn begin(stored: CachedStore<'s>, id: SegmentId, size_bytes: u64) -> Self {
        if let Some(copy) = Standing::from_copy(stored.cache, id, size_bytes) {
            return Self::Here(Box::new(copy));
        }
        // the store refuses a segment that is larger than any may be
        if size_bytes <= WHOLE_SEGMENT_BYTES || size_bytes > limits::SEGMENT_READ_BYTES as u64 {
            Self::Whole(stored.store.get_segment(&id, size_bytes))
        } else {
            Self::Start(stored.store.get_segment_range(&id, 0..HEAD_BYTES))
        }
    }

    /// Waits for the segment.
    pub(crate) fn wait(self, stored: CachedStore<'_>, id: SegmentId, size_bytes: u64) -> Result<Standing> {
        match self {
            Self::Here(standing) => Ok(*standing),
            Self::Whole(bytes) => {
                let bytes = stored.cache.keep(Kept::Index, &id.to_string(), &id.hash, bytes.wait()?)?;
                Standing::from_memory(id, bytes)
            }
            Self::Start(start) => {
                let mut start = start.wait()?;
                let needed = Head::bytes(&start, size_bytes as usize)? as u64;
                if needed > start.len() as u64 {
                    let more = stored.store.get_segment_range(&id, start.len() as u64..needed).wait()?;
                    start.extend_from_slice(&more);
                }
                let head = Head::parse(&start, size_bytes as usize)?;
                Ok(Standing::new(id, size_bytes, head, Place::Store))
            }
        }
    }
}

impl Standing {
    fn new(id: SegmentId, size_bytes: u64, head: Head, place: Place) -> Self {
        Self {
            id,
            size_bytes,
            head,
            place: Mutex::new(place),
            copying: Mutex::default(),
            paid_bytes: AtomicU64::new(0),
        }
    }

    /// Makes a segment from all its bytes, which are known to be right.
    pub(crate) fn from_memory(id: SegmentId, bytes: Bytes) -> Result<Self> {
        let head = Head::parse(&bytes, bytes.len())?;
        for (name, place) in head.carried() {
            if ContentHash::of(&bytes[place.clone()]) != *name.hash() {
                return Err(Error::corrupt("a file that it carries is not what its name says"));
            }
        }
        Ok(Self::new(id, bytes.len() as u64, head, Place::Memory(bytes)))
    }

    /// Opens the user's copy of a segment, if there is a sound one.
    fn from_copy(cache: &Cache, id: SegmentId, size_bytes: u64) -> Option<Self> {
        let name = id.to_string();
        if size_bytes <= WHOLE_SEGMENT_BYTES {
            let copy = cache.find(Kept::Index, &name, &id.hash)?;
            return Self::from_memory(id, copy).ok().filter(|standing| standing.size_bytes == size_bytes);
        }
        // all bytes are hashed, once in a process: the checksums of pages prove nothing against a program
        // that can write there
        let copy = cache.open(Kept::Index, &name, size_bytes, &id.hash)?;
        let from_file = |mut file: File| {
            let start = read_at(&mut file, 0..HEAD_BYTES.min(size_bytes) as usize)?;
            let needed = Head::bytes(&start, size_bytes as usize)?;
            let head = Head::parse(&read_at(&mut file, 0..needed)?, size_bytes as usize)?;
            Ok(Self::new(id, size_bytes, head, Place::File(Arc::new(Mutex::new(file)))))
        };
        let standing: Result<Self> = from_file(copy);
        standing.inspect_err(|e| tracing::warn!("the copy of index/{name} is not used: {e}")).ok()
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the size in bytes without the carried files.
    pub(crate) fn own_bytes(&self) -> u64 {
        self.size_bytes - self.head.carried().iter().map(|(_, place)| place.len() as u64).sum::<u64>()
    }

    /// Returns the files that the segment carries. A segment that carries files is small, and in memory.
    pub(super) fn inline_files(&self) -> Vec<(CarriedName, InlineFile)> {
        let Place::Memory(bytes) = self.place().clone() else { return Vec::new() };
        let carried = |(name, place): &(CarriedName, Range<usize>)| {
            let bytes = bytes.slice(place.clone());
            (*name, InlineFile { segment: self.id, segment_bytes: self.size_bytes, bytes })
        };
        self.head.carried().iter().map(carried).collect()
    }

    /// Returns true if a look-up in this segment asks the store.
    pub(crate) fn needs_network(&self) -> bool {
        matches!(*self.place(), Place::Store)
    }

    /// Finds every record of an object.
    pub(crate) fn find(&self, stored: CachedStore<'_>, oid: &Oid) -> Result<Vec<Found>> {
        self.read(stored, |source| self.head.find(source, oid))
    }

    /// Reads all shards, in the order to which keys refer.
    pub(crate) fn shards(&self, stored: CachedStore<'_>) -> Result<Vec<ShardEntry>> {
        self.read(stored, |source| self.head.shards(source))
    }

    /// Reads all keys, sorted.
    pub(crate) fn keys(&self, stored: CachedStore<'_>) -> Result<Vec<Key>> {
        self.read(stored, |source| self.head.keys(source))
    }

    /// Reads the whole segment into memory.
    pub(crate) fn whole(&self, stored: CachedStore<'_>) -> Result<Segment<Bytes>> {
        let all = 0..self.size_bytes as usize;
        let place = self.place().clone();
        let from_file = |file: &Mutex<File>| {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let bytes = Bytes::from(read_at(&mut file, all)?);
            (ContentHash::of(&bytes) == self.id.hash).then_some(bytes).ok_or_else(damaged)
        };
        let bytes = match place {
            Place::Memory(bytes) => bytes,
            Place::File(file) => match from_file(&file) {
                Ok(bytes) => bytes,
                Err(e) => {
                    self.forget_copy(stored.cache, &e);
                    return self.whole(stored);
                }
            },
            Place::Store => {
                let bytes = stored.store.get_segment(&self.id, self.size_bytes).wait()?;
                stored.cache.keep(Kept::Index, &self.id.to_string(), &self.id.hash, bytes)?
            }
        };
        Segment::open(bytes)
    }

    /// Reads from the segment at its place. Drops a copy that proves to be damaged, and reads from the store
    /// then.
    fn read<T>(&self, stored: CachedStore<'_>, work: impl Fn(&dyn Source) -> Result<T>) -> Result<T> {
        if self.needs_network() && self.paid_bytes.load(Ordering::Relaxed) >= self.size_bytes {
            self.fetch_copy(stored)?;
        }
        let place = self.place().clone();
        match place {
            Place::Memory(bytes) => work(&&bytes[..]),
            Place::File(file) => match work(&Copied(&file)) {
                // any error makes the copy useless
                Err(e) => {
                    self.forget_copy(stored.cache, &e);
                    work(&Far { standing: self, store: stored.store })
                }
                done => done,
            },
            Place::Store => work(&Far { standing: self, store: stored.store }),
        }
    }

    /// Fetches a copy for this user's cache.
    fn fetch_copy(&self, stored: CachedStore<'_>) -> Result<()> {
        let _copying = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.needs_network() {
            return Ok(());
        }
        tracing::debug!("index/{} is copied: {} bytes", self.id, self.size_bytes);
        let name = self.id.to_string();
        let mut parts = Parts { store: stored.store, id: &self.id, next: 0, end: self.size_bytes };
        *self.place() = match stored.cache.keep_large(Kept::Index, &name, &self.id.hash, &mut parts)? {
            Some(file) => Place::File(Arc::new(Mutex::new(file))),
            // this machine keeps nothing
            None => Place::Memory(stored.cache.keep(
                Kept::Index,
                &name,
                &self.id.hash,
                stored.store.get_segment(&self.id, self.size_bytes).wait()?,
            )?),
        };
        Ok(())
    }

    fn forget_copy(&self, cache: &Cache, why: &Error) {
        tracing::warn!("the copy of index/{} is not used: {why}", self.id);
        cache.forget(Kept::Index, &self.id.to_string());
        *self.place() = Place::Store;
    }
}

fn damaged() -> Error {
    Error::corrupt("it is not what was written")
}

/// The bytes of a segment in the store, one part after the other.
struct Parts<'s> {
    store: &'s Store,
    id: &'s SegmentId,
    next: u64,
    end: u64,
}

impl Iterator for Parts<'_> {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let range = self.next..self.end.min(self.next + SEGMENT_PART_BYTES);
        self.next = range.end;
        (!range.is_empty()).then(|| self.store.get_segment_range(self.id, range).wait())
    }
}

/// A segment in the store.
struct Far<'s> {
    standing: &'s Standing,
    store: &'s Store,
}

impl Source for Far<'_> {
    fn read(&self, ranges: &[Range<usize>]) -> Result<Vec<Cow<'_, [u8]>>> {
        let request = |range: &Range<usize>| {
            let cost = range.len() as u64 + u64::from(self.store.reach().fetch_gap_bytes);
            self.standing.paid_bytes.fetch_add(cost, Ordering::Relaxed);
            let range = range.start as u64..range.end as u64;
            (!range.is_empty()).then(|| self.store.get_segment_range(&self.standing.id, range))
        };
        // all requests are under way at the same time
        let requests: Vec<_> = ranges.iter().map(request).collect();
        let answer = |request: Option<Pending<'_, Vec<u8>>>| request.map_or(Ok(Vec::new()), Pending::wait);
        requests.into_iter().map(|request| answer(request).map(Cow::Owned)).collect()
    }
}

/// A segment in a file.
struct Copied<'f>(&'f Mutex<File>);

impl Source for Copied<'_> {
    fn read(&self, ranges: &[Range<usize>]) -> Result<Vec<Cow<'_, [u8]>>> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ranges.iter().map(|range| read_at(&mut file, range.clone()).map(Cow::Owned)).collect()
    }
}

fn read_at(file: &mut File, range: Range<usize>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; range.len()];
    let mut read = || -> io::Result<()> {
        file.seek(SeekFrom::Start(range.start as u64))?;
        file.read_exact(&mut bytes)
    };
    read().map_err(|e| Error::io("reading a copy of an index segment", &e))?;
    Ok(bytes)
}
