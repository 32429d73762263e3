//! What lives on this machine: copies of immutable metadata, what interrupted pushes have stored, downloads in the
//! making, the log.

pub mod cache;
pub mod journal;
pub mod log;
pub mod scratch;
