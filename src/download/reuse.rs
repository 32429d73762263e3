//! Reuse of content from other objects on this machine. The index names the runs of chunks that they share
//! with the wanted object. The bytes come from the local file, and the term's checksum proves them.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::cover::{self, Local, LocalRuns, Piece};
use crate::config::Settings;
use crate::error::Result;
use crate::format::chunking::Suite;
use crate::format::recipe::{Term, term_checksum};
use crate::id::{BlockId, Oid};
use crate::index::Found;
use crate::index::catalog::Catalog;
use crate::index::local_file::{
    LocalFile, REUSE_FAR_BYTES, REUSE_FAR_OBJECTS, REUSE_OBJECT_BYTES, REUSE_OBJECTS, REUSE_TERMS,
};
use crate::index::placed::{self, Placed};
use crate::local::lfs_objects;
use crate::local::partial_download::ScratchFile;
use crate::local::whole_files::Sources;
use crate::progress::Progress;
use crate::threads;
use crate::units::MIB;

/// Bytes that a command has to fetch before a download looks for other objects on this machine that share
/// content with it.
const REUSE_AFTER_BYTES: u64 = MIB as u64;

/// The local objects that an engine knows.
pub(super) struct Reuse {
    catalog: Arc<Catalog>,
    settings: Arc<Settings>,
    known: Mutex<Known>,
    /// The content bytes that downloads have wanted so far.
    wanted_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    /// True if the files that stood on this machine at first were listed.
    is_listed: bool,
    /// The files that the index was not asked about yet.
    unasked: Vec<LocalFile>,
    /// The number of files that the index was asked about while parts of the index were not here.
    asked_far: usize,
    /// The objects that are known, or that the index was asked about.
    seen: HashSet<Oid>,
    blocks: HashMap<BlockId, LocalRuns<Arc<LocalFile>>>,
    terms: usize,
}

/// A wanted term, with the local pieces that make it.
struct Plan {
    wanted: Placed,
    pieces: Vec<Piece<Arc<LocalFile>>>,
}

/// The ends of chunks in local runs that are not taken whole. `None` if the file has other content.
pub(super) type Ends = HashMap<Key, Option<Vec<u32>>>;
/// A stretch of a file, with its number of chunks.
pub(super) type Key = (Oid, u64, u32, usize);

impl Reuse {
    pub(super) fn new(catalog: Arc<Catalog>, settings: Arc<Settings>) -> Self {
        Self { catalog, settings, known: Mutex::default(), wanted_bytes: AtomicU64::new(0) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the content of an object's `missing` terms into `file`, as far as this machine has it. Returns
    /// the terms that are still missing.
    pub(super) fn place(
        &self,
        found: &Found,
        missing: Vec<Placed>,
        file: &ScratchFile,
        progress: &Progress,
        sources: &Sources,
    ) -> Result<Vec<Placed>> {
        let bytes: u64 = missing.iter().map(|placed| u64::from(placed.term.content_bytes)).sum();
        let wanted_bytes = self.wanted_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if found.record.size_bytes < REUSE_OBJECT_BYTES || wanted_bytes < REUSE_AFTER_BYTES {
            return Ok(missing);
        }
        let (plans, mut missing) = self.plan(found, missing, wanted_bytes, sources);
        let ends = chunk_ends(&plans, self.catalog.store.description().suite, progress)?;
        let place = |content: &mut Vec<u8>, plan: Plan| -> Result<Option<Plan>> {
            progress.check()?;
            let term = plan.wanted.term;
            if read(&plan, &ends, content).is_none() || term_checksum(content) != term.checksum {
                return Ok(Some(plan));
            }
            file.write_at(content, plan.wanted.start)?;
            progress.bytes.fetch_add(u64::from(term.content_bytes), Ordering::Relaxed);
            Ok(None)
        };
        let wrong: Vec<Plan> = threads::cores()?.install(|| {
            let wrong = plans.into_par_iter().map_init(Vec::new, place);
            wrong.filter_map(Result::transpose).collect::<Result<_>>()
        })?;
        self.forget(&wrong);
        missing.extend(wrong.into_iter().map(|plan| plan.wanted));
        Ok(missing)
    }

    /// Returns the content of a base's term, if other objects on this machine have it. `ends` is a cache
    /// that later calls use too.
    pub(super) fn read_base(
        &self,
        block: &BlockId,
        term: &Term,
        suite: Suite,
        ends: &Mutex<Ends>,
    ) -> Option<Vec<u8>> {
        let pieces = self.known().blocks.get(block)?.cover(&placed::chunks(term))?;
        let plan = Plan { wanted: Placed { term: *term, start: 0 }, pieces };
        let mut own_ends = Ends::new();
        for local in plan.pieces.iter().filter(|piece| !piece.is_whole()).map(|piece| &piece.local) {
            let known = ends.lock().unwrap_or_else(PoisonError::into_inner).get(&key(local)).cloned();
            let found = known.unwrap_or_else(|| {
                let found = ends_of(local, suite, &mut Vec::new());
                ends.lock().unwrap_or_else(PoisonError::into_inner).insert(key(local), found.clone());
                found
            });
            own_ends.insert(key(local), found);
        }
        let mut content = Vec::new();
        read(&plan, &own_ends, &mut content)?;
        (term_checksum(&content) == term.checksum).then_some(content)
    }

    /// Returns the terms that local pieces can make, with these pieces, and the other terms.
    fn plan(
        &self,
        found: &Found,
        missing: Vec<Placed>,
        wanted_bytes: u64,
        sources: &Sources,
    ) -> (Vec<Plan>, Vec<Placed>) {
        let mut known = self.known();
        if !known.is_listed {
            known.list(&self.settings.lfs_storage, sources.clones());
        }
        known.look_up(&self.catalog, wanted_bytes);
        let mut plans = Vec::new();
        let mut elsewhere = Vec::new();
        for wanted in missing {
            let block = &found.blocks[wanted.term.block as usize].summary.id;
            let runs = known.blocks.get(block);
            match runs.and_then(|runs| runs.cover(&placed::chunks(&wanted.term))) {
                Some(pieces) => plans.push(Plan { wanted, pieces }),
                None => elsewhere.push(wanted),
            }
        }
        (plans, elsewhere)
    }

    /// Adds an object that was just assembled at `path`, because later objects may share content with it.
    /// git-lfs will move it.
    pub(super) fn add(&self, found: &Found, path: &Path) {
        let record = &found.record;
        if let Some(file) = self.in_making(&record.oid, record.size_bytes, path) {
            self.known().add(Arc::new(file), std::slice::from_ref(found));
        }
    }

    /// Adds an object without a known recipe.
    pub(super) fn add_whole(&self, oid: &Oid, size_bytes: u64, path: &Path) {
        let mut known = self.known();
        if known.unasked.len() < REUSE_OBJECTS {
            known.unasked.extend(self.in_making(oid, size_bytes, path));
        }
    }

    /// Returns the file of a finished download, unless it is too small to be useful.
    fn in_making(&self, oid: &Oid, size_bytes: u64, path: &Path) -> Option<LocalFile> {
        let later = lfs_objects::path_in(&self.settings.lfs_storage.join("objects"), oid);
        let paths = vec![path.to_owned(), later];
        (size_bytes >= REUSE_OBJECT_BYTES).then(|| LocalFile::in_one_of(*oid, size_bytes, paths))
    }

    /// Forgets the files of these plans, because the index is wrong about their content.
    fn forget(&self, wrong: &[Plan]) {
        let pieces = wrong.iter().flat_map(|plan| &plan.pieces);
        let files: HashSet<Oid> = pieces.map(|piece| piece.local.file.oid).collect();
        if files.is_empty() {
            return;
        }
        for oid in &files {
            tracing::warn!("nothing is taken from the local object {oid} any more: it is damaged, or gone");
        }
        let mut known = self.known();
        known.blocks.values_mut().for_each(|runs| runs.retain(|file| !files.contains(&file.oid)));
        known.seen.retain(|oid| !files.contains(oid));
    }
}

impl Known {
    /// Lists the newest objects of this clone and of the other clones.
    fn list(&mut self, own: &PathBuf, clones: &[PathBuf]) {
        self.is_listed = true;
        for storage in std::iter::once(own).chain(clones) {
            let left = REUSE_OBJECTS.saturating_sub(self.unasked.len());
            let listed = lfs_objects::newest(&storage.join("objects"), REUSE_OBJECT_BYTES, left);
            self.unasked.extend(listed.into_iter().map(LocalFile::from));
        }
    }

    /// Asks the index about listed objects. Where that asks the store, `wanted_bytes` bounds their number.
    fn look_up(&mut self, catalog: &Catalog, wanted_bytes: u64) {
        let snapshot = catalog.snapshot();
        let index = &snapshot.index;
        let mut unasked = std::mem::take(&mut self.unasked);
        if index.needs_network() {
            let worth = (wanted_bytes / REUSE_FAR_BYTES).min(REUSE_FAR_OBJECTS) as usize;
            let most = worth.saturating_sub(self.asked_far).min(unasked.len());
            self.asked_far += most;
            self.unasked = unasked.split_off(most);
        }
        if unasked.is_empty() {
            return;
        }
        let count = unasked.len();
        for file in unasked {
            if self.seen.len() < REUSE_OBJECTS && !self.seen.contains(&file.oid) {
                let found = index.find(catalog.stored(), &file.oid).found;
                self.add(Arc::new(file), &found);
            }
        }
        let terms = self.terms;
        let blocks = self.blocks.len();
        tracing::debug!(
            "looked up {count} objects that are on this machine: {terms} terms in {blocks} blocks"
        );
    }

    /// Adds an object's runs of blocks, by each of its records.
    fn add(&mut self, file: Arc<LocalFile>, found: &[Found]) {
        let count = found.iter().map(|found| found.record.terms.len()).sum::<usize>();
        if !self.seen.insert(file.oid) || self.terms + count > REUSE_TERMS {
            return;
        }
        self.terms += count;
        for found in found.iter().filter(|found| found.record.size_bytes == file.size_bytes) {
            let mut runs: HashMap<BlockId, Vec<Local<Arc<LocalFile>>>> = HashMap::new();
            for Placed { term, start } in placed::terms(found) {
                let block = found.blocks[term.block as usize].summary.id;
                runs.entry(block).or_default().push(Local::of(&term, start, file.clone()));
            }
            runs.into_iter().for_each(|(block, runs)| self.blocks.entry(block).or_default().add(runs));
        }
    }
}

/// Finds the ends of chunks in all local runs that are not taken whole. Reads each run once, on all cores.
fn chunk_ends(plans: &[Plan], suite: Suite, progress: &Progress) -> Result<Ends> {
    let pieces = plans.iter().flat_map(|plan| &plan.pieces).filter(|piece| !piece.is_whole());
    let runs: HashMap<_, &Local<Arc<LocalFile>>> =
        pieces.map(|piece| (key(&piece.local), &piece.local)).collect();
    let find = |content: &mut Vec<u8>, local: &Local<Arc<LocalFile>>| -> Result<_> {
        progress.check()?;
        Ok(ends_of(local, suite, content))
    };
    let runs: Vec<&Local<Arc<LocalFile>>> = runs.into_values().collect();
    let found: Vec<_> = threads::cores()?.install(|| {
        runs.par_iter().map_init(Vec::new, |content, local| find(content, local)).collect::<Result<_>>()
    })?;
    Ok(runs.into_iter().map(key).zip(found).collect())
}

/// Returns the ends of the chunks of a local run.
fn ends_of(local: &Local<Arc<LocalFile>>, suite: Suite, content: &mut Vec<u8>) -> Option<Vec<u32>> {
    content.resize(local.bytes as usize, 0);
    local.file.read_at(content, local.start)?;
    cover::chunk_ends(content, local.chunks.len(), suite)
}

fn key(local: &Local<Arc<LocalFile>>) -> Key {
    (local.file.oid, local.start, local.bytes, local.chunks.len())
}

/// Reads the content of a term from its pieces. Returns `None` if they can't be read or have another
/// length.
fn read(plan: &Plan, ends: &Ends, content: &mut Vec<u8>) -> Option<()> {
    content.resize(plan.wanted.term.content_bytes as usize, 0);
    let mut rest = &mut content[..];
    for piece in &plan.pieces {
        let ends = if piece.is_whole() { &[][..] } else { ends.get(&key(&piece.local))?.as_deref()? };
        let bytes = piece.bytes(ends)?;
        let (part, after) = rest.split_at_mut_checked((bytes.end - bytes.start) as usize)?;
        piece.local.file.read_at(part, bytes.start)?;
        rest = after;
    }
    rest.is_empty().then_some(())
}
