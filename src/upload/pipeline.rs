//! The second half of an upload: from chunks to blocks on their way to the store.
//!
//! One thread looks the chunks up. All cores compress the new ones, and the caller packs the frames into
//! blocks. Each full block is on its way to the store while the next is filled.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::bounded;

use super::batch::Wanted;
use super::block_writer::{BlockWriter, BlocksInFlight, Writing, WrittenBlocks};
use super::chunk_index::KnownChunks;
use super::chunker::{self, What};
use super::dedup::{Dedup, NovelFrame};
use super::delta_bases::{Candidates, FrameBases};
use super::read_cost::Reading;
use super::recipe_builder::{LookedUp, PackedObject, RecipeBuilder, Recipes};
use super::sparse::{Ahead, Scout};
use super::thread_pools::Threads;
use crate::config::DeltaRule;
use crate::error::{Error, Result};
use crate::format::block::Entry;
use crate::format::frame::{Encoded, Encoder, Kind};
use crate::format::segment::BlockEntry;
use crate::parallel;
use crate::parallel::Work;
use crate::progress::Progress;

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

/// The objects that may give bases of deltas, and the rule for deltas.
#[derive(Clone, Copy)]
pub(super) struct Deltas<'a> {
    pub candidates: &'a Candidates,
    pub rule: DeltaRule,
}

/// The settings of the compression.
#[derive(Clone, Copy)]
pub(super) struct Compression<'a> {
    /// Zstandard's level.
    pub level: i32,
    /// `None` switches deltas off.
    pub deltas: Option<Deltas<'a>>,
}

/// The settings and services for packing objects.
#[derive(Clone, Copy)]
pub(super) struct Packing<'a, 's> {
    pub writing: Writing<'a, 's>,
    pub compression: Compression<'a>,
    /// True if known chunks are reused only while reading them back stays cheap.
    pub guards_reading: bool,
    pub threads: &'a Threads,
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
    let suite = packing.writing.store.description().suite;
    crew.in_place_scope_fifo(|scope| {
        let pieces = chunker::start(scope, cores, objects, suite);
        let (work, frames) = parallel::ordered(cores, depth);
        let ahead = Ahead::new(pieces, scout);
        let reading = Reading::new(packing.writing.store.reach().fetch_gap_bytes, packing.guards_reading);
        let dedup = Dedup::new(known, reading);
        let (looked_up, looker) = bounded(1);
        scope.spawn_fifo(move |_| {
            let done = look_up(ahead, dedup, packing.compression, &work);
            // dropped first, because the results must end before the caller waits for this
            drop(work);
            let _ = looked_up.send(done);
        });
        let mut writer = BlockWriter::new(packing.writing);
        let mut recipes = RecipeBuilder::default();
        let written = frames.into_iter().try_for_each(|compressed| {
            let Compressed { frame, encoded, progress } = compressed?;
            recipes.add(&frame, writer.add(&frame, encoded, &progress)?);
            Ok(())
        });
        let looked_up = looker.recv().map_err(|_| Error::internal("deduplication panicked"))?;
        let looked_up = written.and(looked_up).and_then(|looked_up| writer.end().map(|()| looked_up));
        let WrittenBlocks { mut new, in_flight } = writer.into_blocks();
        match looked_up {
            Ok(looked_up) => {
                let Recipes { objects, blocks } = recipes.finish(looked_up, &mut new)?;
                Ok(Packed { objects, blocks, new, in_flight })
            }
            // the next push or the next batch finds the blocks that are stored all the same
            Err(e) => in_flight.settle().and(Err(e)),
        }
    })
}

/// A frame, its compressed form, and the progress of its object.
struct Compressed {
    frame: NovelFrame,
    encoded: Encoded,
    progress: Arc<Progress>,
}

/// The compression of frames on all cores.
struct Compressor<'a> {
    work: &'a Work<Compressed>,
    compression: Compression<'a>,
    /// The guessed bases that failed in a row.
    failed_guesses: Arc<AtomicUsize>,
}

impl Compressor<'_> {
    /// Begins to compress a frame of an object of `size_bytes`. Returns false if the caller takes no more
    /// frames.
    fn begin(
        &self,
        known: &KnownChunks,
        frame: NovelFrame,
        size_bytes: u64,
        progress: Arc<Progress>,
    ) -> bool {
        let may_guess = self.failed_guesses.load(Ordering::Relaxed) < BASE_GUESSES;
        let over = self.compression.deltas.and_then(|Deltas { candidates, rule }| {
            let bases = candidates.find(known, &frame, rule, may_guess.then_some(size_bytes))?;
            Some(DeltaOver { bases, rule })
        });
        let level = self.compression.level;
        let failed_guesses = self.failed_guesses.clone();
        let compress = move || {
            let encoded = encode(&frame, level, over, &failed_guesses)?;
            Ok(Compressed { frame, encoded, progress })
        };
        self.work.run(compress).is_ok()
    }
}

/// The bases for one frame, and the rule for using them.
struct DeltaOver {
    bases: FrameBases,
    rule: DeltaRule,
}

/// Looks every chunk up. Ends early if the caller takes no more frames.
fn look_up<'k>(
    mut ahead: Ahead<'_>,
    dedup: Dedup<'k>,
    compression: Compression<'_>,
    work: &Work<Compressed>,
) -> Result<LookedUp<'k>> {
    let mut looked_up = LookedUp { dedup, objects: Vec::new() };
    let compressor = Compressor { work, compression, failed_guesses: Arc::default() };
    while let Some((chunker::Piece { progress, size_bytes, what }, learned)) = ahead.next()? {
        let LookedUp { dedup, objects } = &mut looked_up;
        learned.into_iter().for_each(|shard| dedup.learn(shard, |block| ahead.may_use(block)));
        match what {
            What::Chunks(batch) => {
                for (chunk, bytes) in batch.chunks() {
                    if let Some(frame) = dedup.push(chunk, bytes)
                        && !compressor.begin(dedup.known(), frame, size_bytes, progress.clone())
                    {
                        return Ok(looked_up);
                    }
                    progress.bytes.fetch_add(u64::from(chunk.bytes), Ordering::Relaxed);
                }
            }
            What::End(read) => {
                let (made_of, last) = dedup.end_object();
                objects.push((read, made_of));
                if let Some(frame) = last
                    && !compressor.begin(dedup.known(), frame, size_bytes, progress)
                {
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
    over: Option<DeltaOver>,
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
        let Some(DeltaOver { bases: found, rule }) = over else { return encoder.encode(&frame.content) };
        let is_guess = found.is_guess;
        let bases = found.read();
        if bases.terms.is_empty() {
            return encoder.encode(&frame.content);
        }
        let encoded = encoder.encode_over(&frame.content, bases, rule.saves_percent.into())?;
        match encoded.kind {
            Kind::Delta if is_guess => failed_guesses.store(0, Ordering::Relaxed),
            _ if is_guess => {
                failed_guesses.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
        Ok(encoded)
    })
}
