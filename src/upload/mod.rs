//! The upload of one batch of objects.
//!
//! The leader finds the objects that the store has already. For the others it cuts chunks, looks the chunks
//! up, packs the new ones into blocks, puts the blocks, commits, and checks the commit.

pub(crate) mod batch;
mod chunk_index;
mod chunker;
mod commit;
mod dedup;
pub(crate) mod delta_bases;
mod dependencies;
pub(crate) mod load;
mod pipeline;
mod read_cost;
mod recover;
mod sampling;
mod sparse;
mod stall_log;
pub(crate) mod thread_pools;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use self::batch::{Lead, Turn, Wanted};
use self::chunker::ReadObject;
use self::commit::{Change, Committed};
use self::load::{Learned, learn, make_room};
use self::pipeline::{BlocksInFlight, Packed, PackedObject, Packing};
use self::sparse::Scout;
use crate::engine::{Engine, View};
use crate::error::{Error, Result};
use crate::format::block::Summary;
use crate::format::limits;
use crate::id::{BlockId, Oid};
use crate::index::Found;
use crate::index::local_file::{LocalFile, REUSE_OBJECT_BYTES};
use crate::index::relied::Relied;
use crate::progress::Progress;
use crate::store::Pending;

/// Bytes of a batch on their way from which objects don't wait. Beside so many, a commit costs little.
const GROUP_BYTES: usize = limits::BLOCK_BYTES / 4 * 3;
/// Tries of an upload. It starts again if files that it relied on were condemned meanwhile.
const COMMIT_ATTEMPTS: usize = 5;

/// Makes sure that the store has the object in the file `path`.
///
/// When this returns, all data that the object needs is durable. A read of the condemned lists, begun after
/// the commit, has shown none of this data (invariant I1 in `docs/format.md`). Runs on the caller's thread.
pub(crate) fn upload(
    engine: &Engine,
    oid: &Oid,
    size_bytes: u64,
    path: &Path,
    progress: &Arc<Progress>,
) -> Result<()> {
    let wanted = Wanted::new(*oid, size_bytes, path.to_owned(), progress.clone());
    engine.uploads.add(wanted.clone());
    loop {
        match engine.uploads.turn(&wanted) {
            Turn::Answered(answer) => return answer,
            Turn::Lead(lead) => {
                if let Err(e) = stall_log::explained(&lead, || upload_group(engine, &lead)) {
                    lead.fail(&e);
                }
            }
        }
    }
}

/// An object, and the blocks and the record that its acknowledgement relies on.
type Standing = (Arc<Wanted>, Relied);

/// Uploads the objects that wait, and those that arrive meanwhile, by at most one commit.
fn upload_group(engine: &Engine, lead: &Lead<'_>) -> Result<()> {
    let mut view = engine.view.lock().unwrap_or_else(PoisonError::into_inner);
    let view = &mut *view;
    lead.waits_for("the store's index");
    if let Some(e) = view.failed.take() {
        return Err(e);
    }
    if !view.listed {
        look(engine, view)?;
    }
    let mut group = Group::default();
    let absent = std::iter::from_fn(|| lead.next_waiting()).find(|w| group.lacks(engine, view, w));
    let packed = match absent {
        Some(first) => Some(pack_group(engine, view, lead, &mut group, first)?),
        None => None,
    };
    let Group { mut standing, renewable, packing } = group;
    let mut changed = Vec::new();
    let has_packed = packed.is_some();
    let (mut change, in_flight) = match packed {
        Some(packed) => change_of(lead, packed, packing, &mut changed),
        None => Default::default(),
    };
    for (wanted, Found { record, blocks, .. }) in renewable {
        change.add(record.oid, record.size_bytes, record.terms, &blocks);
        changed.push(wanted);
    }
    lead.waits_for("the last blocks to be stored, and the commit");
    if change.is_empty() {
        in_flight.settle()?;
        return answer_sound(engine, view, lead, standing);
    }
    // asked while blocks are in flight, so that a lost block is noticed before an object relies on it
    let asked = look_for(engine, view, change.old_blocks());
    let Committed { relied, begun, is_one_file, .. } = commit_change(engine, view, change, in_flight)?;
    take_found(view, asked)?;
    view.resumed |= has_packed;
    note_candidates(engine, view, &changed);
    if engine.settings.writes_manifest {
        view.manifest.after_commit(&engine.store);
    }
    // checked again, because the request may have stood still for a week
    if is_one_file && relied.iter().all(Relied::is_fresh) {
        // All these names came into the store with this one file. Older condemned lists can't name them,
        // and a read that began after the commit has nothing else to look for.
        view.seen.extend(relied.iter().flat_map(|relied| &relied.blocks).map(|block| block.id));
        changed.iter().for_each(|wanted| lead.answer(wanted, Ok(())));
    } else {
        standing.extend(changed.into_iter().zip(relied));
    }
    let answered = answer_sound(engine, view, lead, standing);
    lead.has_committed(begun.elapsed());
    answered
}

/// Notes the committed objects as candidates, because later objects may become deltas to them.
fn note_candidates(engine: &Engine, view: &View, committed: &[Arc<Wanted>]) {
    // not worth it where a look at the index asks the store
    if engine.settings.delta.is_none() || view.index.is_far() {
        return;
    }
    let mut candidates = engine.candidates.lock().unwrap_or_else(PoisonError::into_inner);
    for wanted in committed.iter().filter(|wanted| wanted.size_bytes >= REUSE_OBJECT_BYTES) {
        let found = view.index.find(&engine.store, &engine.cache, &wanted.oid).found;
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

/// The objects of a batch, by the work that they need.
#[derive(Default)]
struct Group {
    /// Objects that the store has.
    standing: Vec<Standing>,
    /// Objects with all data in the store, but without a record that may be relied on.
    renewable: Vec<(Arc<Wanted>, Found)>,
    /// Objects that are being packed, in this order.
    packing: Vec<Arc<Wanted>>,
}

impl Group {
    /// Adds an object. Returns true if it has to be packed.
    fn lacks(&mut self, engine: &Engine, view: &View, wanted: &Arc<Wanted>) -> bool {
        wanted.progress.restart();
        match find_usable(engine, view, &wanted.oid, wanted.size_bytes) {
            Present::Fresh(relied) => self.standing.push((wanted.clone(), relied)),
            Present::Renewable(found) => self.renewable.push((wanted.clone(), found)),
            Present::No => {
                self.packing.push(wanted.clone());
                return true;
            }
        }
        false
    }
}

/// Stores the new chunks of `first` and of the objects that arrive meanwhile. The batch ends when it is
/// complete or has about as many bytes as a block takes.
fn pack_group<'e>(
    engine: &'e Engine,
    view: &mut View,
    lead: &Lead<'_>,
    group: &mut Group,
    first: Arc<Wanted>,
) -> Result<Packed<'e>> {
    // git-lfs asks for the largest object of its batch first
    learn(engine, view, first.size_bytes)?;
    make_room(engine, view);
    if !view.resumed {
        lead.waits_for("the blocks of an interrupted push to be looked for");
        recover::read_journal(engine, view)?;
    }
    // until the commit, only the journal names the blocks that this batch stores
    view.resumed = false;
    lead.waits_for("files to be read, or blocks to be stored");
    let mut learned = std::mem::take(&mut view.learned);
    let packed = pack_with(engine, view, &mut learned, lead, group, first);
    view.learned = learned;
    packed
}

/// Does the work of [`pack_group`] with the learned chunks.
fn pack_with<'e>(
    engine: &'e Engine,
    view: &View,
    learned: &mut Learned,
    lead: &Lead<'_>,
    group: &mut Group,
    first: Arc<Wanted>,
) -> Result<Packed<'e>> {
    let (begun, departed_bytes) = (Instant::now(), AtomicUsize::new(0));
    let threads = engine.threads()?;
    let level = engine.settings.compression_level;
    let store = &engine.store;
    let may_use = |block: &BlockId| view.may_use(block);
    let Learned { known, shards, keys, .. } = learned;
    let scout = keys.as_ref().map(|keys| Scout {
        keys,
        store,
        cache: &engine.cache,
        read: shards,
        may_use: &may_use,
        room_chunks: engine.settings.sparse_chunks().saturating_sub(known.chunks()),
    });
    let mut candidates = engine.candidates.lock().unwrap_or_else(PoisonError::into_inner);
    if engine.settings.delta.is_some() && first.size_bytes >= REUSE_OBJECT_BYTES {
        let of = (&view.index, store, &engine.cache);
        candidates.look(of, &engine.settings.lfs_storage, first.size_bytes);
    }
    let packing = Packing {
        store,
        journal: &engine.journal,
        level,
        guards_reading: engine.settings.guards_reading,
        block_bytes: engine.settings.block_bytes(),
        blocks_in_flight: store.reach().blocks_in_flight.min(engine.settings.blocks_in_flight()),
        departed_bytes: &departed_bytes,
        deltas: engine.settings.delta.map(|rule| (&*candidates, rule)),
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
            if group.lacks(engine, view, &next) {
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

/// Starts the threads that the first object will need, before other agents take the threads that the system
/// allows. Also reads the metadata that this object will need.
pub(crate) fn prepare(engine: &Engine, view: &mut View) -> Result<()> {
    engine.threads()?;
    look(engine, view)?;
    learn(engine, view, 0)
}

/// Reads the new part of the index, and the blocks and records that were condemned meanwhile.
fn look(engine: &Engine, view: &mut View) -> Result<()> {
    let (index, condemned) = view.look(engine);
    index.and(condemned)?;
    engine.store.settle_segments()?;
    view.listed = true;
    Ok(())
}

/// The presence of an object in the store.
enum Present {
    /// Present by a record that may be relied on unchanged.
    Fresh(Relied),
    /// The blocks may be relied on, but the record is old, condemned or another repository's. A collector
    /// could drop that record, so this repository needs one of its own.
    Renewable(Found),
    No,
}

fn find_usable(engine: &Engine, view: &View, oid: &Oid, size_bytes: u64) -> Present {
    let mut found = view.index.find(&engine.store, &engine.cache, oid).found;
    found.retain(|f| {
        f.record.size_bytes == size_bytes && f.blocks.iter().all(|b| view.may_use(&b.summary.id))
    });
    let fresh = found.iter().find(|f| {
        f.repository == engine.settings.repository
            && Relied::on(f).is_fresh()
            && !view.condemned.has_record(&Relied::on(f).record)
    });
    match fresh {
        Some(fresh) => Present::Fresh(Relied::on(fresh)),
        None => found.into_iter().next().map_or(Present::No, Present::Renewable),
    }
}

/// Commits the change, and learns the chunks that the commit has added.
fn commit_change<'e>(
    engine: &'e Engine,
    view: &mut View,
    change: Change,
    in_flight: BlocksInFlight<'e>,
) -> Result<Committed> {
    let repository = &engine.settings.repository;
    let mut committed =
        commit::commit((&engine.store, &engine.cache), &mut view.index, repository, change, in_flight)?;
    for (id, blocks) in committed.shards.drain(..) {
        view.learned.shards.insert(id);
        blocks.iter().for_each(|(block, _)| engine.journal.forget(&block.id));
        view.learned.known.add(blocks, |_| true);
    }
    Ok(committed)
}

/// Answers the objects that pass the check; the others begin again.
///
/// An object passes if its record is fresh and its blocks are there. A read that begins now must not show
/// its blocks or its record as condemned. The store must still be the one that was written to.
fn answer_sound(engine: &Engine, view: &mut View, lead: &Lead<'_>, standing: Vec<Standing>) -> Result<()> {
    if standing.is_empty() {
        return Ok(());
    }
    lead.waits_for("the check of what was committed");
    engine.store.confirm()?;
    // Both at the same time. A block that is gone and not yet condemned is as lost as one that goes later.
    let asked = look_for(engine, view, standing.iter().flat_map(|(_, relied)| &relied.blocks));
    view.condemned.refresh(&engine.store, &engine.cache)?;
    take_found(view, asked)?;
    let mut all_sound = true;
    for (wanted, relied) in standing {
        let is_lost = relied.blocks.iter().any(|block| view.lost.contains(&block.id));
        // checked again, because a push may have stood still for a week since it looked the record up
        if !is_lost && relied.is_fresh() && !relied.is_condemned(&view.condemned) {
            lead.answer(&wanted, Ok(()));
            continue;
        }
        all_sound = false;
        let oid = wanted.oid;
        if wanted.attempts.load(Ordering::Relaxed) + 1 < COMMIT_ATTEMPTS {
            tracing::warn!(
                "object {oid}: what it relied on was condemned meanwhile, is lost or too old; uploading again"
            );
            lead.again(&wanted);
            continue;
        }
        let times = COMMIT_ATTEMPTS;
        let busy = Error::busy(format!(
            "what object {oid} relies on was condemned or lost {times} times while it was pushed"
        ));
        lead.answer(&wanted, Err(busy.remedy("push again when the garbage collection has ended")));
    }
    if !all_sound {
        let View { learned, condemned, lost, .. } = view;
        learned.known.retain(|block| !condemned.has_block(block) && !lost.contains(block));
    }
    Ok(())
}

/// A block that is looked for: its name, its expected size in bytes, and the request.
type Asked<'s> = (BlockId, u32, Pending<'s, Option<u64>>);

/// Begins to look for the blocks that this process has not seen yet.
fn look_for<'e, 'b>(
    engine: &'e Engine,
    view: &View,
    blocks: impl Iterator<Item = &'b Summary>,
) -> Vec<Asked<'e>> {
    let unseen = blocks.filter(|b| !view.seen.contains(&b.id) && !view.lost.contains(&b.id));
    let unseen: BTreeMap<BlockId, u32> = unseen.map(|block| (block.id, block.size_bytes)).collect();
    unseen.into_iter().map(|(id, size_bytes)| (id, size_bytes, engine.store.block_bytes(&id))).collect()
}

/// Notes the blocks that are there and complete, and those that are lost.
fn take_found(view: &mut View, asked: Vec<Asked<'_>>) -> Result<()> {
    for (id, size_bytes, found) in asked {
        if found.wait()? == Some(u64::from(size_bytes)) {
            view.seen.insert(id);
        } else {
            tracing::error!("block {id} is missing or cut short in the store; its chunks are stored again");
            view.lost.insert(id);
        }
    }
    Ok(())
}
