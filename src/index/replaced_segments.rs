//! Segments that others replace, and that still stand. A merged segment says all that they say, unless it is damaged, or
//! was written by somebody who hides it: so they are the last resort of a pull, and what a check compares.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::segment::{Coming, Standing};
use super::{Index, Lookup, find_in};
use crate::id::{Oid, SegmentId};
use crate::limit;
use crate::local::metadata_cache::Cache;
use crate::store::Store;

impl Index {
    /// The segments that stand though others replace them, as the last LIST showed them, each with those others.
    pub(crate) fn replaced_by(&self) -> BTreeMap<SegmentId, Vec<Arc<Standing>>> {
        let mut replaced: BTreeMap<SegmentId, Vec<Arc<Standing>>> = BTreeMap::new();
        for segment in self.segments.values() {
            for id in segment.head.replaces().iter().filter(|id| self.listed.contains_key(id)) {
                replaced.entry(*id).or_default().push(segment.clone());
            }
        }
        replaced
    }

    /// Reads segments that stand though others replace them, the newest first, and so many that it ends soon. Those that can't
    /// be read are done without.
    pub(crate) fn read_replaced(&mut self, store: &Store) {
        let newest = self.replaced_by().into_keys().rev().take(limit::REPLACED_READ);
        let left: Vec<SegmentId> = newest.filter(|id| !self.replaced_read.contains_key(id)).collect();
        // they are read once, and not to be kept
        let cache = Cache::at(None);
        for part in left.chunks(limit::COPIES_IN_FLIGHT) {
            let begin = |id: &SegmentId| {
                let size_bytes = self.listed.get(id).copied().unwrap_or_default();
                (*id, size_bytes, Coming::begin(store, &cache, *id, size_bytes))
            };
            let begun: Vec<_> = part.iter().map(begin).collect();
            for (id, size_bytes, coming) in begun {
                match coming.wait(store, &cache, id, size_bytes) {
                    Ok(standing) => drop(self.replaced_read.insert(id, standing.into())),
                    Err(e) => tracing::debug!("index/{id} is replaced, and not read: {e}"),
                }
            }
        }
        self.tell_carried(store);
    }

    /// Every record of an object in the replaced segments that were read.
    pub(crate) fn find_replaced(&self, store: &Store, cache: &Cache, oid: &Oid) -> Lookup {
        find_in(self.replaced_read.values(), (store, cache), oid)
    }
}
