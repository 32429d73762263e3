//! The check of the data that every command reads from a store: its index, its condemned lists, and records
//! that a merge may have lost.

use super::replaced_records;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::index::cached_reads::{CachedStore, cache_of};
use crate::index::condemned::CondemnedNames;
use crate::local::metadata_cache::Cache;
use crate::store::Store;

/// The result of a check.
#[derive(Debug)]
pub struct Health {
    /// Index segments that stand in it.
    pub segments: usize,
    /// Index segments that were merged into others, and not deleted.
    pub replaced: usize,
    /// Damage of the index and the condemned lists, and replaced records that a merged segment hides.
    pub damage: Vec<Error>,
}

/// Reads the index and the condemned lists. Also compares some replaced segments with those that replace
/// them.
pub fn look(store: &Store) -> Result<Health> {
    // other machines read the files in the store, so copies on this one prove nothing
    let none = Cache::at(None);
    let mut index = Index::default();
    let unaided = CachedStore { store, cache: &none };
    index.refresh(unaided)?;
    let mut damage: Vec<Error> = index.damage().cloned().collect();
    let mut condemned = CondemnedNames::default();
    damage.extend(condemned.refresh(unaided).err());
    let cache = cache_of(store);
    damage.extend(replaced_records::look(CachedStore { store, cache: &cache }, &index, &condemned)?);
    Ok(Health { segments: index.segments().count(), replaced: index.replaced_by().len(), damage })
}
