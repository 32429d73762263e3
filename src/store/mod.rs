//! What we need of a store: a few typed requests over `object_store`, each with an error that says
//! what can be done. Nothing here deletes, and nothing but [`create`](Store::create_or_join)
//! makes a store.

mod directory;
mod layout;
mod url;
#[cfg(test)]
pub(crate) mod watched;

use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;

pub use self::directory::Sharing;
pub use self::url::{SCHEME, StoreUrl};
use crate::error::{Error, Kind, Result};
use crate::format::store_json::StoreDescription;
use crate::id::{BlockId, CondemnedId, SegmentId, ShardId};
use crate::limit;

/// An open store. Cheap to share between threads; requests block the calling thread unless they
/// return a [`Pending`].
pub struct Store {
    backend: Arc<dyn ObjectStore>,
    runtime: OwnRuntime,
    place: directory::Place,
    description: StoreDescription,
}

/// A runtime that nobody waits for: a write that hangs must not keep the process from ending.
struct OwnRuntime {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl std::ops::Deref for OwnRuntime {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Known names with their sizes, and unknown names.
type Listing<T> = (Vec<(T, u64)>, Vec<String>);

/// A request under way.
pub struct Pending<'a, T> {
    runtime: &'a Handle,
    task: JoinHandle<Result<T>>,
}

impl<T> Pending<'_, T> {
    /// Waits for the answer.
    pub fn wait(self) -> Result<T> {
        let answer = self.runtime.block_on(self.task);
        answer.unwrap_or_else(|e| Err(Error::internal(format!("a request of the store stopped: {e}"))))
    }
}

impl Store {
    /// Opens the store that `url` names; relative paths are taken from `top`. Fails with
    /// [`Kind::NotFound`] if there is none: a transfer never creates one.
    pub fn open(url: &StoreUrl, top: &FilePath) -> Result<Self> {
        let place = directory::Place::find(url.directory(top))?;
        let runtime = runtime()?;
        let backend = place.backend()?;
        let description = read_description(&runtime, &backend, &place)?;
        Ok(Self { backend, runtime, place, description })
    }

    /// Opens the store that `url` names, or creates it if there is none. Says whether it was
    /// created. Two that create at once end up with the same store. A folder that holds other things, or
    /// blocks without a `store.json`, is taken only if `force` says so.
    pub fn create_or_join(
        url: &StoreUrl,
        top: &FilePath,
        sharing: Option<Sharing>,
        force: bool,
    ) -> Result<(Self, bool)> {
        match Self::open(url, top) {
            Err(error) if error.kind() == Kind::NotFound => {}
            opened => return Ok((opened?, false)),
        }
        let mine = StoreDescription::new(sharing.map(Sharing::file_mode))?;
        let path = url.directory(top);
        // only the store itself is shared, not the folders above it
        directory::create_parents(&path)?;
        let umask = sharing.map(|sharing| directory::set_umask_for(sharing.file_mode()));
        let created = Self::create(path, sharing, force, mine);
        if let Some(umask) = umask {
            umask.restore();
        }
        created
    }

    fn create(
        path: PathBuf,
        sharing: Option<Sharing>,
        force: bool,
        mine: StoreDescription,
    ) -> Result<(Self, bool)> {
        let place = directory::Place::create(path, sharing, force)?;
        let runtime = runtime()?;
        let backend = place.backend()?;
        let path = Path::from(layout::STORE_JSON);
        let bytes = PutPayload::from(mine.write()?);
        let create = PutOptions::from(PutMode::Create);
        let put = runtime.block_on(backend.put_opts(&path, bytes.clone(), create));
        let absent = || {
            let head = runtime.block_on(backend.head(&path));
            matches!(head, Err(object_store::Error::NotFound { .. }))
        };
        match put {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => {}
            // some file systems have no hard links, which `Create` needs: where nothing is there, a plain
            // put does, and what is read back below decides between two that do the same
            Err(error) if absent() => {
                let put = runtime.block_on(backend.put(&path, bytes));
                put.map_err(|_| place.explain("writing store.json", error))?;
            }
            Err(error) => return Err(place.explain("writing store.json", error)),
        }
        let description = read_description(&runtime, &backend, &place)?;
        let created = description.id == mine.id;
        Ok((Self { backend, runtime, place, description }, created))
    }

    /// The same store, with every call told to `watch`.
    #[cfg(test)]
    pub(crate) fn watched(mut self, watch: watched::Watch) -> Self {
        self.backend = Arc::new(watched::Watched { inner: self.backend, watch });
        self
    }

    /// What the store says of itself.
    pub fn description(&self) -> &StoreDescription {
        &self.description
    }

    /// Where the store is, the same however it was written.
    pub fn location(&self) -> String {
        self.place.to_string()
    }

    /// Prepares this process for writing: in a shared directory store its files must be readable
    /// by the others. Changes the process's umask.
    pub fn prepare_writing(&self) {
        if let Some(mode) = self.description.file_mode {
            let _ = directory::set_umask_for(mode);
        }
    }

    /// Fails unless this is still the store that was opened: a directory may have been unmounted
    /// under us, and what was written since would be elsewhere.
    pub fn confirm(&self) -> Result<()> {
        let found = read_description(&self.runtime, &self.backend, &self.place)?;
        if found.id == self.description.id {
            return Ok(());
        }
        Err(Error::new(Kind::Unreachable, format!("another store stands at {} now", self.place))
            .remedy("check what is mounted there and push again"))
    }

    /// Begins to store a block.
    pub fn put_block(&self, id: &BlockId, pieces: Vec<Bytes>) -> Pending<'_, ()> {
        self.put(layout::block(id), PutPayload::from_iter(pieces))
    }

    /// Begins to store a shard.
    pub fn put_shard(&self, id: &ShardId, bytes: Vec<u8>) -> Pending<'_, ()> {
        self.put(layout::shard(id), PutPayload::from(bytes))
    }

    /// Stores an index segment: when this returns, the commit has happened.
    pub fn put_segment(&self, id: &SegmentId, bytes: Vec<u8>) -> Result<()> {
        self.put(layout::segment(id), PutPayload::from(bytes)).wait()
    }

    /// Stores a condemned list.
    pub fn put_condemned(&self, id: &CondemnedId, bytes: Vec<u8>) -> Result<()> {
        self.put(layout::condemned(id), PutPayload::from(bytes)).wait()
    }

    /// Names are unique, so plain puts overwrite nothing.
    fn put(&self, path: Path, payload: PutPayload) -> Pending<'_, ()> {
        let (backend, place) = (self.backend.clone(), self.place.clone());
        let task = self.runtime.spawn(async move {
            place.check_folder_of(&path)?;
            let doing = || format!("writing {path}");
            backend.put(&path, payload).await.map_err(|e| place.explain(doing(), e))?;
            Ok(())
        });
        Pending { runtime: &self.runtime, task }
    }

    /// A whole shard.
    pub fn get_shard(&self, id: &ShardId) -> Result<Bytes> {
        self.get(layout::shard(id), limit::SHARD_READ_BYTES)
    }

    /// A whole index segment.
    pub fn get_segment(&self, id: &SegmentId) -> Result<Bytes> {
        self.get(layout::segment(id), limit::SEGMENT_READ_BYTES)
    }

    /// A whole condemned list.
    pub fn get_condemned(&self, id: &CondemnedId) -> Result<Bytes> {
        self.get(layout::condemned(id), limit::CONDEMNED_READ_BYTES)
    }

    fn get(&self, path: Path, limit_bytes: usize) -> Result<Bytes> {
        self.runtime.block_on(get(&self.backend, &self.place, &path, limit_bytes))
    }

    /// Begins to read a byte range of a block into `buffer`, which comes back with exactly that range.
    /// Buffers are the caller's so that it can use them again: fresh memory costs more than a read.
    pub fn get_block_range(&self, id: &BlockId, range: Range<u32>, buffer: Vec<u8>) -> Pending<'_, Vec<u8>> {
        let (backend, place, path) = (self.backend.clone(), self.place.clone(), layout::block(id));
        let task = self.runtime.spawn(async move {
            let bounds = u64::from(range.start)..u64::from(range.end);
            let options =
                GetOptions { range: Some(GetRange::Bounded(bounds.clone())), ..GetOptions::default() };
            let explain = |e| place.explain(format!("reading {path}"), e);
            let short = || Error::corrupt(format!("{path} in {place} is cut short"));
            let found = match backend.get_opts(&path, options).await {
                Ok(found) if found.range == bounds => found,
                Ok(_) => return Err(short()),
                // a range that begins behind the end is no range to `object_store`
                Err(error) => match backend.head(&path).await {
                    Ok(meta) if meta.size < bounds.end => return Err(short()),
                    _ => return Err(explain(error)),
                },
            };
            match found.payload {
                GetResultPayload::File(file, _) => {
                    let read =
                        tokio::task::spawn_blocking(move || directory::read_range(file, bounds, buffer));
                    let read = read.await.map_err(|e| Error::internal(format!("a read stopped: {e}")))?;
                    read.map_err(|e| Error::io(format!("reading {path} in the store {place}"), &e))
                }
                GetResultPayload::Stream(stream) => collect(stream, buffer).await.map_err(explain),
            }
        });
        Pending { runtime: &self.runtime, task }
    }

    /// The size of a block, if it is there.
    pub fn block_bytes(&self, id: &BlockId) -> Result<Option<u64>> {
        let path = layout::block(id);
        match self.runtime.block_on(self.backend.head(&path)) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.place.explain(format!("looking for {path}"), e)),
        }
    }

    /// The index segments that stand in the store now, and their sizes, in the order of their ids.
    pub fn list_segments(&self) -> Result<Vec<(SegmentId, u64)>> {
        // other names are a newer version's; where that matters, it says so by a feature bit
        Ok(self.list(layout::INDEX, SegmentId::parse)?.0)
    }

    /// Makes what was listed before durable, whoever wrote it: a segment may be seen in its folder before
    /// that is synced, and then vanish with the power.
    pub fn settle_segments(&self) -> Result<()> {
        self.place.settle(layout::INDEX)
    }

    /// The condemned lists that stand in the store now. A name that this version doesn't know may be a
    /// kind of condemnation that it doesn't know: [`Kind::TooNew`].
    pub fn list_condemned(&self) -> Result<Vec<(CondemnedId, u64)>> {
        let (names, unknown) = self.list(layout::CONDEMNED, CondemnedId::parse)?;
        match unknown.first() {
            Some(name) => Err(Error::too_new(format!("{}/{name}", layout::CONDEMNED))),
            None => Ok(names),
        }
    }

    /// The names below a folder that `parse` knows, with their sizes and in order, and those that it
    /// doesn't know. Hidden files, as file systems and tools leave them, are passed over.
    fn list<T: Ord>(&self, folder: &str, parse: fn(&str) -> Result<T>) -> Result<Listing<T>> {
        let prefix = Path::from(folder);
        self.place.check_folder_of(&prefix.clone().join("any"))?;
        let listed = self.runtime.block_on(self.backend.list_with_delimiter(Some(&prefix)));
        let listed = listed.map_err(|e| self.place.explain(format!("listing {folder}"), e))?;
        let (mut names, mut unknown) = (Vec::new(), Vec::new());
        for object in listed.objects {
            let name = object.location.filename().unwrap_or_default();
            match parse(name) {
                Ok(id) => names.push((id, object.size)),
                Err(_) if name.starts_with('.') => {}
                Err(_) => unknown.push(name.to_owned()),
            }
        }
        names.sort();
        Ok((names, unknown))
    }

    /// Bytes of everything in the store.
    pub fn stored_bytes(&self) -> Result<u64> {
        let sizes = self.backend.list(None).try_fold(0, |sum, object| async move { Ok(sum + object.size) });
        self.runtime.block_on(sizes).map_err(|e| self.place.explain("listing everything", e))
    }
}

fn runtime() -> Result<OwnRuntime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).thread_name("store").build();
    let runtime = runtime.map_err(|e| Error::io("starting the threads for the store", &e))?;
    let handle = runtime.handle().clone();
    Ok(OwnRuntime { runtime: Some(runtime), handle })
}

/// Replaces what `buffer` holds by all of a stream.
async fn collect(
    mut stream: BoxStream<'static, object_store::Result<Bytes>>,
    mut buffer: Vec<u8>,
) -> object_store::Result<Vec<u8>> {
    buffer.clear();
    while let Some(piece) = stream.try_next().await? {
        buffer.extend_from_slice(&piece);
    }
    Ok(buffer)
}

async fn get(
    backend: &Arc<dyn ObjectStore>,
    place: &directory::Place,
    path: &Path,
    limit_bytes: usize,
) -> Result<Bytes> {
    let explain = |e| place.explain(format!("reading {path}"), e);
    let found = backend.get(path).await.map_err(explain)?;
    if found.meta.size > limit_bytes as u64 {
        return Err(Error::corrupt(format!("{path} in {place} is {} bytes long", found.meta.size)));
    }
    found.bytes().await.map_err(explain)
}

fn read_description(
    runtime: &Handle,
    backend: &Arc<dyn ObjectStore>,
    place: &directory::Place,
) -> Result<StoreDescription> {
    let path = Path::from(layout::STORE_JSON);
    let bytes = runtime.block_on(get(backend, place, &path, limit::STORE_JSON_BYTES));
    let bytes = bytes.map_err(|e| match e.kind() {
        Kind::NotFound => place.no_store(),
        _ => e,
    })?;
    StoreDescription::parse(&bytes).map_err(|e| e.context(place))
}
