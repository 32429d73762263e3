//! Replaced segments that still stand. A merged segment says all that they say, unless it is damaged, or its
//! writer hides something. So a pull reads replaced segments last, and a check compares them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cached_reads::CachedStore;
use super::segment::{Coming, Standing};
use super::{Index, Lookup, find_in};
use crate::id::{Oid, SegmentId};
use crate::index::cached_reads::COPIES_IN_FLIGHT;
use crate::local::metadata_cache::Cache;
use crate::store::Store;

/// Most replaced segments, the newest ones, that a pull reads when it misses an object.
const REPLACED_READ: usize = 256;

impl Index {
    /// Returns the replaced segments that stood at the last LIST, each with the segments that replace it.
    pub(crate) fn replaced_by(&self) -> BTreeMap<SegmentId, Vec<Arc<Standing>>> {
        let mut replaced: BTreeMap<SegmentId, Vec<Arc<Standing>>> = BTreeMap::new();
        for segment in self.segments.values() {
            for id in segment.head.replaces().iter().filter(|id| self.listed.contains_key(id)) {
                replaced.entry(*id).or_default().push(segment.clone());
            }
        }
        replaced
    }

    /// Reads replaced segments that still stand and were not read yet, the newest first. Their number is
    /// bounded. Skips those that can't be read.
    pub(super) fn read_replaced(&self, store: &Store) -> Vec<Arc<Standing>> {
        let newest = self.replaced_by().into_keys().rev().take(REPLACED_READ);
        let left: Vec<SegmentId> = newest.filter(|id| !self.replaced_read.contains_key(id)).collect();
        // they are read only once, so no copy is kept
        let cache = Cache::at(None);
        let stored = CachedStore { store, cache: &cache };
        let mut read = Vec::new();
        for part in left.chunks(COPIES_IN_FLIGHT) {
            let begin = |id: &SegmentId| {
                let size_bytes = self.listed.get(id).copied().unwrap_or_default();
                (*id, size_bytes, Coming::begin(stored, *id, size_bytes))
            };
            let begun: Vec<_> = part.iter().map(begin).collect();
            for (id, size_bytes, coming) in begun {
                match coming.wait(stored, id, size_bytes) {
                    Ok(standing) => read.push(Arc::new(standing)),
                    Err(e) => tracing::debug!("index/{id} is replaced, and not read: {e}"),
                }
            }
        }
        read
    }

    /// Adds replaced segments that were read.
    pub(super) fn add_replaced(&mut self, read: Vec<Arc<Standing>>) {
        self.replaced_read.extend(read.into_iter().map(|segment| (segment.id, segment)));
        self.collect_inline_files();
    }

    /// Finds every record of an object in the replaced segments that were read.
    pub(crate) fn find_replaced(&self, stored: CachedStore<'_>, oid: &Oid) -> Lookup {
        find_in(self.replaced_read.values(), stored, oid)
    }
}
