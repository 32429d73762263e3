//! The scratch: unfinished downloads, in a folder on the disk of the LFS objects, so that git-lfs can rename
//! them.

mod finished;
mod share;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

pub use self::finished::{Finished, give_back};
use super::lock::{self, Attempt};
use super::quota::Room;
use crate::error::{Error, Result};
use crate::id::{Nonce, Oid};
use crate::local::lock::UNLOCKED_STALE_SECONDS;
use crate::modes::Modes;
use crate::units::MIB;

/// Age at which an unfinished download that no running process holds is removed. A running download locks its
/// file soon after it has created it.
const SCRATCH_PART_STALE_SECONDS: u64 = 10;
/// Least size of an object whose interrupted download is kept.
pub(crate) const PARTIAL_BYTES: u64 = 8 * MIB as u64;
/// Age at which an interrupted download is removed.
pub(crate) const PARTIAL_STALE_SECONDS: u64 = 3 * 24 * 60 * 60;
/// Time in which a process has to hold the finished download that it was given. After it, that process holds
/// the file or is dead.
pub(crate) const HAND_OVER_MS: u64 = 1000;
/// Age at which a finished download that git-lfs did not take is removed.
const SCRATCH_STALE_SECONDS: u64 = 60 * 60;

/// The extension of downloads that no later download goes on with.
const PART: &str = "part";
/// The extension of downloads that the next download of the object goes on with.
const PARTIAL: &str = "partial";

/// The folder `cdc/downloads` in the LFS storage. At any command git-lfs removes files from the folder `tmp`
/// beside it, and from all folders below that. It leaves this folder alone.
#[derive(Clone, Debug)]
pub struct Scratch {
    folder: PathBuf,
    modes: Modes,
    /// True if files can be locked there. It is found out when a large download begins.
    has_locks: Arc<OnceLock<bool>>,
    /// The number of times that room was made.
    rooms: Arc<Mutex<u64>>,
    /// The room of the kept ranges, which give way to objects.
    ranges: Option<Arc<Room>>,
}

impl Scratch {
    /// Opens the folder in the LFS storage `storage`, and makes it if it is missing. Removes the files of
    /// dead processes. When the disk is full, `ranges` give way.
    pub fn open(storage: &Path, modes: Modes, ranges: Option<Room>) -> Result<Self> {
        let folder = storage.join("cdc").join("downloads");
        let failed = |e| Error::io(format!("making the folder {}", folder.display()), &e);
        modes.make_folders(&folder).map_err(failed)?;
        let has_locks = Arc::default();
        let scratch = Self { folder, modes, has_locks, rooms: Arc::default(), ranges: ranges.map(Arc::new) };
        scratch.sweep(|extension| match extension {
            Some(PART) => Some(Duration::from_secs(SCRATCH_PART_STALE_SECONDS)),
            Some(PARTIAL) => Some(Duration::from_secs(PARTIAL_STALE_SECONDS)),
            // finished downloads: git-lfs had enough time to check and rename them
            _ => Some(Duration::from_secs(SCRATCH_STALE_SECONDS)),
        });
        Ok(scratch)
    }

    /// Removes files that no process holds, if they have the age that `stale` returns for their extension.
    /// Returns the number of removed files.
    fn sweep(&self, stale: impl Fn(Option<&str>) -> Option<Duration>) -> usize {
        let Ok(entries) = fs::read_dir(&self.folder) else { return 0 };
        let removed = entries.flatten().map(|e| e.path()).filter(|path| {
            let Some(limit) = stale(path.extension().and_then(|e| e.to_str())) else { return false };
            let removed = remove_abandoned(path, limit).unwrap_or(false);
            if removed {
                tracing::info!("removed {}, left by an earlier download", path.display());
            }
            removed
        });
        removed.count()
    }

    /// Creates a file of `size_bytes` for the object. A large file may have content of an earlier download.
    /// It is kept for the next download unless it is handed over. Other files vanish.
    pub fn create(&self, oid: &Oid, size_bytes: u64) -> Result<ScratchFile> {
        let failed = |e| Error::io(format!("creating a file in {}", self.folder.display()), &e);
        let (file, kept) = match self.open_partial(oid, size_bytes) {
            Some((file, path)) => (file, Kept::ForNext(Partial::new(path))),
            None => self.create_part(oid).map_err(failed).map(|(file, path)| (file, Kept::Not(path)))?,
        };
        // git-lfs keeps the file's mode
        self.modes.give(&file);
        let has_content = file.metadata().map_err(failed)?.len() > 0;
        file.set_len(size_bytes).map_err(failed)?;
        Ok(ScratchFile { kept, file, has_content, scratch: self.clone(), oid: *oid })
    }

    /// Opens the file that downloads of a large object go on with. Returns `None` if another download has it,
    /// or if it can't be used. Another user's file may be forbidden, and without locks other downloads can't
    /// be noticed.
    fn open_partial(&self, oid: &Oid, size_bytes: u64) -> Option<(File, PathBuf)> {
        if size_bytes < PARTIAL_BYTES || !self.has_locks() {
            return None;
        }
        let path = self.folder.join(format!("{oid}.{PARTIAL}"));
        let locked = lock_partial(&path, self.modes).and_then(|file| {
            let size_bytes = file.as_ref().map(File::metadata).transpose()?.map(|found| found.len());
            Ok(file.zip(size_bytes))
        });
        match locked {
            Ok(None) => None,
            Ok(Some((file, 0))) => Some((self.adopt(oid, size_bytes, &path).unwrap_or(file), path)),
            Ok(Some((file, _))) => Some((file, path)),
            Err(e) => {
                tracing::info!("object {oid}: this download can't go on with {}: {e}", path.display());
                None
            }
        }
    }

    /// Returns true if files can be locked here. If they can't, warns once.
    fn has_locks(&self) -> bool {
        *self.has_locks.get_or_init(|| {
            let has_locks = lock::are_in(&self.folder);
            if !has_locks {
                let folder = self.folder.display();
                tracing::warn!(
                    "{folder} is on a file system without locks: an interrupted download begins anew"
                );
            }
            has_locks
        })
    }

    /// Looks for a finished download that no process holds, and moves it to `path`. The caller holds the lock of
    /// `path`. Such a download is left when git-lfs and its agent were killed before git-lfs took it.
    fn adopt(&self, oid: &Oid, size_bytes: u64, path: &Path) -> Option<File> {
        let prefix = format!("{oid}-");
        let is_finished = |name: &str| name.starts_with(&prefix) && !name.contains('.');
        let adopted = |finished: &Path| -> std::io::Result<Option<File>> {
            let held = || lock::try_lock(File::options().read(true).write(true), finished).map(Attempt::held);
            let Some(mut file) = held()? else { return Ok(None) };
            let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
            if let Some(rest) = Duration::from_millis(HAND_OVER_MS).checked_sub(age) {
                // a process that has just received the file gets the time to lock it
                drop(file);
                std::thread::sleep(rest);
                match held()? {
                    Some(again) => file = again,
                    None => return Ok(None),
                }
            }
            if file.metadata()?.len() != size_bytes {
                return Ok(None);
            }
            fs::rename(finished, path)?;
            Ok(Some(file))
        };
        let entries = fs::read_dir(&self.folder).ok()?.flatten();
        let mut finished = entries.filter(|e| e.file_name().to_str().is_some_and(is_finished));
        let found = finished.find_map(|e| adopted(&e.path()).ok().flatten());
        if found.is_some() {
            tracing::info!(
                "object {oid}: going on with a download that git-lfs was told of and did not take"
            );
        }
        found
    }

    fn create_part(&self, oid: &Oid) -> std::io::Result<(File, tempfile::TempPath)> {
        let prefix = format!("{oid}-");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".part");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(self.modes.file()));
        }
        let (file, path) = builder.tempfile_in(&self.folder)?.into_parts();
        lock::hold_new(&file)?;
        Ok((file, path))
    }

    fn rooms(&self) -> MutexGuard<'_, u64> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room on the full disk: gives up kept ranges or, if there are none, removes unfinished downloads that
    /// no process holds. Returns how often room was made by now, or `None` if there was nothing to remove.
    ///
    /// If several downloads find the disk full, one makes room for all. Nothing is removed if room was made more
    /// than `before` times.
    fn make_room(&self, before: u64) -> Option<u64> {
        let mut rooms = self.rooms();
        if *rooms == before {
            let made = self.give_up_ranges()
                || self.sweep(|extension| (extension == Some(PARTIAL)).then_some(Duration::ZERO)) > 0;
            *rooms += u64::from(made);
        }
        (*rooms > before).then_some(*rooms)
    }

    fn give_up_ranges(&self) -> bool {
        let Some(ranges) = &self.ranges else { return false };
        match ranges.give_way(&self.folder) {
            Ok(bytes) => {
                if bytes > 0 {
                    tracing::info!("the disk is full: {bytes} bytes of blocks are not kept any more");
                }
                bytes > 0
            }
            Err(e) => {
                tracing::warn!("the disk is full, and what is kept of blocks does not give way: {e}");
                false
            }
        }
    }
}

/// The fate of a file that is not handed over.
#[derive(Debug)]
enum Kept {
    /// The file vanishes.
    Not(tempfile::TempPath),
    /// The next download of the object goes on with the file.
    ForNext(Partial),
}

/// The place of a download that the next one can go on with.
#[derive(Debug)]
struct Partial {
    path: PathBuf,
    /// True if the disk is full. Then the file is removed, because it would be in the way.
    is_in_the_way: AtomicBool,
}

impl Partial {
    fn new(path: PathBuf) -> Self {
        Self { path, is_in_the_way: AtomicBool::new(false) }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.is_in_the_way.load(Ordering::Relaxed) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The file of an unfinished download.
#[derive(Debug)]
pub struct ScratchFile {
    // dropped first, while the file is still locked
    kept: Kept,
    file: File,
    has_content: bool,
    scratch: Scratch,
    oid: Oid,
}

impl ScratchFile {
    /// Returns true if the file may have content of an earlier download. The caller must check the content.
    pub fn has_content(&self) -> bool {
        self.has_content
    }

    fn path(&self) -> &Path {
        match &self.kept {
            Kept::Not(path) => path,
            Kept::ForNext(partial) => &partial.path,
        }
    }

    /// Fills `buffer` from an offset. Several threads may read at the same time.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        #[cfg(unix)]
        let read = std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, offset);
        #[cfg(windows)]
        let read = read_exact_at(&self.file, buffer, offset);
        read.map_err(|e| Error::io(format!("reading {}", self.path().display()), &e))
    }

    /// Writes at an offset. Several threads may write at the same time. If the disk is full, kept ranges and
    /// unfinished downloads are removed to make room.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut rooms = *self.scratch.rooms();
        let mut written = write_all_at(&self.file, bytes, offset);
        while matches!(&written, Err(e) if is_full(e))
            && let Some(made) = self.scratch.make_room(rooms)
        {
            rooms = made;
            written = write_all_at(&self.file, bytes, offset);
        }
        if let (Err(e), Kept::ForNext(partial)) = (&written, &self.kept)
            && is_full(e)
        {
            partial.is_in_the_way.store(true, Ordering::Relaxed);
        }
        written.map_err(|e| Error::io(format!("writing {}", self.path().display()), &e))
    }

    /// Creates another, empty file for the same download. It is removed when it is dropped.
    pub fn beside(&self) -> Result<Self> {
        self.scratch.create(&self.oid, 0)
    }

    /// Leaves the file to the caller, under the name of a finished download.
    pub fn hand_over(self) -> Result<PathBuf> {
        let failed = |e| Error::io("keeping a finished download", &e);
        // the time from which others wait for a holder of the file; without a date they don't wait
        let _ = self.file.set_modified(SystemTime::now());
        match self.kept {
            Kept::Not(path) => {
                let finished = path.with_extension("");
                path.persist(&finished).map_err(|e| failed(e.error))?;
                Ok(finished)
            }
            Kept::ForNext(partial) => {
                let finished = partial.path.with_file_name(format!("{}-{}", self.oid, Nonce::random()?));
                fs::rename(&partial.path, &finished).map_err(failed)?;
                Ok(finished)
            }
        }
    }
}

/// Opens or makes the file that a download goes on with, and locks it. Returns `None` if another download has
/// it.
fn lock_partial(path: &Path, modes: Modes) -> std::io::Result<Option<File>> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, modes.file());
    #[cfg(not(unix))]
    let _ = modes;
    lock::try_lock(&options, path).map(Attempt::held)
}

/// Removes a file of at least this age that no process holds. Returns true if it was removed.
fn remove_abandoned(path: &Path, at_age: Duration) -> std::io::Result<bool> {
    let found = fs::symlink_metadata(path)?;
    let age = found.modified()?.elapsed().unwrap_or_default();
    if age < at_age || found.is_dir() {
        return Ok(false);
    }
    let attempt = lock::try_lock(File::options().write(true), path)?;
    let is_abandoned = match attempt {
        Attempt::Held(_) => true,
        Attempt::Taken => false,
        // a process that writes to the file changes its date
        Attempt::NoLocks(_) => age >= Duration::from_secs(UNLOCKED_STALE_SECONDS),
    };
    if is_abandoned {
        fs::remove_file(path)?;
    }
    Ok(is_abandoned)
}

fn is_full(e: &std::io::Error) -> bool {
    matches!(e.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !buffer.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, buffer, offset)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        buffer = &mut buffer[read..];
        offset += read as u64;
    }
    Ok(())
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
