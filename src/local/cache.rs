//! Copies of a store's immutable metadata, shared by all clones of a user. Only hints: a copy is used
//! if its bytes have the hash in its name, and its callers ask only for names that the store lists now.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::id::{ContentHash, StoreId};

/// The user's copies from one store.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Absent where the user has no home: then nothing is kept.
    folder: Option<PathBuf>,
}

impl Cache {
    /// The cache for the store `id` at `location`. Never fails: without a cache everything works,
    /// only slower.
    pub fn for_store(id: &StoreId, location: &str) -> Self {
        let name = blake3::hash(format!("{id} {location}").as_bytes()).to_hex();
        let folder = root().map(|root| root.join(&name.as_str()[..32]));
        Self { folder }
    }

    /// A cache that keeps nothing.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { folder: None }
    }

    /// The file `name` of `kind` (a folder), whose bytes hash to `hash`: from the cache, or from
    /// `fetch` and then kept. Bytes with another hash are corrupt.
    pub fn get(
        &self,
        kind: &str,
        name: &str,
        hash: &ContentHash,
        fetch: impl FnOnce() -> Result<Bytes>,
    ) -> Result<Bytes> {
        let folder = self.folder.as_ref().map(|f| f.join(kind));
        if let Some(bytes) = folder.as_ref().and_then(|f| fs::read(f.join(name)).ok())
            && ContentHash::of(&bytes) == *hash
        {
            return Ok(bytes.into());
        }
        let bytes = fetch()?;
        if ContentHash::of(&bytes) != *hash {
            return Err(Error::corrupt(format!("{kind}/{name} is not what was written"))
                .remedy("restore that file from a backup of the store"));
        }
        if let Some(folder) = folder
            && let Err(e) = keep(&folder, name, &bytes)
        {
            tracing::warn!("{} is not cached: {e}", folder.join(name).display());
        }
        Ok(bytes)
    }
}

/// `$XDG_CACHE_HOME/git-lfs-cdc`, or what the platform has for it.
fn root() -> Option<PathBuf> {
    Some(directories::BaseDirs::new()?.cache_dir().join("git-lfs-cdc"))
}

/// Written beside and renamed, so that no reader sees half of it. Not synced: the hash tells.
fn keep(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(folder.join(name))?;
    Ok(())
}
