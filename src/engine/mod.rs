//! The engine: the program's one object that uploads and downloads. This module holds the state that
//! [`upload`] and [`download`] share.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config;
use crate::download;
use crate::download::Downloads;
use crate::error::{Error, Result};
use crate::format::limits;
use crate::id::{BlockId, Oid};
use crate::index::condemned::CondemnedNames;
use crate::index::{Index, manifest};
use crate::local::clones::Clones;
use crate::local::journal::Journal;
use crate::local::metadata_cache::Cache;
use crate::modes::Modes;
pub use crate::progress::Progress;
use crate::repo::Direction;
use crate::store::Store;
use crate::threads;
use crate::upload;
use crate::upload::batch::Uploads;
use crate::upload::delta_bases::Candidates;
pub use crate::upload::delta_bases::DeltaRule;
use crate::upload::load::Learned;
use crate::upload::thread_pools::Threads;

/// Bytes of the memory for each known chunk, in a store with too many chunks to know them all. A known chunk
/// takes some 50 bytes.
pub(crate) const MEMORY_BYTES_PER_CHUNK: u64 = 256;

/// Moves objects to and from a store, one or several at a time. Any thread may call it.
pub trait Transfer: Send + Sync {
    /// Prepares for the first object. Never fails.
    fn prepare(&self) {}

    /// Makes sure that the store has the object in the file `path`. When this returns, the object is
    /// durable.
    fn upload(&self, oid: &Oid, size_bytes: u64, path: &Path, progress: &Arc<Progress>) -> Result<()>;

    /// Puts the object into a temporary file in the LFS storage, and returns its path.
    fn download(&self, oid: &Oid, size_bytes: u64, progress: &Arc<Progress>) -> Result<PathBuf>;

    /// Does the last work after the last object. Never fails.
    fn finish(&self);

    /// Returns the path of a log that says more about errors. Doesn't wait.
    fn log(&self) -> Option<PathBuf> {
        None
    }

    /// Ends the transfer, after success or failure. No calls follow.
    fn leave(&self) {}
}

/// The settings of an engine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the repository that the pushed objects belong to.
    pub repository: String,
    /// Zstandard's level for frames.
    pub compression_level: i32,
    /// The folder where git-lfs keeps `objects/` and `tmp/`.
    pub lfs_storage: PathBuf,
    /// The modes of new files in that folder.
    pub modes: Modes,
    /// The rule for storing frames as deltas to objects on this machine. `None` stores no deltas.
    pub delta: Option<DeltaRule>,
    /// The most bytes of shards that a push reads completely. Up to this size deduplication is exact.
    pub shard_cache_bytes: u64,
    /// True if known chunks are reused only while reading them back stays cheap. False is only for
    /// measurements of this rule.
    pub guards_reading: bool,
    /// The places on this machine that keep whole files by their SHA-256.
    pub sources: Vec<PathBuf>,
    /// The clones on this machine. Downloads use the objects of other clones too.
    pub clones: Clones,
    /// True if a push brings the store's manifest up to date, if there is one.
    pub writes_manifest: bool,
    /// The memory for blocks in flight and buffers, in bytes. The bound is approximate.
    pub memory_bytes: u64,
    /// The most bytes of fetched blocks that may be kept on this machine, for all stores together. 0 keeps
    /// none.
    pub cache_bytes: u64,
}

impl Settings {
    /// Returns the usual settings, without anything shared on this machine. Other clones and sources are
    /// not used, and no ranges are kept.
    pub fn new(repository: &str, lfs_storage: PathBuf) -> Self {
        Self {
            repository: repository.to_owned(),
            compression_level: 3,
            delta: Some(DeltaRule::default()),
            lfs_storage,
            modes: Modes::default(),
            shard_cache_bytes: config::SHARD_CACHE_BYTES,
            guards_reading: true,
            sources: Vec::new(),
            clones: Clones::none(),
            writes_manifest: true,
            memory_bytes: config::MEMORY_BYTES,
            cache_bytes: 0,
        }
    }

    /// Returns how many chunks may be known at a time, where a store has too many to know all.
    pub(crate) fn sparse_chunks(&self) -> usize {
        (self.memory_bytes / MEMORY_BYTES_PER_CHUNK) as usize
    }

    /// Returns the size at which a block is closed. With little memory a block is closed before it is full,
    /// so that the next one can be filled while it is in flight.
    pub(crate) fn block_bytes(&self) -> usize {
        (self.memory_bytes / 3).min(limits::BLOCK_BYTES as u64) as usize
    }

    /// Returns how many blocks fit into the memory, beside the open block and the chunks that are read and
    /// compressed meanwhile.
    pub(crate) fn blocks_in_flight(&self) -> usize {
        let blocks = self.memory_bytes / self.block_bytes().max(1) as u64;
        blocks.saturating_sub(2).max(1) as usize
    }
}

/// An open store, and the knowledge about it that all transfers share.
pub struct Engine {
    pub(crate) store: Store,
    pub(crate) cache: Cache,
    pub(crate) journal: Journal,
    pub(crate) settings: Settings,
    pub(crate) view: Mutex<View>,
    pub(crate) uploads: Uploads,
    /// The threads of uploads. They are started before other work, while the system allows them.
    pub(crate) threads: Mutex<Option<Arc<Threads>>>,
    pub(crate) candidates: Mutex<Candidates>,
    pub(crate) downloads: Downloads,
}

/// The knowledge about the store. Each part is read when it is needed first.
#[derive(Default)]
pub(crate) struct View {
    /// True if a look at `index` and `condemned` was made, with or without success.
    pub(crate) looked: bool,
    /// True if `index` and `condemned` were read.
    pub(crate) listed: bool,
    pub(crate) index: Index,
    pub(crate) condemned: CondemnedNames,
    /// The chunks that a push may deduplicate against. They are read when an object must be packed.
    pub(crate) learned: Learned,
    /// The time of the last look at the index and the condemned lists.
    pub(crate) look_cost: Duration,
    /// The error of a look before the first object came. The next object takes it.
    pub(crate) failed: Option<Error>,
    /// True if `learned` has all blocks of the journal. False before the journal was read, and while it may
    /// name blocks of a batch that was not committed.
    pub(crate) resumed: bool,
    /// The blocks that were seen in the store, complete.
    pub(crate) seen: HashSet<BlockId>,
    /// The blocks that a commit names and that are missing or cut short.
    pub(crate) lost: HashSet<BlockId>,
    /// The work on the manifest that is due at the end.
    pub(crate) manifest: manifest::Owed,
}

impl View {
    /// Reads the new parts of the index and of the condemned lists, at the same time.
    pub(crate) fn look(&mut self, engine: &Engine) -> (Result<()>, Result<()>) {
        self.looked = true;
        let Self { index, condemned, look_cost, .. } = self;
        let (store, cache, start) = (&engine.store, &engine.cache, Instant::now());
        let first = store.take_first_look();
        let (segments, lists) = first.map(|first| (first.segments, first.condemned)).unzip();
        let there = || condemned.refresh_by(lists, store, cache);
        let (condemned, index) = threads::join(there, || index.refresh_by(segments, store, cache));
        let panicked = || Err(Error::internal("reading the condemned lists panicked"));
        let looked = (index, condemned.unwrap_or_else(panicked));
        *look_cost = start.elapsed();
        looked
    }

    /// Returns true if a new commit may refer to the block.
    pub(crate) fn may_use(&self, block: &BlockId) -> bool {
        !self.condemned.has_block(block) && !self.lost.contains(block)
    }
}

impl Engine {
    /// Creates an engine on an open store. Reads nothing yet.
    pub fn new(store: Store, settings: Settings) -> Self {
        let (id, location) = (store.description().id, store.location());
        let (cache, journal) = (Cache::for_store(&id, &location), Journal::for_store(&id, &location));
        let (view, uploads) = (Mutex::default(), Uploads::default());
        let (candidates, downloads) = (Mutex::default(), Downloads::new(&store, &settings));
        let threads = Mutex::default();
        Self { store, cache, journal, settings, view, uploads, threads, candidates, downloads }
    }

    /// Returns the threads of uploads. The first call starts them.
    pub(crate) fn threads(&self) -> Result<Arc<Threads>> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        match &*threads {
            Some(threads) => Ok(threads.clone()),
            None => Ok(threads.insert(Arc::new(Threads::start()?)).clone()),
        }
    }

    /// Reads the metadata that the first object in this direction needs, because git-lfs takes a while to
    /// start its agents. An error becomes the first object's error. Returns at once if another thread has
    /// the view.
    pub fn prepare(&self, direction: Direction) {
        let Ok(mut view) = self.view.try_lock() else { return };
        // an object that came earlier has reported an error itself
        if view.looked {
            return;
        }
        let prepared = match direction {
            Direction::Upload => upload::prepare(self, &mut view),
            Direction::Download => threads::cores().and_then(|_| download::look(self, &mut view)),
        };
        view.failed = prepared.err();
    }

    /// Sets how many callers may ask for an object at the same time. The default is one.
    pub fn set_askers(&self, askers: usize) {
        self.uploads.set_askers(askers);
    }
}

impl Transfer for Engine {
    fn upload(&self, oid: &Oid, size_bytes: u64, path: &Path, progress: &Arc<Progress>) -> Result<()> {
        upload::upload(self, oid, size_bytes, path, progress)
    }

    fn download(&self, oid: &Oid, size_bytes: u64, progress: &Arc<Progress>) -> Result<PathBuf> {
        download::download(self, oid, size_bytes, progress)
    }

    fn finish(&self) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(e) = std::mem::take(&mut view.manifest).settle(&self.store) {
            tracing::warn!("the manifest is not brought up to date: {e}");
        }
    }
}
