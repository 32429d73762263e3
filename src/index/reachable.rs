//! The blocks to which a store's records refer. A collector has to keep these.

use std::collections::{BTreeSet, HashMap};

use super::Index;
use super::cached_reads::{CachedStore, cache_of};
use crate::error::Result;
use crate::id::BlockId;
use crate::store::Store;

/// Returns the blocks of all recipes, the blocks that their delta frames are made from, and so on. Reads all
/// commits. Fails if one can't be read, because its blocks are not known then.
pub fn referenced_blocks(store: &Store) -> Result<BTreeSet<BlockId>> {
    let cache = cache_of(store);
    let stored = CachedStore { store, cache: &cache };
    let mut index = Index::default();
    index.read_all_commits(stored)?;
    let mut named = BTreeSet::new();
    // dependencies of a block are taken from all segments together
    let mut dependencies: HashMap<BlockId, BTreeSet<BlockId>> = HashMap::new();
    for standing in index.segments() {
        let segment = standing.whole(stored)?;
        let blocks = segment.blocks()?.collect::<Result<Vec<_>>>()?;
        for record in segment.records()? {
            named.extend(record?.terms.iter().map(|term| blocks[term.block as usize].summary.id));
        }
        for block in blocks.iter().filter(|block| !block.dependencies.is_empty()) {
            let on = block.dependencies.iter().map(|number| blocks[*number as usize].summary.id);
            dependencies.entry(block.summary.id).or_default().extend(on);
        }
    }
    let mut referenced = BTreeSet::new();
    let mut left: Vec<BlockId> = named.into_iter().collect();
    while let Some(block) = left.pop() {
        if referenced.insert(block) {
            left.extend(dependencies.get(&block).into_iter().flatten());
        }
    }
    Ok(referenced)
}
