//! The files of this program on this machine: copies of immutable metadata, kept ranges, the journal,
//! unfinished downloads, locks and the log. Also the whole files that other clones and sources have.

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
