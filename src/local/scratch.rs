//! Downloads in the making: files beside the LFS objects, where git-lfs can rename them from.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::id::Oid;
use crate::limit;

/// How the names of unfinished downloads end.
const PART: &str = "part";

/// `tmp/cdc` in the LFS storage: a folder of our own, which git-lfs does not sweep.
#[derive(Clone, Debug)]
pub struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    /// Opens the folder in the LFS storage `storage`, makes it if need be, and removes what dead
    /// processes left there.
    pub fn open(storage: &Path) -> Result<Self> {
        let folder = storage.join("tmp").join("cdc");
        let failed = |e| Error::io(format!("making the folder {}", folder.display()), &e);
        fs::create_dir_all(&folder).map_err(failed)?;
        let scratch = Self { folder };
        scratch.sweep();
        Ok(scratch)
    }

    /// Removes what no process holds any more: unfinished downloads soon, finished ones when git-lfs had
    /// time enough to check and rename them.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for path in entries.flatten().map(|e| e.path()) {
            let limit_seconds = match path.extension().is_some_and(|e| e == PART) {
                true => limit::SCRATCH_PART_STALE_SECONDS,
                false => limit::SCRATCH_STALE_SECONDS,
            };
            let stale = || -> std::io::Result<bool> {
                let file = File::options().write(true).open(&path)?;
                let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
                Ok(age >= Duration::from_secs(limit_seconds) && file.try_lock().is_ok())
            };
            if stale().unwrap_or(false) && fs::remove_file(&path).is_ok() {
                tracing::info!("removed {}, left by an earlier download", path.display());
            }
        }
    }

    /// A new file of `size_bytes` for the object, removed again unless it is handed over.
    pub fn create(&self, oid: &Oid, size_bytes: u64) -> Result<ScratchFile> {
        let failed = |e| Error::io(format!("creating a file in {}", self.folder.display()), &e);
        let prefix = format!("{oid}-");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".part");
        #[cfg(unix)]
        {
            // what is created here becomes the LFS object: like git-lfs, leave its mode to the umask
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let (file, path) = builder.tempfile_in(&self.folder).map_err(failed)?.into_parts();
        match file.try_lock() {
            Ok(()) | Err(TryLockError::Error(_)) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::busy("a new file is locked by another")),
        }
        file.set_len(size_bytes).map_err(failed)?;
        Ok(ScratchFile { file, path })
    }
}

/// A file that vanishes with its owner, unless it is handed over.
#[derive(Debug)]
pub struct ScratchFile {
    file: File,
    path: tempfile::TempPath,
}

impl ScratchFile {
    /// Writes at an offset; several threads may at once.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        #[cfg(unix)]
        let written = std::os::unix::fs::FileExt::write_all_at(&self.file, bytes, offset);
        #[cfg(windows)]
        let written = write_all_at(&self.file, bytes, offset);
        written.map_err(|e| Error::io(format!("writing {}", self.path.display()), &e))
    }

    /// Leaves the file to the caller, under a name that says that it is finished.
    pub fn hand_over(self) -> Result<PathBuf> {
        let finished = self.path.with_extension("");
        let kept = self.path.persist(&finished);
        kept.map_err(|e| Error::io("keeping a finished download", &e.error))?;
        Ok(finished)
    }
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dead_processes_left_is_removed_and_nothing_else() {
        let storage = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(storage.path()).unwrap();
        let oid = Oid([7; 32]);
        let held = scratch.create(&oid, 10).unwrap();
        let finished = scratch.create(&oid, 10).unwrap().hand_over().unwrap();
        let folder = finished.parent().unwrap().to_owned();
        let left = |name: &str, age: u64| {
            let path = folder.join(name);
            let file = File::create(&path).unwrap();
            file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age)).unwrap();
            path
        };
        let killed = left("killed.part", 60);
        let just_created = left("created.part", 0);
        let ignored = left("ignored", 2 * 60 * 60);
        let checked = left("checked", 60);
        held.file.set_modified(std::time::SystemTime::now() - Duration::from_secs(7200)).unwrap();
        Scratch::open(storage.path()).unwrap();
        assert!(!killed.exists() && !ignored.exists());
        assert!(just_created.exists() && checked.exists() && finished.exists() && held.path.exists());
        let path = held.path.to_path_buf();
        drop(held);
        assert!(!path.exists(), "a failed download leaves nothing");
    }
}
