//! What is stored: every format is written, read back, compared with golden files, and attacked.

mod allocations;
mod block;
mod chunking;
mod condemned;
mod delta;
mod find;
mod forge;
mod frame;
mod golden;
mod hostile;
mod samples;
mod segment;
mod shard;
mod store_json;
mod targets;
mod zstd_tool;
