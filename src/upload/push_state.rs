//! The state of a process's pushes: what they know of the store beside the catalog.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::chunk_index::KnownChunks;
use super::sparse::Keys;
use crate::error::Error;
use crate::id::{BlockId, ShardId};
use crate::index::condemned::CondemnedNames;
use crate::index::manifest;

/// The state of all uploads. Each part is read when it is needed first. The leader of a batch holds it.
#[derive(Default)]
pub(crate) struct PushState {
    /// True if a look at the index and the condemned lists was made, with or without success.
    pub has_looked: bool,
    /// True if both were read.
    pub is_listed: bool,
    /// The time that the last look took.
    pub look_cost: Duration,
    /// The error of a look before the first object came. The next object takes it.
    pub failed: Option<Error>,
    /// The chunks that a push may deduplicate against. They are read when an object must be packed.
    pub learned: Learned,
    /// True if `learned` has all blocks of the journal. False before the journal was read, and while it may
    /// name blocks of a batch that was not committed.
    pub is_resumed: bool,
    /// The blocks that were seen in the store, complete.
    pub seen: HashSet<BlockId>,
    /// The blocks that a commit names and that are missing or cut short.
    pub lost: HashSet<BlockId>,
    /// The work on the manifest that is due at the end.
    pub manifest: manifest::Owed,
}

impl PushState {
    /// Returns true if a new commit may refer to the block.
    pub(super) fn may_use(&self, condemned: &CondemnedNames, block: &BlockId) -> bool {
        !condemned.has_block(block) && !self.lost.contains(block)
    }
}

/// The chunks that a push may deduplicate against.
#[derive(Default)]
pub(crate) struct Learned {
    pub known: KnownChunks,
    /// The shards that were read or could not be read.
    pub shards: HashSet<ShardId>,
    /// The keys that lead to the other shards, if there are too many shards to read them all.
    pub keys: Option<Keys>,
    /// The time of the last look at the index for this, and how long it took.
    pub last: Option<(Instant, Duration)>,
}
