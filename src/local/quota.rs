//! The cap of kept ranges, for all stores of a user together, and a reserve of free disk space. Room for each
//! range is requested here first. The ranges that were used least recently are removed.
//!
//! A range has its full length from the moment it is begun. It is begun, and gets its name, under one lock.
//! So the lock's holder sees the truth in the folders, even if other processes are killed. The file of the
//! lock holds a count, so that not every range needs a look at all files. The count is never less than the
//! truth. Each process counts once for itself.

use std::fs::{self, DirEntry, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::lock::{self, Attempt};
use crate::error::{Error, Kind, Result};
use crate::local::lock::UNLOCKED_STALE_SECONDS;
use crate::units::{KIB, MIB};

/// Bytes of a page of a file system. File systems give out whole pages.
const CACHE_PAGE_BYTES: u64 = 4096;
/// Least bytes that a kept range counts, so that there are never many: some 65,000 in the default size.
const CACHE_RANGE_COST_BYTES: u64 = 64 * KIB as u64;
/// One part in this many of the room becomes free when ranges are removed, so that the next removal is not
/// soon.
const CACHE_SLACK_SHARE: u64 = 16;
/// One part in this many of a disk stays free of kept ranges.
const CACHE_RESERVE_SHARE: u64 = 20;
/// Most bytes that stay free of kept ranges on a disk.
const CACHE_RESERVE_AT_MOST_BYTES: u64 = 2 * 1024 * MIB as u64;
/// Bytes of kept ranges that are removed at a time for objects, where the disk is full. If one part in
/// [`CACHE_SLACK_SHARE`] is more, that much is removed.
pub(crate) const CACHE_GIVES_WAY_BYTES: u64 = 8 * MIB as u64;
/// Longest wait for the lock of other processes that make room there.
const CACHE_LOCK_MS: u64 = 1000;

/// The folder of kept ranges, in the cache folder of a store.
pub const RANGES: &str = "ranges";
/// The extension of files that are being written.
pub(super) const PART: &str = "part";
/// The file that is locked to make room. It holds the count so far: 8 bytes, little-endian.
const LOCK: &str = "ranges.lock";

/// The room for ranges below a folder.
#[derive(Debug)]
pub struct Room {
    root: PathBuf,
    most_bytes: u64,
    /// True if this process has counted the ranges for itself.
    is_counted: Mutex<bool>,
    /// True if the warning about missing locks was given.
    has_warned: AtomicBool,
}

/// A kept range, or one that is being written.
struct Entry {
    used: SystemTime,
    path: PathBuf,
    cost_bytes: u64,
}

/// Returns the bytes that a file of `bytes` counts as.
pub fn cost_bytes(bytes: u64) -> u64 {
    bytes.next_multiple_of(CACHE_PAGE_BYTES).max(CACHE_RANGE_COST_BYTES)
}

impl Room {
    /// Makes a room of `most_bytes` below `root`, which holds a folder for each store.
    pub fn new(root: PathBuf, most_bytes: u64) -> Self {
        Self { root, most_bytes, is_counted: Mutex::new(false), has_warned: AtomicBool::new(false) }
    }

    /// Makes room for a file of `bytes`, and begins it by `create` at its full length. From then on it
    /// counts. Fails if there is no room, or with [`Kind::Busy`] if other processes hold the lock for too
    /// long.
    pub(super) fn begin<T>(&self, bytes: u64, create: impl FnOnce() -> io::Result<T>) -> Result<T> {
        let failed = |e| Error::io(format!("making room in {}", self.root.display()), &e);
        // threads take turns here, because a lock that others hold is only tried now and then
        let mut is_counted = self.is_counted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ledger = self.lock()?;
        let cost_bytes = cost_bytes(bytes);
        let counted = ledger.read().filter(|_| *is_counted);
        let counted = counted.unwrap_or_else(|| total(&self.entries()));
        let (total, allowed) = self.fit(counted, cost_bytes).map_err(failed)?;
        if total + cost_bytes > allowed {
            ledger.write(total).map_err(failed)?;
            return Err(self.no_room());
        }
        ledger.write(total + cost_bytes).map_err(failed)?;
        *is_counted = true;
        create().map_err(failed)
    }

    /// Gives its name to a file that was begun. It does so under the lock: otherwise a process that counts
    /// meanwhile might see neither the old nor the new name. Fails with [`Kind::Busy`] if other processes
    /// hold the lock for too long. Then the caller must remove the file.
    pub(super) fn end<T>(&self, rename: impl FnOnce() -> io::Result<T>) -> Result<T> {
        let _ledger = self.lock()?;
        rename().map_err(|e| Error::io(format!("keeping a file in {}", self.root.display()), &e))
    }

    /// Removes ranges until the rest is within the cap, and removes files that dead processes have left.
    pub fn shrink(&self) -> Result<()> {
        let failed = |e| Error::io(format!("making room in {}", self.root.display()), &e);
        if !self.root.exists() {
            return Ok(());
        }
        let mut ledger = self.lock()?;
        let (total, _) = self.fit(total(&self.entries()), 0).map_err(failed)?;
        ledger.write(total).map_err(failed)
    }

    /// Frees disk space for a file in `folder`, if the ranges are on the same disk. Removes a part of the ranges,
    /// the least recently used first. Returns the bytes that the removed ranges counted as.
    pub fn give_way(&self, folder: &Path) -> Result<u64> {
        let failed = |e| Error::io(format!("making room in {}", self.root.display()), &e);
        if !self.root.exists() || !is_one_disk(&self.root, folder).map_err(failed)? {
            return Ok(0);
        }
        let mut ledger = self.lock()?;
        let entries = self.entries();
        let before = total(&entries);
        let part = (before / CACHE_SLACK_SHARE).max(CACHE_GIVES_WAY_BYTES);
        let total = evict(entries, before.saturating_sub(part));
        ledger.write(total).map_err(failed)?;
        Ok(before - total)
    }

    fn no_room(&self) -> Error {
        Error::new(Kind::Unreachable, format!("the disk of {} is full", self.root.display()))
            .remedy("free some space, or set lfs-cdc.cacheSize to less")
    }

    /// Returns true if the cap allows a file of `bytes` when nothing else is kept.
    pub(super) fn may_hold(&self, bytes: u64) -> bool {
        cost_bytes(bytes) <= self.most_bytes
    }

    /// Waits for the lock, but only for a limited time, because its holder may be stopped. Goes on without a
    /// lock if the file system has none.
    pub(super) fn lock(&self) -> Result<Ledger> {
        let failed = |e| Error::io(format!("locking {}", self.root.join(LOCK).display()), &e);
        let path = self.root.join(LOCK);
        let begun = Instant::now();
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        loop {
            match lock::try_lock(&options, &path).map_err(failed)? {
                Attempt::Held(file) => return Ok(Ledger(file)),
                Attempt::NoLocks(file) => {
                    self.warn_of_no_locks();
                    return Ok(Ledger(file));
                }
                Attempt::Taken => {}
            }
            if begun.elapsed() > Duration::from_millis(CACHE_LOCK_MS) {
                return Err(Error::busy(format!("{} is locked by another process", path.display())));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn warn_of_no_locks(&self) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "{} is on a file system without locks: several commands at once may keep more there than lfs-cdc.cacheSize",
                self.root.display()
            );
        }
    }

    /// Removes the least recently used ranges until `cost_bytes` more fit beside the ranges that were
    /// `counted`. Returns the bytes that are kept then, and the bytes that may be kept.
    fn fit(&self, counted: u64, cost_bytes: u64) -> io::Result<(u64, u64)> {
        let allowed = self.allowed(counted)?;
        if counted.saturating_add(cost_bytes) <= allowed {
            return Ok((counted, allowed));
        }
        let entries = self.entries();
        let total = total(&entries);
        let allowed = self.allowed(total)?;
        if total + cost_bytes <= allowed {
            return Ok((total, allowed));
        }
        let target = (allowed - allowed / CACHE_SLACK_SHARE).saturating_sub(cost_bytes);
        Ok((evict(entries, target), allowed))
    }

    /// Returns the bytes that may be kept if `total` is kept now. A reserve of the disk stays free.
    fn allowed(&self, total: u64) -> io::Result<u64> {
        let disk = fs4::statvfs(&self.root)?;
        let reserve = disk.total_space() / CACHE_RESERVE_SHARE;
        let reserve = reserve.min(CACHE_RESERVE_AT_MOST_BYTES);
        Ok(self.most_bytes.min(total.saturating_add(disk.available_space()).saturating_sub(reserve)))
    }

    /// Lists every range that is kept or being written. Removes the files that dead processes have left. The
    /// lock must be held.
    fn entries(&self) -> Vec<Entry> {
        let stores = folders(&self.root).map(|store| store.join(RANGES));
        let files = stores.flat_map(|ranges| folders(&ranges).collect::<Vec<_>>()).flat_map(|f| listed(&f));
        files.filter_map(|file| entry(&file)).collect()
    }
}

/// Removes the least recently used ranges until the others count as `target` at most. Returns the bytes that
/// they count as.
fn evict(mut entries: Vec<Entry>, target: u64) -> u64 {
    let mut total = total(&entries);
    entries.retain(|entry| !is_part(&entry.path));
    entries.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
    for entry in entries {
        if total <= target {
            break;
        }
        match fs::remove_file(&entry.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => continue,
            _ => total -= entry.cost_bytes,
        }
        // removes the folder of the block, if this was its last range
        entry.path.parent().map(fs::remove_dir);
    }
    total
}

#[cfg(unix)]
fn is_one_disk(a: &Path, b: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata(a)?.dev() == fs::metadata(b)?.dev())
}

/// Returns true, because the disks can't be compared here.
#[cfg(not(unix))]
fn is_one_disk(_: &Path, _: &Path) -> io::Result<bool> {
    Ok(true)
}

fn total(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.cost_bytes).sum()
}

pub(super) fn is_part(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == PART)
}

fn entry(file: &DirEntry) -> Option<Entry> {
    let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let path = file.path();
    let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    if is_part(&path) && is_abandoned(&path, used) {
        let _ = fs::remove_file(&path);
        return None;
    }
    Some(Entry { used, path, cost_bytes: cost_bytes(metadata.len()) })
}

/// Returns true if the process that began to write a range is dead. A living one would hold the file's lock.
fn is_abandoned(path: &Path, written: SystemTime) -> bool {
    match lock::try_lock(File::options().read(true).write(true), path) {
        Ok(Attempt::Held(_)) => true,
        Ok(Attempt::NoLocks(_)) => {
            written.elapsed().unwrap_or_default() >= Duration::from_secs(UNLOCKED_STALE_SECONDS)
        }
        Ok(Attempt::Taken) | Err(_) => false,
    }
}

/// Lists the entries of a folder. The list is empty if the folder can't be read.
pub(super) fn listed(folder: &Path) -> impl Iterator<Item = DirEntry> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}

/// Lists the folders in a folder.
pub(super) fn folders(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    listed(folder).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path())
}

/// The locked file. It holds the count so far.
pub(super) struct Ledger(File);

impl Ledger {
    fn read(&mut self) -> Option<u64> {
        let mut bytes = [0; 8];
        self.0.rewind().ok()?;
        self.0.read_exact(&mut bytes).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    fn write(&mut self, total: u64) -> io::Result<()> {
        self.0.rewind()?;
        self.0.write_all(&total.to_le_bytes())
    }
}
