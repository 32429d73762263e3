//! What lives on this machine: copies of immutable metadata, what interrupted pushes have stored, downloads in the
//! making, locks, the log.

pub mod cache;
pub mod journal;
pub mod lock;
pub mod log;
pub mod scratch;
