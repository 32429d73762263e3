//! The store: typed requests to a directory, a bucket or a web server. Their errors have a kind, and a remedy
//! for the user. Only `deleter` and [`probe`] delete, and [`probe`] deletes only its own files. Only `create`
//! makes a store.

mod blocks;
mod create;
mod deleter;
mod directory;
#[cfg(test)]
pub(crate) mod faulty;
mod files;
mod folders;
pub mod io_profile;
mod layout;
mod listing;
mod local_files;
mod misspelt;
mod names;
mod network;
mod options;
mod place;
pub mod probe;
mod request;
mod retry;
#[cfg(test)]
mod tests;
mod url;

use std::ops::Range;
use std::path::Path as FilePath;
#[cfg(test)]
use std::sync::Arc;

use bytes::Bytes;
use futures::try_join;
use object_store::PutPayload;
use object_store::path::Path;

pub use self::create::Creation;
pub use self::directory::{Sharing, UNSYNCED};
use self::files::{Conditions, Files, Size};
use self::listing::{list_condemned, list_segments, look};
use self::network::endpoint;
#[doc(hidden)]
pub use self::network::read_refusal;
pub use self::options::{Access, ChosenBy, Intent};
use self::place::{Place, directory_files, find};
pub use self::request::{Moved, Pending};
use self::request::{OwnRuntime, runtime, stopped};
pub use self::url::{SCHEME, StoreUrl, is_same_endpoint};
use crate::error::{Error, Kind, Result};
use crate::format::store_json::StoreDescription;
use crate::format::{limits, manifest};
use crate::id::{BlockId, CondemnedId, SegmentId, ShardId};
use crate::store::io_profile::{
    CARRIED_BYTES, DIRECTORY_BLOCKS_IN_FLIGHT, DIRECTORY_FETCH_BYTES, DIRECTORY_FETCH_GAP_BYTES,
    DIRECTORY_FETCHES_IN_FLIGHT, NETWORK_BLOCKS_IN_FLIGHT, NETWORK_FETCH_BYTES, NETWORK_FETCH_GAP_BYTES,
    NETWORK_FETCHES_IN_FLIGHT, NETWORK_FIRST_BLOCK_BYTES, NETWORK_READ_AHEAD_BYTES,
};

/// An open store. Cheap to share between threads. Requests block the calling thread unless they return a
/// [`Pending`].
pub struct Store {
    files: Files,
    runtime: OwnRuntime,
    description: StoreDescription,
    carried_bytes: usize,
}

/// A store, with what was read of it while it was opened.
pub struct OpenedStore {
    /// The open store.
    pub store: Store,
    /// Its listings, if they were made. They are not for checks that must begin later.
    pub first_look: Option<FirstLook>,
}

/// The listings that were made while a store was opened.
pub struct FirstLook {
    /// The result of [`Store::list_segments`].
    pub segments: Result<Vec<(SegmentId, u64)>>,
    /// The result of [`Store::list_condemned`].
    pub condemned: Result<Vec<(CondemnedId, u64)>>,
}

/// The parameters for reading and writing blocks that fit the store's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The largest gap between neighbouring ranges of a block that are fetched as one.
    pub fetch_gap_bytes: u32,
    /// The span of a block at which a fetch is closed.
    pub fetch_bytes: u32,
    /// The number of fetches under way at a time, for one object.
    pub fetches_in_flight: usize,
    /// The size to which a fetch of a small object is widened when others are wanted too; 0 for no
    /// read-ahead.
    pub read_ahead_bytes: u32,
    /// The number of blocks on their way to the store while the next is filled.
    pub blocks_in_flight: usize,
    /// The size at which the first block of several is closed. Each further one is closed at twice the size.
    pub first_block_bytes: usize,
    /// The largest size of a small commit's block and shard together. If a commit has only one block and both
    /// fit, they stand inside its index segment.
    pub carried_bytes: usize,
}

impl Store {
    /// Opens the store that `url` names. Relative paths are taken from `top`. Fails with [`Kind::NotFound`]
    /// if there is no store, because a transfer never creates one.
    pub fn open(url: &StoreUrl, top: &FilePath, access: &Access) -> Result<Self> {
        let runtime = runtime()?;
        let files = find(url, top, access, &runtime)?;
        Self::with(files, runtime)
    }

    /// Opens a store like [`Store::open`]. Meanwhile, a service also lists index segments and condemned
    /// lists, for callers that need them anyway.
    pub fn open_looking(url: &StoreUrl, top: &FilePath, access: &Access) -> Result<OpenedStore> {
        let runtime = runtime()?;
        let files = find(url, top, access, &runtime)?;
        let Place::Network(_) = &files.place else {
            return Ok(OpenedStore { store: Self::with(files, runtime)?, first_look: None });
        };
        // if there is no store, the listings are not waited for
        let look = async { Ok(look(&files).await) };
        let (description, look) = runtime.block_on(async { try_join!(read_description(&files), look) })?;
        Ok(OpenedStore { store: Self::of(files, runtime, description), first_look: Some(look) })
    }

    fn with(files: Files, runtime: OwnRuntime) -> Result<Self> {
        let description = runtime.block_on(read_description(&files))?;
        Ok(Self::of(files, runtime, description))
    }

    fn of(files: Files, runtime: OwnRuntime, description: StoreDescription) -> Self {
        if let Place::Directory(place) = &files.place {
            place.is_described(&description);
        }
        let files = Files { conditions: Conditions::new(description.creates), ..files };
        let carried_bytes = match &files.place {
            // a directory has no round trips to save
            Place::Directory(_) => 0,
            Place::Network(_) => CARRIED_BYTES,
        };
        Self { files, runtime, description, carried_bytes }
    }

    /// Makes the store use small commits like a bucket.
    #[cfg(test)]
    pub(crate) fn carrying(mut self) -> Self {
        self.carried_bytes = CARRIED_BYTES;
        self
    }

    /// Creates a store on any backend, as if the backend were a bucket.
    #[cfg(test)]
    pub(crate) fn on(objects: Arc<dyn object_store::ObjectStore>) -> Result<Self> {
        let place = Place::Network(Arc::new(network::Place::nowhere()));
        let files = Files { objects, place, conditions: Conditions::new(true) };
        let mine = StoreDescription { creates: true, ..StoreDescription::new(None)? };
        Ok(Self::create(files, runtime()?, &mine)?.0)
    }

    /// Makes the store report every call to `watch`.
    #[cfg(test)]
    pub(crate) fn watched(mut self, watch: faulty::Watch) -> Self {
        self.files.objects = Arc::new(faulty::Watched { inner: self.files.objects, watch });
        self
    }

    /// Returns the contents of `store.json`.
    pub fn description(&self) -> &StoreDescription {
        &self.description
    }

    /// Returns the store's location, in the same form for each way to write its URL.
    pub fn location(&self) -> String {
        self.files.place.to_string()
    }

    /// Returns true if requests go unsigned, because no credentials were found or looked for. Returns none
    /// for directories and web servers, which take no credentials.
    pub fn is_anonymous(&self) -> Option<bool> {
        match &self.files.place {
            Place::Network(place) if !self.is_read_only() => Some(place.is_anonymous()),
            _ => None,
        }
    }

    /// Returns the reason if requests go unsigned although there may be credentials: only the repository
    /// names the endpoint. The text also says how to trust the endpoint.
    pub fn unsigned(&self) -> Option<String> {
        match &self.files.place {
            Place::Network(place) => {
                let origin = place.untrusted.as_ref()?;
                Some(format!("{}; {}", endpoint::unsigned(origin), endpoint::how_to_trust(origin)))
            }
            Place::Directory(_) => None,
        }
    }

    /// Returns true if the store stands behind a web server. Such a store can't be listed or written. Its
    /// segments are those that the manifest names.
    pub fn is_read_only(&self) -> bool {
        self.files.place.is_read_only()
    }

    /// Returns true if the store is a directory. Its files count as files on a disk of this machine, because
    /// the program can't tell the difference.
    pub fn is_directory(&self) -> bool {
        matches!(&self.files.place, Place::Directory(_))
    }

    /// Returns the parameters for reading and writing blocks.
    pub fn reach(&self) -> Reach {
        match &self.files.place {
            Place::Directory(_) => Reach {
                fetch_gap_bytes: DIRECTORY_FETCH_GAP_BYTES,
                fetch_bytes: DIRECTORY_FETCH_BYTES,
                fetches_in_flight: DIRECTORY_FETCHES_IN_FLIGHT,
                // the system's own read-ahead is enough
                read_ahead_bytes: 0,
                blocks_in_flight: DIRECTORY_BLOCKS_IN_FLIGHT,
                first_block_bytes: limits::BLOCK_BYTES,
                carried_bytes: self.carried_bytes,
            },
            Place::Network(_) => Reach {
                fetch_gap_bytes: NETWORK_FETCH_GAP_BYTES,
                fetch_bytes: NETWORK_FETCH_BYTES,
                fetches_in_flight: NETWORK_FETCHES_IN_FLIGHT,
                read_ahead_bytes: NETWORK_READ_AHEAD_BYTES,
                blocks_in_flight: NETWORK_BLOCKS_IN_FLIGHT,
                first_block_bytes: NETWORK_FIRST_BLOCK_BYTES,
                carried_bytes: self.carried_bytes,
            },
        }
    }

    /// Returns true if the store's file system has refused to sync; [`UNSYNCED`] names the consequence. Syncs
    /// the index folder once more to find out.
    pub fn is_unsynced(&self) -> bool {
        match &self.files.place {
            Place::Directory(place) => place.settle(layout::INDEX).is_ok() && place.is_unsynced(),
            Place::Network(_) => false,
        }
    }

    /// Fails if the store can't be written. In a directory, makes the missing ones of the folders that all
    /// others stand in. This comes before all other writes, because an index folder that is missing beside
    /// blocks counts as lost.
    pub fn prepare_writing(&self) -> Result<()> {
        if self.is_read_only() {
            return Err(Error::new(Kind::Denied, format!("the store {} can only be read", self.location()))
                .remedy("set lfs.pushurl to the URL of its bucket or directory"));
        }
        match &self.files.place {
            Place::Directory(place) => place.provide_top_folders(),
            Place::Network(place) => match &place.untrusted {
                Some(origin) => Err(endpoint::not_written(origin)),
                None => Ok(()),
            },
        }
    }

    /// Fails unless this is still the store that was opened. A directory may have been unmounted meanwhile,
    /// and later writes would be elsewhere. This can't happen to a bucket, so a bucket isn't asked.
    pub fn confirm(&self) -> Result<()> {
        if let Place::Network(_) = &self.files.place {
            return Ok(());
        }
        let found = self.runtime.block_on(read_description(&self.files))?;
        if found.id == self.description.id {
            return Ok(());
        }
        Err(Error::new(Kind::Unreachable, format!("another store stands at {} now", self.location()))
            .remedy("check what is mounted there and push again"))
    }

    /// Begins to store a block. `moved` shows the progress.
    pub fn put_block(&self, id: &BlockId, pieces: Vec<Bytes>, moved: &Moved) -> Pending<'_, ()> {
        self.put(layout::block(id), PutPayload::from_iter(pieces), moved)
    }

    /// Begins to store a shard.
    pub fn put_shard(&self, id: &ShardId, bytes: Bytes) -> Pending<'_, ()> {
        self.put(layout::shard(id), PutPayload::from(bytes), &Moved::default())
    }

    /// Begins to store an index segment. `moved` shows the progress. When the request is done, the commit has
    /// happened.
    pub fn put_segment(&self, id: &SegmentId, pieces: Vec<Bytes>, moved: &Moved) -> Pending<'_, ()> {
        self.put(layout::segment(id), PutPayload::from_iter(pieces), moved)
    }

    /// Stores a condemned list.
    pub fn put_condemned(&self, id: &CondemnedId, bytes: Vec<u8>) -> Result<()> {
        self.put(layout::condemned(id), PutPayload::from(bytes), &Moved::default()).wait()
    }

    fn put(&self, path: Path, payload: PutPayload, moved: &Moved) -> Pending<'_, ()> {
        let (files, moved) = (self.files.clone(), moved.clone());
        self.begin(async move {
            files.place.provide_folder_of(&path)?;
            files.put(&path, payload, &moved).await
        })
    }

    fn begin<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Pending<'_, T> {
        Pending { runtime: &self.runtime, task: self.runtime.spawn(request) }
    }

    /// Begins to read a whole index segment. `size_bytes` is the size in the store's listing.
    pub fn get_segment(&self, id: &SegmentId, size_bytes: u64) -> Pending<'_, Bytes> {
        self.get(layout::segment(id), size_bytes, limits::SEGMENT_READ_BYTES)
    }

    /// Begins to read a byte range of an index segment.
    pub fn get_segment_range(&self, id: &SegmentId, range: Range<u64>) -> Pending<'_, Vec<u8>> {
        self.get_range(layout::segment(id), range, Vec::new(), &Moved::default())
    }

    /// Begins to read a whole condemned list. `size_bytes` is the size in the store's listing.
    pub fn get_condemned(&self, id: &CondemnedId, size_bytes: u64) -> Pending<'_, Bytes> {
        self.get(layout::condemned(id), size_bytes, limits::CONDEMNED_READ_BYTES)
    }

    /// Begins to read a whole file of `size_bytes`. Fails without a request if that is more than
    /// `limit_bytes`.
    fn get(&self, path: Path, size_bytes: u64, limit_bytes: usize) -> Pending<'_, Bytes> {
        let files = self.files.clone();
        self.begin(async move {
            if size_bytes > limit_bytes as u64 {
                return Err(Error::corrupt(format!(
                    "{path} would have {size_bytes} bytes, which is too much"
                )));
            }
            files.get(&path, Size::Exactly(size_bytes)).await
        })
    }

    fn get_range(
        &self,
        path: Path,
        range: Range<u64>,
        buffer: Vec<u8>,
        moved: &Moved,
    ) -> Pending<'_, Vec<u8>> {
        let (files, moved) = (self.files.clone(), moved.clone());
        self.begin(async move { files.get_range(&path, range, buffer, &moved).await })
    }

    /// Begins to look for a block in a file of its own. Returns its size, if it is there. The file is durable
    /// then, even if the process that stored it was killed before it had synced the folder.
    pub fn settled_block_bytes(&self, id: &BlockId) -> Pending<'_, Option<u64>> {
        let (files, path) = (self.files.clone(), layout::block(id));
        self.begin(async move {
            let found = files.size(&path).await?;
            if let (Some(_), Place::Directory(place)) = (found, files.place) {
                // a file is renamed when its content is on the disk, and its folder is synced after that
                let settle = move || place.settle_folder_of(&path);
                tokio::task::spawn_blocking(settle).await.unwrap_or_else(stopped)?;
            }
            Ok(found)
        })
    }

    /// Lists the index segments that stand in the store now, with their sizes, in the order of their ids.
    /// Behind a web server, these are the segments that the manifest names.
    pub fn list_segments(&self) -> Result<Vec<(SegmentId, u64)>> {
        self.runtime.block_on(list_segments(&self.files))
    }

    /// Begins to find out if pushes must keep the manifest up to date. In a directory they always must,
    /// because a web server may stand in front of it. In a bucket they must if it has a manifest.
    pub fn keeps_manifest(&self) -> Pending<'_, bool> {
        let (files, is_read_only) = (self.files.clone(), self.is_read_only());
        self.begin(async move {
            match &files.place {
                Place::Directory(_) => Ok(true),
                Place::Network(_) if is_read_only => Ok(false),
                Place::Network(_) => Ok(files.size(&layout::manifest()).await?.is_some()),
            }
        })
    }

    /// Writes the manifest of these segments. It overwrites the manifest that is there.
    pub fn put_manifest(&self, segments: &[(SegmentId, u64)]) -> Result<()> {
        let path = layout::manifest();
        self.files.place.provide_folder_of(&path)?;
        self.runtime.block_on(self.files.rewrite(&path, manifest::write(segments).into()))
    }

    /// Makes the listed segments durable, no matter which process wrote them. A segment may be visible in its
    /// folder before the folder is synced, and may then vanish in a power failure.
    pub fn settle_segments(&self) -> Result<()> {
        match &self.files.place {
            Place::Directory(place) => place.settle(layout::INDEX),
            Place::Network(_) => Ok(()),
        }
    }

    /// Lists the condemned lists that stand in the store now. Fails with [`Kind::TooNew`] if there is a kind
    /// of condemnation that this version doesn't know.
    pub fn list_condemned(&self) -> Result<Vec<(CondemnedId, u64)>> {
        self.runtime.block_on(list_condemned(&self.files))
    }

    /// Returns names among index segments and condemned lists that no version of this program writes there.
    pub fn foreign_names(&self) -> Result<Vec<String>> {
        self.runtime.block_on(listing::foreign_names(&self.files))
    }

    /// Returns the size of all files in the store together. Fails if the store can't be listed.
    pub fn stored_bytes(&self) -> Result<u64> {
        if self.is_read_only() {
            return Err(Error::invalid(format!("the store {} can't be listed", self.location()))
                .remedy("name its bucket or directory instead"));
        }
        self.runtime.block_on(self.files.total_bytes())
    }

    /// Finds out the guarantees of the store's service. Writes three small objects below `probes/`, and
    /// removes them if it may.
    pub fn probe(&self) -> Result<probe::Probe> {
        self.prepare_writing()?;
        self.runtime.block_on(probe::run(&self.files))
    }
}

async fn read_description(files: &Files) -> Result<StoreDescription> {
    let bytes =
        files.get(&Path::from(layout::STORE_JSON), Size::AtMost(limits::STORE_JSON_BYTES as u64)).await;
    let bytes = bytes.map_err(|e| match e.kind() {
        Kind::NotFound => files.place.no_store(),
        _ => e,
    })?;
    StoreDescription::parse(&bytes).map_err(|e| e.context(&files.place))
}
