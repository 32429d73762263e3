//! Requests for blocks and shards, and the move of an inline file into its own file.

use std::ops::Range;

use bytes::Bytes;
use object_store::path::Path;

use super::files::Files;
use super::{Moved, Pending, Place, Store, layout, stopped};
use crate::error::{Error, Kind, Result};
use crate::format::inline::CarriedName;
use crate::format::limits;
use crate::id::{BlockId, SegmentId, ShardId};

impl Store {
    /// Begins to read a byte range of a block into `buffer`. The buffer comes back with exactly that range.
    /// `moved` shows the progress.
    pub fn get_block_range(
        &self,
        id: &BlockId,
        range: Range<u32>,
        buffer: Vec<u8>,
        moved: &Moved,
    ) -> Pending<'_, Vec<u8>> {
        let (files, moved, id) = (self.files.clone(), moved.clone(), *id);
        let range = u64::from(range.start)..u64::from(range.end);
        self.begin(async move {
            let read = files.get_range(&layout::block(&id), range, buffer, &moved).await;
            read.map_err(|e| if e.kind() == Kind::NotFound { is_missing(&id, &files.place) } else { e })
        })
    }

    /// Begins to read a whole shard. `size_bytes` is the size in the index.
    pub fn get_shard(&self, id: &ShardId, size_bytes: u32) -> Pending<'_, Bytes> {
        self.get(layout::shard(id), size_bytes.into(), limits::SHARD_READ_BYTES)
    }

    /// Begins to look for a block's file. Returns its size in bytes, if it is there.
    pub fn block_bytes(&self, id: &BlockId) -> Pending<'_, Option<u64>> {
        self.file_bytes(layout::block(id))
    }

    /// Begins to look for an index segment. Returns its size in bytes, if it is there.
    pub fn segment_bytes(&self, id: &SegmentId) -> Pending<'_, Option<u64>> {
        self.file_bytes(layout::segment(id))
    }

    fn file_bytes(&self, path: Path) -> Pending<'_, Option<u64>> {
        let files = self.files.clone();
        self.begin(async move { files.size(&path).await })
    }

    /// Returns a request that is done already.
    pub(crate) fn answer<T: Send + 'static>(&self, answer: Result<T>) -> Pending<'_, T> {
        self.begin(async move { answer })
    }

    /// Begins to write an inline file to a file of its own, because another segment is to replace the one
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
