//! Blocks and shards are read where they are: in files of their own, or inside the index segment of a small commit.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use object_store::path::Path;

use super::files::Files;
use super::{Moved, Pending, Place, Store, layout, stopped};
use crate::error::{Error, Kind, Result};
use crate::format::inline::CarriedName;
use crate::id::{BlockId, SegmentId, ShardId};
use crate::limit;

/// A file that stands inside a segment. That is small, so whoever has read the index has the bytes, and they are what the name
/// says.
#[derive(Clone)]
pub struct InSegment {
    /// The segment that carries it.
    pub segment: SegmentId,
    /// Bytes of the whole segment.
    pub segment_bytes: u64,
    /// Bytes of the file.
    pub bytes: Bytes,
}

/// What stands inside segments, as the index was read last.
#[derive(Default)]
pub(super) struct Carriers(RwLock<HashMap<CarriedName, InSegment>>);

impl Store {
    /// From now on, this is what stands inside segments.
    pub fn set_carried(&self, carried: HashMap<CarriedName, InSegment>) {
        *self.carriers.0.write().unwrap_or_else(PoisonError::into_inner) = carried;
    }

    fn in_segment(&self, name: CarriedName) -> Option<InSegment> {
        self.carriers.0.read().unwrap_or_else(PoisonError::into_inner).get(&name).cloned()
    }

    /// Begins to read a byte range of a block into `buffer`, which comes back with exactly that range; `moved`
    /// follows it. Buffers are the caller's so that it can use them again: fresh memory costs more than a read.
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

    /// Begins to read a whole shard of so many bytes, as the index says.
    pub fn get_shard(&self, id: &ShardId, size_bytes: u32) -> Pending<'_, Bytes> {
        match self.in_segment(CarriedName::Shard(*id)) {
            Some(InSegment { bytes, .. }) => self.begin(async move { Ok(bytes) }),
            None => self.get(layout::shard(id), size_bytes.into(), limit::SHARD_READ_BYTES),
        }
    }

    /// Begins to look for a block: its size, if it is there. One in a segment is there if that is, whole; or else, as a merge
    /// has replaced that, in a file of its own.
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

    /// Begins to give a file that stands in a segment one of its own, as another segment is to replace that. It is durable
    /// when that is done. Somebody else may have done it: then it is not written again.
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
    /// Makes sure that what a segment carries is durable in a file of its own: one that has the right size is left as it is.
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
