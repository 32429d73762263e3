//! The record and the blocks that an acknowledgement relies on.

use super::Found;
use super::condemned::CondemnedNames;
use crate::format::block::Summary;
use crate::format::condemned::CondemnedRecord;
use crate::id::now_milliseconds;
use crate::limit;

/// What an acknowledgement stands on: none of it may be condemned when it is given.
pub(crate) struct Relied {
    pub blocks: Vec<Summary>,
    pub record: CondemnedRecord,
}

impl Relied {
    pub(crate) fn on(found: &Found) -> Self {
        Self {
            blocks: found.blocks.iter().map(|block| block.summary).collect(),
            record: CondemnedRecord {
                oid: found.record.oid,
                commit: found.record.commit,
                repository: found.repository.clone(),
            },
        }
    }

    /// Whether the record is too young to be condemned before long. A clock that was wrong must not keep it fresh for ever.
    pub(crate) fn is_fresh(&self) -> bool {
        let now = now_milliseconds();
        let fresh_times = now.saturating_sub(limit::RECORD_FRESH_MS)..=now + limit::RECORD_AHEAD_MS;
        fresh_times.contains(&self.record.commit.milliseconds())
    }

    pub(crate) fn is_condemned(&self, condemned: &CondemnedNames) -> bool {
        condemned.has_record(&self.record) || self.blocks.iter().any(|b| condemned.has_block(&b.id))
    }
}
