//! Finished downloads, between the moment when git-lfs is told of one and the moment when git-lfs takes it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::{PARTIAL, lock_partial};
use crate::local::lock;
use crate::local::partial_download::PARTIAL_BYTES;
use crate::modes::Modes;

/// A finished download that git-lfs was told of. It belongs to git-lfs from the moment when git-lfs renames
/// it. If git-lfs was interrupted or didn't want the file, this value gives the file back when it is dropped.
/// A large file is kept for the next download. Other files are removed.
#[derive(Debug)]
pub struct Finished {
    pub(super) path: PathBuf,
    /// A lock that tells other downloads that git-lfs may be about to take the file.
    _held: Option<File>,
}

impl Finished {
    /// Takes over the file at `path`, which [`ScratchFile::hand_over`](super::ScratchFile::hand_over) has
    /// just returned in this or another process.
    pub fn at(path: PathBuf) -> Self {
        Self { _held: hold(&path), path }
    }
}

impl Drop for Finished {
    fn drop(&mut self) {
        give_back(&self.path);
    }
}

#[cfg(unix)]
pub(super) fn hold(path: &Path) -> Option<File> {
    lock::try_lock(File::options().read(true).write(true), path).ok()?.held()
}

/// Holds nothing. On Windows a lock would keep git-lfs from reading the file. While git-lfs reads it, it
/// can't be moved.
#[cfg(windows)]
pub(super) fn hold(_: &Path) -> Option<File> {
    None
}

/// Takes back a finished download that git-lfs was not told of, or has not taken.
pub fn give_back(path: &Path) {
    let Some(about) = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file) else { return };
    if about.len() >= PARTIAL_BYTES && keep_for_next(path).unwrap_or(false) {
        tracing::info!("kept {} for the next download, as git-lfs did not take it", path.display());
    } else if fs::remove_file(path).is_ok() {
        tracing::info!("removed {}, which git-lfs did not take", path.display());
    }
}

/// Makes a finished download the one that the next download goes on with, unless there is one already.
fn keep_for_next(finished: &Path) -> std::io::Result<bool> {
    let name = finished.file_name().and_then(|n| n.to_str());
    let Some((oid, _)) = name.and_then(|n| n.split_once('-')) else { return Ok(false) };
    let path = finished.with_file_name(format!("{oid}.{PARTIAL}"));
    if !path.parent().is_some_and(lock::are_in) {
        return Ok(false);
    }
    let Some(file) = lock_partial(&path, Modes::default())? else { return Ok(false) };
    if file.metadata()?.len() > 0 {
        return Ok(false);
    }
    let renamed = fs::rename(finished, &path);
    if renamed.is_err() {
        fs::remove_file(&path)?;
    }
    renamed.map(|()| true)
}
