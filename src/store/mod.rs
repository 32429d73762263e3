//! What we need of a store: a few typed requests, each with an error that says what can be done. Nothing here
//! deletes but [`probe`], what it has written itself, and `removal`; and nothing but `create` makes a store.

mod carried;
mod create;
mod deleter;
mod directory;
#[cfg(test)]
pub(crate) mod faulty;
mod files;
mod folders;
mod layout;
mod listing;
mod local_files;
mod misspelt;
mod names;
mod network;
mod options;
pub mod probe;
mod request;
mod retry;
#[cfg(test)]
mod tests;
mod url;

use std::fmt;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::try_join;
use object_store::PutPayload;
use object_store::path::Path;
use tokio::runtime::Handle;

pub use self::carried::InSegment;
pub use self::create::Creation;
pub use self::directory::{Sharing, UNSYNCED};
use self::files::{Conditions, Files, Size};
use self::listing::{list_condemned, list_segments, look};
use self::network::endpoint;
#[doc(hidden)]
pub use self::network::read_refusal;
pub use self::options::{Access, ChosenBy, Intent};
pub use self::request::{Moved, Pending};
use self::request::{OwnRuntime, runtime, stopped};
pub use self::url::{SCHEME, StoreUrl, is_same_endpoint};
use crate::error::{Error, Kind, Result};
use crate::format::manifest;
use crate::format::store_json::StoreDescription;
use crate::id::{BlockId, CondemnedId, SegmentId, ShardId};
use crate::limit;

/// An open store. Cheap to share between threads; requests block the calling thread unless they
/// return a [`Pending`].
pub struct Store {
    files: Files,
    runtime: OwnRuntime,
    description: StoreDescription,
    first_look: Mutex<Option<FirstLook>>,
    /// What stands inside index segments.
    carriers: carried::Carriers,
    carried_bytes: usize,
}

/// What a store has listed when it was opened.
pub struct FirstLook {
    /// As [`Store::list_segments`] gives them.
    pub segments: Result<Vec<(SegmentId, u64)>>,
    /// As [`Store::list_condemned`] gives them.
    pub condemned: Result<Vec<(CondemnedId, u64)>>,
}

/// Where a store is.
#[derive(Clone)]
enum Place {
    Directory(directory::Place),
    Network(Arc<network::Place>),
}

/// How blocks are best read and written where the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Neighbouring ranges of a block are fetched as one if the gap between them is at most this.
    pub fetch_gap_bytes: u32,
    /// A fetch is closed once it spans this much of a block.
    pub fetch_bytes: u32,
    /// Fetches under way at a time, for one object.
    pub fetches_in_flight: usize,
    /// How far a fetch of a small object is widened when others are wanted too.
    pub read_ahead_bytes: u32,
    /// Blocks on their way to the store while the next is filled.
    pub blocks_in_flight: usize,
    /// The first block of several is closed at this size, and each further one at twice as much.
    pub first_block_bytes: usize,
    /// The only block of a commit and its shard, if they are no larger together, stand inside its index segment.
    pub carried_bytes: usize,
}

impl Store {
    /// Opens the store that `url` names; relative paths are taken from `top`. Fails with
    /// [`Kind::NotFound`] if there is none: a transfer never creates one.
    pub fn open(url: &StoreUrl, top: &FilePath, access: &Access) -> Result<Self> {
        let runtime = runtime()?;
        let files = find(url, top, access, &runtime)?;
        Self::with(files, runtime)
    }

    /// As [`Store::open`], and has a service list index and condemned lists meanwhile, for who needs them anyway: see
    /// [`Store::take_first_look`].
    pub fn open_looking(url: &StoreUrl, top: &FilePath, access: &Access) -> Result<Self> {
        let runtime = runtime()?;
        let files = find(url, top, access, &runtime)?;
        let Place::Network(_) = &files.place else { return Self::with(files, runtime) };
        // where there is no store, nothing else is waited for
        let look = async { Ok(look(&files).await) };
        let (description, look) = runtime.block_on(async { try_join!(read_description(&files), look) })?;
        Ok(Self::of(files, runtime, description, Some(look)))
    }

    fn with(files: Files, runtime: OwnRuntime) -> Result<Self> {
        let description = runtime.block_on(read_description(&files))?;
        Ok(Self::of(files, runtime, description, None))
    }

    fn of(files: Files, runtime: OwnRuntime, description: StoreDescription, look: Option<FirstLook>) -> Self {
        if let Place::Directory(place) = &files.place {
            place.is_described(&description);
        }
        let files = Files { conditions: Conditions::new(description.creates), ..files };
        let (first_look, carriers) = (Mutex::new(look), carried::Carriers::default());
        let carried_bytes = match &files.place {
            // nobody waits for round trips there
            Place::Directory(_) => 0,
            Place::Network(_) => limit::CARRIED_BYTES,
        };
        Self { files, runtime, description, first_look, carriers, carried_bytes }
    }

    /// What was listed when the store was opened, once: it is not for checks that must begin later.
    pub fn take_first_look(&self) -> Option<FirstLook> {
        self.first_look.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The same store, with small commits as a bucket has them.
    #[cfg(test)]
    pub(crate) fn carrying(mut self) -> Self {
        self.carried_bytes = limit::CARRIED_BYTES;
        self
    }

    /// A store on any backend, as if it were a bucket.
    #[cfg(test)]
    pub(crate) fn on(objects: Arc<dyn object_store::ObjectStore>) -> Result<Self> {
        let place = Place::Network(Arc::new(network::Place::nowhere()));
        let files = Files { objects, place, conditions: Conditions::new(true) };
        let mine = StoreDescription { creates: true, ..StoreDescription::new(None)? };
        Ok(Self::create(files, runtime()?, &mine)?.0)
    }

    /// The same store, with every call told to `watch`.
    #[cfg(test)]
    pub(crate) fn watched(mut self, watch: faulty::Watch) -> Self {
        self.files.objects = Arc::new(faulty::Watched { inner: self.files.objects, watch });
        self
    }

    /// What the store says of itself.
    pub fn description(&self) -> &StoreDescription {
        &self.description
    }

    /// Where the store is, the same however it was written.
    pub fn location(&self) -> String {
        self.files.place.to_string()
    }

    /// Whether requests go unsigned, as no credentials were found; none where none are taken.
    pub fn is_anonymous(&self) -> Option<bool> {
        match &self.files.place {
            Place::Network(place) if !self.is_read_only() => Some(place.is_anonymous()),
            _ => None,
        }
    }

    /// Why requests go unsigned though there may be credentials: only the repository names the endpoint. Says how to trust it.
    pub fn unsigned(&self) -> Option<String> {
        match &self.files.place {
            Place::Network(place) => {
                let origin = place.untrusted.as_ref()?;
                Some(format!("{}; {}", endpoint::unsigned(origin), endpoint::how_to_trust(origin)))
            }
            Place::Directory(_) => None,
        }
    }

    /// Whether it stands behind a web server: it can't be listed, so its segments are those that the manifest
    /// names, and nothing can be written there.
    pub fn is_read_only(&self) -> bool {
        self.files.place.is_read_only()
    }

    /// Whether it is a directory: what is read there is on a disk already, as far as anybody can tell.
    pub fn is_directory(&self) -> bool {
        matches!(&self.files.place, Place::Directory(_))
    }

    /// How blocks are best read and written.
    pub fn reach(&self) -> Reach {
        match &self.files.place {
            Place::Directory(_) => Reach {
                fetch_gap_bytes: limit::DIRECTORY_FETCH_GAP_BYTES,
                fetch_bytes: limit::DIRECTORY_FETCH_BYTES,
                fetches_in_flight: limit::DIRECTORY_FETCHES_IN_FLIGHT,
                // what the system reads ahead is enough
                read_ahead_bytes: 0,
                blocks_in_flight: limit::DIRECTORY_BLOCKS_IN_FLIGHT,
                first_block_bytes: limit::BLOCK_BYTES,
                carried_bytes: self.carried_bytes,
            },
            Place::Network(_) => Reach {
                fetch_gap_bytes: limit::NETWORK_FETCH_GAP_BYTES,
                fetch_bytes: limit::NETWORK_FETCH_BYTES,
                fetches_in_flight: limit::NETWORK_FETCHES_IN_FLIGHT,
                read_ahead_bytes: limit::NETWORK_READ_AHEAD_BYTES,
                blocks_in_flight: limit::NETWORK_BLOCKS_IN_FLIGHT,
                first_block_bytes: limit::NETWORK_FIRST_BLOCK_BYTES,
                carried_bytes: self.carried_bytes,
            },
        }
    }

    /// Whether the file system below has refused to sync: [`UNSYNCED`] says what that means. Asks it once more.
    pub fn is_unsynced(&self) -> bool {
        match &self.files.place {
            Place::Directory(place) => place.settle(layout::INDEX).is_ok() && place.is_unsynced(),
            Place::Network(_) => false,
        }
    }

    /// Fails if nothing can be written there. Makes what is missing of the folders that all others stand in, while nothing
    /// else is written that would make their loss look like a larger one.
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

    /// Fails unless this is still the store that was opened: a directory may have been unmounted
    /// under us, and what was written since would be elsewhere. A bucket can't.
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

    /// Begins to store a block; `moved` follows it.
    pub fn put_block(&self, id: &BlockId, pieces: Vec<Bytes>, moved: &Moved) -> Pending<'_, ()> {
        self.put(layout::block(id), PutPayload::from_iter(pieces), moved)
    }

    /// Begins to store a shard.
    pub fn put_shard(&self, id: &ShardId, bytes: Bytes) -> Pending<'_, ()> {
        self.put(layout::shard(id), PutPayload::from(bytes), &Moved::default())
    }

    /// Begins to store an index segment; `moved` follows it. When that is done, the commit has happened.
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

    /// Begins to read a whole index segment of so many bytes, as it was listed.
    pub fn get_segment(&self, id: &SegmentId, size_bytes: u64) -> Pending<'_, Bytes> {
        self.get(layout::segment(id), size_bytes, limit::SEGMENT_READ_BYTES)
    }

    /// Begins to read a byte range of an index segment.
    pub fn get_segment_range(&self, id: &SegmentId, range: Range<u64>) -> Pending<'_, Vec<u8>> {
        self.get_range(layout::segment(id), range, Vec::new(), &Moved::default())
    }

    /// Begins to read a whole condemned list of so many bytes, as it was listed.
    pub fn get_condemned(&self, id: &CondemnedId, size_bytes: u64) -> Pending<'_, Bytes> {
        self.get(layout::condemned(id), size_bytes, limit::CONDEMNED_READ_BYTES)
    }

    /// Begins to read a whole file of so many bytes; one that is said to be larger than any may be isn't asked for.
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

    /// As [`Store::block_bytes`], and what is found is durable then: whoever stored it may have been killed in that
    /// very moment.
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

    /// The index segments that stand in the store now, and their sizes, in the order of their ids. Behind a
    /// web server: those that the manifest names.
    pub fn list_segments(&self) -> Result<Vec<(SegmentId, u64)>> {
        self.runtime.block_on(list_segments(&self.files))
    }

    /// Begins to see whether pushes are to keep the manifest up to date: a directory's always, as a web server may
    /// stand in front of it; a bucket's if it has one.
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

    /// Writes the manifest of these segments, over the one that is there.
    pub fn put_manifest(&self, segments: &[(SegmentId, u64)]) -> Result<()> {
        let path = layout::manifest();
        self.files.place.provide_folder_of(&path)?;
        self.runtime.block_on(self.files.rewrite(&path, manifest::write(segments).into()))
    }

    /// Makes what was listed before durable, whoever wrote it: a segment may be seen in its folder before
    /// that is synced, and then vanish with the power.
    pub fn settle_segments(&self) -> Result<()> {
        match &self.files.place {
            Place::Directory(place) => place.settle(layout::INDEX),
            Place::Network(_) => Ok(()),
        }
    }

    /// The condemned lists that stand in the store now. A kind of condemnation that this version doesn't know:
    /// [`Kind::TooNew`].
    pub fn list_condemned(&self) -> Result<Vec<(CondemnedId, u64)>> {
        self.runtime.block_on(list_condemned(&self.files))
    }

    /// Names among index segments and condemned lists that no version of this program writes there.
    pub fn foreign_names(&self) -> Result<Vec<String>> {
        self.runtime.block_on(listing::foreign_names(&self.files))
    }

    /// Bytes of everything in the store.
    pub fn stored_bytes(&self) -> Result<u64> {
        if self.is_read_only() {
            return Err(Error::invalid(format!("the store {} can't be listed", self.location()))
                .remedy("name its bucket or directory instead"));
        }
        self.runtime.block_on(self.files.total_bytes())
    }

    /// Finds out what the store's service guarantees. Writes three small objects below `probes/`, and removes
    /// them if it may.
    pub fn probe(&self) -> Result<probe::Probe> {
        self.prepare_writing()?;
        self.runtime.block_on(probe::run(&self.files))
    }
}

impl Place {
    fn is_read_only(&self) -> bool {
        matches!(self, Self::Network(place) if place.is_read_only())
    }

    /// Makes sure that the folder of `path` is there. Services have no folders.
    fn provide_folder_of(&self, path: &Path) -> Result<()> {
        match self {
            Self::Directory(place) => place.provide_folder_of(path),
            Self::Network(_) => Ok(()),
        }
    }

    /// Whether a folder is there, and not more is lost than an empty one.
    fn has_folder(&self, folder: &str) -> Result<bool> {
        match self {
            Self::Directory(place) => place.has_folder(folder),
            Self::Network(_) => Ok(true),
        }
    }

    /// What an error that is final means.
    fn explain(&self, doing: &str, error: object_store::Error) -> Error {
        match self {
            Self::Directory(place) => place.explain(doing, error),
            Self::Network(place) => place.explain(doing, &error).0,
        }
    }

    fn no_store(&self) -> Error {
        match self {
            Self::Directory(place) => place.no_store(),
            Self::Network(place) => place.no_store(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(place) => place.fmt(f),
            Self::Network(place) => f.write_str(&place.location),
        }
    }
}

/// The place that `url` names. Of a directory it is known that it is there; of others nothing.
fn find(url: &StoreUrl, top: &FilePath, access: &Access, runtime: &Handle) -> Result<Files> {
    match url.directory(top) {
        Some(path) => directory_files(directory::Place::find(path)?),
        None => {
            let (objects, place) = network::open(url, access, runtime)?;
            Ok(Files { objects, place: Place::Network(Arc::new(place)), conditions: Conditions::new(false) })
        }
    }
}

/// Names in a directory are unique, and plain puts are renames: they overwrite nothing.
fn directory_files(place: directory::Place) -> Result<Files> {
    let objects = place.backend()?;
    Ok(Files { objects, place: Place::Directory(place), conditions: Conditions::new(false) })
}

async fn read_description(files: &Files) -> Result<StoreDescription> {
    let bytes =
        files.get(&Path::from(layout::STORE_JSON), Size::AtMost(limit::STORE_JSON_BYTES as u64)).await;
    let bytes = bytes.map_err(|e| match e.kind() {
        Kind::NotFound => files.place.no_store(),
        _ => e,
    })?;
    StoreDescription::parse(&bytes).map_err(|e| e.context(&files.place))
}
