//! The condemned lists of collectors. They are read after every commit, and before a push relies on anything
//! old.

use std::collections::HashSet;

use super::cached_reads::copies;
use crate::error::{Error, Result};
use crate::format::condemned::{Condemned, CondemnedRecord};
use crate::id::{BlockId, CondemnedId};
use crate::local::metadata_cache::{Cache, Kept};
use crate::store::Store;
use crate::units::MIB;

/// Most bytes of all condemned lists together. So many name some three million blocks, and take up to three
/// times as much memory.
const CONDEMNED_ALL_BYTES: u64 = 128 * MIB as u64;

/// All condemned blocks and records that this process has seen. The set only grows, because no condemnation
/// is lifted.
#[derive(Default)]
pub(crate) struct CondemnedNames {
    read: HashSet<CondemnedId>,
    blocks: HashSet<BlockId>,
    records: HashSet<CondemnedRecord>,
}

impl CondemnedNames {
    /// Lists the condemned lists now, and reads the new ones. A kind of condemnation that this version
    /// doesn't know is an error.
    pub(crate) fn refresh(&mut self, store: &Store, cache: &Cache) -> Result<()> {
        self.refresh_by(None, store, cache)
    }

    /// Does the same as [`CondemnedNames::refresh`], with a list that was made already. A check after a
    /// commit must not use this.
    pub(crate) fn refresh_by(
        &mut self,
        listed: Option<Result<Vec<(CondemnedId, u64)>>>,
        store: &Store,
        cache: &Cache,
    ) -> Result<()> {
        let listed = listed.unwrap_or_else(|| store.list_condemned())?;
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
        let begin = |id: &CondemnedId, size_bytes| store.get_condemned(id, size_bytes);
        for (id, bytes) in copies(cache, Kept::Condemned, new, |id| id.hash, begin) {
            let list = Condemned::parse(&bytes?).map_err(|e| e.context(format!("condemned/{id}")))?;
            self.blocks.extend(list.blocks);
            self.records.extend(list.records);
            self.read.insert(id);
        }
        Ok(())
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
