//! git-lfs-cdc: a Git LFS custom transfer agent that stores objects as deduplicated chunks.
//!
//! Two ways lead through the crate, each told top to bottom in one place: a push in
//! [`flow::upload`], a pull in [`flow::download`]. Modules have ranks, and import only lower ones:
//!
//! | rank | modules | knows |
//! | --- | --- | --- |
//! | 0 | [`id`], [`limit`], [`text`], [`error`], [`modes`], [`regular_file`] | typed ids, every size with its unit, text that may be shown, the error kinds; modes of new files, opening files that others can replace |
//! | 1 | [`threads`] | starting threads |
//! | 1 | [`mod@format`] | bytes ↔ values |
//! | 2 | [`store`], [`local`], [`repo`] | object storage; cache and files on this machine; git |
//! | 3 | [`flow`] | upload, download and what they share |
//! | 4 | [`agent`] | the git-lfs protocol |
//! | 5 | [`coordinator`] | one engine for all agents of a command |
//! | 6 | [`cli`] | commands, printing, exit codes |
//!
//! `docs/architecture.md` says more, and what is deliberately absent.
#![warn(missing_docs)]

pub mod agent;
pub mod cli;
pub mod coordinator;
pub mod error;
pub mod flow;
pub mod format;
pub mod id;
pub mod limit;
pub mod local;
pub mod modes;
pub mod regular_file;
pub mod repo;
pub mod store;
pub mod text;
pub mod threads;
