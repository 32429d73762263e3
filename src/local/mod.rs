//! What lives on this machine: copies of immutable metadata, ranges of blocks, what interrupted pushes have stored, downloads in the
//! making, whole files that are there already, locks, the log.

pub mod cache;
pub mod clones;
pub mod journal;
pub mod kept;
pub mod limits;
pub mod lock;
pub mod log;
pub mod objects;
pub mod ranges;
pub mod room;
pub mod scratch;
pub mod sources;
