//! Downloads in the making: files beside the LFS objects, where git-lfs can rename them from.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::lock;
use crate::error::{Error, Result};
use crate::id::{Nonce, Oid};
use crate::limit;

/// How the names of downloads end that nobody goes on with.
const PART: &str = "part";
/// How those of downloads end that the next one goes on with.
const PARTIAL: &str = "partial";

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
        let is_stale = |path: &Path| -> std::io::Result<bool> {
            let Some(limit) = stale(path.extension().and_then(|e| e.to_str())) else { return Ok(false) };
            let file = File::options().write(true).open(path)?;
            let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
            Ok(age >= limit && file.try_lock().is_ok())
        };
        let removed = entries.flatten().map(|e| e.path()).filter(|path| {
            let removed = is_stale(path).unwrap_or(false) && fs::remove_file(path).is_ok();
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
        let (file, kept) = match self.open_partial(oid, size_bytes).map_err(failed)? {
            Some((file, path)) => (file, Kept::ForNext(Partial::new(path))),
            None => self.create_part(oid).map_err(failed).map(|(file, path)| (file, Kept::Not(path)))?,
        };
        let has_content = file.metadata().map_err(failed)?.len() > 0;
        file.set_len(size_bytes).map_err(failed)?;
        Ok(ScratchFile { kept, file, has_content, scratch: self.clone(), oid: *oid })
    }

    /// The file that downloads of a large object go on with, unless another one is at it.
    fn open_partial(&self, oid: &Oid, size_bytes: u64) -> std::io::Result<Option<(File, PathBuf)>> {
        if size_bytes < limit::PARTIAL_BYTES {
            return Ok(None);
        }
        let path = self.folder.join(format!("{oid}.{PARTIAL}"));
        let Some(file) = lock_partial(&path)? else { return Ok(None) };
        let found = if file.metadata()?.len() == 0 { self.adopt(oid, size_bytes, &path) } else { None };
        Ok(Some((found.unwrap_or(file), path)))
    }

    /// Puts a finished download at `path`, whose lock is held, if there is one of which nobody knows any more: git-lfs
    /// was told of it, and was killed with its agent before it took it.
    fn adopt(&self, oid: &Oid, size_bytes: u64, path: &Path) -> Option<File> {
        let prefix = format!("{oid}-");
        let is_finished = |name: &str| name.starts_with(&prefix) && !name.contains('.');
        let adopted = |finished: &Path| -> std::io::Result<Option<File>> {
            let held = || lock::try_lock(File::options().read(true).write(true), finished);
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
            // what is created here becomes the LFS object: like git-lfs, leave its mode to the umask
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let (file, path) = builder.tempfile_in(&self.folder)?.into_parts();
        match file.try_lock() {
            Ok(()) | Err(TryLockError::Error(_)) => Ok((file, path)),
            Err(TryLockError::WouldBlock) => Err(std::io::ErrorKind::ResourceBusy.into()),
        }
    }

    /// Gives up what unfinished downloads have left; says whether there was any.
    fn make_room(&self) -> bool {
        self.sweep(|extension| (extension == Some(PARTIAL)).then_some(Duration::ZERO)) > 0
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
        let mut written = write_all_at(&self.file, bytes, offset);
        if matches!(&written, Err(e) if is_full(e)) && self.scratch.make_room() {
            written = write_all_at(&self.file, bytes, offset);
        }
        if let (Err(e), Kept::ForNext(partial)) = (&written, &self.kept)
            && is_full(e)
        {
            partial.is_in_the_way.store(true, Ordering::Relaxed);
        }
        written.map_err(|e| Error::io(format!("writing {}", self.path().display()), &e))
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

/// A finished download that git-lfs was told of. It is git-lfs's as soon as that renames it. If it never does, it was
/// interrupted or did not want it, and nobody will come for it: then a large one is kept for the next download, and
/// others vanish.
#[derive(Debug)]
pub struct Finished {
    path: PathBuf,
    /// Says to other downloads that git-lfs may be about to take it.
    _held: Option<File>,
}

impl Finished {
    /// The file at `path`, which [`ScratchFile::hand_over`] gave, here or in another process just now.
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
fn hold(path: &Path) -> Option<File> {
    lock::try_lock(File::options().read(true), path).ok().flatten()
}

/// There a lock would keep git-lfs from reading it; and while git-lfs reads it, it can't be moved away.
#[cfg(windows)]
fn hold(_: &Path) -> Option<File> {
    None
}

/// Takes a finished download back that nobody was told of, or that git-lfs has not taken.
pub fn give_back(path: &Path) {
    let Ok(about) = fs::metadata(path) else { return };
    if about.len() >= limit::PARTIAL_BYTES && keep_for_next(path).unwrap_or(false) {
        tracing::info!("kept {} for the next download, as git-lfs did not take it", path.display());
    } else if fs::remove_file(path).is_ok() {
        tracing::info!("removed {}, which git-lfs did not take", path.display());
    }
}

/// Makes a finished download one that the next goes on with, unless there is such a one.
fn keep_for_next(finished: &Path) -> std::io::Result<bool> {
    let name = finished.file_name().and_then(|n| n.to_str());
    let Some((oid, _)) = name.and_then(|n| n.split_once('-')) else { return Ok(false) };
    let path = finished.with_file_name(format!("{oid}.{PARTIAL}"));
    let Some(file) = lock_partial(&path)? else { return Ok(false) };
    if file.metadata()?.len() > 0 {
        return Ok(false);
    }
    let renamed = fs::rename(finished, &path);
    if renamed.is_err() {
        fs::remove_file(&path)?;
    }
    renamed.map(|()| true)
}

/// Opens what a download goes on with, or makes it, unless another download is at it.
fn lock_partial(path: &Path) -> std::io::Result<Option<File>> {
    // git-lfs takes it as it is: like its own files, it has the mode that the umask leaves
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    lock::try_lock(&options, path)
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

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: u64 = limit::PARTIAL_BYTES;

    fn files(scratch: &Scratch) -> Vec<String> {
        let names = fs::read_dir(&scratch.folder).unwrap();
        let mut names: Vec<_> = names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_large_download_goes_on_where_the_last_one_ended() {
        let storage = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(storage.path()).unwrap();
        let oid = Oid([7; 32]);
        let first = scratch.create(&oid, LARGE).unwrap();
        assert!(!first.has_content());
        first.write_at(b"here", 1000).unwrap();
        drop(first);
        assert_eq!(files(&scratch), [format!("{oid}.partial")]);

        let second = Scratch::open(storage.path()).unwrap().create(&oid, LARGE).unwrap();
        let mut read = [0; 4];
        second.read_at(&mut read, 1000).unwrap();
        assert!(second.has_content() && &read == b"here");
        // the same object at the same time: a file of its own, which vanishes
        let other = scratch.create(&oid, LARGE).unwrap();
        assert!(!other.has_content() && files(&scratch).len() == 2);
        drop(other);
        let finished = second.hand_over().unwrap();
        assert_eq!(finished.metadata().unwrap().len(), LARGE);
        assert_eq!(files(&scratch), [finished.file_name().unwrap().to_str().unwrap()]);
        let _held = Finished::at(finished);
        assert!(!scratch.create(&oid, LARGE).unwrap().has_content(), "what is finished is git-lfs's");
    }

    #[test]
    fn what_git_lfs_does_not_take_is_kept_if_it_is_large() {
        let storage = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(storage.path()).unwrap();
        let finished = |oid: &Oid, size_bytes: u64| {
            let file = scratch.create(oid, size_bytes).unwrap();
            file.write_at(b"here", 2).unwrap();
            Finished::at(file.hand_over().unwrap())
        };
        let oid = Oid([7; 32]);
        let taken = finished(&oid, LARGE);
        fs::rename(&taken.path, storage.path().join("object")).unwrap();
        drop(taken);
        drop(finished(&oid, 10));
        assert_eq!(files(&scratch), [""; 0]);
        drop(finished(&oid, LARGE));
        assert_eq!(files(&scratch), [format!("{oid}.partial")]);

        let (first, second) = (finished(&oid, LARGE), finished(&oid, LARGE));
        drop((first, second));
        assert_eq!(files(&scratch), [format!("{oid}.partial")], "one is enough");
        let at_it = scratch.create(&oid, LARGE).unwrap();
        let untaken = Finished::at(scratch.create(&oid, LARGE).unwrap().hand_over().unwrap());
        drop(untaken);
        let mut read = [0; 4];
        at_it.read_at(&mut read, 2).unwrap();
        assert!(&read == b"here" && files(&scratch).len() == 1, "what another download is at was touched");
    }

    #[test]
    fn a_finished_download_that_nobody_holds_is_gone_on_with() {
        let storage = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(storage.path()).unwrap();
        let oid = Oid([7; 32]);
        let left = || {
            let file = scratch.create(&oid, LARGE).unwrap();
            file.write_at(b"here", 2).unwrap();
            file.hand_over().unwrap()
        };
        let old = |path: &Path, seconds: u64| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
        };
        let path = left();
        let about_to_hold = std::thread::spawn({
            let path = path.clone();
            move || {
                std::thread::sleep(Duration::from_millis(limit::HAND_OVER_MS / 20));
                hold(&path).unwrap()
            }
        });
        let other = scratch.create(&oid, LARGE).unwrap();
        assert!(!other.has_content() && path.exists(), "somebody was about to hold it");
        drop(other);
        fs::remove_file(scratch.folder.join(format!("{oid}.partial"))).unwrap();

        let held = about_to_hold.join().unwrap();
        old(&path, 60);
        assert!(!scratch.create(&oid, LARGE).unwrap().has_content(), "git-lfs may be about to take it");
        fs::remove_file(scratch.folder.join(format!("{oid}.partial"))).unwrap();

        drop(held);
        let found = scratch.create(&oid, LARGE).unwrap();
        let mut read = [0; 4];
        found.read_at(&mut read, 2).unwrap();
        assert!(found.has_content() && &read == b"here" && files(&scratch) == [format!("{oid}.partial")]);
        assert!(!scratch.create(&oid, LARGE).unwrap().has_content(), "it is locked");
    }

    #[test]
    fn room_is_made_of_what_nobody_holds() {
        let storage = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(storage.path()).unwrap();
        drop(scratch.create(&Oid([1; 32]), LARGE).unwrap());
        let held = scratch.create(&Oid([2; 32]), LARGE).unwrap();
        let small = scratch.create(&Oid([3; 32]), 10).unwrap();
        assert!(scratch.make_room() && !scratch.make_room());
        assert!(files(&scratch).len() == 2 && held.path().exists() && small.path().exists());
    }

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
        let old = left("old.partial", limit::PARTIAL_STALE_SECONDS);
        let yesterdays = left("yesterdays.partial", 24 * 60 * 60);
        held.file.set_modified(std::time::SystemTime::now() - Duration::from_secs(7200)).unwrap();
        Scratch::open(storage.path()).unwrap();
        assert!(!killed.exists() && !ignored.exists() && !old.exists() && yesterdays.exists());
        assert!(just_created.exists() && checked.exists() && finished.exists() && held.path().exists());
        let path = held.path().to_path_buf();
        drop(held);
        assert!(!path.exists(), "a failed download leaves nothing");
    }
}
