//! Kept ranges: ranges of blocks that were fetched from a store and stay for later downloads. These may be of
//! other clones, other processes, or other versions of an object. The ranges are only hints: their readers
//! verify the content, and forget damaged ranges.

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tempfile::NamedTempFile;

use super::quota::{PART, RANGES, Room, listed};
use super::{lock, metadata_cache};
use crate::error::{Kind, Result};
use crate::id::{BlockId, StoreId};
use crate::regular_file::{self, Links};

/// Least time between two renewals of the date of a kept range that is used.
pub(crate) const CACHE_DATED_SECONDS: u64 = 60;

/// The kept ranges of one store: one file `<block>/<start>-<end>` for each. Any number of processes may read,
/// write and remove them at the same time.
#[derive(Debug)]
pub struct Ranges {
    place: Option<Place>,
    /// True if the warning that nothing is kept was given.
    has_warned: AtomicBool,
}

#[derive(Debug)]
struct Place {
    folder: PathBuf,
    room: Room,
}

/// The kept ranges of a block, sorted by their start. Of two with the same start, the longer one is first.
#[derive(Clone, Debug, Default)]
pub struct Kept(Vec<Range<u32>>);

impl Kept {
    /// Makes the list of these ranges, which may have any order.
    pub fn of(mut ranges: Vec<Range<u32>>) -> Self {
        ranges.sort_by_key(|range| (range.start, u32::MAX - range.end));
        Self(ranges)
    }

    /// Lists the kept ranges of a block in the folder of a store.
    pub fn in_store(folder: &Path, block: &BlockId) -> Self {
        Self::in_folder(&folder.join(RANGES).join(block.to_string()))
    }

    fn in_folder(folder: &Path) -> Self {
        let files = listed(folder).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        Self::of(files.filter_map(|file| parse(file.file_name().to_str()?)).collect())
    }

    /// Returns how many bytes of `wanted` lie in the ranges.
    pub fn covered_bytes(&self, wanted: &Range<u32>) -> u32 {
        let mut covered = 0;
        let mut position = wanted.start;
        for range in &self.0 {
            let end = range.end.min(wanted.end);
            covered += end.saturating_sub(range.start.max(position));
            position = position.max(end);
        }
        covered
    }

    /// Returns true if every byte of `wanted` lies in one of the ranges.
    pub fn covers(&self, wanted: &Range<u32>) -> bool {
        self.pieces(wanted).is_some()
    }

    /// Returns the pieces that make up `wanted`, in order: each as a kept range and the part to take from it.
    /// Returns `None` if a byte is missing.
    pub fn pieces(&self, wanted: &Range<u32>) -> Option<Vec<(Range<u32>, Range<u32>)>> {
        let mut pieces = Vec::new();
        let mut position = wanted.start;
        while position < wanted.end {
            let reaching = self.0.iter().take_while(|range| range.start <= position);
            let longest = reaching.max_by_key(|range| range.end).filter(|range| range.end > position)?;
            let end = longest.end.min(wanted.end);
            pieces.push((longest.clone(), position..end));
            position = end;
        }
        Some(pieces)
    }
}

impl Ranges {
    /// Returns the kept ranges of the store `id` at `location`. The ranges of all stores together may take
    /// `most_bytes`. With 0, nothing is read or written.
    pub fn for_store(id: &StoreId, location: &str, most_bytes: u64) -> Self {
        let folder = (most_bytes > 0).then(|| metadata_cache::folder_of(id, location)).flatten();
        let place = folder.and_then(|folder| {
            let room = Room::new(folder.parent()?.to_owned(), most_bytes);
            Some(Place { folder: folder.join(RANGES), room })
        });
        Self { place, has_warned: AtomicBool::new(false) }
    }

    /// Returns ranges that keep nothing.
    pub fn none() -> Self {
        Self { place: None, has_warned: AtomicBool::new(false) }
    }

    /// Returns true if ranges are kept.
    pub fn is_on(&self) -> bool {
        self.place.is_some()
    }

    /// Returns the kept ranges of `store` below `root`.
    #[cfg(test)]
    pub(crate) fn at(root: &Path, store: &str, most_bytes: u64) -> Self {
        let room = Room::new(root.to_owned(), most_bytes);
        let place = Some(Place { folder: root.join(store).join(RANGES), room });
        Self { place, has_warned: AtomicBool::new(false) }
    }

    fn folder(&self, block: &BlockId) -> Option<PathBuf> {
        Some(self.place.as_ref()?.folder.join(block.to_string()))
    }

    /// Lists the ranges of a block that are kept now. Other processes may remove them at any time.
    pub fn of(&self, block: &BlockId) -> Kept {
        self.folder(block).map_or_else(Kept::default, |folder| Kept::in_folder(&folder))
    }

    /// Reads the bytes of a range into `buffer`, which must be empty. Returns `None` if bytes are missing.
    /// The bytes may be damaged.
    pub fn read(&self, block: &BlockId, wanted: &Range<u32>, mut buffer: Vec<u8>) -> Option<Vec<u8>> {
        let folder = self.folder(block)?;
        buffer.resize(wanted.len(), 0);
        for (kept, piece) in self.of(block).pieces(wanted)? {
            let path = folder.join(name(&kept));
            let into = (piece.start - wanted.start) as usize..(piece.end - wanted.start) as usize;
            if let Err(e) = read_piece(&path, &kept, piece.start, &mut buffer[into]) {
                tracing::debug!("{} is not used: {e}", path.display());
                if e.kind() == io::ErrorKind::InvalidData {
                    let _ = fs::remove_file(path);
                }
                return None;
            }
        }
        Some(buffer)
    }

    /// Keeps a range that was fetched. Never fails: a range that isn't kept is fetched again.
    pub fn keep(&self, block: &BlockId, range: &Range<u32>, bytes: &[u8]) {
        let Some(place) = &self.place else { return };
        let kept = self.of(block);
        if range.len() != bytes.len() || !place.room.may_hold(bytes.len() as u64) || kept.covers(range) {
            return;
        }
        match place.keep(block, range, bytes) {
            // older ranges inside this one are kept twice now
            Ok(folder) => {
                kept.0.iter().filter(|k| range.start <= k.start && k.end <= range.end).for_each(|k| {
                    let _ = fs::remove_file(folder.join(name(k)));
                })
            }
            Err(e) if e.kind() == Kind::Busy => tracing::debug!("a range of block {block} is not kept: {e}"),
            Err(e) if self.has_warned.swap(true, Ordering::Relaxed) => {
                tracing::debug!("a range of block {block} is not kept: {e}");
            }
            Err(e) => {
                tracing::warn!("what is fetched is not kept on this machine, and will be fetched again: {e}")
            }
        }
    }

    /// Removes all ranges that overlap a damaged range.
    pub fn forget(&self, block: &BlockId, range: &Range<u32>) {
        let Some(folder) = self.folder(block) else { return };
        for kept in self.of(block).0.iter().filter(|kept| kept.start < range.end && range.start < kept.end) {
            let _ = fs::remove_file(folder.join(name(kept)));
        }
    }
}

impl Place {
    /// Writes a range under another name and renames it. It isn't synced: checksums reveal the damage of a
    /// power failure.
    fn keep(&self, block: &BlockId, range: &Range<u32>, bytes: &[u8]) -> Result<PathBuf> {
        let folder = self.folder.join(block.to_string());
        let path = folder.join(name(range));
        let failed = |e| crate::error::Error::io(format!("writing {}", path.display()), &e);
        let root = self.folder.ancestors().nth(2).unwrap_or(&self.folder);
        metadata_cache::make_folder(root).map_err(failed)?;
        let mut file = self.room.begin(bytes.len() as u64, || {
            metadata_cache::make_folder(&folder)?;
            begin_file(&folder, range, bytes.len() as u64)
        })?;
        file.write_all(bytes).map_err(failed)?;
        self.room.end(|| file.persist(&path).map_err(|e| e.error))?;
        Ok(folder)
    }
}

/// Begins a file at its full length, so that it counts with that length. It is locked until it is closed.
fn begin_file(folder: &Path, range: &Range<u32>, bytes: u64) -> io::Result<NamedTempFile> {
    let prefix = format!("{}.", name(range));
    let file = tempfile::Builder::new().prefix(&prefix).suffix(&format!(".{PART}")).tempfile_in(folder)?;
    lock::hold_new(file.as_file())?;
    file.as_file().set_len(bytes)?;
    Ok(file)
}

fn read_piece(path: &Path, kept: &Range<u32>, start: u32, into: &mut [u8]) -> io::Result<()> {
    let mut options = File::options();
    options.read(true);
    // on Windows the date of a file can only be set with the right to write
    #[cfg(windows)]
    options.write(true);
    let mut file = regular_file::open_with(&options, path, Links::Refused)?;
    let metadata = file.metadata()?;
    if metadata.len() != kept.len() as u64 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is cut short"));
    }
    file.seek(SeekFrom::Start(u64::from(start - kept.start)))?;
    file.read_exact(into)?;
    let age = metadata.modified()?.elapsed().unwrap_or_default();
    if age > Duration::from_secs(CACHE_DATED_SECONDS) {
        // only the order in which ranges are removed depends on the date
        let _ = file.set_modified(SystemTime::now());
    }
    Ok(())
}

fn name(range: &Range<u32>) -> String {
    format!("{}-{}", range.start, range.end)
}

/// Parses the range in a file's name; public for fuzzing.
#[doc(hidden)]
pub fn parse(name: &str) -> Option<Range<u32>> {
    let (start, end) = name.split_once('-')?;
    let range = start.parse().ok()?..end.parse().ok()?;
    (range.start < range.end && self::name(&range) == name).then_some(range)
}
