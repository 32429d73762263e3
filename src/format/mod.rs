//! Bytes ↔ values: everything that is stored, and nothing that knows where. `docs/format.md` has
//! the byte tables; no clock, disk, network or async code lives here.

pub mod block;
pub mod carried;
pub mod chunking;
pub mod condemned;
pub mod container;
mod cursor;
pub mod delta;
mod fence;
pub mod find;
pub mod frame;
pub mod manifest;
pub mod merge;
pub mod merge_shards;
mod paged;
mod planes;
pub mod recipe;
pub mod segment;
pub mod shard;
pub mod store_json;
