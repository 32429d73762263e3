//! The builder of recipes: it notes the place of each new frame, and makes the terms of each object.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::Xxh3;

use super::block_writer::PlacedFrame;
use super::chunk_index::KnownChunks;
use super::chunker::ReadObject;
use super::dedup::{Dedup, MadeOf, NovelFrame, Run};
use super::dependencies::{self, Blocks};
use crate::error::{Error, Result};
use crate::format::block::{Chunk, Entry};
use crate::format::recipe::Term;
use crate::format::segment::BlockEntry;
use crate::id::ChunkId;

/// One packed object.
pub(super) struct PackedObject {
    /// The result of reading it, or the reason why it could not be read.
    pub read: Result<ReadObject>,
    /// The recipe of the object. Its terms refer to the blocks of all objects.
    pub terms: Vec<Term>,
    /// The key chunks of the object.
    pub keys: Vec<ChunkId>,
}

/// The result of the lookup: how each object was read, and its runs.
pub(super) struct LookedUp<'k> {
    pub dedup: Dedup<'k>,
    pub objects: Vec<(Result<ReadObject>, MadeOf)>,
}

/// The recipes of a batch, with the blocks that they name.
pub(super) struct Recipes {
    pub objects: Vec<PackedObject>,
    pub blocks: Vec<BlockEntry>,
}

/// The term of new chunks that is not complete yet.
struct OpenRun {
    term: Term,
    checksum: Xxh3,
}

/// The terms of new chunks, from the frames in their order.
#[derive(Default)]
pub(super) struct RecipeBuilder {
    /// The place of each frame.
    places: Vec<PlacedFrame>,
    run: Option<OpenRun>,
    /// The terms of new chunks, in order.
    terms: Vec<Term>,
}

impl RecipeBuilder {
    /// Adds the next frame, which has its place in a block now.
    pub(super) fn add(&mut self, frame: &NovelFrame, placed: PlacedFrame) {
        let PlacedFrame { block, place } = placed;
        if self.run.as_ref().is_some_and(|run| run.term.block != block) {
            self.close_run();
        }
        self.places.push(placed);
        let mut skip = 0;
        for (number, chunk) in frame.chunks.iter().enumerate() {
            if frame.begins_run[number] {
                self.close_run();
            }
            let OpenRun { term, checksum } = self.run.get_or_insert_with(|| OpenRun {
                term: Term {
                    block,
                    first_chunk: place.first_chunk + number as u16,
                    chunk_count: 0,
                    frames_offset: place.offset,
                    frames_bytes: 0,
                    skip_bytes: skip as u32,
                    content_bytes: 0,
                    checksum: 0,
                },
                checksum: Xxh3::new(),
            });
            term.chunk_count += 1;
            term.frames_bytes = place.offset + place.bytes - term.frames_offset;
            term.content_bytes += chunk.bytes;
            let end = skip + chunk.bytes as usize;
            checksum.update(&frame.content[skip..end]);
            skip = end;
        }
    }

    fn close_run(&mut self) {
        if let Some(OpenRun { term, checksum }) = self.run.take() {
            self.terms.push(Term { checksum: checksum.digest(), ..term });
        }
    }

    /// Puts the terms into the order of the objects. Adds to `new` the blocks of earlier pushes that no commit
    /// names yet.
    pub(super) fn finish(mut self, looked_up: LookedUp<'_>, new: &mut Vec<Entry>) -> Result<Recipes> {
        self.close_run();
        let LookedUp { dedup, objects } = looked_up;
        let mut blocks = Blocks::default();
        // first, so that these blocks get the numbers that the terms use
        for (summary, directory) in new.iter() {
            let block = blocks.number(summary);
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
                        terms.push(self.repeated(new, &dedup, first, count, checksum));
                    }
                    Run::Novel { count } => take_novel(&mut novel, count, &mut terms)?,
                }
            }
            terms.extend(base_terms(new, dedup.known(), &numbers, &terms, &mut blocks));
            packed.push(PackedObject { read, terms, keys });
        }
        new.extend(numbers.keys().filter_map(|block| dedup.known().uncommitted(*block)));
        Ok(Recipes { objects: packed, blocks: blocks.into_entries() })
    }

    /// Returns the term for chunks of a frame that stand earlier in this upload.
    fn repeated(&self, new: &[Entry], dedup: &Dedup<'_>, first: u32, count: u16, checksum: u64) -> Term {
        let frame = dedup.frame_firsts.partition_point(|f| *f <= first) - 1;
        let PlacedFrame { block, place } = self.places[frame];
        let start = usize::from(place.first_chunk);
        let skipped = (first - dedup.frame_firsts[frame]) as usize;
        let chunks = &new[block as usize].1.chunks[start..start + skipped + usize::from(count)];
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

/// Returns the terms without content that an object's recipe needs for the delta frames that its terms
/// lie in.
fn base_terms(
    new: &[Entry],
    known: &KnownChunks,
    numbers: &BTreeMap<u32, u32>,
    terms: &[Term],
    blocks: &mut Blocks,
) -> Vec<Term> {
    let known_by: BTreeMap<u32, u32> = numbers.iter().map(|(there, here)| (*here, *there)).collect();
    let needs = terms.iter().flat_map(|term| {
        let frames = term.frames_offset..term.frames_end();
        match new.get(term.block as usize) {
            Some((_, directory)) => directory.needs_in(&frames),
            None => known_by.get(&term.block).map_or(&[][..], |block| known.needs(*block, &frames)),
        }
    });
    dependencies::base_terms(terms, needs, blocks)
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
