//! The deletion of replaced files: index segments, and the shards that only these name. Transfers never
//! delete (I8). `tests/tidy` knows the only place that may call this.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as ObjectError, ObjectStoreExt};

use super::files::Files;
use super::retry::Retry;
use super::{Moved, Pending, Place, Store, layout};
use crate::error::Result;
use crate::id::{BlockId, ContentHash, SegmentId, ShardId};
use crate::store::io_profile::NETWORK_FETCH_BYTES;

/// Files that are deleted at a time.
const DELETES_IN_FLIGHT: usize = 32;

impl Store {
    /// Removes index segments. A segment that is gone already is no error. When this returns, the removal is
    /// durable. Fails with [`Kind::Denied`](crate::error::Kind::Denied) if this access key may not delete.
    pub fn remove_segments(&self, segments: &[SegmentId]) -> Result<()> {
        self.remove(segments.iter().map(layout::segment).collect())
    }

    /// Removes shards, like [`Store::remove_segments`].
    pub fn remove_shards(&self, shards: &[ShardId]) -> Result<()> {
        self.remove(shards.iter().map(layout::shard).collect())
    }

    fn remove(&self, paths: Vec<Path>) -> Result<()> {
        let folder = |path: &Path| -> Path {
            let parts: Vec<_> = path.parts().collect();
            parts.into_iter().rev().skip(1).rev().collect()
        };
        let folders: BTreeSet<Path> = paths.iter().map(folder).collect();
        let files = &self.files;
        let removed = futures::stream::iter(paths)
            .map(|path| async move { files.remove(&path).await })
            .buffer_unordered(DELETES_IN_FLIGHT)
            .try_collect::<()>();
        self.runtime.block_on(removed)?;
        if let Place::Directory(place) = &files.place {
            folders.iter().try_for_each(|folder| place.settle(folder.as_ref()))?;
        }
        Ok(())
    }

    /// Begins to read an index segment of `size_bytes` from the store, and to hash it. So the hash is of the
    /// bytes that all readers would get. `moved` shows the progress.
    pub fn hash_segment(&self, id: &SegmentId, size_bytes: u64, moved: &Moved) -> Pending<'_, ContentHash> {
        self.hash(layout::segment(id), size_bytes, moved)
    }

    /// Begins to read a shard from the store, and to hash it.
    pub fn hash_shard(&self, id: &ShardId, size_bytes: u64) -> Pending<'_, ContentHash> {
        self.hash(layout::shard(id), size_bytes, &Moved::default())
    }

    /// Begins to hash a block that a replaced segment carries, in the block's own file. If that file is gone,
    /// because another process has removed it, it is written once more.
    pub fn hash_unloaded(&self, id: &BlockId, bytes: Bytes) -> Pending<'_, ContentHash> {
        let (files, path) = (self.files.clone(), layout::block(id));
        self.begin(async move {
            let size_bytes = bytes.len() as u64;
            files.unload(&path, bytes).await?;
            files.hash(&path, size_bytes, &Moved::default()).await
        })
    }

    fn hash(&self, path: Path, size_bytes: u64, moved: &Moved) -> Pending<'_, ContentHash> {
        let (files, moved) = (self.files.clone(), moved.clone());
        self.begin(async move { files.hash(&path, size_bytes, &moved).await })
    }
}

impl Files {
    async fn hash(&self, path: &Path, size_bytes: u64, moved: &Moved) -> Result<ContentHash> {
        let (mut hasher, mut buffer, mut start) = (blake3::Hasher::new(), Vec::new(), 0);
        while start < size_bytes {
            let end = size_bytes.min(start + u64::from(NETWORK_FETCH_BYTES));
            buffer = self.get_range(path, start..end, buffer, &Moved::default()).await?;
            hasher.update(&buffer);
            moved.reached(end);
            start = end;
        }
        Ok(ContentHash(*hasher.finalize().as_bytes()))
    }

    /// Removes a file. A missing file is no error, because an earlier try may have removed it without an
    /// answer.
    async fn remove(&self, path: &Path) -> Result<()> {
        let mut retry = Retry::new(&self.place, format!("deleting {path}"));
        loop {
            match self.objects.delete(path).await {
                Ok(()) | Err(ObjectError::NotFound { .. }) => return Ok(()),
                Err(error) => retry.again(error).await?,
            }
        }
    }
}
