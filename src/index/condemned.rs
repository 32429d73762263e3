//! The condemned lists of collectors. They are read after every commit, and before a push relies on anything
//! old.

use std::collections::HashSet;

use bytes::Bytes;

use super::cached_reads::{CachedStore, copies};
use crate::error::{Error, Result};
use crate::format::condemned::{Condemned, CondemnedRecord};
use crate::id::{BlockId, CondemnedId};
use crate::local::metadata_cache::Kept;
use crate::units::MIB;

/// Most bytes of all condemned lists together. So many name some three million blocks, and take up to three
/// times as much memory.
const CONDEMNED_ALL_BYTES: u64 = 128 * MIB as u64;

/// All condemned blocks and records that this process has seen. The set only grows, because no condemnation
/// is lifted.
#[derive(Clone, Default)]
pub(crate) struct CondemnedNames {
    read: HashSet<CondemnedId>,
    blocks: HashSet<BlockId>,
    records: HashSet<CondemnedRecord>,
}

impl CondemnedNames {
    /// Lists the condemned lists now, and reads the new ones.
    pub(crate) fn refresh(&mut self, stored: CachedStore<'_>) -> Result<()> {
        let lists = self.new_lists(None, stored)?;
        self.add(lists);
        Ok(())
    }

    /// Lists the condemned lists now, and returns the new ones. A kind of condemnation that this version
    /// doesn't know is an error. With `listed`, it uses a list that was made already; a check after a commit
    /// must not do that.
    pub(super) fn new_lists(
        &self,
        listed: Option<Result<Vec<(CondemnedId, u64)>>>,
        stored: CachedStore<'_>,
    ) -> Result<Vec<(CondemnedId, Condemned)>> {
        let listed = listed.unwrap_or_else(|| stored.store.list_condemned())?;
        // no list can be left out: the blocks that it names may be gone tomorrow
        let all_bytes = listed.iter().fold(0u64, |sum, (_, size_bytes)| sum.saturating_add(*size_bytes));
        if all_bytes > CONDEMNED_ALL_BYTES {
            return Err(Error::corrupt(format!(
                "the condemned lists have {all_bytes} bytes, which is too much"
            ))
            .remedy("check that this is the store that is meant, and who wrote to its folder condemned"));
        }
        let new: Vec<(CondemnedId, u64)> =
            listed.into_iter().filter(|(id, _)| !self.read.contains(id)).collect();
        let begin = |id: &CondemnedId, size_bytes| stored.store.get_condemned(id, size_bytes);
        let copies = copies(stored.cache, Kept::Condemned, new, |id| id.hash, begin);
        let parse = |(id, bytes): (CondemnedId, Result<Bytes>)| {
            let list = Condemned::parse(&bytes?).map_err(|e| e.context(format!("condemned/{id}")))?;
            Ok((id, list))
        };
        copies.map(parse).collect()
    }

    /// Adds the names of these lists.
    pub(super) fn add(&mut self, lists: Vec<(CondemnedId, Condemned)>) {
        for (id, list) in lists {
            self.blocks.extend(list.blocks);
            self.records.extend(list.records);
            self.read.insert(id);
        }
    }

    /// Returns true if no push may rely on this block any more.
    pub(crate) fn has_block(&self, block: &BlockId) -> bool {
        self.blocks.contains(block)
    }

    /// Returns true if no push may rely on this record any more.
    pub(crate) fn has_record(&self, record: &CondemnedRecord) -> bool {
        self.records.contains(record)
    }
}
