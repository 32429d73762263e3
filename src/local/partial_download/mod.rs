//! Downloads in the making: files in a folder on the disk of the LFS objects, so that git-lfs can rename them.

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
use crate::limit;
use crate::modes::Modes;

/// How the names of downloads end that nobody goes on with.
const PART: &str = "part";
/// How those of downloads end that the next one goes on with.
const PARTIAL: &str = "partial";

/// `cdc/downloads` in the LFS storage. git-lfs removes files from `tmp` beside it, at any command and in all folders below, but
/// leaves this folder alone.
#[derive(Clone, Debug)]
pub struct Scratch {
    folder: PathBuf,
    modes: Modes,
    /// Whether files can be locked there; found out when a large download begins.
    has_locks: Arc<OnceLock<bool>>,
    /// How often room was made.
    rooms: Arc<Mutex<u64>>,
    /// The ranges of blocks that are kept, which give way to objects.
    ranges: Option<Arc<Room>>,
}

impl Scratch {
    /// Opens the folder in the LFS storage `storage`, makes it if need be, and removes what dead
    /// processes left there. Where the disk is full, `ranges` give way.
    pub fn open(storage: &Path, modes: Modes, ranges: Option<Room>) -> Result<Self> {
        let folder = storage.join("cdc").join("downloads");
        let failed = |e| Error::io(format!("making the folder {}", folder.display()), &e);
        modes.make_folders(&folder).map_err(failed)?;
        let has_locks = Arc::default();
        let scratch = Self { folder, modes, has_locks, rooms: Arc::default(), ranges: ranges.map(Arc::new) };
        scratch.sweep(|extension| match extension {
            Some(PART) => Some(Duration::from_secs(limit::SCRATCH_PART_STALE_SECONDS)),
            Some(PARTIAL) => Some(Duration::from_secs(limit::PARTIAL_STALE_SECONDS)),
            // finished: git-lfs had time enough to check and rename them
            _ => Some(Duration::from_secs(limit::SCRATCH_STALE_SECONDS)),
        });
        Ok(scratch)
    }

    /// Removes what no process holds any more, at the age that `stale` gives for its extension; says how many
    /// files those were.
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

    /// A file of `size_bytes` for the object. A large one may have content of an earlier download, and is kept
    /// for the next one unless it is handed over; others vanish.
    pub fn create(&self, oid: &Oid, size_bytes: u64) -> Result<ScratchFile> {
        let failed = |e| Error::io(format!("creating a file in {}", self.folder.display()), &e);
        let (file, kept) = match self.open_partial(oid, size_bytes) {
            Some((file, path)) => (file, Kept::ForNext(Partial::new(path))),
            None => self.create_part(oid).map_err(failed).map(|(file, path)| (file, Kept::Not(path)))?,
        };
        // git-lfs takes it as it is
        self.modes.give(&file);
        let has_content = file.metadata().map_err(failed)?.len() > 0;
        file.set_len(size_bytes).map_err(failed)?;
        Ok(ScratchFile { kept, file, has_content, scratch: self.clone(), oid: *oid })
    }

    /// The file that downloads of a large object go on with. None if another download is at it, or where it can't be
    /// used: another user's may not be opened, and without locks nobody knows who else is at it.
    fn open_partial(&self, oid: &Oid, size_bytes: u64) -> Option<(File, PathBuf)> {
        if size_bytes < limit::PARTIAL_BYTES || !self.has_locks() {
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

    /// Whether files can be locked here. Says once where they can't.
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

    /// Puts a finished download at `path`, whose lock is held, if there is one of which nobody knows any more: git-lfs
    /// was told of it, and was killed with its agent before it took it.
    fn adopt(&self, oid: &Oid, size_bytes: u64, path: &Path) -> Option<File> {
        let prefix = format!("{oid}-");
        let is_finished = |name: &str| name.starts_with(&prefix) && !name.contains('.');
        let adopted = |finished: &Path| -> std::io::Result<Option<File>> {
            let held = || lock::try_lock(File::options().read(true).write(true), finished).map(Attempt::held);
            let Some(mut file) = held()? else { return Ok(None) };
            let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
            if let Some(rest) = Duration::from_millis(limit::HAND_OVER_MS).checked_sub(age) {
                // whoever was given it just now gets the time to hold it
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

    /// Gives up ranges that are kept, or if there is none, what unfinished downloads have left; says how often room was
    /// made then. Nothing if there was nothing to give up, nor has been since room was made `before` times: of several that
    /// find the disk full, one makes room for all.
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

/// What becomes of a file that is not handed over.
#[derive(Debug)]
enum Kept {
    /// It vanishes.
    Not(tempfile::TempPath),
    /// The next download of the object goes on with it.
    ForNext(Partial),
}

/// Where a download stands that the next one can go on with.
#[derive(Debug)]
struct Partial {
    path: PathBuf,
    /// The disk is full, and this would only be in the way.
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

/// The file of an object in the making.
#[derive(Debug)]
pub struct ScratchFile {
    // dropped first, while the file is locked
    kept: Kept,
    file: File,
    has_content: bool,
    scratch: Scratch,
    oid: Oid,
}

impl ScratchFile {
    /// Whether an earlier download has left something in it. What that is must be checked.
    pub fn has_content(&self) -> bool {
        self.has_content
    }

    fn path(&self) -> &Path {
        match &self.kept {
            Kept::Not(path) => path,
            Kept::ForNext(partial) => &partial.path,
        }
    }

    /// Fills `buffer` from an offset; several threads may at once.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        #[cfg(unix)]
        let read = std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, offset);
        #[cfg(windows)]
        let read = read_exact_at(&self.file, buffer, offset);
        read.map_err(|e| Error::io(format!("reading {}", self.path().display()), &e))
    }

    /// Writes at an offset; several threads may at once. Where the disk is full, what other downloads have left
    /// makes room.
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

    /// Another file for the same download, empty, which goes when it is dropped.
    pub fn beside(&self) -> Result<Self> {
        self.scratch.create(&self.oid, 0)
    }

    /// Leaves the file to the caller, under a name that says that it is finished.
    pub fn hand_over(self) -> Result<PathBuf> {
        let failed = |e| Error::io("keeping a finished download", &e);
        // since when it is waited for that somebody holds it; where files can't be dated, that is not waited for
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

/// Opens the file that a download goes on with, or makes it, unless another download is at it.
fn lock_partial(path: &Path, modes: Modes) -> std::io::Result<Option<File>> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, modes.file());
    #[cfg(not(unix))]
    let _ = modes;
    lock::try_lock(&options, path).map(Attempt::held)
}

/// Removes a file of at least this age that no process holds. Says whether it did.
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
        // a process that writes to it dates it
        Attempt::NoLocks(_) => age >= Duration::from_secs(limit::UNLOCKED_STALE_SECONDS),
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
