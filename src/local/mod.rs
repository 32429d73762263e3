//! What lives on this machine: copies of immutable metadata, ranges of blocks, what interrupted pushes have stored, downloads in the
//! making, whole files that are there already, locks, the log.

pub mod block_cache;
pub mod cache_admin;
pub mod clones;
pub mod journal;
pub mod lfs_objects;
pub mod limits;
pub mod lock;
pub mod log;
pub mod metadata_cache;
pub mod partial_download;
pub mod quota;
pub mod whole_files;
