//! The record and the blocks on which an acknowledgement relies.

use super::Found;
use super::condemned::CondemnedNames;
use crate::format::block::Summary;
use crate::format::condemned::CondemnedRecord;
use crate::id::now_milliseconds;

/// Age up to which a push relies on a record: 7 days. For an older one it commits a fresh record.
pub(crate) const RECORD_FRESH_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Time that a record may be dated ahead. A push does not rely on one further ahead, because some clock is
/// wrong.
const RECORD_AHEAD_MS: u64 = 24 * 60 * 60 * 1000;

/// The basis of an acknowledgement: nothing in it may be condemned at that moment.
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

    /// Returns true if the record is too young to be condemned soon. A wrong clock must not keep it fresh for
    /// ever.
    pub(crate) fn is_fresh(&self) -> bool {
        let now = now_milliseconds();
        let fresh_times = now.saturating_sub(RECORD_FRESH_MS)..=now + RECORD_AHEAD_MS;
        fresh_times.contains(&self.record.commit.milliseconds())
    }

    pub(crate) fn is_condemned(&self, condemned: &CondemnedNames) -> bool {
        condemned.has_record(&self.record) || self.blocks.iter().any(|b| condemned.has_block(&b.id))
    }
}
