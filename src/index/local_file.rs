//! A file on this machine that holds an object.

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::id::Oid;
use crate::local::lfs_objects::Object;
use crate::regular_file;
use crate::regular_file::Links;
use crate::units::{KIB, MIB};

/// Least size of the objects in which a download looks for shared content.
pub(crate) const REUSE_OBJECT_BYTES: u64 = 64 * KIB as u64;
/// Most objects in which a command looks for shared content, the newest ones. It looks up each in the index
/// once.
pub(crate) const REUSE_OBJECTS: usize = 500;
/// Bytes to fetch for each object that is looked up, where parts of the index are not on this machine.
pub(crate) const REUSE_FAR_BYTES: u64 = 8 * MIB as u64;
/// Most objects that are looked up there, one after the other.
pub(crate) const REUSE_FAR_OBJECTS: u64 = 8;
/// Most terms of all these objects. Each takes about 40 bytes of memory.
pub(crate) const REUSE_TERMS: usize = 500_000;

/// A file that holds, or probably holds, an object.
#[derive(Debug)]
pub(crate) struct LocalFile {
    pub oid: Oid,
    pub size_bytes: u64,
    /// The places where the file may be. git-lfs moves the files that it was given.
    paths: Vec<PathBuf>,
}

impl LocalFile {
    /// Makes the entry of an object in the file `path`.
    pub(crate) fn at(oid: Oid, size_bytes: u64, path: PathBuf) -> Self {
        Self { oid, size_bytes, paths: vec![path] }
    }

    /// Makes the entry of an object in one of these files. The program that fetches it may be moving it.
    pub(crate) fn in_one_of(oid: Oid, size_bytes: u64, paths: Vec<PathBuf>) -> Self {
        Self { oid, size_bytes, paths }
    }

    /// Fills `buffer` from an offset. Returns None if the file is missing or has another size.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Option<()> {
        let open = |path: &PathBuf| regular_file::open(path, Links::Refused).ok();
        let mut file = self.paths.iter().find_map(open)?;
        file.metadata().ok().filter(|found| found.len() == self.size_bytes)?;
        file.seek(SeekFrom::Start(offset)).ok()?;
        file.read_exact(buffer).ok()
    }
}

impl From<Object> for LocalFile {
    fn from(object: Object) -> Self {
        Self::at(object.oid, object.size_bytes, object.path)
    }
}
