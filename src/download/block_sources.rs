//! The sources of blocks: inline files, the store, and what downloads have fetched before. All downloads of a
//! process share the memory for fetched bytes.

use std::ops::Range;
use std::sync::Arc;

use super::buffer_pool::Buffers;
use super::decode::Decoders;
use super::delta::Unpacked;
use super::reuse::Reuse;
use super::single_flight::Windows;
use crate::config::Settings;
use crate::id::BlockId;
use crate::index::inline_files::InlineFiles;
use crate::local::block_cache::Ranges;
use crate::store::{Moved, Pending, Store};

/// One part in this many of the memory is left to decoders, connections and the allocator.
const MEMORY_RESERVE_SHARE: u64 = 8;
/// One part in this many of the rest may hold parts of blocks that no download waits for.
const WINDOWS_SHARE: u64 = 4;

/// The state that all downloads of a process share.
pub(crate) struct SharedFetches {
    pub(super) buffers: Arc<Buffers>,
    pub(super) windows: Windows,
    pub decoders: Decoders,
    /// Unpacked frames that delta frames are made from.
    pub unpacked: Unpacked,
    pub ranges: Ranges,
}

impl SharedFetches {
    pub(super) fn new(store: &Store, settings: &Settings) -> Self {
        let reach = store.reach();
        let memory_bytes = settings.memory_bytes - settings.memory_bytes / MEMORY_RESERVE_SHARE;
        // As much as fills a link. More would be fetched again after an interruption.
        let on_its_way = reach.fetches_in_flight as u64 * u64::from(reach.fetch_bytes);
        let most_bytes = memory_bytes.min(on_its_way);
        let windows = Windows::new(reach, most_bytes / WINDOWS_SHARE);
        let ranges = if store.is_directory() {
            // a copy of a block that is on a disk already saves nothing
            Ranges::none()
        } else {
            Ranges::for_store(&store.description().id, &store.location(), settings.cache_bytes)
        };
        Self {
            buffers: Buffers::new(most_bytes),
            windows,
            decoders: Decoders::default(),
            unpacked: Unpacked::default(),
            ranges,
        }
    }

    /// Returns the most memory that fetched bytes ever took.
    #[cfg(test)]
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.buffers.peak_bytes()
    }
}

/// The sources of blocks and of the bases of delta frames, for one download.
#[derive(Clone, Copy)]
pub(super) struct BlockSources<'a> {
    pub store: &'a Store,
    /// The files inside the index segments.
    pub inline: &'a InlineFiles,
    pub shared: &'a SharedFetches,
    /// The objects on this machine.
    pub reuse: &'a Reuse,
}

impl<'a> BlockSources<'a> {
    /// Begins to read a range of a block. The errors and the buffer are those of
    /// [`InlineFiles::get_block_range`].
    pub(super) fn get_block_range(
        &self,
        block: &BlockId,
        range: Range<u32>,
        buffer: Vec<u8>,
        moved: &Moved,
    ) -> Pending<'a, Vec<u8>> {
        self.inline.get_block_range(self.store, block, range, buffer, moved)
    }
}
