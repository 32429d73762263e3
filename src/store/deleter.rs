//! Taking away what has been replaced: index segments, and the shards that only these name. Transfers never do (I8);
//! `tests/tidy.rs` knows the one place that may.

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
use crate::limit;

impl Store {
    /// Removes index segments. What is gone already is fine; they are gone for good when this returns. Fails with
    /// [`Kind::Denied`](crate::error::Kind::Denied) if this key may not delete.
    pub fn remove_segments(&self, segments: &[SegmentId]) -> Result<()> {
        self.remove(segments.iter().map(layout::segment).collect())
    }

    /// Removes shards, likewise.
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
            .buffer_unordered(limit::DELETES_IN_FLIGHT)
            .try_collect::<()>();
        self.runtime.block_on(removed)?;
        if let Place::Directory(place) = &files.place {
            folders.iter().try_for_each(|folder| place.settle(folder.as_ref()))?;
        }
        Ok(())
    }

    /// Begins to read an index segment of so many bytes where it is stored, and to hash it: what is found is what
    /// everybody would read; `moved` follows it.
    pub fn hash_segment(&self, id: &SegmentId, size_bytes: u64, moved: &Moved) -> Pending<'_, ContentHash> {
        self.hash(layout::segment(id), size_bytes, moved)
    }

    /// The same of a shard.
    pub fn hash_shard(&self, id: &ShardId, size_bytes: u64) -> Pending<'_, ContentHash> {
        self.hash(layout::shard(id), size_bytes, &Moved::default())
    }

    /// The same of a block that a replaced segment carries, in the file of its own. If that is gone, as somebody has removed
    /// it, it is written once more.
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
            let end = size_bytes.min(start + u64::from(limit::NETWORK_FETCH_BYTES));
            buffer = self.get_range(path, start..end, buffer, &Moved::default()).await?;
            hasher.update(&buffer);
            moved.reached(end);
            start = end;
        }
        Ok(ContentHash(*hasher.finalize().as_bytes()))
    }

    /// Removes a file. A try whose answer was lost may have done it.
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
