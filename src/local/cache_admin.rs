//! The cache of all stores of a user, for the command that shows and clears it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::metadata_cache;
use super::quota::{self, RANGES, folders, is_part, listed};
use crate::error::{Error, Result};
use crate::id::StoreId;
use crate::local::journal::JOURNAL_SECONDS;
use crate::regular_file::{self, Links};
use crate::units::KIB;

/// Most bytes of the note that names the store of a cache folder.
const CACHE_STORE_BYTES: u64 = 64 * KIB as u64;
/// Least time between two renewals of the date of its store.
const CACHE_STORE_DATED_SECONDS: u64 = 60 * 60;

/// The name of the file that says which store a folder belongs to.
const STORE: &str = "store";
/// The folder of the journal. It is no copy of anything, so it is left alone while it may be used.
const JOURNAL: &str = "journal";

/// The contents of the file [`STORE`].
#[derive(Serialize, Deserialize)]
struct Whose {
    id: String,
    location: String,
}

/// Notes which store the folder belongs to, and that it is used now. Never fails: without the note, the store
/// is unknown.
pub(super) fn note(folder: &Path, id: &StoreId, location: &str) {
    let path = folder.join(STORE);
    let found = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file);
    let noted = match found.and_then(|found| found.modified().ok()) {
        Some(dated) => {
            let is_old = dated.elapsed().unwrap_or_default() > Duration::from_secs(CACHE_STORE_DATED_SECONDS);
            if is_old { date_anew(&path) } else { Ok(()) }
        }
        None => {
            let whose = Whose { id: id.to_string(), location: location.to_owned() };
            serde_json::to_vec(&whose)
                .map_err(Into::into)
                .and_then(|json| metadata_cache::keep(folder, STORE, [&json[..]]))
        }
    };
    if let Err(e) = noted {
        tracing::debug!("{} is not written: {e}", path.display());
    }
}

fn date_anew(path: &Path) -> std::io::Result<()> {
    let file = regular_file::open_with(fs::File::options().write(true), path, Links::Refused)?;
    file.set_modified(SystemTime::now())
}

/// Files of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Files {
    /// The number of files.
    pub files: u64,
    /// The bytes of the files.
    pub bytes: u64,
    /// The bytes that count against the cap; 0 for files that don't count.
    pub counted_bytes: u64,
    /// The oldest time of writing or use, in seconds since 1970.
    pub oldest: Option<u64>,
    /// The newest time of writing or use, in seconds since 1970.
    pub newest: Option<u64>,
}

impl Files {
    fn add(&mut self, metadata: &fs::Metadata, counts: bool) {
        self.files += 1;
        self.bytes += metadata.len();
        self.counted_bytes += if counts { quota::cost_bytes(metadata.len()) } else { 0 };
        let used = metadata.modified().ok().map(seconds);
        self.oldest = [self.oldest, used].into_iter().flatten().min();
        self.newest = [self.newest, used].into_iter().flatten().max();
    }

    fn add_all(&mut self, other: &Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.counted_bytes += other.counted_bytes;
        self.oldest = [self.oldest, other.oldest].into_iter().flatten().min();
        self.newest = self.newest.max(other.newest);
    }
}

/// The files that are kept of one store.
#[derive(Clone, Debug, Serialize)]
pub struct KeptStore {
    /// The folder of the files.
    pub folder: PathBuf,
    /// The store's id, if it was noted.
    pub id: Option<String>,
    /// The store's location, if it was noted.
    pub location: Option<String>,
    /// The time when a command last used the store, in seconds since 1970.
    pub last_use: Option<u64>,
    /// The files by kind: copies of `index`, `shards` and `condemned`, kept `ranges`, and the `journal`.
    pub kinds: BTreeMap<String, Files>,
    /// The ranges, by block.
    pub blocks: BTreeMap<String, Files>,
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Returns the cache folder of all stores, or `None` if the user has no home.
pub fn root() -> Option<PathBuf> {
    metadata_cache::root()
}

/// Lists the stores with files below `root`, the one that was used last first.
pub fn stores(root: &Path) -> Vec<KeptStore> {
    let is_store = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let mut stores: Vec<_> = folders(root).filter(is_store).map(read).collect();
    stores.sort_by_key(|store| std::cmp::Reverse((store.last_use, store.folder.clone())));
    stores
}

fn read(folder: PathBuf) -> KeptStore {
    let note = folder.join(STORE);
    let json = regular_file::read(&note, Links::Refused, CACHE_STORE_BYTES);
    let whose = json.ok().and_then(|json| serde_json::from_slice::<Whose>(&json).ok());
    let (id, location) = whose.map(|whose| (whose.id, whose.location)).unzip();
    let last_use = fs::symlink_metadata(&note).and_then(|note| note.modified()).ok().map(seconds);
    let mut store =
        KeptStore { folder, id, location, last_use, kinds: BTreeMap::new(), blocks: BTreeMap::new() };
    for kind in folders(&store.folder) {
        let name = file_name(&kind);
        let mut files = Files::default();
        for_each_file(&kind, &mut |file, metadata| {
            files.add(metadata, name == RANGES);
            if let (true, Some(block)) = (name == RANGES, file.parent()) {
                store.blocks.entry(file_name(block)).or_default().add(metadata, true);
            }
        });
        if files.files > 0 {
            store.kinds.insert(name, files);
        }
    }
    let newest = store.kinds.values().filter_map(|files| files.newest).max();
    store.last_use = store.last_use.max(newest);
    store
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn for_each_file(folder: &Path, work: &mut impl FnMut(&Path, &fs::Metadata)) {
    for entry in listed(folder) {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => for_each_file(&entry.path(), work),
            Ok(metadata) if metadata.is_file() => work(&entry.path(), &metadata),
            // gone meanwhile, or not a file of this program
            _ => {}
        }
    }
}

/// Adds up all files of these stores.
pub fn sum(stores: &[KeptStore]) -> Files {
    let mut sum = Files::default();
    stores.iter().flat_map(|store| store.kinds.values()).for_each(|files| sum.add_all(files));
    sum
}

/// Removes the files of a store, even if they are in use, because they can be read from the store again. Only
/// the journal stays.
pub fn clear(store: &KeptStore) -> Result<()> {
    for kind in folders(&store.folder).filter(|kind| file_name(kind) != JOURNAL) {
        remove_files(&kind, &|_, _| true)?;
    }
    if !store.kinds.contains_key(JOURNAL) {
        remove(&store.folder.join(STORE))?;
    }
    // the folder is empty, unless another process has begun anew
    let _ = fs::remove_dir(&store.folder);
    Ok(())
}

/// Removes the ranges that were not used since `before`, journal entries that are too old, and files that dead
/// processes have left. If the store itself was not used since `before`, removes all its files except the
/// journal.
pub fn prune(store: &KeptStore, before: SystemTime) -> Result<()> {
    let stale = SystemTime::now() - Duration::from_secs(JOURNAL_SECONDS);
    let is_older = |metadata: &fs::Metadata, than| metadata.modified().is_ok_and(|modified| modified < than);
    remove_files(&store.folder.join(JOURNAL), &|_, metadata| is_older(metadata, stale))?;
    if store.last_use.is_none_or(|last_use| last_use < seconds(before)) {
        return clear(&read(store.folder.clone()));
    }
    remove_files(&store.folder.join(RANGES), &|path, metadata| !is_part(path) && is_older(metadata, before))?;
    // temporary files of dead processes
    let left = |path: &Path, metadata: &fs::Metadata| {
        file_name(path).starts_with(".tmp") && is_older(metadata, stale)
    };
    remove_files(&store.folder, &left)
}

/// Removes the files below a folder for which `is_meant` is true, and then empty folders.
fn remove_files(folder: &Path, is_meant: &impl Fn(&Path, &fs::Metadata) -> bool) -> Result<()> {
    for entry in listed(folder) {
        let path = entry.path();
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => remove_files(&path, is_meant)?,
            Ok(metadata) if is_meant(&path, &metadata) => remove(&path)?,
            _ => {}
        }
    }
    let _ = fs::remove_dir(folder);
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("removing {}", path.display()), &e))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MIB;

    /// Keeps a copy, a range and an entry of the journal for a store below `root`, all used `days` days ago.
    fn keep(root: &Path, number: u8, days: u64) -> PathBuf {
        let folder = root.join(format!("{number:032x}"));
        note(&folder, &StoreId([number; 16]), &format!("s3://bucket/{number}"));
        for (kind, name, bytes) in
            [("index", "segment", 1000), ("ranges/block", "0-2000000", 2_000_000), (JOURNAL, "block", 50)]
        {
            metadata_cache::keep(&folder.join(kind), name, [&vec![0; bytes][..]]).unwrap();
        }
        let date = SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60);
        for_each_file(&folder, &mut |path, _| {
            fs::File::options().write(true).open(path).unwrap().set_modified(date).unwrap();
        });
        folder
    }

    fn ago(days: u64) -> SystemTime {
        SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60)
    }

    fn count(store: &KeptStore, kind: &str) -> u64 {
        store.kinds.get(kind).map_or(0, |files| files.files)
    }

    #[test]
    fn every_store_is_shown_with_what_is_kept_of_it_the_one_used_last_first() {
        let root = tempfile::tempdir().unwrap();
        assert!(stores(root.path()).is_empty() && stores(&root.path().join("none")).is_empty());
        keep(root.path(), 1, 9);
        keep(root.path(), 2, 3);
        fs::create_dir(root.path().join("run")).unwrap();
        let found = stores(root.path());
        let locations: Vec<_> = found.iter().map(|store| store.location.as_deref().unwrap()).collect();
        assert_eq!(locations, ["s3://bucket/2", "s3://bucket/1"]);
        assert_eq!(found[0].id.as_deref(), Some("02".repeat(16).as_str()));
        assert_eq!(found[0].last_use, found[0].kinds["index"].newest);
        assert_eq!(found[0].blocks["block"].bytes, 2_000_000);
        let all = sum(&found);
        assert_eq!((all.files, all.bytes), (6, 2 * 2_001_050));
        assert!(all.counted_bytes >= 4_000_000 && all.counted_bytes <= 4 * MIB as u64);
        assert!(all.oldest < all.newest);
    }

    #[test]
    fn pruning_removes_what_was_not_used_and_stores_that_were_not() {
        let root = tempfile::tempdir().unwrap();
        let used = keep(root.path(), 1, 40);
        let unused = keep(root.path(), 2, 40);
        // a command has used the store, but not that range
        note(&used, &StoreId([1; 16]), "s3://bucket/1");
        metadata_cache::keep(&used.join("ranges/other"), "0-10", [&[0; 10][..]]).unwrap();
        for store in stores(root.path()) {
            prune(&store, ago(30)).unwrap();
        }
        assert!(!unused.exists());
        let [store] = &stores(root.path())[..] else { panic!("one store is left") };
        assert_eq!([count(store, "index"), count(store, "ranges"), count(store, JOURNAL)], [1, 1, 0]);
        assert!(store.blocks.contains_key("other"));
    }

    #[test]
    fn clearing_leaves_only_what_interrupted_pushes_have_noted() {
        let root = tempfile::tempdir().unwrap();
        let folder = keep(root.path(), 1, 0);
        clear(&stores(root.path())[0]).unwrap();
        let [store] = &stores(root.path())[..] else { panic!("its journal is left") };
        assert_eq!(store.kinds.keys().collect::<Vec<_>>(), [JOURNAL]);
        assert!(store.location.is_some());
        fs::remove_dir_all(folder.join(JOURNAL)).unwrap();
        clear(&stores(root.path())[0]).unwrap();
        assert!(!folder.exists());
    }

    /// Covers folders that can't be written, and files that another program has written.
    #[test]
    fn whose_a_folder_is_may_be_unknown() {
        let root = tempfile::tempdir().unwrap();
        let folder = keep(root.path(), 1, 0);
        fs::write(folder.join(STORE), b"{}").unwrap();
        let store = &stores(root.path())[0];
        assert!(store.id.is_none() && store.location.is_none() && store.last_use.is_some());
        #[cfg(unix)]
        {
            let path = folder.join(STORE);
            fs::remove_file(&path).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
            assert!(stores(root.path())[0].id.is_none(), "a pipe was read");
            note(&folder, &StoreId([1; 16]), "anywhere");
            assert!(stores(root.path())[0].id.is_some());
        }
        let file = root.path().join("file");
        fs::write(&file, b"").unwrap();
        note(&file, &StoreId([1; 16]), "anywhere");
    }
}
