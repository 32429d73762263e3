//! What happens to an object, each way told top to bottom: [`upload`] and [`download`], and what the
//! two share.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::download;
use crate::download::Downloads;
use crate::error::{Error, Result};
use crate::id::{BlockId, Oid};
use crate::index::condemned::CondemnedNames;
use crate::index::{Index, manifest};
use crate::limit;
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

/// Moves objects to and from a store, one or several at a time.
pub trait Transfer: Send + Sync {
    /// Begins what the first object will need, and fails by nothing.
    fn prepare(&self) {}

    /// Makes sure that the store has the object in the file `path`. When this returns, it is durable.
    fn upload(&self, oid: &Oid, size_bytes: u64, path: &Path, progress: &Arc<Progress>) -> Result<()>;

    /// Puts the object into a temporary file beside the LFS objects, and returns its path.
    fn download(&self, oid: &Oid, size_bytes: u64, progress: &Arc<Progress>) -> Result<PathBuf>;

    /// After the last object: tidies up what nobody waits for, and fails by nothing.
    fn finish(&self);

    /// Where more is to be found about errors. Doesn't wait.
    fn log(&self) -> Option<PathBuf> {
        None
    }

    /// At the end, whatever has happened: nothing is asked any more.
    fn leave(&self) {}
}

/// How an engine works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whose objects are pushed.
    pub repository: String,
    /// Zstandard's level for frames.
    pub compression_level: i32,
    /// Where git-lfs keeps `objects/` and `tmp/`.
    pub lfs_storage: PathBuf,
    /// The modes of what is made there.
    pub modes: Modes,
    /// When frames are stored as patches to what is on this machine; never without.
    pub delta: Option<DeltaRule>,
    /// While a store's shards are no more bytes than this, all are read, and deduplication is exact.
    pub shard_cache_bytes: u64,
    /// Whether what is known is reused only while reading it back stays cheap; off only to measure what that costs.
    pub guards_reading: bool,
    /// Places on this machine that keep whole files by their SHA-256.
    pub sources: Vec<PathBuf>,
    /// The clones on this machine; what others than this one have is used too.
    pub clones: Clones,
    /// Whether a store's manifest, if it has one, is brought up to date.
    pub writes_manifest: bool,
    /// About how many bytes what is on its way may take, blocks and buffers.
    pub memory_bytes: u64,
    /// How many bytes of blocks that were fetched may be kept on this machine, of all stores together; 0 for none.
    pub cache_bytes: u64,
}

impl Settings {
    /// The usual ones, but for all that is shared on this machine: nothing is taken from other clones and sources, and no blocks
    /// are kept.
    pub fn new(repository: &str, lfs_storage: PathBuf) -> Self {
        Self {
            repository: repository.to_owned(),
            compression_level: 3,
            delta: Some(DeltaRule::default()),
            lfs_storage,
            modes: Modes::default(),
            shard_cache_bytes: limit::SHARD_CACHE_BYTES,
            guards_reading: true,
            sources: Vec::new(),
            clones: Clones::none(),
            writes_manifest: true,
            memory_bytes: limit::MEMORY_BYTES,
            cache_bytes: 0,
        }
    }

    /// Chunks that may be known at a time, where a store has too many to know them all.
    pub(crate) fn sparse_chunks(&self) -> usize {
        (self.memory_bytes / limit::MEMORY_BYTES_PER_CHUNK) as usize
    }

    /// At this size a block is closed: with little memory earlier than it is full, so that the next one can be filled while
    /// it is on its way.
    pub(crate) fn block_bytes(&self) -> usize {
        (self.memory_bytes / 3).min(limit::BLOCK_BYTES as u64) as usize
    }

    /// Blocks that fit into the memory beside the open one and what is read and compressed meanwhile.
    pub(crate) fn blocks_in_flight(&self) -> usize {
        let blocks = self.memory_bytes / self.block_bytes().max(1) as u64;
        blocks.saturating_sub(2).max(1) as usize
    }
}

/// The engine: an open store, and what is known of it.
pub struct Engine {
    pub(crate) store: Store,
    pub(crate) cache: Cache,
    pub(crate) journal: Journal,
    pub(crate) settings: Settings,
    pub(crate) view: Mutex<View>,
    pub(crate) uploads: Uploads,
    /// Started before anything else, while there are some to be had.
    pub(crate) threads: Mutex<Option<Arc<Threads>>>,
    pub(crate) candidates: Mutex<Candidates>,
    pub(crate) downloads: Downloads,
}

/// What is known of the store; each part is read at the first need.
#[derive(Default)]
pub(crate) struct View {
    /// Whether they were looked for, with whatever success.
    pub(crate) looked: bool,
    /// Whether `index` and `condemned` were read.
    pub(crate) listed: bool,
    pub(crate) index: Index,
    pub(crate) condemned: CondemnedNames,
    /// What may be deduplicated against; read when something is to be packed.
    pub(crate) learned: Learned,
    /// What it took to read index and condemned lists last.
    pub(crate) look_cost: Duration,
    /// What it failed by to read the index before the first object came, until one hears of it.
    pub(crate) failed: Option<Error>,
    /// Whether all that the journal holds is in `learned`: not before it was read, and not while there may be
    /// blocks of a group that was not committed.
    pub(crate) resumed: bool,
    /// Blocks that were seen in the store, whole.
    pub(crate) seen: HashSet<BlockId>,
    /// Blocks that a commit names and that are not there, or cut short.
    pub(crate) lost: HashSet<BlockId>,
    /// What is to be done about the manifest at the end.
    pub(crate) manifest: manifest::Owed,
}

impl View {
    /// Reads what is new in the index and in the condemned lists, at the same time.
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

    /// Whether a new commit may refer to a block.
    pub(crate) fn may_use(&self, block: &BlockId) -> bool {
        !self.condemned.has_block(block) && !self.lost.contains(block)
    }
}

impl Engine {
    /// An engine on an open store. Reads nothing yet.
    pub fn new(store: Store, settings: Settings) -> Self {
        let (id, location) = (store.description().id, store.location());
        let (cache, journal) = (Cache::for_store(&id, &location), Journal::for_store(&id, &location));
        let (view, uploads) = (Mutex::default(), Uploads::default());
        let (candidates, downloads) = (Mutex::default(), Downloads::new(&store, &settings));
        let threads = Mutex::default();
        Self { store, cache, journal, settings, view, uploads, threads, candidates, downloads }
    }

    /// The threads of uploads; started at the first need.
    pub(crate) fn threads(&self) -> Result<Arc<Threads>> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        match &*threads {
            Some(threads) => Ok(threads.clone()),
            None => Ok(threads.insert(Arc::new(Threads::start()?)).clone()),
        }
    }

    /// Reads what the first object that goes this way will need of the store's metadata: git-lfs takes a while to start its
    /// agents. If that fails, the first object does, by the same error. Does nothing while another one is at it.
    pub fn prepare(&self, direction: Direction) {
        let Ok(mut view) = self.view.try_lock() else { return };
        // an object that was faster hears of what failed itself
        if view.looked {
            return;
        }
        let prepared = match direction {
            Direction::Upload => upload::prepare(self, &mut view),
            Direction::Download => threads::cores().and_then(|_| download::look(self, &mut view)),
        };
        view.failed = prepared.err();
    }

    /// So many may ask for an object at the same time; one if it was never said.
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
