//! The storage of a sandbox's stores: folders, or prefixes in a bucket. Tests look into it, and damage its
//! files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::AmazonS3;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::data;
use crate::process::say;
use crate::s3::{self, BUCKET, REGION, Role};
use crate::sandbox::path_str;

const IN_URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_');

/// The kind of all stores of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Folders,
    S3,
}

impl Kind {
    /// As `GIT_LFS_CDC_TEST_STORE` says.
    pub fn asked_for() -> Kind {
        match std::env::var("GIT_LFS_CDC_TEST_STORE").as_deref() {
            Err(_) | Ok("") => Kind::Folders,
            Ok("s3") => Kind::S3,
            Ok(other) => panic!("GIT_LFS_CDC_TEST_STORE is {other:?}, and only s3 is known"),
        }
    }
}

/// Returns true if this run is about stores in S3, which don't have `feature`. Then it prints so.
/// `tests/run.sh` has run the test with stores in folders before.
pub fn only_for_folders(feature: &str) -> bool {
    let is_s3 = Kind::asked_for() == Kind::S3;
    if is_s3 {
        say(&format!("left out: {feature}, which only stores in folders have"));
    }
    is_s3
}

/// The place of one store.
#[derive(Clone)]
pub enum Storage {
    Folder(PathBuf),
    /// Below a prefix of the tests' bucket.
    Bucket(String),
}

impl Storage {
    /// A place for store `name` of the sandbox in `root`, with nothing in it yet.
    pub fn new(kind: Kind, root: &Path, name: &str) -> Storage {
        match kind {
            Kind::Folders => Storage::Folder(root.join(name)),
            // the name of the sandbox's folder is its own
            Kind::S3 => Storage::Bucket(format!("{}/{name}", path_str(Path::new(root.file_name().unwrap())))),
        }
    }

    /// As messages call it.
    pub fn location(&self) -> String {
        match self {
            Storage::Folder(path) => path_str(path).to_owned(),
            Storage::Bucket(prefix) => format!("s3://{BUCKET}/{prefix}"),
        }
    }

    /// As `git-lfs-cdc init` takes it.
    pub fn url(&self) -> String {
        match self {
            Storage::Folder(path) => path_str(path).to_owned(),
            Storage::Bucket(prefix) => {
                let endpoint = s3::server();
                let prefix = utf8_percent_encode(prefix, IN_URL);
                format!("s3://{BUCKET}/{prefix}?region={REGION}&endpoint={endpoint}")
            }
        }
    }

    /// As git-lfs's configuration has it, for the objects of a repository.
    pub fn lfs_url(&self, repository: &str) -> String {
        let url = self.url();
        let mark = if url.contains('?') { '&' } else { '?' };
        format!("cdc::{url}{mark}repository={repository}")
    }

    /// The folder; only for tests that have called [`only_for_folders`].
    #[track_caller]
    pub fn folder(&self) -> &Path {
        match self {
            Storage::Folder(path) => path,
            Storage::Bucket(_) => panic!("{} is no folder", self.location()),
        }
    }

    /// Returns true if there is anything, were it an empty folder.
    pub fn exists(&self) -> bool {
        match self {
            Storage::Folder(path) => path.exists(),
            Storage::Bucket(_) => !self.files().is_empty(),
        }
    }

    /// All stored files, with their lengths.
    pub fn files(&self) -> BTreeMap<String, u64> {
        match self {
            Storage::Folder(path) => {
                let listing = data::listing(path).into_iter();
                listing.map(|(name, length)| (path_str(&name).to_owned(), length)).collect()
            }
            Storage::Bucket(prefix) => {
                let prefix = Key::parse(prefix).unwrap();
                let found: Vec<_> = s3::wait(admin().list(Some(&prefix)).try_collect()).unwrap();
                let name = |key: &Key| {
                    let parts: Vec<_> = key.prefix_match(&prefix).unwrap().collect();
                    parts.iter().map(|part| part.as_ref()).collect::<Vec<_>>().join("/")
                };
                found.iter().map(|file| (name(&file.location), file.size)).collect()
            }
        }
    }

    /// The names of all files below a folder.
    fn below(&self, folder: &str) -> Vec<String> {
        let start = format!("{folder}/");
        self.files().into_keys().filter(|name| name.starts_with(&start)).collect()
    }

    pub fn blocks(&self) -> Vec<String> {
        self.below("blocks")
    }

    pub fn segments(&self) -> Vec<String> {
        self.below("index").into_iter().filter(|name| name != "index/manifest").collect()
    }

    /// The sum of the lengths of all files.
    pub fn total_bytes(&self) -> u64 {
        self.files().values().sum()
    }

    #[track_caller]
    pub fn read(&self, name: &str) -> Bytes {
        match self {
            Storage::Folder(path) => {
                let path = path.join(name);
                fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
            }
            Storage::Bucket(_) => {
                s3::wait(async { admin().get(&self.key(name)).await?.bytes().await }).unwrap()
            }
        }
    }

    /// Writes a file. Overwrites one of the same name.
    #[track_caller]
    pub fn write(&self, name: &str, bytes: &[u8]) {
        match self {
            Storage::Folder(path) => fs::write(path.join(name), bytes).unwrap(),
            Storage::Bucket(_) => {
                s3::wait(admin().put(&self.key(name), Bytes::copy_from_slice(bytes).into())).unwrap();
            }
        }
    }

    #[track_caller]
    pub fn remove(&self, name: &str) {
        match self {
            Storage::Folder(path) => fs::remove_file(path.join(name)).unwrap(),
            Storage::Bucket(_) => s3::wait(admin().delete(&self.key(name))).unwrap(),
        }
    }

    /// Flips one bit in the middle of a file.
    #[track_caller]
    pub fn damage(&self, name: &str) {
        match self {
            Storage::Folder(path) => data::damage(&path.join(name)),
            Storage::Bucket(_) => self.write(name, &data::damaged(&self.read(name))),
        }
    }

    /// Makes the store vanish, until it is brought back.
    #[track_caller]
    pub fn take_away(&self) -> Away {
        match self {
            Storage::Folder(path) => {
                let hidden = PathBuf::from(format!("{}-taken-away", path_str(path)));
                fs::rename(path, &hidden).unwrap();
                Away::Folder { path: path.clone(), hidden }
            }
            Storage::Bucket(_) => {
                let files = self.files().into_keys().map(|name| (self.read(&name), name));
                let files: Vec<_> = files.map(|(bytes, name)| (name, bytes)).collect();
                files.iter().for_each(|(name, _)| self.remove(name));
                Away::Bucket { storage: self.clone(), files }
            }
        }
    }

    fn key(&self, name: &str) -> Key {
        match self {
            Storage::Bucket(prefix) => Key::parse(format!("{prefix}/{name}")).unwrap(),
            Storage::Folder(_) => unreachable!("a folder has no keys"),
        }
    }
}

/// A store that nobody reaches.
#[must_use]
pub enum Away {
    Folder { path: PathBuf, hidden: PathBuf },
    Bucket { storage: Storage, files: Vec<(String, Bytes)> },
}

impl Away {
    pub fn bring_back(self) {
        match self {
            Away::Folder { path, hidden } => fs::rename(hidden, path).unwrap(),
            Away::Bucket { storage, files } => {
                files.iter().for_each(|(name, bytes)| storage.write(name, bytes));
            }
        }
    }
}

/// The client that may do everything.
fn admin() -> &'static AmazonS3 {
    static CLIENT: std::sync::OnceLock<AmazonS3> = std::sync::OnceLock::new();
    CLIENT.get_or_init(|| s3::client(Role::Admin))
}
