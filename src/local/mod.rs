//! What lives on this machine: copies of immutable metadata, downloads in the making, the log.

pub mod cache;
pub mod log;
pub mod scratch;
