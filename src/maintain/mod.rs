//! Work on a store that no transfer waits for: compaction, figures, checks.

pub mod cache_report;
pub mod check;
pub mod compact;
pub(crate) mod replaced_records;
pub mod stats;
