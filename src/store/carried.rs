//! Carried blocks and shards: those inside the index segment of a small commit. This module reads blocks and
//! shards there, or in files of their own.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use object_store::path::Path;

use super::files::Files;
use super::{Moved, Pending, Place, Store, layout, stopped};
use crate::error::{Error, Kind, Result};
use crate::format::inline::CarriedName;
use crate::format::limits;
use crate::id::{BlockId, SegmentId, ShardId};

/// A file that stands inside a segment. The segment is small, so each reader of the index has these bytes.
/// They match the file's name.
#[derive(Clone)]
pub struct InSegment {
    /// The segment that carries it.
    pub segment: SegmentId,
    /// The size of the whole segment.
    pub segment_bytes: u64,
    /// The bytes of the file.
    pub bytes: Bytes,
}

/// The files that stand inside segments, according to the last reading of the index.
#[derive(Default)]
pub(super) struct Carriers(RwLock<HashMap<CarriedName, InSegment>>);

impl Store {
    /// Replaces the list of files that stand inside segments.
    pub fn set_carried(&self, carried: HashMap<CarriedName, InSegment>) {
        *self.carriers.0.write().unwrap_or_else(PoisonError::into_inner) = carried;
    }

    fn in_segment(&self, name: CarriedName) -> Option<InSegment> {
        self.carriers.0.read().unwrap_or_else(PoisonError::into_inner).get(&name).cloned()
    }

    /// Begins to read a byte range of a block into `buffer`. The buffer comes back with exactly that range.
    /// `moved` shows the progress. The caller provides buffers so that it can reuse them, because fresh
    /// memory costs more than a read.
    pub fn get_block_range(
        &self,
        id: &BlockId,
        range: Range<u32>,
        mut buffer: Vec<u8>,
        moved: &Moved,
    ) -> Pending<'_, Vec<u8>> {
        let (moved, id) = (moved.clone(), *id);
        let Some(InSegment { bytes, .. }) = self.in_segment(CarriedName::Block(id)) else {
            let range = u64::from(range.start)..u64::from(range.end);
            let files = self.files.clone();
            return self.begin(async move {
                let read = files.get_range(&layout::block(&id), range, buffer, &moved).await;
                read.map_err(|e| if e.kind() == Kind::NotFound { is_missing(&id, &files.place) } else { e })
            });
        };
        self.begin(async move {
            let part = bytes.get(range.start as usize..range.end as usize);
            let part =
                part.ok_or_else(|| Error::corrupt(format!("block {id} ends before byte {}", range.end)))?;
            buffer.clear();
            buffer.extend_from_slice(part);
            moved.reached(part.len() as u64);
            Ok(buffer)
        })
    }

    /// Begins to read a whole shard. `size_bytes` is the size in the index.
    pub fn get_shard(&self, id: &ShardId, size_bytes: u32) -> Pending<'_, Bytes> {
        match self.in_segment(CarriedName::Shard(*id)) {
            Some(InSegment { bytes, .. }) => self.begin(async move { Ok(bytes) }),
            None => self.get(layout::shard(id), size_bytes.into(), limits::SHARD_READ_BYTES),
        }
    }

    /// Begins to look for a block. Returns its size, if it is there. A carried block is there if its segment
    /// is there, whole. If a merge has replaced the segment, the block stands in a file of its own.
    pub fn block_bytes(&self, id: &BlockId) -> Pending<'_, Option<u64>> {
        let (files, path) = (self.files.clone(), layout::block(id));
        let in_segment = self.in_segment(CarriedName::Block(*id));
        self.begin(async move {
            if let Some(InSegment { segment, segment_bytes, bytes }) = in_segment
                && files.size(&layout::segment(&segment)).await? == Some(segment_bytes)
            {
                return Ok(Some(bytes.len() as u64));
            }
            files.size(&path).await
        })
    }

    /// Begins to write a carried file to a file of its own, because another segment is to replace the one
    /// that carries it. The file is durable when the request is done. It isn't written again if another
    /// process has written it.
    pub fn unload(&self, name: &CarriedName, bytes: Bytes) -> Pending<'_, ()> {
        let files = self.files.clone();
        let path = match name {
            CarriedName::Block(id) => layout::block(id),
            CarriedName::Shard(id) => layout::shard(id),
        };
        self.begin(async move { files.unload(&path, bytes).await })
    }
}

fn is_missing(block: &BlockId, place: &Place) -> Error {
    Error::not_found(format!("block {block} is missing in the store {place}")).remedy(
        "restore it from a backup of the store; without one, `git lfs push --all` from a clone that has the object \
         brings it back",
    )
}

impl Files {
    /// Makes sure that a carried file is durable in a file of its own. A file with the right size is left
    /// unchanged.
    pub(super) async fn unload(&self, path: &Path, bytes: Bytes) -> Result<()> {
        self.place.provide_folder_of(path)?;
        if self.size(path).await? != Some(bytes.len() as u64) {
            return self.put(path, bytes.into(), &Moved::default()).await;
        }
        match self.place.clone() {
            Place::Directory(place) => {
                let path = path.clone();
                let settle = move || place.settle_folder_of(&path);
                tokio::task::spawn_blocking(settle).await.unwrap_or_else(stopped)
            }
            Place::Network(_) => Ok(()),
        }
    }
}
