//! Copies of a store's immutable metadata, shared by all clones of a user. They are only hints: a copy is
//! used if its bytes have the hash in its name. Callers ask only for names that the store lists now.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::cache_admin;
use super::quota::listed;
use crate::error::{Error, Result};
use crate::format::limits;
use crate::id::{ContentHash, StoreId};
use crate::regular_file::{self, Links};

/// The kinds of metadata that are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Index segments.
    Index,
    /// Shards.
    Shards,
    /// Condemned lists.
    Condemned,
}

impl Kept {
    /// Returns the name of the copies' folder, which is the same as in the store.
    fn folder(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Shards => "shards",
            Self::Condemned => "condemned",
        }
    }

    /// Returns the most bytes that a copy may have.
    fn most_bytes(self) -> u64 {
        let most = match self {
            Self::Index => limits::SEGMENT_READ_BYTES,
            Self::Shards => limits::SHARD_READ_BYTES,
            Self::Condemned => limits::CONDEMNED_READ_BYTES,
        };
        most as u64
    }
}

/// A user's copies from one store.
#[derive(Clone, Debug)]
pub struct Cache {
    /// `None` if the user has no home. Then nothing is kept.
    folder: Option<PathBuf>,
}

impl Cache {
    /// Returns the cache for the store `id` at `location`. Never fails: without a cache everything works,
    /// only slower.
    pub fn for_store(id: &StoreId, location: &str) -> Self {
        let folder = folder_of(id, location);
        if let Some(folder) = &folder {
            cache_admin::note(folder, id, location);
        }
        Self { folder }
    }

    /// Returns a cache in a folder, or one that keeps nothing.
    pub fn at(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// Returns a cache that keeps nothing.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self::at(None)
    }

    /// Returns the bytes of the file `name`, if there is a copy with the hash `hash`.
    pub fn find(&self, kind: Kept, name: &str, hash: &ContentHash) -> Option<Bytes> {
        let file = self.folder.as_ref()?.join(kind.folder()).join(name);
        let bytes = regular_file::read(&file, Links::Refused, kind.most_bytes()).ok()?;
        (ContentHash::of(&bytes) == *hash).then(|| bytes.into())
    }

    /// Opens the copy of a large file `name` of `size_bytes`, if there is one with the hash `hash`. Reads all
    /// of the copy to check its hash. Removes a copy with another size or hash.
    pub fn open(&self, kind: Kept, name: &str, size_bytes: u64, hash: &ContentHash) -> Option<File> {
        let path = self.folder.as_ref()?.join(kind.folder()).join(name);
        let file = regular_file::open(&path, Links::Refused).ok()?;
        match is_copy(&file, size_bytes, hash) {
            Ok(true) => return Some(file),
            Ok(false) => tracing::warn!("{} is not what its name says", path.display()),
            Err(e) => tracing::warn!("{} can't be read: {e}", path.display()),
        }
        self.forget(kind, name);
        None
    }

    /// Removes a copy.
    pub fn forget(&self, kind: Kept, name: &str) {
        if let Some(file) = self.folder.as_ref().map(|f| f.join(kind.folder()).join(name))
            && let Err(e) = fs::remove_file(&file)
        {
            tracing::debug!("{} is not removed: {e}", file.display());
        }
    }

    /// Removes the copies of a kind whose names `wanted` rejects.
    pub fn retain(&self, kind: Kept, wanted: impl Fn(&str) -> bool) {
        for name in self.names(kind).filter(|name| !wanted(name)) {
            self.forget(kind, &name);
        }
    }

    /// Lists the names of the copies of a kind.
    pub fn names(&self, kind: Kept) -> impl Iterator<Item = String> {
        let folder = self.folder.as_ref().map(|folder| folder.join(kind.folder()));
        let entries = folder.into_iter().flat_map(|folder| listed(&folder));
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| !name.starts_with('.'))
    }

    /// Keeps the file `name` from its parts, and opens the copy. Only one part is in memory at a time.
    /// Returns `None` if nothing can be kept. Parts that together have another hash than `hash` are corrupt.
    pub fn keep_large(
        &self,
        kind: Kept,
        name: &str,
        hash: &ContentHash,
        parts: impl Iterator<Item = Result<Vec<u8>>>,
    ) -> Result<Option<File>> {
        let Some(folder) = self.folder.as_ref().map(|f| f.join(kind.folder())) else { return Ok(None) };
        let not_kept =
            |e: std::io::Error| tracing::warn!("{} is not cached: {e}", folder.join(name).display());
        let Ok(mut file) = new_file(&folder).map_err(not_kept) else { return Ok(None) };
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            let part = part?;
            hasher.update(&part);
            if file.write_all(&part).map_err(not_kept).is_err() {
                return Ok(None);
            }
        }
        if ContentHash(*hasher.finalize().as_bytes()) != *hash {
            return Err(not_written(kind, name));
        }
        Ok(file.persist(folder.join(name)).map_err(|e| not_kept(e.error)).ok())
    }

    /// Keeps the fetched bytes of the file `name`. Bytes with another hash than `hash` are corrupt.
    pub fn keep(&self, kind: Kept, name: &str, hash: &ContentHash, bytes: Bytes) -> Result<Bytes> {
        if ContentHash::of(&bytes) != *hash {
            return Err(not_written(kind, name));
        }
        if let Some(folder) = self.folder.as_ref().map(|f| f.join(kind.folder()))
            && let Err(e) = keep(&folder, name, [&bytes[..]])
        {
            tracing::warn!("{} is not cached: {e}", folder.join(name).display());
        }
        Ok(bytes)
    }

    /// Keeps a file, given in pieces, that this process has just stored.
    pub fn keep_stored(&self, kind: Kept, name: &str, pieces: &[Bytes]) {
        let Some(folder) = self.folder.as_ref().map(|f| f.join(kind.folder())) else { return };
        if let Err(e) = keep(&folder, name, pieces.iter().map(Bytes::as_ref)) {
            tracing::warn!("{} is not cached: {e}", folder.join(name).display());
        }
    }
}

/// Returns true if a file has this size and hash. The size is checked first, because a device or a growing
/// file has no end.
fn is_copy(file: &File, size_bytes: u64, hash: &ContentHash) -> std::io::Result<bool> {
    let found = file.metadata()?;
    if !found.is_file() || found.len() != size_bytes {
        return Ok(false);
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file.take(size_bytes))?;
    Ok(ContentHash(*hasher.finalize().as_bytes()) == *hash)
}

fn not_written(kind: Kept, name: &str) -> Error {
    let error = Error::corrupt(format!("{}/{name} is not what was written", kind.folder()));
    match kind {
        Kept::Index => error.remedy(
            "restore that file from a backup of the store; without one, move it away, and run `git lfs push --all` from \
             clones that have its objects",
        ),
        // no object is lost: without the shard, its chunks are stored again when they are pushed
        Kept::Shards => error.remedy("restore that file from a backup of the store, if there is one"),
        Kept::Condemned => error.remedy("restore that file from a backup of the store"),
    }
}

/// Returns the user's cache folder for the store `id` at `location`. It lies in
/// `$XDG_CACHE_HOME/git-lfs-cdc`, or in the platform's cache folder.
pub(super) fn folder_of(id: &StoreId, location: &str) -> Option<PathBuf> {
    let name = blake3::hash(format!("{id} {location}").as_bytes()).to_hex();
    Some(root()?.join(&name.as_str()[..32]))
}

/// Returns the user's cache folder for all stores.
pub(super) fn root() -> Option<PathBuf> {
    Some(directories::BaseDirs::new()?.cache_dir().join("git-lfs-cdc"))
}

/// Writes a file under another name and renames it, so that no reader sees half a file. It isn't synced,
/// because the hash reveals damage.
pub(super) fn keep<'p>(
    folder: &Path,
    name: &str,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> std::io::Result<()> {
    let mut file = new_file(folder)?;
    pieces.into_iter().try_for_each(|piece| file.write_all(piece))?;
    file.persist(folder.join(name))?;
    Ok(())
}

/// Makes a temporary file in the folder. Makes the folder if it isn't there.
fn new_file(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    make_folder(folder)?;
    tempfile::NamedTempFile::new_in(folder)
}

/// Makes a folder that only the user may enter, unless the folder exists.
pub(super) fn make_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(folder: &Path) -> Cache {
        Cache { folder: Some(folder.to_owned()) }
    }

    #[test]
    fn a_copy_is_used_only_if_it_is_what_its_name_says() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        let hash = ContentHash::of(b"content");
        let keep = |name: &str, bytes| cache.keep(Kept::Index, name, &hash, Bytes::from_static(bytes));
        let find = |name: &str| cache.find(Kept::Index, name, &hash);
        assert_eq!(find("name"), None);
        keep("name", b"content").unwrap();
        assert_eq!(find("name").unwrap(), &b"content"[..]);
        fs::write(folder.path().join("index/name"), b"poison").unwrap();
        assert_eq!(find("name"), None);
        keep("name", b"content").unwrap();
        assert_eq!(find("name").unwrap(), &b"content"[..]);
        let wrong = keep("other", b"damaged");
        assert_eq!(wrong.unwrap_err().kind(), crate::error::Kind::Corrupt);
        assert!(!folder.path().join("index/other").exists());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_no_copy() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        let hash = ContentHash::of(b"content");
        let path = folder.path().join("index/name");
        fs::create_dir(folder.path().join("index")).unwrap();
        let link = || std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        let pipe = || assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let huge = || File::create(&path).unwrap().set_len(1 << 40).unwrap();
        for put in [&link as &dyn Fn(), &pipe, &huge] {
            put();
            assert_eq!(cache.find(Kept::Index, "name", &hash), None);
            cache.keep(Kept::Index, "name", &hash, Bytes::from_static(b"content")).unwrap();
            assert_eq!(cache.find(Kept::Index, "name", &hash).unwrap(), &b"content"[..]);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_large_copy_is_opened_only_if_all_of_it_is_what_its_name_says() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, content) = (cache(folder.path()), vec![7; 3_000_000]);
        let (hash, size_bytes) = (ContentHash::of(&content), content.len() as u64);
        let path = folder.path().join("index/name");
        let keep = |bytes: &[u8]| fs::write(&path, bytes).unwrap();
        let is_opened = || cache.open(Kept::Index, "name", size_bytes, &hash).is_some();
        assert!(!is_opened());
        cache.keep_large(Kept::Index, "name", &hash, [Ok(content.clone())].into_iter()).unwrap();
        assert!(is_opened());
        let mut forged = content.clone();
        forged[2_999_999] ^= 1;
        for wrong in [&forged[..], &content[1..], &[&content[..], &[0][..]].concat()] {
            keep(wrong);
            assert!(!is_opened() && !path.exists(), "it is not hashed again");
        }
        fs::create_dir(&path).unwrap();
        assert!(!is_opened());
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_done_without() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        let hash = ContentHash::of(b"content");
        let cache = cache(&file);
        let bytes = cache.keep(Kept::Index, "name", &hash, Bytes::from_static(b"content"));
        assert_eq!(bytes.unwrap(), &b"content"[..]);
        assert_eq!(cache.find(Kept::Index, "name", &hash), None);
    }
}
