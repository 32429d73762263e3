//! The engine: the program's one object that uploads and downloads. Its two halves share a catalog of the
//! store.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Settings;
use crate::download::Downloader;
use crate::error::Result;
use crate::id::Oid;
use crate::index::catalog::Catalog;
use crate::local::journal::Journal;
use crate::local::metadata_cache::Cache;
use crate::progress::Progress;
use crate::repo::Direction;
use crate::store::{FirstLook, OpenedStore, Store};
use crate::upload::Uploader;

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

/// An open store, for many objects at a time. Any thread may call it. Uploads and downloads don't wait for
/// each other.
pub struct Engine {
    pub(crate) uploader: Uploader,
    pub(crate) downloader: Downloader,
}

impl Engine {
    /// Creates an engine on an open store. Reads nothing yet.
    pub fn new(store: Store, settings: Settings) -> Self {
        Self::begin(store, None, settings)
    }

    /// Does the same as [`Engine::new`], and uses the listings that were made while the store was opened.
    pub fn opened(opened: OpenedStore, settings: Settings) -> Self {
        Self::begin(opened.store, opened.first_look, settings)
    }

    fn begin(store: Store, first_look: Option<FirstLook>, settings: Settings) -> Self {
        let id = store.description().id;
        let location = store.location();
        let journal = Journal::for_store(&id, &location);
        let cache = Cache::for_store(&id, &location);
        Self::on(Catalog::new(store, cache, first_look), settings, journal)
    }

    pub(crate) fn on(catalog: Catalog, settings: Settings, journal: Journal) -> Self {
        let catalog = Arc::new(catalog);
        let settings = Arc::new(settings);
        let uploader = Uploader::new(catalog.clone(), settings.clone(), journal);
        Self { uploader, downloader: Downloader::new(catalog, settings) }
    }

    /// Reads the metadata that the first object in this direction needs, because git-lfs takes a while to
    /// start its agents. An error becomes the first object's error.
    pub fn prepare(&self, direction: Direction) {
        match direction {
            Direction::Upload => self.uploader.prepare(),
            Direction::Download => self.downloader.prepare(),
        }
    }

    /// Sets how many callers may ask for an object at the same time. The default is one.
    pub fn set_askers(&self, askers: usize) {
        self.uploader.batch.set_askers(askers);
    }
}

impl Transfer for Engine {
    fn upload(&self, oid: &Oid, size_bytes: u64, path: &Path, progress: &Arc<Progress>) -> Result<()> {
        self.uploader.upload(oid, size_bytes, path, progress)
    }

    fn download(&self, oid: &Oid, size_bytes: u64, progress: &Arc<Progress>) -> Result<PathBuf> {
        self.downloader.download(oid, size_bytes, progress)
    }

    fn finish(&self) {
        self.uploader.finish();
    }
}
