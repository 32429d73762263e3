//! The catalog: the index and the condemned lists of one store, as this process knows them.
//!
//! A snapshot never changes. A refresh or a commit puts a newer one in its place, so no thread waits for
//! another thread's requests. Refreshes of the index come one after the other, because the listing of a
//! slower one is older.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;

use super::Index;
use super::cached_reads::CachedStore;
use super::condemned::CondemnedNames;
use crate::error::{Error, Result};
use crate::id::{CondemnedId, SegmentId};
use crate::local::metadata_cache::Cache;
use crate::store::{FirstLook, Store};
use crate::threads;

/// The contents of a store at a moment. Some commits may be newer.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    pub index: Index,
    pub condemned: Arc<CondemnedNames>,
}

/// An open store, and the newest snapshot of its contents. All threads share it.
pub(crate) struct Catalog {
    pub store: Store,
    pub cache: Cache,
    current: RwLock<Arc<Snapshot>>,
    /// Held during a refresh of the index.
    refreshing: Mutex<()>,
    /// The listings that were made while the store was opened. The first refresh takes them.
    first_look: Mutex<Option<FirstLook>>,
}

/// The results of reading the index and the condemned lists.
pub(crate) struct Refreshed {
    pub index: Result<()>,
    pub condemned: Result<()>,
}

impl Catalog {
    /// Creates a catalog that knows nothing yet.
    pub(crate) fn new(store: Store, cache: Cache, first_look: Option<FirstLook>) -> Self {
        Self {
            store,
            cache,
            current: RwLock::default(),
            refreshing: Mutex::default(),
            first_look: Mutex::new(first_look),
        }
    }

    /// Returns the store and the cache, for reads.
    pub(crate) fn stored(&self) -> CachedStore<'_> {
        CachedStore { store: &self.store, cache: &self.cache }
    }

    /// Returns the newest snapshot.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the new parts of the index and of the condemned lists, at the same time.
    pub(crate) fn refresh(&self) -> Refreshed {
        let first = self.first_look.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (segments, lists) = first.map(|first| (first.segments, first.condemned)).unzip();
        let (condemned, index) =
            threads::join(|| self.read_condemned(lists), || self.read_segments(segments));
        let panicked = || Err(Error::internal("reading the condemned lists panicked"));
        Refreshed { index, condemned: condemned.unwrap_or_else(panicked) }
    }

    /// Reads the new segments. The listing begins after the call.
    pub(crate) fn refresh_index(&self) -> Result<()> {
        self.read_segments(None)
    }

    /// Reads the new condemned lists. The listing begins after the call, so it shows each list that was
    /// written before.
    pub(crate) fn refresh_condemned(&self) -> Result<()> {
        self.read_condemned(None)
    }

    fn read_segments(&self, listed: Option<Result<Vec<(SegmentId, u64)>>>) -> Result<()> {
        let _refreshing = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.snapshot();
        let mut index = before.index.clone();
        let refreshed = index.refresh_by(listed, self.stored());
        // even after a failure, because the segments that were read are used
        self.publish(|current| {
            index.keep_added(&before.index, &current.index);
            current.index = index;
        });
        refreshed
    }

    fn read_condemned(&self, listed: Option<Result<Vec<(CondemnedId, u64)>>>) -> Result<()> {
        let lists = self.snapshot().condemned.new_lists(listed, self.stored())?;
        if !lists.is_empty() {
            self.publish(|current| Arc::make_mut(&mut current.condemned).add(lists));
        }
        Ok(())
    }

    /// Adds a segment that this process has just committed, and keeps a copy for the next command.
    pub(crate) fn add(&self, id: SegmentId, bytes: Bytes) -> Result<()> {
        let segment = Index::committed(&self.cache, id, bytes)?;
        self.publish(|current| current.index.add(segment));
        Ok(())
    }

    /// Reads replaced segments that still stand, for a pull that misses an object. The next snapshot has
    /// them.
    pub(crate) fn read_replaced(&self) {
        let read = self.snapshot().index.read_replaced(&self.store);
        self.publish(|current| current.index.add_replaced(read));
    }

    fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut current));
    }
}
