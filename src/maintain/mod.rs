//! Work on a store that no transfer waits for: compaction, figures, checks.

pub mod compaction;
pub mod health;
pub mod kept_objects;
pub(crate) mod replaced;
pub mod stats;
