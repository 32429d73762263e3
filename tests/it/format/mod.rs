//! Stored formats: each is written, read back, compared with golden files, and attacked.

mod allocations;
mod any_segment;
mod block;
mod chunking;
mod condemned;
mod delta;
mod find;
mod forge;
mod frame;
mod golden;
mod golden_values;
mod hostile;
mod samples;
mod segment;
mod shard;
mod store_json;
mod targets;
mod zstd_tool;
