//! Tests of the engine against a real directory store. The tests choose only the moments of faults.

mod carried;
mod collectors;
mod compact;
mod compaction;
mod deltas;
mod downloads;
mod far;
mod faults;
mod forged_deltas;
mod groups;
mod journal;
mod overtaken;
mod partial;
mod progress;
mod ranges;
mod reading;
mod reuse;
mod sparse;
mod trust;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::*;
use crate::error::{Error, Kind};
use crate::format::condemned::{Condemned, CondemnedRecord};
use crate::format::segment::Segment;
use crate::id::{BlockId, CommitId, CondemnedId, ContentHash, SegmentId};
use crate::index::cached_reads::CachedStore;
use crate::index::condemned::CondemnedNames;
use crate::index::{Index, Lookup};
use crate::store::faulty::{Call, Watch, When};
use crate::store::{Access, Creation, Moved, StoreUrl};
use crate::test_data::noise;

/// A store in a directory of its own, and objects to push.
struct Place {
    folder: tempfile::TempDir,
    /// True if small commits are one file, as in a bucket.
    carries: bool,
}

impl Place {
    fn new() -> Self {
        Self::which(false)
    }

    fn which(carries: bool) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), carries };
        Store::create_or_join(&place.url(), place.folder.path(), &Access::default(), Creation::default())
            .unwrap();
        place
    }

    fn url(&self) -> StoreUrl {
        StoreUrl::parse("store").unwrap()
    }

    fn store(&self) -> Store {
        let store = Store::open(&self.url(), self.folder.path(), &Access::default()).unwrap();
        if self.carries { store.carrying() } else { store }
    }

    fn parts_of(&self, store: Store, repository: &str) -> EngineParts {
        EngineParts {
            store,
            cache: Cache::none(),
            journal: Journal::at(Some(self.folder.path().join("journal"))),
            settings: Settings::new(repository, self.folder.path().join("lfs")),
        }
    }

    fn parts(&self) -> EngineParts {
        self.parts_of(self.store(), "mine")
    }

    fn engine_of(&self, store: Store, repository: &str) -> Engine {
        self.parts_of(store, repository).build()
    }

    fn engine(&self) -> Engine {
        self.engine_of(self.store(), "mine")
    }

    fn watched(&self, watch: Watch) -> Engine {
        self.engine_of(self.store().watched(watch), "mine")
    }

    fn object(&self, content: &[u8]) -> Object {
        let oid = Oid(Sha256::digest(content).into());
        let path = self.folder.path().join(oid.to_string());
        std::fs::write(&path, content).unwrap();
        Object { oid, path, content: content.to_vec() }
    }

    fn files(&self, folder: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder.path().join("store").join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files.sort();
        files
    }

    fn segments(&self) -> Vec<SegmentId> {
        self.store().list_segments().unwrap().into_iter().map(|(id, _)| id).collect()
    }

    /// Returns the listed size of a segment.
    fn listed_bytes(&self, segment: &SegmentId) -> u64 {
        let listed = self.store().list_segments().unwrap();
        listed.into_iter().find(|(id, _)| id == segment).expect("it is listed").1
    }

    /// Puts a segment, as another push does.
    fn put_segment(&self, id: &SegmentId, bytes: Vec<u8>) {
        self.store().put_segment(id, vec![bytes.into()], &Moved::default()).wait().unwrap();
    }

    /// Puts a condemned list, as a collector does.
    fn condemn(&self, list: &Condemned) {
        let bytes = list.write();
        let id = CondemnedId { id: CommitId::new(1).unwrap(), hash: ContentHash::of(&bytes) };
        self.store().put_condemned(&id, bytes).unwrap();
    }

    /// Returns the name of the newest commit's segment.
    fn newest_segment(&self) -> String {
        let file = self.files("index").pop().unwrap();
        format!("index/{}", file.file_name().unwrap().to_str().unwrap())
    }

    /// Returns every block and record of a commit, by the name of its segment.
    fn referenced(&self, segment: &str) -> (Vec<BlockId>, Vec<CondemnedRecord>) {
        let id = SegmentId::parse(segment.strip_prefix("index/").unwrap()).unwrap();
        let segment =
            Segment::open(self.store().get_segment(&id, self.listed_bytes(&id)).wait().unwrap()).unwrap();
        let blocks = segment.blocks().unwrap().map(|b| b.unwrap().summary.id).collect();
        let records = segment.records().unwrap().map(|r| {
            let r = r.unwrap();
            let repository = segment.repositories()[r.repository as usize].clone();
            CondemnedRecord { oid: r.oid, commit: r.commit, repository }
        });
        (blocks, records.collect())
    }
}

/// The parts of an engine that a test may choose.
struct EngineParts {
    store: Store,
    cache: Cache,
    journal: Journal,
    settings: Settings,
}

impl EngineParts {
    fn build(self) -> Engine {
        Engine::on(Catalog::new(self.store, self.cache, None), self.settings, self.journal)
    }
}

/// Returns an index with all commits, read without a cache.
fn all_commits(store: &Store) -> Index {
    let mut index = Index::default();
    index.read_all_commits(CachedStore { store, cache: &Cache::none() }).unwrap();
    index
}

struct Object {
    oid: Oid,
    path: PathBuf,
    content: Vec<u8>,
}

impl Object {
    fn push(&self, engine: &Engine) -> Result<()> {
        engine.upload(&self.oid, self.content.len() as u64, &self.path, &Arc::default())
    }

    fn pull(&self, engine: &Engine) -> Result<Vec<u8>> {
        let path = engine.download(&self.oid, self.content.len() as u64, &Arc::default())?;
        Ok(std::fs::read(path).unwrap())
    }

    fn assert_pulls(&self, place: &Place) {
        assert!(self.pull(&place.engine()).unwrap() == self.content, "the download differs");
    }
}

/// Does the work of another process, from inside a call of the store.
fn aside(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap());
}
