//! The files of a directory store, with the interface of an `object_store` backend. It differs from that
//! crate's own backend in three points. A file system that can't sync folders is good enough. Each file has
//! the store's mode from the beginning. Links, pipes and devices are refused, and never followed or waited
//! for.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path as FilePath, PathBuf};
use std::{error, fmt};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error as ObjectError, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use tempfile::TempPath;

use super::directory::Place;
use crate::error::{Error, Kind};
use crate::id::Nonce;
use crate::regular_file::{self, Links};
use crate::store::listing::LIST_NAMES;

const STORE: &str = "directory";
/// The levels of folders: the root, the folders in it, and the 256 folders in two of those.
const DEPTH: usize = 3;

/// A directory store's files.
#[derive(Debug)]
pub(super) struct LocalFiles {
    place: Place,
    /// The crate's own backend, which writes staged files, and deletes.
    inner: LocalFileSystem,
}

impl fmt::Display for LocalFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

impl LocalFiles {
    pub(super) fn new(place: Place) -> Result<Self> {
        let inner = LocalFileSystem::new_with_prefix(place.root())?;
        Ok(Self { place, inner })
    }

    fn path(&self, location: &Path) -> PathBuf {
        self.place.root().join(location.as_ref())
    }

    /// Returns the files below a folder, in at most `depth` levels of folders.
    async fn walk(&self, prefix: Option<&Path>, depth: usize) -> Result<Vec<ObjectMeta>> {
        let folder = prefix.cloned().unwrap_or_default();
        let start = (self.path(&folder), folder, depth);
        blocking(move || {
            let (mut found, mut folders) = (Vec::new(), vec![start]);
            while let Some((path, folder, depth)) = folders.pop() {
                for (name, metadata) in entries(&path).map_err(|e| failed(&folder, e))? {
                    if metadata.is_dir() {
                        if depth > 1 {
                            folders.push((path.join(&name), folder.clone().join(name.as_str()), depth - 1));
                        }
                        continue;
                    }
                    found.push(meta(folder.clone().join(name.as_str()), &metadata));
                    if found.len() > LIST_NAMES {
                        return Err(generic(super::listing::endless(folder.as_ref())));
                    }
                }
            }
            Ok(found)
        })
        .await
    }
}

#[async_trait]
impl ObjectStore for LocalFiles {
    /// Writes a file beside its place. The file gets its name when its content is durable.
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let nonce = Nonce::random().map_err(generic)?;
        let (target, name) = (self.path(location), location.filename().unwrap_or_default());
        let path = target.with_file_name(format!(".{name}-{nonce}"));
        let mut staged: Vec<_> = location.parts().collect();
        staged.pop();
        let staged: Path = staged.into_iter().collect::<Path>().join(format!(".{name}-{nonce}"));
        self.inner.put_opts(&staged, payload, PutOptions::default()).await?;
        let (place, location) = (self.place.clone(), location.clone());
        blocking(move || {
            // deleted when dropped, unless it gets its name
            let staged = TempPath::try_from_path(path).map_err(|e| failed(&location, e))?;
            publish(&place, staged, &target, &options.mode).map_err(|e| match e.kind() {
                io::ErrorKind::AlreadyExists => {
                    ObjectError::AlreadyExists { path: location.to_string(), source: e.into() }
                }
                _ => failed(&location, e),
            })
        })
        .await?;
        Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(not_needed("storing in parts"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (path, location) = (self.path(location), location.clone());
        blocking(move || {
            let (file, metadata) = open(&path).map_err(|e| failed(&location, e))?;
            if metadata.is_dir() {
                // a bucket has no folders
                return Err(failed(&location, io::ErrorKind::NotFound.into()));
            }
            if !metadata.is_file() {
                return Err(generic(no_file(&location)));
            }
            let meta = meta(location, &metadata);
            let range = match &options.range {
                Some(wanted) => wanted.as_range(meta.size).map_err(generic)?,
                None => 0..meta.size,
            };
            let payload = GetResultPayload::File(file, path);
            Ok(GetResult {
                payload,
                meta,
                range,
                attributes: Attributes::new(),
                extensions: Default::default(),
            })
        })
        .await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (files, prefix) =
            (Self { place: self.place.clone(), inner: self.inner.clone() }, prefix.cloned());
        let found = async move {
            let found = files.walk(prefix.as_ref(), DEPTH).await;
            futures::stream::iter(
                found.map_or_else(|e| vec![Err(e)], |all| all.into_iter().map(Ok).collect()),
            )
        };
        futures::stream::once(found).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let objects = self.walk(prefix, 1).await?;
        Ok(ListResult { objects, common_prefixes: Vec::new(), extensions: Default::default() })
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(not_needed("copying"))
    }
}

/// Makes a staged file durable, and readable for all users of the store. Only then gives it its name.
fn publish(place: &Place, staged: TempPath, target: &FilePath, mode: &PutMode) -> io::Result<()> {
    place.give_mode(&staged)?;
    place.sync_file(&File::open(&staged)?)?;
    let renamed = match mode {
        PutMode::Create => staged.persist_noclobber(target),
        _ => staged.persist(target),
    };
    renamed.map_err(|e| e.error)?;
    target.parent().map_or(Ok(()), |folder| place.sync_folder(folder))
}

/// Opens a file. Doesn't follow a link in its place, and doesn't wait for the other end of a pipe.
fn open(path: &FilePath) -> io::Result<(File, fs::Metadata)> {
    let options = regular_file::without_waiting(File::options().read(true), Links::Refused);
    let opened = options.open(path).and_then(|file| {
        let metadata = file.metadata()?;
        Ok((file, metadata))
    });
    opened.map_err(|e| match fs::symlink_metadata(path) {
        // a link, a socket, or a device without a driver: each has an error of its own
        Ok(there) if !there.is_file() && !there.is_dir() => io::Error::other(NoFile),
        _ => e,
    })
}

/// Reads at most `limit_bytes` of a file, and one byte more, which shows that the file is too large. Returns
/// no bytes for a folder.
pub(super) fn read_at_most(path: &FilePath, limit_bytes: usize) -> io::Result<Vec<u8>> {
    let (file, metadata) = open(path)?;
    let mut bytes = Vec::new();
    if metadata.is_file() {
        file.take(limit_bytes as u64 + 1).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// The error that a link, a pipe or a device stands in place of a file.
#[derive(Debug)]
struct NoFile;

impl fmt::Display for NoFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a link, a pipe or a device stands there")
    }
}

impl error::Error for NoFile {}

fn no_file(location: &Path) -> Error {
    Error::new(Kind::Corrupt, format!("{location} is no file: {NoFile}"))
        .remedy("move it away, and restore that file from a backup of the store")
}

/// Returns the entries right in a folder, without following links. Leaves out entries that vanish meanwhile,
/// and files of unfinished writes by this program, which have `#` and a number at the end.
fn entries(folder: &FilePath) -> io::Result<Vec<(String, fs::Metadata)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_unfinished = name.rsplit_once('#').is_some_and(|(_, number)| number.parse::<u32>().is_ok());
        if is_unfinished {
            continue;
        }
        match entry.metadata() {
            Ok(metadata) => entries.push((name, metadata)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        if entries.len() > LIST_NAMES {
            break;
        }
    }
    Ok(entries)
}

fn meta(location: Path, metadata: &fs::Metadata) -> ObjectMeta {
    let last_modified = metadata.modified().map(Into::into).unwrap_or_default();
    ObjectMeta { location, last_modified, size: metadata.len(), e_tag: None, version: None }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

fn failed(location: &Path, source: io::Error) -> ObjectError {
    if source.get_ref().is_some_and(|inner| inner.is::<NoFile>()) {
        return generic(no_file(location));
    }
    match source.kind() {
        io::ErrorKind::NotFound => {
            ObjectError::NotFound { path: location.to_string(), source: source.into() }
        }
        _ => generic(source),
    }
}

fn generic(source: impl Into<Box<dyn error::Error + Send + Sync>>) -> ObjectError {
    ObjectError::Generic { store: STORE, source: source.into() }
}

fn not_needed(operation: &str) -> ObjectError {
    ObjectError::NotImplemented { operation: operation.to_owned(), implementer: STORE.to_owned() }
}
