//! The formats of all stored files: bytes ↔ values. `docs/format.md` has the byte tables. No code here knows
//! where a file is stored. There is no clock, disk, network or async code.

pub mod block;
mod byte_grouping;
pub mod chunking;
pub mod condemned;
pub mod container;
mod cursor;
pub mod delta;
pub mod frame;
pub mod inline;
pub mod limits;
pub mod lookup;
pub mod manifest;
pub mod merge;
pub mod merge_shards;
mod pages;
pub mod recipe;
pub mod segment;
pub mod shard;
mod sparse_index;
pub mod store_json;
