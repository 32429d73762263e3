//! The room that kept ranges of blocks may take, for all stores of a user together: a hard cap, and never the last of
//! the disk. Whoever wants to keep one asks here first; what was used least recently goes.
//!
//! Every range has its full length from the moment it is begun, and is begun and named under one lock, so whoever holds
//! it sees the truth in the folders, whoever is killed. The number in the lock's file spares looking at them each time: it is never
//! less than the truth, and each process counts once for itself.

use std::fs::{self, DirEntry, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::lock::{self, Attempt};
use crate::error::{Error, Kind, Result};
use crate::limit;

/// The folder with the ranges of one store, in what is kept of it.
pub const RANGES: &str = "ranges";
/// How the names of files end that are being written.
pub(super) const PART: &str = "part";
/// What is locked to make room. It holds what is counted so far: 8 bytes, little-endian.
const LOCK: &str = "ranges.lock";

/// How much may be kept below a folder.
#[derive(Debug)]
pub struct Room {
    root: PathBuf,
    most_bytes: u64,
    /// Whether this process has counted for itself what is there.
    is_counted: Mutex<bool>,
    /// Whether it was said already that nothing can be locked here.
    has_warned: AtomicBool,
}

/// A range that is kept.
struct Entry {
    used: SystemTime,
    path: PathBuf,
    cost_bytes: u64,
}

/// What a file of `bytes` counts as.
pub fn cost_bytes(bytes: u64) -> u64 {
    bytes.next_multiple_of(limit::CACHE_PAGE_BYTES).max(limit::CACHE_RANGE_COST_BYTES)
}

impl Room {
    /// Room for `most_bytes` below `root`, which holds a folder for each store.
    pub fn new(root: PathBuf, most_bytes: u64) -> Self {
        Self { root, most_bytes, is_counted: Mutex::new(false), has_warned: AtomicBool::new(false) }
    }

    /// Makes room for a file of `bytes` and has it begun, at its full length: from then on it counts. Fails if there is
    /// no room, or with [`Kind::Busy`] if others are at it for too long.
    pub(super) fn begin<T>(&self, bytes: u64, create: impl FnOnce() -> io::Result<T>) -> Result<T> {
        let failed = |e| Error::io(format!("making room in {}", self.root.display()), &e);
        // one at a time also here: what others hold is only looked at now and then
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

    /// Gives a file that was begun its name: whoever counts meanwhile might see neither the old nor the new one. Fails
    /// with [`Kind::Busy`] if others are at it for too long; then the file has to go.
    pub(super) fn end<T>(&self, rename: impl FnOnce() -> io::Result<T>) -> Result<T> {
        let _ledger = self.lock()?;
        rename().map_err(|e| Error::io(format!("keeping a file in {}", self.root.display()), &e))
    }

    /// Removes what is beyond the cap now, and what dead processes have left.
    pub fn shrink(&self) -> Result<()> {
        let failed = |e| Error::io(format!("making room in {}", self.root.display()), &e);
        if !self.root.exists() {
            return Ok(());
        }
        let mut ledger = self.lock()?;
        let (total, _) = self.fit(total(&self.entries()), 0).map_err(failed)?;
        ledger.write(total).map_err(failed)
    }

    /// Gives way to a file in `folder` that the disk has no room for, if these ranges are on the same disk: the least recently used
    /// go, a part of them. Says how much that counted as.
    pub fn give_way(&self, folder: &Path) -> Result<u64> {
        let failed = |e| Error::io(format!("making room in {}", self.root.display()), &e);
        if !self.root.exists() || !is_one_disk(&self.root, folder).map_err(failed)? {
            return Ok(0);
        }
        let mut ledger = self.lock()?;
        let entries = self.entries();
        let before = total(&entries);
        let part = (before / limit::CACHE_SLACK_SHARE).max(limit::CACHE_GIVES_WAY_BYTES);
        let total = evict(entries, before.saturating_sub(part));
        ledger.write(total).map_err(failed)?;
        Ok(before - total)
    }

    fn no_room(&self) -> Error {
        Error::new(Kind::Unreachable, format!("the disk of {} is full", self.root.display()))
            .remedy("free some space, or set lfs-cdc.cacheSize to less")
    }

    /// Whether a file of `bytes` could be kept if nothing else were.
    pub(super) fn may_hold(&self, bytes: u64) -> bool {
        cost_bytes(bytes) <= self.most_bytes
    }

    /// Waits for the lock, but not for ever: its holder may be stopped. Where there are no locks, it goes on without.
    pub(super) fn lock(&self) -> Result<Ledger> {
        let failed = |e| Error::io(format!("locking {}", self.root.join(LOCK).display()), &e);
        let (path, begun) = (self.root.join(LOCK), Instant::now());
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
            if begun.elapsed() > Duration::from_millis(limit::CACHE_LOCK_MS) {
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

    /// Removes what was used least recently until `cost_bytes` more fit beside what was `counted`. Says what is there
    /// then, and how much may be.
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
        let target = (allowed - allowed / limit::CACHE_SLACK_SHARE).saturating_sub(cost_bytes);
        Ok((evict(entries, target), allowed))
    }

    /// How much may be kept now that `total` is: never the last of the disk.
    fn allowed(&self, total: u64) -> io::Result<u64> {
        let disk = fs4::statvfs(&self.root)?;
        let reserve = disk.total_space() / limit::CACHE_RESERVE_SHARE;
        let reserve = reserve.min(limit::CACHE_RESERVE_AT_MOST_BYTES);
        Ok(self.most_bytes.min(total.saturating_add(disk.available_space()).saturating_sub(reserve)))
    }

    /// Every range that is there or being written, but what dead processes have left, which is removed. The lock is held.
    fn entries(&self) -> Vec<Entry> {
        let stores = folders(&self.root).map(|store| store.join(RANGES));
        let files = stores.flat_map(|ranges| folders(&ranges).collect::<Vec<_>>()).flat_map(|f| listed(&f));
        files.filter_map(|file| entry(&file)).collect()
    }
}

/// Removes what was used least recently until the rest counts as `target` at most. Says what it counts as.
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
        // of the block: empty if this was its last range
        entry.path.parent().map(fs::remove_dir);
    }
    total
}

#[cfg(unix)]
fn is_one_disk(a: &Path, b: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata(a)?.dev() == fs::metadata(b)?.dev())
}

/// As far as anybody can tell.
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

/// Whether the process is dead that began to write a range: it would hold the lock.
fn is_abandoned(path: &Path, written: SystemTime) -> bool {
    match lock::try_lock(File::options().read(true).write(true), path) {
        Ok(Attempt::Held(_)) => true,
        Ok(Attempt::NoLocks(_)) => {
            written.elapsed().unwrap_or_default() >= Duration::from_secs(limit::UNLOCKED_STALE_SECONDS)
        }
        Ok(Attempt::Taken) | Err(_) => false,
    }
}

/// What stands in a folder; nothing if it can't be read.
pub(super) fn listed(folder: &Path) -> impl Iterator<Item = DirEntry> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}

/// The folders in a folder.
pub(super) fn folders(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    listed(folder).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path())
}

/// The file whose lock is held, with what is counted so far.
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
