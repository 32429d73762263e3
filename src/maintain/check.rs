//! Whether what every command reads of a store is sound: its index and its condemned lists, and what that hides.

use super::replaced_records;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::index::condemned::CondemnedNames;
use crate::local::metadata_cache::Cache;
use crate::store::Store;

/// What a look at a store has shown.
#[derive(Debug)]
pub struct Health {
    /// Index segments that stand in it.
    pub segments: usize,
    /// Index segments that were merged into others, and not deleted.
    pub replaced: usize,
    /// What is damaged, or hidden by what claims to replace it.
    pub damage: Vec<Error>,
}

/// Reads the index and the condemned lists, and some of what was replaced, to see whether that is still said.
pub fn look(store: &Store) -> Result<Health> {
    // what others read stands in the store, whatever this machine has copies of
    let none = Cache::at(None);
    let mut index = Index::default();
    index.refresh(store, &none)?;
    let mut damage: Vec<Error> = index.damage().cloned().collect();
    let mut condemned = CondemnedNames::default();
    damage.extend(condemned.refresh(store, &none).err());
    let cache = Cache::for_store(&store.description().id, &store.location());
    damage.extend(replaced_records::look(store, &cache, &index, &condemned)?);
    Ok(Health { segments: index.segments().count(), replaced: index.replaced_by().len(), damage })
}
