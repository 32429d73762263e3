//! Maintenance of a store: compaction, figures and checks. No transfer waits for it.

pub mod cache_report;
pub mod check;
pub mod compact;
pub(crate) mod replaced_records;
pub mod stats;
