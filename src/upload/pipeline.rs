//! The second half of an upload: from chunks to blocks on their way to the store.
//!
//! One thread looks the chunks up. All cores compress the new ones, and the caller packs the frames into
//! blocks. Each full block is on its way to the store while the next is filled.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use crossbeam_channel::bounded;
use xxhash_rust::xxh3::Xxh3;

use super::batch::Wanted;
use super::chunk_index::KnownChunks;
use super::chunker::{self, ReadObject, What};
use super::dedup::{Dedup, MadeOf, NovelFrame, Run};
use super::delta_bases::{Candidates, FrameBases};
use super::dependencies::{self, Blocks};
use super::read_cost::Reading;
use super::sparse::{Ahead, Scout};
use super::thread_pools::Threads;
use crate::config::DeltaRule;
use crate::error::{Error, Result};
use crate::format::block::{Builder, Chunk, Entry, FramePlace};
use crate::format::frame::{Encoded, Encoder, Kind};
use crate::format::recipe::Term;
use crate::format::segment::BlockEntry;
use crate::id::{BlockId, ChunkId, Nonce};
use crate::local::journal::Journal;
use crate::parallel;
use crate::parallel::Work;
use crate::progress::{Moving, Progress};
use crate::store::{Moved, Pending, Store};

/// Most guessed bases that may fail in a row. A guess is content at the same place in an object of nearly the
/// same size.
const BASE_GUESSES: usize = 4;

/// Packed objects. Their new chunks stand in blocks that are durable or in flight. Nothing refers to these
/// blocks yet.
pub(super) struct Packed<'s> {
    /// The objects, in the order in which they were given.
    pub objects: Vec<PackedObject>,
    /// All blocks that the terms name.
    pub blocks: Vec<BlockEntry>,
    /// The blocks that no commit names yet: stored now, or left in the store by an earlier push.
    pub new: Vec<Entry>,
    /// The blocks that are in flight.
    pub in_flight: BlocksInFlight<'s>,
}

/// One packed object.
pub(super) struct PackedObject {
    /// The result of reading it, or the reason why it could not be read.
    pub read: Result<ReadObject>,
    /// The recipe of the object. Its terms refer to the blocks of all objects.
    pub terms: Vec<Term>,
    /// The key chunks of the object.
    pub keys: Vec<ChunkId>,
}

/// The settings and services for packing objects.
#[derive(Clone, Copy)]
pub(super) struct Packing<'a, 's> {
    pub store: &'s Store,
    pub journal: &'a Journal,
    /// Zstandard's level.
    pub level: i32,
    /// True if known chunks are reused only while reading them back stays cheap.
    pub guards_reading: bool,
    /// The size at which a block is closed.
    pub block_bytes: usize,
    /// The number of blocks that may be in flight while the next is filled.
    pub blocks_in_flight: usize,
    /// The bytes of all blocks that are or were in flight.
    pub departed_bytes: &'a AtomicUsize,
    /// The objects that may give bases, and the rule for deltas. `None` switches deltas off.
    pub deltas: Option<(&'a Candidates, DeltaRule)>,
    pub threads: &'a Threads,
}

impl Packing<'_, '_> {
    fn reading(&self) -> Reading {
        Reading::new(self.store.reach().fetch_gap_bytes, self.guards_reading)
    }
}

/// Reads objects once, one after the other, and packs them together. A chunk that several objects have is
/// stored once.
///
/// When this returns, the new blocks are durable or in flight. The call fails only by an error of the
/// store. An error of one object is in that object's result. Takes the three threads of `crew`, and all
/// cores.
pub(super) fn pack<'s>(
    objects: impl Iterator<Item = Arc<Wanted>> + Send,
    known: &mut KnownChunks,
    scout: Option<Scout<'_>>,
    packing: Packing<'_, 's>,
) -> Result<Packed<'s>> {
    let Threads { crew, cores } = packing.threads;
    // enough that no core waits for the slowest frame
    let depth = 2 * cores.current_num_threads() + 2;
    let suite = packing.store.description().suite;
    crew.in_place_scope_fifo(|scope| {
        let pieces = chunker::start(scope, cores, objects, suite);
        let (work, frames) = parallel::ordered(cores, depth);
        let ahead = Ahead::new(pieces, scout);
        let dedup = Dedup::new(known, packing.reading());
        let (looked_up, looker) = bounded(1);
        scope.spawn_fifo(move |_| {
            let done = look_up(ahead, dedup, (packing.level, packing.deltas), &work);
            // dropped first, because the results must end before the caller waits for this
            drop(work);
            let _ = looked_up.send(done);
        });
        let mut assembly = Assembly::new(packing);
        let assembled = frames.into_iter().try_for_each(|frame| {
            let (frame, encoded, progress) = frame?;
            assembly.add(&frame, encoded, &progress)
        });
        let looked_up = looker.recv().map_err(|_| Error::internal("deduplication panicked"))?;
        match assembled.and(looked_up).and_then(|looked_up| assembly.end().map(|()| looked_up)) {
            Ok(looked_up) => assembly.finish(looked_up),
            // the next push or the next batch finds the blocks that are stored all the same
            Err(e) => assembly.in_flight.settle().and(Err(e)),
        }
    })
}

/// A frame, its compressed form, and the progress of its object.
type Compressed = (NovelFrame, Encoded, Arc<Progress>);

/// The result of the lookup: how each object was read, and its runs.
struct LookedUp<'k> {
    dedup: Dedup<'k>,
    objects: Vec<(Result<ReadObject>, MadeOf)>,
}

/// Looks every chunk up. Ends early if the caller takes no more frames.
fn look_up<'k>(
    mut ahead: Ahead<'_>,
    dedup: Dedup<'k>,
    (level, deltas): (i32, Option<(&Candidates, DeltaRule)>),
    work: &Work<Compressed>,
) -> Result<LookedUp<'k>> {
    let mut looked_up = LookedUp { dedup, objects: Vec::new() };
    let failed_guesses = Arc::new(AtomicUsize::new(0));
    let compress = |known: &KnownChunks, frame: NovelFrame, size_bytes: u64, progress: Arc<Progress>| {
        let may_guess = failed_guesses.load(Ordering::Relaxed) < BASE_GUESSES;
        let over = deltas.and_then(|(candidates, rule)| {
            Some((candidates.find(known, &frame, rule, may_guess.then_some(size_bytes))?, rule))
        });
        let guesses = failed_guesses.clone();
        work.run(move || encode(&frame, level, over, &guesses).map(|encoded| (frame, encoded, progress)))
            .is_ok()
    };
    while let Some((chunker::Piece { progress, size_bytes, what }, learned)) = ahead.next()? {
        let LookedUp { dedup, objects } = &mut looked_up;
        learned.into_iter().for_each(|shard| dedup.learn(shard, |block| ahead.may_use(block)));
        match what {
            What::Chunks(batch) => {
                for (chunk, bytes) in batch.chunks() {
                    let full = dedup.push(chunk, bytes);
                    if !full.is_none_or(|frame| compress(dedup.known(), frame, size_bytes, progress.clone()))
                    {
                        return Ok(looked_up);
                    }
                    progress.bytes.fetch_add(u64::from(chunk.bytes), Ordering::Relaxed);
                }
            }
            What::End(read) => {
                let (made_of, last) = dedup.end_object();
                objects.push((read, made_of));
                if !last.is_none_or(|frame| compress(dedup.known(), frame, size_bytes, progress)) {
                    return Ok(looked_up);
                }
            }
        }
    }
    Ok(looked_up)
}

/// Compresses a frame. Counts the guessed bases that were of no use.
fn encode(
    frame: &NovelFrame,
    level: i32,
    over: Option<(FrameBases, DeltaRule)>,
    failed_guesses: &AtomicUsize,
) -> Result<Encoded> {
    thread_local! {
        static ENCODER: RefCell<Option<(i32, Encoder)>> = const { RefCell::new(None) };
    }
    ENCODER.with_borrow_mut(|kept| {
        let (_, encoder) = match kept {
            Some(kept) if kept.0 == level => kept,
            _ => kept.insert((level, Encoder::new(level)?)),
        };
        let Some((found, rule)) = over else { return encoder.encode(&frame.content) };
        let is_guess = found.is_guess;
        let bases = found.read();
        if bases.terms.is_empty() {
            return encoder.encode(&frame.content);
        }
        let encoded = encoder.encode_over(&frame.content, bases, rule.saves_percent.into())?;
        match encoded.kind {
            Kind::Delta if is_guess => failed_guesses.store(0, Ordering::Relaxed),
            _ => drop(failed_guesses.fetch_add(is_guess.into(), Ordering::Relaxed)),
        }
        Ok(encoded)
    })
}

/// The progress of an object, and the object's part of a block in flight.
type Departed = (Arc<Progress>, Arc<Moving>);

/// Blocks in flight to the store, with the parts that objects have in them.
#[derive(Default)]
pub(super) struct BlocksInFlight<'s> {
    sent: Vec<(Vec<Departed>, Pending<'s, ()>)>,
    /// The only block of the batch, if it is so small that its commit's segment may carry it.
    small: Option<ClosedBlock>,
}

/// A closed block that is not sent yet.
pub(super) struct ClosedBlock {
    pub id: BlockId,
    pub pieces: Vec<Bytes>,
    pub moved: Moved,
    departed: Vec<Departed>,
}

impl ClosedBlock {
    pub(super) fn size_bytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Notes that the block is in the store.
    pub(super) fn is_sent(&self) {
        self.departed.iter().for_each(|(progress, moving)| progress.is_sent(moving));
    }
}

impl<'s> BlocksInFlight<'s> {
    /// Returns true if every block that was sent is durable.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Takes the small block, if there is one. Then no other block was sent.
    pub(super) fn take_small(&mut self) -> Option<ClosedBlock> {
        self.small.take()
    }

    /// Sends a block.
    pub(super) fn send(&mut self, store: &'s Store, block: ClosedBlock) {
        let ClosedBlock { id, pieces, moved, departed } = block;
        self.sent.push((departed, store.put_block(&id, pieces, &moved)));
    }

    /// Waits until one more block is durable, in any order.
    fn settle_one(&mut self) -> Result<()> {
        let requests = self.sent.iter_mut().map(|(_, put)| put).collect();
        if let Some((which, done)) = Pending::first(requests) {
            let (moving, _) = self.sent.remove(which);
            done?;
            moving.iter().for_each(|(progress, moving)| progress.is_sent(moving));
        }
        Ok(())
    }

    /// Waits until each block that was sent is durable or has failed.
    pub(super) fn settle(mut self) -> Result<()> {
        let mut settled = Ok(());
        while !self.sent.is_empty() {
            settled = settled.and(self.settle_one());
        }
        settled
    }
}

/// The frames in order, while they get their places in blocks.
struct Assembly<'a, 's> {
    packing: Packing<'a, 's>,
    open: Builder,
    /// The size at which the open block is closed.
    enough_bytes: usize,
    /// The content bytes of each object in the open block.
    shares: Vec<(Arc<Progress>, u64)>,
    new: Vec<Entry>,
    in_flight: BlocksInFlight<'s>,
    /// The block and place of each frame.
    places: Vec<(u32, FramePlace)>,
    run: Option<(Term, Xxh3)>,
    /// The terms of new chunks, in order.
    terms: Vec<Term>,
}

impl<'a, 's> Assembly<'a, 's> {
    fn new(packing: Packing<'a, 's>) -> Self {
        Self {
            packing,
            open: Builder::default(),
            enough_bytes: packing.block_bytes.min(packing.store.reach().first_block_bytes),
            shares: Vec::new(),
            new: Vec::new(),
            in_flight: BlocksInFlight::default(),
            places: Vec::new(),
            run: None,
            terms: Vec::new(),
        }
    }

    fn add(&mut self, frame: &NovelFrame, encoded: Encoded, progress: &Arc<Progress>) -> Result<()> {
        let is_enough = self.open.frames_bytes() >= self.enough_bytes;
        if is_enough || !self.open.fits(&encoded, frame.chunks.len()) {
            self.enough_bytes = self.packing.block_bytes.min(2 * self.enough_bytes);
            self.close_block()?;
        }
        let place = self.open.push(encoded, &frame.chunks)?;
        let bytes = frame.content.len() as u64;
        progress.has_to_send(bytes);
        match self.shares.last_mut() {
            Some((last, share)) if Arc::ptr_eq(last, progress) => *share += bytes,
            _ => self.shares.push((progress.clone(), bytes)),
        }
        let block = self.new.len() as u32;
        self.places.push((block, place));
        let mut skip = 0;
        for (number, chunk) in frame.chunks.iter().enumerate() {
            if frame.begins_run[number] {
                self.close_run();
            }
            let (term, checksum) = self.run.get_or_insert_with(|| {
                let first_chunk = place.first_chunk + number as u16;
                let term = Term {
                    block,
                    first_chunk,
                    chunk_count: 0,
                    frames_offset: place.offset,
                    frames_bytes: 0,
                    skip_bytes: skip as u32,
                    content_bytes: 0,
                    checksum: 0,
                };
                (term, Xxh3::new())
            });
            term.chunk_count += 1;
            term.frames_bytes = place.offset + place.bytes - term.frames_offset;
            term.content_bytes += chunk.bytes;
            let end = skip + chunk.bytes as usize;
            checksum.update(&frame.content[skip..end]);
            skip = end;
        }
        Ok(())
    }

    fn close_run(&mut self) {
        if let Some((term, checksum)) = self.run.take() {
            self.terms.push(Term { checksum: checksum.digest(), ..term });
        }
    }

    /// Closes the open block.
    fn seal(&mut self) -> Result<ClosedBlock> {
        self.close_run();
        let sealed = std::mem::take(&mut self.open).finish(Nonce::random()?);
        let summary = sealed.summary;
        tracing::debug!("block {} of {} bytes", summary.id, summary.size_bytes);
        self.packing.departed_bytes.fetch_add(summary.size_bytes as usize, Ordering::Relaxed);
        let moved = Moved::default();
        let depart = |(progress, content_bytes): (Arc<Progress>, u64)| {
            let moving = progress.depart(content_bytes, summary.size_bytes.into(), moved.clone());
            (progress, moving)
        };
        let departed = std::mem::take(&mut self.shares).into_iter().map(depart).collect();
        self.new.push((summary, sealed.directory));
        Ok(ClosedBlock { id: summary.id, pieces: sealed.pieces, moved, departed })
    }

    /// Sends the open block, and waits while too many blocks are in flight.
    fn close_block(&mut self) -> Result<()> {
        let block = self.seal()?;
        // Noted before the block is sent. A kill may come after the store has the block and before this
        // process knows it.
        self.new.last().into_iter().for_each(|(block, _)| self.packing.journal.note(block));
        self.in_flight.send(self.packing.store, block);
        while self.in_flight.sent.len() > self.packing.blocks_in_flight {
            self.in_flight.settle_one()?;
        }
        Ok(())
    }

    /// Sends the last block, unless it is the only one and small.
    fn end(&mut self) -> Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        // the commit sends it after all if it is too large together with the shard
        if self.new.is_empty() && self.open.frames_bytes() <= self.packing.store.reach().carried_bytes {
            self.in_flight.small = Some(self.seal()?);
            return Ok(());
        }
        self.close_block()
    }

    /// Puts the terms into the order of the objects.
    fn finish(mut self, LookedUp { dedup, objects }: LookedUp<'_>) -> Result<Packed<'s>> {
        let mut blocks = Blocks::default();
        // first, so that these blocks get the numbers that the terms use
        let new: Vec<u32> = self.new.iter().map(|(summary, _)| blocks.number(summary)).collect();
        for (block, (_, directory)) in new.into_iter().zip(&self.new) {
            blocks.depends(block, &directory.needs);
        }
        // number of each known block in the recipe, by its number in the known chunks
        let mut numbers = BTreeMap::new();
        let mut novel = self.terms.iter().copied();
        let mut packed = Vec::with_capacity(objects.len());
        for (read, MadeOf { runs, keys }) in objects {
            let mut terms = Vec::with_capacity(runs.len());
            for run in runs {
                match run {
                    Run::Known { first, count, checksum } => {
                        let block = *numbers.entry(first.block).or_insert_with(|| {
                            let number = blocks.number(&dedup.known().summary(first.block));
                            blocks.depends(number, dedup.known().all_needs(first.block));
                            number
                        });
                        terms.push(dedup.known().term(first, count, checksum, block));
                    }
                    Run::Repeated { first, count, checksum } => {
                        terms.push(self.repeated(&dedup, first, count, checksum));
                    }
                    Run::Novel { count } => take_novel(&mut novel, count, &mut terms)?,
                }
            }
            terms.extend(self.base_terms(dedup.known(), &numbers, &terms, &mut blocks));
            packed.push(PackedObject { read, terms, keys });
        }
        let found = numbers.keys().filter_map(|block| dedup.known().uncommitted(*block));
        self.new.extend(found);
        Ok(Packed {
            objects: packed,
            blocks: blocks.into_entries(),
            new: self.new,
            in_flight: self.in_flight,
        })
    }

    /// Returns the terms without content that an object's recipe needs for the delta frames that its terms
    /// lie in.
    fn base_terms(
        &self,
        known: &KnownChunks,
        numbers: &BTreeMap<u32, u32>,
        terms: &[Term],
        blocks: &mut Blocks,
    ) -> Vec<Term> {
        let known_by: BTreeMap<u32, u32> = numbers.iter().map(|(there, here)| (*here, *there)).collect();
        let needs = terms.iter().flat_map(|term| {
            let frames = term.frames_offset..term.frames_end();
            match self.new.get(term.block as usize) {
                Some((_, directory)) => directory.needs_in(&frames),
                None => known_by.get(&term.block).map_or(&[][..], |block| known.needs(*block, &frames)),
            }
        });
        dependencies::base_terms(terms, needs, blocks)
    }

    /// Returns the term for chunks of a frame that stand earlier in this upload.
    fn repeated(&self, dedup: &Dedup<'_>, first: u32, count: u16, checksum: u64) -> Term {
        let frame = dedup.frame_firsts.partition_point(|f| *f <= first) - 1;
        let (block, place) = self.places[frame];
        let start = usize::from(place.first_chunk);
        let skipped = (first - dedup.frame_firsts[frame]) as usize;
        let chunks = &self.new[block as usize].1.chunks[start..start + skipped + usize::from(count)];
        let bytes = |chunks: &[Chunk]| chunks.iter().map(|c| c.bytes).sum::<u32>();
        Term {
            block,
            first_chunk: (start + skipped) as u16,
            chunk_count: count,
            frames_offset: place.offset,
            frames_bytes: place.bytes,
            skip_bytes: bytes(&chunks[..skipped]),
            content_bytes: bytes(&chunks[skipped..]),
            checksum,
        }
    }
}

/// Takes the terms of `count` new chunks.
fn take_novel(novel: &mut impl Iterator<Item = Term>, count: u32, terms: &mut Vec<Term>) -> Result<()> {
    let mut left = count;
    while left > 0 {
        let lost = || Error::internal("a novel chunk found no place");
        let term = novel.next().ok_or_else(lost)?;
        left = left.checked_sub(u32::from(term.chunk_count)).ok_or_else(lost)?;
        terms.push(term);
    }
    Ok(())
}
