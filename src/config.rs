//! The defaults of the settings that a user may change.

use crate::units::MIB;

/// Percentage of the stored bytes that a delta frame has to save, unless the user sets another one.
pub const DELTA_SAVES_PERCENT: u8 = 50;
/// Most bytes of all shards of a store for which a push reads every shard, unless the user sets another
/// bound.
pub const SHARD_CACHE_BYTES: u64 = 64 * MIB as u64;
/// Most bytes that blocks and buffers take together, unless the user sets another bound.
pub const MEMORY_BYTES: u64 = 512 * MIB as u64;
/// The least memory limit of this machine is divided by this, if the result is below [`MEMORY_BYTES`]. Other
/// processes need memory too, and some memory is counted nowhere.
pub const MEMORY_SHARE: u64 = 4;
/// Least bytes for blocks and buffers. With fewer, blocks would be so small that pulls take many requests.
pub const MEMORY_AT_LEAST_BYTES: u64 = 48 * MIB as u64;
/// Least memory for a git-lfs command with its agents. Less is not enough for a push or a pull.
pub const MEMORY_OF_COMMAND_BYTES: u64 = 160 * MIB as u64;
/// Objects that git-lfs hands out in one go. It is useless to ask for more at a time.
pub const TRANSFERS: u32 = 100;
/// Agents that git-lfs starts unless the user sets another number.
pub const TRANSFERS_UNSET: u32 = 8;
/// The same time for a command that a user waits for. With the time of the last try, it ends within ten
/// seconds.
pub const HURRIED_RETRY_SECONDS: u64 = 8;
/// Time for which a service may be silent in such a command, twice.
pub const HURRIED_STALL_SECONDS: u64 = 5;
/// Most bytes of the kept ranges of all stores together, unless the user sets another cap.
pub const CACHE_BYTES: u64 = 4 * 1024 * MIB as u64;
