//! Inline files: the blocks and shards inside the index segments of small commits. This module reads a block
//! or a shard inside a segment, or else in its own file.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::format::inline::CarriedName;
use crate::id::{BlockId, SegmentId, ShardId};
use crate::store::{Moved, Pending, Store};

/// A file that stands inside a segment. The segment is small, so each reader of the index has these bytes.
/// They match the file's name.
#[derive(Clone)]
pub(crate) struct InlineFile {
    /// The segment that carries it.
    pub segment: SegmentId,
    /// The size of the whole segment.
    pub segment_bytes: u64,
    pub bytes: Bytes,
}

/// The files that stand inside the segments of one index. They never change; an index that has read other
/// segments gets new ones. A clone is cheap.
#[derive(Clone, Default)]
pub(crate) struct InlineFiles(Arc<HashMap<CarriedName, InlineFile>>);

impl FromIterator<(CarriedName, InlineFile)> for InlineFiles {
    fn from_iter<I: IntoIterator<Item = (CarriedName, InlineFile)>>(files: I) -> Self {
        Self(Arc::new(files.into_iter().collect()))
    }
}

impl InlineFiles {
    /// Begins to read a byte range of a block into `buffer`. The buffer comes back with exactly that range.
    /// `moved` shows the progress. The caller provides buffers so that it can reuse them, because fresh
    /// memory costs more than a read.
    pub(crate) fn get_block_range<'s>(
        &self,
        store: &'s Store,
        block: &BlockId,
        range: Range<u32>,
        mut buffer: Vec<u8>,
        moved: &Moved,
    ) -> Pending<'s, Vec<u8>> {
        let Some(InlineFile { bytes, .. }) = self.0.get(&CarriedName::Block(*block)) else {
            return store.get_block_range(block, range, buffer, moved);
        };
        let Some(part) = bytes.get(range.start as usize..range.end as usize) else {
            return store
                .answer(Err(Error::corrupt(format!("block {block} ends before byte {}", range.end))));
        };
        buffer.clear();
        buffer.extend_from_slice(part);
        moved.reached(part.len() as u64);
        store.answer(Ok(buffer))
    }

    /// Begins to read a whole shard. `size_bytes` is the size in the index.
    pub(crate) fn get_shard<'s>(
        &self,
        store: &'s Store,
        id: &ShardId,
        size_bytes: u32,
    ) -> Pending<'s, Bytes> {
        match self.0.get(&CarriedName::Shard(*id)) {
            Some(file) => store.answer(Ok(file.bytes.clone())),
            None => store.get_shard(id, size_bytes),
        }
    }

    /// Begins to look for a block.
    pub(crate) fn look_for_block<'s>(&self, store: &'s Store, block: &BlockId) -> BlockSize<'s> {
        match self.0.get(&CarriedName::Block(*block)) {
            Some(file) => BlockSize::Inline {
                store,
                block: *block,
                file: file.clone(),
                segment: store.segment_bytes(&file.segment),
            },
            None => BlockSize::OwnFile(store.block_bytes(block)),
        }
    }
}

/// A request for the size of a block.
pub(crate) enum BlockSize<'s> {
    OwnFile(Pending<'s, Option<u64>>),
    Inline { store: &'s Store, block: BlockId, file: InlineFile, segment: Pending<'s, Option<u64>> },
}

impl BlockSize<'_> {
    /// Waits for the answer. Returns the size of the block in bytes, if the block is there. An inline block is
    /// there if its segment is there, whole. If a merge has replaced that segment, the block stands in its
    /// own file, and a second request asks for that.
    pub(crate) fn wait(self) -> Result<Option<u64>> {
        match self {
            Self::OwnFile(size) => size.wait(),
            Self::Inline { store, block, file, segment } => {
                if segment.wait()? == Some(file.segment_bytes) {
                    return Ok(Some(file.bytes.len() as u64));
                }
                store.block_bytes(&block).wait()
            }
        }
    }
}
