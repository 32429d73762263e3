//! What lives on this machine: copies of immutable metadata, ranges of blocks, what interrupted pushes have stored, downloads in the
//! making, locks, the log.

pub mod cache;
pub mod journal;
pub mod kept;
pub mod lock;
pub mod log;
pub mod ranges;
pub mod room;
pub mod scratch;
