//! The upload of one batch of objects.
//!
//! The leader finds the objects that the store has already. For the others it cuts chunks, looks the chunks
//! up, packs the new ones into blocks, puts the blocks, commits, and checks the commit.

mod acknowledge;
pub(crate) mod batch;
mod block_writer;
mod change;
mod chunk_index;
mod chunker;
mod commit;
mod dedup;
mod delta_bases;
mod dependencies;
mod group;
mod load;
mod pipeline;
pub(crate) mod push_state;
mod read_cost;
mod recipe_builder;
mod recover;
mod sampling;
mod sparse;
mod stall_log;
mod thread_pools;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use self::acknowledge::{answer_sound, look_for_blocks, note_found};
use self::batch::{Lead, Turn, Uploads, Wanted};
use self::block_writer::{BlocksInFlight, Writing};
use self::change::Change;
use self::chunker::ReadObject;
use self::commit::Committed;
use self::delta_bases::Candidates;
use self::group::{Group, StoredObject};
use self::load::{learn, make_room};
use self::pipeline::{Compression, Deltas, Packed, Packing};
use self::push_state::{Learned, PushState};
use self::recipe_builder::PackedObject;
use self::sparse::Scout;
use self::thread_pools::Threads;
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::format::limits;
use crate::id::{BlockId, Oid};
use crate::index::Found;
use crate::index::catalog::{Catalog, Refreshed};
use crate::index::local_file::{LocalFile, REUSE_OBJECT_BYTES};
use crate::index::relied::Relied;
use crate::local::journal::Journal;
use crate::progress::Progress;

/// Bytes of a batch on their way from which objects don't wait. Beside so many, a commit costs little.
const GROUP_BYTES: usize = limits::BLOCK_BYTES / 4 * 3;

/// The uploads of one store. Any thread may call it. Each upload runs on its caller's thread, and one of them
/// works for all that wait.
pub(crate) struct Uploader {
    catalog: Arc<Catalog>,
    settings: Arc<Settings>,
    journal: Journal,
    pub(crate) batch: Uploads,
    /// Held by the leader during its batch.
    state: Mutex<PushState>,
    /// The threads of uploads. They are started before other work, while the system allows them.
    threads: Mutex<Option<Arc<Threads>>>,
    candidates: Mutex<Candidates>,
}

impl Uploader {
    /// Creates an uploader. Reads nothing yet.
    pub(crate) fn new(catalog: Arc<Catalog>, settings: Arc<Settings>, journal: Journal) -> Self {
        Self {
            catalog,
            settings,
            journal,
            batch: Uploads::default(),
            state: Mutex::default(),
            threads: Mutex::default(),
            candidates: Mutex::default(),
        }
    }

    /// Starts the threads that the first object will need, before other agents take the threads that the
    /// system allows. Also reads the metadata that this object will need. An error becomes the first object's
    /// error. Returns at once if another thread holds the state.
    pub(crate) fn prepare(&self) {
        let Ok(mut state) = self.state.try_lock() else { return };
        // an object that came earlier has reported an error itself
        if state.has_looked {
            return;
        }
        let prepared =
            self.threads().and_then(|_| self.look(&mut state)).and_then(|()| learn(self, &mut state, 0));
        state.failed = prepared.err();
    }

    /// Makes sure that the store has the object in the file `path`.
    ///
    /// When this returns, all data that the object needs is durable. A read of the condemned lists, begun
    /// after the commit, has shown none of this data (invariant I1 in `docs/format.md`). Runs on the caller's
    /// thread.
    pub(crate) fn upload(
        &self,
        oid: &Oid,
        size_bytes: u64,
        path: &Path,
        progress: &Arc<Progress>,
    ) -> Result<()> {
        let wanted = Wanted::new(*oid, size_bytes, path.to_owned(), progress.clone());
        self.batch.add(wanted.clone());
        loop {
            match self.batch.turn(&wanted) {
                Turn::Answered(answer) => return answer,
                Turn::Lead(lead) => {
                    if let Err(e) = stall_log::explained(&lead, || upload_group(self, &lead)) {
                        lead.fail(&e);
                    }
                }
            }
        }
    }

    /// Brings the store's manifest up to date after the last object, if the store has one.
    pub(crate) fn finish(&self) {
        let owed = std::mem::take(&mut self.state().manifest);
        if let Err(e) = owed.settle(&self.catalog.store) {
            tracing::warn!("the manifest is not brought up to date: {e}");
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, PushState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the threads of uploads. The first call starts them.
    fn threads(&self) -> Result<Arc<Threads>> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        match &*threads {
            Some(threads) => Ok(threads.clone()),
            None => Ok(threads.insert(Arc::new(Threads::start()?)).clone()),
        }
    }

    /// Reads the new part of the index, and the blocks and records that were condemned meanwhile.
    fn look(&self, state: &mut PushState) -> Result<()> {
        state.has_looked = true;
        let start = Instant::now();
        let Refreshed { index, condemned } = self.catalog.refresh();
        state.look_cost = start.elapsed();
        index.and(condemned)?;
        self.catalog.store.settle_segments()?;
        state.is_listed = true;
        Ok(())
    }
}

/// Uploads the objects that wait, and those that arrive meanwhile, by at most one commit.
fn upload_group(uploader: &Uploader, lead: &Lead<'_>) -> Result<()> {
    let mut state = uploader.state();
    let state = &mut *state;
    lead.waits_for("the store's index");
    if let Some(e) = state.failed.take() {
        return Err(e);
    }
    if !state.is_listed {
        uploader.look(state)?;
    }
    let mut group = Group::default();
    let absent = std::iter::from_fn(|| lead.next_waiting()).find(|w| group.lacks(uploader, state, w));
    let packed = match absent {
        Some(first) => Some(pack_group(uploader, state, lead, &mut group, first)?),
        None => None,
    };
    let Group { mut stored, renewable, packing } = group;
    let mut changed = Vec::new();
    let has_packed = packed.is_some();
    let (mut change, in_flight) = match packed {
        Some(packed) => change_of(lead, packed, packing, &mut changed),
        None => (Change::default(), BlocksInFlight::default()),
    };
    for (wanted, Found { record, blocks, .. }) in renewable {
        change.add(record.oid, record.size_bytes, record.terms, &blocks);
        changed.push(wanted);
    }
    lead.waits_for("the last blocks to be stored, and the commit");
    if change.is_empty() {
        in_flight.settle()?;
        return answer_sound(uploader, state, lead, stored);
    }
    // asked while blocks are in flight, so that a lost block is noticed before an object relies on it
    let asked = look_for_blocks(uploader, state, change.old_blocks());
    let Committed { relied, begun, is_one_file, .. } = commit_change(uploader, state, change, in_flight)?;
    note_found(state, asked)?;
    state.is_resumed |= has_packed;
    note_candidates(uploader, &changed);
    if uploader.settings.writes_manifest {
        state.manifest.after_commit(&uploader.catalog.store);
    }
    // checked again, because the request may have stood still for a week
    if is_one_file && relied.iter().all(Relied::is_fresh) {
        // All these names came into the store with this one file. Older condemned lists can't name them,
        // and a read that began after the commit has nothing else to look for.
        state.seen.extend(relied.iter().flat_map(|relied| &relied.blocks).map(|block| block.id));
        changed.iter().for_each(|wanted| lead.answer(wanted, Ok(())));
    } else {
        let committed = changed.into_iter().zip(relied);
        stored.extend(committed.map(|(wanted, relied)| StoredObject { wanted, relied }));
    }
    let answered = answer_sound(uploader, state, lead, stored);
    lead.has_committed(begun.elapsed());
    answered
}

/// Notes the committed objects as candidates, because later objects may become deltas to them.
fn note_candidates(uploader: &Uploader, committed: &[Arc<Wanted>]) {
    let snapshot = uploader.catalog.snapshot();
    // not worth it where a look at the index asks the store
    if uploader.settings.delta.is_none() || snapshot.index.needs_network() {
        return;
    }
    let mut candidates = uploader.candidates.lock().unwrap_or_else(PoisonError::into_inner);
    for wanted in committed.iter().filter(|wanted| wanted.size_bytes >= REUSE_OBJECT_BYTES) {
        let found = snapshot.index.find(uploader.catalog.stored(), &wanted.oid).found;
        candidates.add(LocalFile::at(wanted.oid, wanted.size_bytes, wanted.path.clone()), found.first());
    }
}

/// Returns the change to commit for the packed objects, in this order, and the blocks in flight. Answers at
/// once the objects that were not read correctly.
fn change_of<'s>(
    lead: &Lead<'_>,
    packed: Packed<'s>,
    packing: Vec<Arc<Wanted>>,
    changed: &mut Vec<Arc<Wanted>>,
) -> (Change, BlocksInFlight<'s>) {
    let Packed { objects, blocks, new, in_flight } = packed;
    let mut change = Change::new(new);
    for (wanted, PackedObject { read, terms, keys }) in packing.into_iter().zip(objects) {
        match check_read(&wanted, read) {
            Ok(()) => {
                change.add(wanted.oid, wanted.size_bytes, terms, &blocks);
                change.lead(keys);
                changed.push(wanted);
            }
            Err(e) => lead.answer(&wanted, Err(e)),
        }
    }
    (change, in_flight)
}

/// Stores the new chunks of `first` and of the objects that arrive meanwhile. The batch ends when it is
/// complete or has about as many bytes as a block takes.
fn pack_group<'e>(
    uploader: &'e Uploader,
    state: &mut PushState,
    lead: &Lead<'_>,
    group: &mut Group,
    first: Arc<Wanted>,
) -> Result<Packed<'e>> {
    // git-lfs asks for the largest object of its batch first
    learn(uploader, state, first.size_bytes)?;
    make_room(uploader, state);
    if !state.is_resumed {
        lead.waits_for("the blocks of an interrupted push to be looked for");
        recover::read_journal(uploader, state)?;
    }
    // until the commit, only the journal names the blocks that this batch stores
    state.is_resumed = false;
    lead.waits_for("files to be read, or blocks to be stored");
    let mut learned = std::mem::take(&mut state.learned);
    let packed = pack_with(uploader, state, &mut learned, lead, group, first);
    state.learned = learned;
    packed
}

/// Does the work of [`pack_group`] with the learned chunks.
fn pack_with<'e>(
    uploader: &'e Uploader,
    state: &PushState,
    learned: &mut Learned,
    lead: &Lead<'_>,
    group: &mut Group,
    first: Arc<Wanted>,
) -> Result<Packed<'e>> {
    let Uploader { catalog, settings, .. } = uploader;
    let begun = Instant::now();
    let departed_bytes = AtomicUsize::new(0);
    let threads = uploader.threads()?;
    let snapshot = catalog.snapshot();
    let may_use = |block: &BlockId| state.may_use(&snapshot.condemned, block);
    let Learned { known, shards, keys, .. } = learned;
    let scout = keys.as_ref().map(|keys| Scout {
        keys,
        stored: catalog.stored(),
        inline: snapshot.index.inline(),
        read: shards,
        may_use: &may_use,
        room_chunks: settings.sparse_chunks().saturating_sub(known.chunks()),
    });
    let mut candidates = uploader.candidates.lock().unwrap_or_else(PoisonError::into_inner);
    if settings.delta.is_some() && first.size_bytes >= REUSE_OBJECT_BYTES {
        candidates.look(&snapshot.index, catalog.stored(), &settings.lfs_storage, first.size_bytes);
    }
    let packing = Packing {
        writing: Writing {
            store: &catalog.store,
            journal: &uploader.journal,
            block_bytes: settings.block_bytes(),
            blocks_in_flight: catalog.store.reach().blocks_in_flight.min(settings.blocks_in_flight()),
            departed_bytes: &departed_bytes,
        },
        compression: Compression {
            level: settings.compression_level,
            deltas: settings.delta.map(|rule| Deltas { candidates: &candidates, rule }),
        },
        guards_reading: settings.guards_reading,
        threads: &threads,
    };
    let mut first = Some(first);
    let objects = std::iter::from_fn(|| {
        if first.is_some() {
            return first.take();
        }
        loop {
            let is_open = departed_bytes.load(Ordering::Relaxed) < GROUP_BYTES;
            let next = is_open.then(|| lead.next(begun)).flatten()?;
            if group.lacks(uploader, state, &next) {
                return Some(next);
            }
        }
    });
    pipeline::pack(objects, known, scout, packing)
}

/// Checks that the bytes that were read are the object, because git-lfs may have a damaged file.
fn check_read(wanted: &Wanted, read: Result<ReadObject>) -> Result<()> {
    let read = read?;
    if read.oid == wanted.oid && read.size_bytes == wanted.size_bytes {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "the local copy of object {} is damaged: {} has {} of {} bytes and the SHA-256 {}",
        wanted.oid,
        wanted.path.display(),
        read.size_bytes,
        wanted.size_bytes,
        read.oid
    ))
    .remedy("restore the file from another clone, or remove it and `git add` the original again"))
}

/// Commits the change, and learns the chunks that the commit has added.
fn commit_change<'e>(
    uploader: &'e Uploader,
    state: &mut PushState,
    change: Change,
    in_flight: BlocksInFlight<'e>,
) -> Result<Committed> {
    let repository = &uploader.settings.repository;
    let mut committed = commit::commit(&uploader.catalog, repository, change, in_flight)?;
    for (id, blocks) in committed.shards.drain(..) {
        state.learned.shards.insert(id);
        blocks.iter().for_each(|(block, _)| uploader.journal.forget(&block.id));
        state.learned.known.add(blocks, |_| true);
    }
    Ok(committed)
}
