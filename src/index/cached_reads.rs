//! Reads of a store's immutable metadata, through the cache. Missing files are fetched, several at a time.

use std::collections::VecDeque;
use std::fmt::Display;

use bytes::Bytes;

use super::inline_files::InlineFiles;
use crate::error::{Error, Kind, Result};
use crate::format::segment::ShardEntry;
use crate::id::{ContentHash, ShardId};
use crate::local::metadata_cache::{Cache, Kept};
use crate::store::{Pending, Store};
use crate::units::MIB;

/// Most files of the index, and shards, that are read at a time.
pub(crate) const COPIES_IN_FLIGHT: usize = 16;
/// Most bytes of these files that are read at a time. A larger file is read alone.
const COPIES_IN_FLIGHT_BYTES: u64 = 64 * MIB as u64;

/// A store that is read through this machine's metadata cache.
#[derive(Clone, Copy)]
pub(crate) struct CachedStore<'s> {
    pub store: &'s Store,
    pub cache: &'s Cache,
}

/// Returns the user's cache of this store's metadata.
pub(crate) fn cache_of(store: &Store) -> Cache {
    Cache::for_store(&store.description().id, &store.location())
}

/// A file that is being read.
pub(crate) struct Copying<'s> {
    kind: Kept,
    name: String,
    hash: ContentHash,
    source: Source<'s>,
}

enum Source<'s> {
    Here(Bytes),
    Coming(Pending<'s, Bytes>),
}

impl<'s> Copying<'s> {
    /// Takes the copy of the file `name` from the cache, or asks for the file with `begin`.
    pub(crate) fn begin(
        cache: &Cache,
        kind: Kept,
        name: &str,
        hash: ContentHash,
        begin: impl FnOnce() -> Pending<'s, Bytes>,
    ) -> Self {
        let source = match cache.find(kind, name, &hash) {
            Some(bytes) => Source::Here(bytes),
            None => Source::Coming(begin()),
        };
        Self { kind, name: name.to_owned(), hash, source }
    }

    /// Waits for the file, and keeps a copy.
    pub(crate) fn wait(self, cache: &Cache) -> Result<Bytes> {
        match self.source {
            Source::Here(bytes) => Ok(bytes),
            Source::Coming(pending) => cache.keep(self.kind, &self.name, &self.hash, pending.wait()?),
        }
    }
}

/// Reads the files `names`, whose sizes in bytes are known. Returns each with its bytes or its error, in
/// order. Files that the cache lacks are requested with `begin` while others are taken, and are kept. Their
/// number and their bytes under way are bounded.
pub(crate) fn copies<'s, N: Copy + Display>(
    cache: &Cache,
    kind: Kept,
    names: impl IntoIterator<Item = (N, u64)>,
    hash: impl Fn(&N) -> ContentHash,
    begin: impl Fn(&N, u64) -> Pending<'s, Bytes>,
) -> impl Iterator<Item = (N, Result<Bytes>)> {
    let mut names = names.into_iter().peekable();
    let mut coming: VecDeque<(N, u64, Copying<'s>)> = VecDeque::new();
    let mut coming_bytes = 0u64;
    std::iter::from_fn(move || {
        while coming.len() < COPIES_IN_FLIGHT
            && let Some((name, size_bytes)) = names.next_if(|(_, size_bytes)| {
                coming.is_empty() || coming_bytes.saturating_add(*size_bytes) <= COPIES_IN_FLIGHT_BYTES
            })
        {
            let begin = || begin(&name, size_bytes);
            let copy = Copying::begin(cache, kind, &name.to_string(), hash(&name), begin);
            coming_bytes += size_bytes;
            coming.push_back((name, size_bytes, copy));
        }
        let (name, size_bytes, copy) = coming.pop_front()?;
        coming_bytes -= size_bytes;
        Some((name, copy.wait(cache)))
    })
}

/// Reads shards, inside segments or in their own files. Returns each with its bytes or its error, in order.
pub(crate) fn shard_copies(
    stored: CachedStore<'_>,
    inline: &InlineFiles,
    shards: impl IntoIterator<Item = ShardEntry>,
) -> impl Iterator<Item = (ShardId, Result<Bytes>)> {
    let names = shards.into_iter().map(|shard| (shard.id, u64::from(shard.size_bytes)));
    // the size came from the same table
    let begin = |id: &ShardId, size_bytes| {
        inline.get_shard(stored.store, id, u32::try_from(size_bytes).unwrap_or(u32::MAX))
    };
    copies(stored.cache, Kept::Shards, names, |id| id.hash, begin)
}

/// Skips a shard that can't be read. Shards are hints: without one, its chunks are stored again. But a store
/// that doesn't answer is an error.
pub(crate) fn skip_shard(id: &ShardId, error: Error) -> Result<()> {
    if matches!(error.kind(), Kind::Unreachable | Kind::Internal) {
        return Err(error);
    }
    tracing::warn!("shard {id} is not used: {error}");
    Ok(())
}
