//! The settings that a user may change, and their defaults.

use std::path::PathBuf;

use crate::format::limits;
use crate::local::clones::Clones;
use crate::modes::Modes;
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
/// Bytes of the memory for each known chunk, in a store with too many chunks to know them all. A known chunk
/// takes some 50 bytes.
pub(crate) const MEMORY_BYTES_PER_CHUNK: u64 = 256;
/// Least bytes for blocks and buffers. With fewer, blocks would be so small that pulls take many requests.
pub const MEMORY_AT_LEAST_BYTES: u64 = 48 * MIB as u64;
/// Least memory for a git-lfs command with its agents. Less is not enough for a push or a pull.
pub const MEMORY_OF_COMMAND_BYTES: u64 = 160 * MIB as u64;
/// Objects that git-lfs hands out in one go. It is useless to ask for more at a time.
pub const TRANSFERS: u32 = 100;
/// Agents that git-lfs starts unless the user sets another number.
pub const TRANSFERS_UNSET: u32 = 8;
/// Time for which a failed request is tried again, in a command that a user waits for. With the time of the
/// last try, the command ends within ten seconds.
pub const HURRIED_RETRY_SECONDS: u64 = 8;
/// Time for which a service may be silent in such a command, twice.
pub const HURRIED_STALL_SECONDS: u64 = 5;
/// Most bytes of the kept ranges of all stores together, unless the user sets another cap.
pub const CACHE_BYTES: u64 = 4 * 1024 * MIB as u64;

/// The rule for storing a frame as a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaRule {
    /// The smallest saving, in percent of the frame.
    pub saves_percent: u8,
    /// The most delta frames that may follow on each other; at most [`limits::DELTA_DEPTH`].
    pub depth: u8,
}

impl Default for DeltaRule {
    fn default() -> Self {
        Self { saves_percent: DELTA_SAVES_PERCENT, depth: limits::DELTA_DEPTH }
    }
}

/// The settings of an engine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the repository that the pushed objects belong to.
    pub repository: String,
    /// Zstandard's level for frames.
    pub compression_level: i32,
    /// The folder where git-lfs keeps `objects/` and `tmp/`.
    pub lfs_storage: PathBuf,
    /// The modes of new files in that folder.
    pub modes: Modes,
    /// The rule for storing frames as deltas to objects on this machine. `None` stores no deltas.
    pub delta: Option<DeltaRule>,
    /// The most bytes of shards that a push reads completely. Up to this size deduplication is exact.
    pub shard_cache_bytes: u64,
    /// True if known chunks are reused only while reading them back stays cheap. False is only for
    /// measurements of this rule.
    pub guards_reading: bool,
    /// The places on this machine that keep whole files by their SHA-256.
    pub sources: Vec<PathBuf>,
    /// The clones on this machine. Downloads use the objects of other clones too.
    pub clones: Clones,
    /// True if a push brings the store's manifest up to date, if there is one.
    pub writes_manifest: bool,
    /// The memory for blocks in flight and buffers, in bytes. The bound is approximate.
    pub memory_bytes: u64,
    /// The most bytes of fetched blocks that may be kept on this machine, for all stores together. 0 keeps
    /// none.
    pub cache_bytes: u64,
}

impl Settings {
    /// Returns the usual settings, without anything shared on this machine. Other clones and sources are
    /// not used, and no ranges are kept.
    pub fn new(repository: &str, lfs_storage: PathBuf) -> Self {
        Self {
            repository: repository.to_owned(),
            compression_level: 3,
            delta: Some(DeltaRule::default()),
            lfs_storage,
            modes: Modes::default(),
            shard_cache_bytes: SHARD_CACHE_BYTES,
            guards_reading: true,
            sources: Vec::new(),
            clones: Clones::none(),
            writes_manifest: true,
            memory_bytes: MEMORY_BYTES,
            cache_bytes: 0,
        }
    }

    /// Returns how many chunks may be known at a time, where a store has too many to know all.
    pub(crate) fn sparse_chunks(&self) -> usize {
        (self.memory_bytes / MEMORY_BYTES_PER_CHUNK) as usize
    }

    /// Returns the size at which a block is closed. With little memory a block is closed before it is full,
    /// so that the next one can be filled while it is in flight.
    pub(crate) fn block_bytes(&self) -> usize {
        (self.memory_bytes / 3).min(limits::BLOCK_BYTES as u64) as usize
    }

    /// Returns how many blocks fit into the memory, beside the open block and the chunks that are read and
    /// compressed meanwhile.
    pub(crate) fn blocks_in_flight(&self) -> usize {
        let blocks = self.memory_bytes / self.block_bytes().max(1) as u64;
        blocks.saturating_sub(2).max(1) as usize
    }
}
