//! git-lfs-cdc: a Git LFS custom transfer agent that stores objects as deduplicated chunks.
//!
//! A push is told from top to bottom in [`upload`], a pull in [`download`]. Each module has a rank, and
//! imports only modules of lower ranks:
//!
//! | rank | modules | knows |
//! | --- | --- | --- |
//! | 0 | [`units`], [`text`], [`modes`] | units of sizes; text that may be shown; modes of new files |
//! | 1 | [`error`] | the error kinds |
//! | 2 | [`id`], [`regular_file`], [`threads`] | typed ids; opening files that others can replace; starting threads |
//! | 3 | [`mod@format`] | bytes ↔ values |
//! | 4 | [`store`], [`local`], [`repo`] | object storage; cache and files on this machine; git |
//! | 5 | [`config`], [`progress`], `parallel` | settings and their defaults; progress of an object; results in the order of their work |
//! | 6 | [`index`] | the contents of a store, as a catalog of index segments, inline files and condemned lists; the manifest |
//! | 7 | [`upload`], [`download`], [`maintain`] | a push; a pull; compaction, checks and figures. They don't know each other |
//! | 8 | [`engine`] | an open store for many objects at a time |
//! | 9 | [`agent`] | the git-lfs protocol |
//! | 10 | [`coordinator`] | one engine for all agents of a command |
//! | 11 | [`cli`] | commands, printing, exit codes |
//!
//! `docs/architecture.md` says more, and also names the things that are left out on purpose.
#![warn(missing_docs)]

pub mod agent;
pub mod cli;
pub mod config;
pub mod coordinator;
pub mod download;
pub mod engine;
pub mod error;
pub mod format;
pub mod id;
pub mod index;
pub mod local;
pub mod maintain;
pub mod modes;
mod parallel;
pub mod progress;
pub mod regular_file;
pub mod repo;
pub mod store;
#[cfg(test)]
mod test_data;
pub mod text;
pub mod threads;
pub mod units;
pub mod upload;
