//! Whether what every command reads of a store is sound: its index and its condemned lists.

use super::condemned::CondemnedNames;
use super::index::Index;
use crate::error::{Error, Result};
use crate::local::cache::Cache;
use crate::store::Store;

/// What a look at a store has shown.
#[derive(Debug)]
pub struct Health {
    /// Index segments that stand in it.
    pub segments: usize,
    /// Index segments that were merged into others, and not deleted.
    pub replaced: usize,
    /// What is damaged.
    pub damage: Vec<Error>,
}

/// Reads the index and the condemned lists.
pub fn look(store: &Store) -> Result<Health> {
    let cache = Cache::for_store(&store.description().id, &store.location());
    let mut index = Index::default();
    index.refresh(store, &cache)?;
    let mut damage: Vec<Error> = index.damage().cloned().collect();
    damage.extend(CondemnedNames::default().refresh(store, &cache).err());
    Ok(Health { segments: index.segments().count(), replaced: index.replaced_count(), damage })
}
