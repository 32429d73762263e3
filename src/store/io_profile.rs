//! The parameters for reading and writing blocks that fit the place of a store.

use crate::units::{KIB, MIB};

/// Widest gap between two ranges that one read of a directory spans. There, small ranges cost little.
pub const DIRECTORY_FETCH_GAP_BYTES: u32 = 128 * KIB as u32;
/// Most bytes of one read from a directory. See [`DIRECTORY_FETCH_GAP_BYTES`].
pub const DIRECTORY_FETCH_BYTES: u32 = 2 * MIB as u32;
/// Widest gap between two ranges that one request spans. A request costs some 20 to 50 ms: this much at 200
/// to 400 Mbit/s.
pub const NETWORK_FETCH_GAP_BYTES: u32 = MIB as u32;
/// Most bytes of one request for a part of a block. A whole block takes four requests.
pub const NETWORK_FETCH_BYTES: u32 = 17 * MIB as u32;
/// Blocks that may be on their way to a directory while the next one is filled.
pub const DIRECTORY_BLOCKS_IN_FLIGHT: usize = 2;
/// Blocks that may be on their way to a service while the next one is filled. When that one is full, it joins
/// them. Several streams fill a long link.
pub const NETWORK_BLOCKS_IN_FLIGHT: usize = 3;
/// Most bytes of the first block on its way to a service. It is small, because the link is idle until then.
/// Each further block of a batch is twice as large, until blocks are full.
pub const NETWORK_FIRST_BLOCK_BYTES: usize = 2 * MIB;
/// Most fetches from a directory that are under way at a time, for one object.
pub const DIRECTORY_FETCHES_IN_FLIGHT: usize = 8;
/// Most fetches from a service that are under way at a time, for one object. Each may hold
/// [`NETWORK_FETCH_BYTES`].
pub const NETWORK_FETCHES_IN_FLIGHT: usize = 6;
/// Most bytes of a block to which a fetch for a small object is widened. They cost some ten times as much as
/// the request.
pub const NETWORK_READ_AHEAD_BYTES: u32 = 4 * MIB as u32;
/// Most bytes of a commit's only block and its shard together, if its index segment carries them. With 32
/// segments, at most 3 MiB more of the index are read.
pub const CARRIED_BYTES: usize = 96 * KIB;
