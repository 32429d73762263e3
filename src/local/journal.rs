//! The journal of a user's pushes to one store. It notes the blocks that a push stores and that no commit
//! names yet. So the next push goes on with the blocks of an interrupted one.
//!
//! The entries are only hints: a block may never have arrived. The content of a block is read from the block
//! itself. So a program that can only write to this machine can't forge it.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::metadata_cache;
use crate::error::{Error, Result};
use crate::format::block::{SUMMARY_WIDTH, Summary};
use crate::id::{BlockId, StoreId};
use crate::regular_file::{self, Links};
use crate::units::MIB;

/// Most bytes of the directory and seek table of a block in a journal. A push uses no block with more.
const DIRECTORY_READ_BYTES: u64 = MIB as u64;
/// Most bytes of block directories that are read for a journal. A push of some 50 GB that doesn't shrink
/// leaves so many.
const JOURNAL_BYTES: u64 = 128 * MIB as u64;
/// Time for which entries of a journal are used. After it, a collector may have deleted their blocks.
pub(crate) const JOURNAL_SECONDS: u64 = 3 * 24 * 60 * 60;

/// The journal's folder. It has one file for each block, with the block's name. The file holds the block's
/// summary. Any number of processes may write, read and remove the same entries at the same time.
#[derive(Clone, Debug)]
pub struct Journal {
    /// `None` if the user has no home. Then nothing is kept.
    folder: Option<PathBuf>,
}

impl Journal {
    /// Returns the journal for the store `id` at `location`. Never fails: without a journal, a push begins
    /// anew.
    pub fn for_store(id: &StoreId, location: &str) -> Self {
        Self { folder: metadata_cache::folder_of(id, location).map(|folder| folder.join("journal")) }
    }

    /// Returns a journal in a folder, or one that keeps nothing.
    #[cfg(test)]
    pub(crate) fn at(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// Notes a block that is about to be stored. Never fails: without the entry, the block may be sent again.
    pub fn note(&self, block: &Summary) {
        let Some(folder) = &self.folder else { return };
        let name = block.id.to_string();
        let mut bytes = Vec::new();
        block.write(&mut bytes);
        if let Err(e) = metadata_cache::keep(folder, &name, [&bytes[..]]) {
            let e = Error::io(format!("writing {}", folder.join(&name).display()), &e);
            tracing::warn!("block {name} is sent again if this push is interrupted: {e}");
        }
    }

    /// Removes the entry of a block. The caller knows that a commit names the block, or that the block may
    /// not be used.
    pub fn forget(&self, block: &BlockId) {
        if let Some(folder) = &self.folder {
            // the entry may be gone, or it stays as a hint
            let _ = fs::remove_file(folder.join(block.to_string()));
        }
    }

    /// Reads the entries, newest first, until their directories have [`JOURNAL_BYTES`]. Removes
    /// entries that are too old or damaged, and files that killed processes have left.
    pub fn read(&self) -> Vec<Summary> {
        let Some(listed) = self.folder.as_ref().and_then(|folder| fs::read_dir(folder).ok()) else {
            return Vec::new();
        };
        let mut files: Vec<_> = listed.flatten().filter_map(|file| fresh(&file)).collect();
        files.sort_by(|a, b| b.cmp(a));
        let mut entries = Vec::new();
        let mut left = JOURNAL_BYTES;
        for (_, block, path) in files {
            match read_entry(&path, &block) {
                Ok(Some(entry)) => match left.checked_sub(entry.directory_bytes()) {
                    Some(rest) => {
                        left = rest;
                        entries.push(entry);
                    }
                    None => break,
                },
                Ok(None) => {}
                Err(e) => {
                    tracing::warn!("a block of an interrupted push is not used: {}: {e}", path.display());
                    let _ = fs::remove_file(&path);
                }
            }
        }
        entries
    }
}

/// Returns the time when an entry was written, its block and its path. Removes the entry if it is too old.
fn fresh(file: &DirEntry) -> Option<(SystemTime, BlockId, PathBuf)> {
    // the metadata of the file itself, because links are not followed
    let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let modified = metadata.modified().ok()?;
    if modified.elapsed().unwrap_or_default() > Duration::from_secs(JOURNAL_SECONDS) {
        let _ = fs::remove_file(file.path());
        return None;
    }
    let block = BlockId::parse(file.file_name().to_str()?).ok()?;
    Some((modified, block, file.path()))
}

/// Reads an entry. Returns `None` if another process has removed it meanwhile.
fn read_entry(path: &Path, block: &BlockId) -> Result<Option<Summary>> {
    let bytes = match regular_file::read(path, Links::Refused, SUMMARY_WIDTH as u64) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|e| Error::io("reading it", &e))?,
    };
    let entry = Summary::parse(&bytes)?;
    match entry.id == *block {
        true if entry.directory_bytes() <= DIRECTORY_READ_BYTES => Ok(Some(entry)),
        true => Err(Error::corrupt("its directory is too large")),
        false => Err(Error::corrupt("it is another block's")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::format::block::{Builder, Chunk};
    use crate::format::frame::Encoder;
    use crate::format::limits;
    use crate::id::{ChunkId, Nonce};

    fn block(number: u8) -> Summary {
        let mut builder = Builder::default();
        let chunk = Chunk { id: ChunkId([number; 32]), bytes: 1 };
        builder.push(Encoder::new(3).unwrap().encode(b"a").unwrap(), &[chunk]).unwrap();
        builder.finish(Nonce([number; 8])).summary
    }

    fn journal() -> (tempfile::TempDir, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::at(Some(folder.path().join("journal")));
        (folder, journal)
    }

    fn path(journal: &Journal, block: &Summary) -> PathBuf {
        journal.folder.as_ref().unwrap().join(block.id.to_string())
    }

    fn age(path: &Path, seconds: u64) {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn what_is_noted_is_read_newest_first_until_it_is_forgotten() {
        let (_folder, journal) = journal();
        assert!(journal.read().is_empty());
        let blocks: Vec<Summary> = (0..3).map(block).collect();
        for (number, block) in blocks.iter().enumerate() {
            journal.note(block);
            age(&path(&journal, block), 1000 - number as u64);
        }
        journal.forget(&blocks[1].id);
        journal.forget(&blocks[1].id);
        assert_eq!(journal.read(), [blocks[2], blocks[0]]);
    }

    #[test]
    fn what_is_old_or_damaged_is_removed_and_what_is_none_of_ours_is_passed_over() {
        let (folder, journal) = journal();
        let blocks: Vec<Summary> = (0..9).map(block).collect();
        blocks.iter().for_each(|block| journal.note(block));
        let path = |number: usize| path(&journal, &blocks[number]);
        let bytes = fs::read(path(1)).unwrap();
        age(&path(0), JOURNAL_SECONDS + 10);
        fs::write(path(1), &bytes[..bytes.len() / 2]).unwrap();
        fs::write(path(2), b"").unwrap();
        // the name, and where the directory begins
        for (number, position) in [(3, 8), (4, 47)] {
            let mut damaged = fs::read(path(number)).unwrap();
            damaged[position] ^= 1;
            fs::write(path(number), damaged).unwrap();
        }
        fs::write(path(5), &bytes).unwrap();
        let endless = File::create(path(6)).unwrap();
        endless.set_len(1 << 40).unwrap();
        let killed = path(0).with_file_name(".tmpab12");
        fs::write(&killed, &bytes).unwrap();
        age(&killed, JOURNAL_SECONDS + 10);
        #[cfg(unix)]
        {
            fs::remove_file(path(7)).unwrap();
            std::os::unix::fs::symlink("/dev/zero", path(7)).unwrap();
        }
        fs::create_dir(path(0).with_file_name(block(20).id.to_string())).unwrap();
        let read = journal.read();
        assert_eq!(read, [blocks[8]]);
        assert!((0..7).all(|number| !path(number).exists()) && !killed.exists() && path(8).exists());
        drop(folder);
    }

    /// Three threads use one journal at once. Each finds only entries that one of them has noted, and none
    /// fails.
    #[test]
    fn several_processes_may_use_a_journal_at_once() {
        let (_folder, journal) = journal();
        let blocks: Vec<Summary> = (0..20).map(block).collect();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for block in &blocks {
                        journal.note(block);
                        assert!(journal.read().iter().all(|entry| blocks.contains(entry)));
                        journal.forget(&block.id);
                    }
                });
            }
        });
        assert!(journal.read().is_empty());
    }

    #[test]
    fn where_nothing_can_be_kept_everything_goes_on() {
        let (folder, _) = journal();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        for nowhere in [Some(file), None] {
            let journal = Journal::at(nowhere);
            journal.note(&block(1));
            journal.forget(&block(1).id);
            assert!(journal.read().is_empty());
        }
    }

    #[test]
    fn the_directory_of_the_largest_block_is_read() {
        // each chunk in a frame of its own
        let listed = crate::format::block::CHUNK_WIDTH + crate::format::block::FRAME_WIDTH + 8;
        assert!((limits::BLOCK_CHUNKS * listed + 4096) as u64 <= DIRECTORY_READ_BYTES);
    }
}
