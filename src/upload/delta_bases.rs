//! Bases of delta frames: chunks at the same place in an older object that is on this machine. New chunks
//! are probably almost equal to them. Nothing is downloaded for this.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::chunk_index::{KnownChunks, Place};
use super::dedup::{NovelFrame, Part};
use crate::config::DeltaRule;
use crate::format::block::{Chunk, Summary};
use crate::format::chunking::chunk_id;
use crate::format::delta::{Bases, FrameNeeds, Needed, may_be_base};
use crate::format::limits;
use crate::format::recipe::{Term, term_checksum};
use crate::id::{BlockId, Oid};
use crate::index::cached_reads::CachedStore;
use crate::index::local_file::{
    LocalFile, REUSE_FAR_BYTES, REUSE_FAR_OBJECTS, REUSE_OBJECT_BYTES, REUSE_OBJECTS, REUSE_TERMS,
};
use crate::index::placed::{self, Placed};
use crate::index::{Found, Index};
use crate::local::lfs_objects;
use crate::units::KIB;
use crate::upload::chunk_index::PLACES_OF_CHUNK;

/// Most objects that are tried for the base of a run, the newest first.
const BASES_TRIED: usize = 8;
/// Bytes around the expected place of a base in which a push also looks: some chunks.
const DELTA_SLACK_BYTES: u64 = 32 * KIB as u64;

/// A stretch of chunks that stand together in a block, and in a file on this machine.
pub(super) struct BaseRun {
    file: Arc<LocalFile>,
    /// The place in the file where it begins.
    start: u64,
    chunks: Vec<Chunk>,
    block: Arc<Summary>,
    /// The term. Its checksum is still missing.
    term: Term,
}

/// The bases that were found for a frame.
pub(super) struct FrameBases {
    runs: Vec<BaseRun>,
    needs: FrameNeeds,
    /// True if only the place in the object speaks for these bases.
    pub is_guess: bool,
}

/// An object that is on this machine and in the store.
struct Candidate {
    file: Arc<LocalFile>,
    size_bytes: u64,
    blocks: Vec<BlockId>,
    /// The recipe of the object, in order.
    terms: Vec<Placed>,
}

/// The runs of a block's chunks that an object has, by their first chunk. Each run has the number of its
/// term.
struct RunsOf {
    candidate: usize,
    runs: Vec<(Range<u32>, usize)>,
}

impl RunsOf {
    /// Returns a term that has the chunk: any one, if several have it.
    fn term_with(&self, chunk: u32) -> Option<usize> {
        let begun = self.runs.partition_point(|(chunks, _)| chunks.start <= chunk);
        let near = self.runs[..begun].iter().rev().take(PLACES_OF_CHUNK);
        near.into_iter().find(|(chunks, _)| chunks.contains(&chunk)).map(|(_, term)| *term)
    }
}

/// The objects that may give bases. Newer objects come later in the list.
#[derive(Default)]
pub(crate) struct Candidates {
    is_listed: bool,
    seen: HashSet<Oid>,
    objects: Vec<Candidate>,
    /// For each block, the objects in their order.
    runs: HashMap<BlockId, Vec<RunsOf>>,
    terms: usize,
}

impl Candidates {
    /// Looks once for objects on this machine that the index knows. Where a look at the index asks the
    /// store, `wanted_bytes` bounds the number of objects.
    pub(super) fn look(
        &mut self,
        index: &Index,
        stored: CachedStore<'_>,
        lfs_storage: &Path,
        wanted_bytes: u64,
    ) {
        if std::mem::replace(&mut self.is_listed, true) {
            return;
        }
        let folder = lfs_storage.join("objects");
        let mut listed = lfs_objects::newest(&folder, REUSE_OBJECT_BYTES, REUSE_OBJECTS);
        if index.needs_network() {
            let worth = (wanted_bytes / REUSE_FAR_BYTES).min(REUSE_FAR_OBJECTS);
            listed.truncate(worth as usize);
        }
        for object in listed.into_iter().rev() {
            let found = index.find(stored, &object.oid).found;
            self.add(LocalFile::from(object), found.first());
        }
        tracing::debug!(
            "{} objects on this machine may be what others are almost the same as",
            self.objects.len()
        );
    }

    /// Adds an object by its newest record.
    pub(super) fn add(&mut self, file: LocalFile, found: Option<&Found>) {
        let Some(found) = found.filter(|found| found.record.size_bytes == file.size_bytes) else { return };
        let blocks: Vec<BlockId> = found.blocks.iter().map(|block| block.summary.id).collect();
        self.add_recipe(file, blocks, placed::terms(found));
    }

    fn add_recipe(&mut self, file: LocalFile, blocks: Vec<BlockId>, terms: Vec<Placed>) {
        if self.terms + terms.len() > REUSE_TERMS || !self.seen.insert(file.oid) {
            return;
        }
        self.terms += terms.len();
        let candidate = self.objects.len();
        let mut of_blocks: HashMap<BlockId, Vec<(Range<u32>, usize)>> = HashMap::new();
        for (number, Placed { term, .. }) in terms.iter().enumerate() {
            let runs = of_blocks.entry(blocks[term.block as usize]).or_default();
            runs.push((placed::chunks(term), number));
        }
        for (block, mut runs) in of_blocks {
            runs.sort_by_key(|(chunks, _)| chunks.start);
            self.runs.entry(block).or_default().push(RunsOf { candidate, runs });
        }
        let size_bytes = file.size_bytes;
        self.objects.push(Candidate { file: Arc::new(file), size_bytes, blocks, terms });
    }

    /// Returns the bases of a frame's chunks that `rule` allows, if there are any. `guess_for` is the size
    /// of the object if bases may be guessed where no neighbour is known.
    pub(super) fn find(
        &self,
        known: &KnownChunks,
        frame: &NovelFrame,
        rule: DeltaRule,
        guess_for: Option<u64>,
    ) -> Option<FrameBases> {
        let mut found = FrameBases { runs: Vec::new(), needs: FrameNeeds::default(), is_guess: true };
        let likely = guess_for.and_then(|size_bytes| self.most_likely(size_bytes));
        let mut needs = Needs::default();
        let mut left_bytes = limits::DELTA_BASE_BYTES as u64;
        for part in &frame.parts {
            let is_guess = part.before.is_none() && part.after.is_none();
            found.is_guess &= is_guess;
            let guessed = likely
                .filter(|_| is_guess)
                .and_then(|candidate| Some((candidate, part.window_at(part.start, candidate.size_bytes)?)));
            for (candidate, window) in self.windows(known, part).chain(guessed) {
                let Some(runs) = self.cut(known, candidate, &window) else { continue };
                let bytes: u64 = runs.iter().map(|run| u64::from(run.term.content_bytes)).sum();
                let Some(more) = needs.with(known, &runs, rule.depth) else { continue };
                if bytes <= left_bytes {
                    left_bytes -= bytes;
                    needs = more;
                    found.runs.extend(runs);
                    break;
                }
            }
        }
        found.needs = needs.finish();
        (!found.runs.is_empty()).then_some(found)
    }

    /// Returns the candidate that is most likely another version of an object of `size_bytes`: the newest
    /// one with the nearest size.
    fn most_likely(&self, size_bytes: u64) -> Option<&Candidate> {
        let likely =
            self.objects.iter().rev().min_by_key(|candidate| candidate.size_bytes.abs_diff(size_bytes));
        likely.filter(|candidate| candidate.size_bytes.abs_diff(size_bytes) <= size_bytes / 2)
    }

    /// Returns the places where a part's base may be: candidates, the newest first, each with the window
    /// between the same neighbours.
    fn windows<'c>(
        &'c self,
        known: &'c KnownChunks,
        part: &'c Part,
    ) -> impl Iterator<Item = (&'c Candidate, Range<u64>)> {
        let neighbour = part.before.map(|(place, _)| place).or(part.after);
        let runs = neighbour.and_then(|place| self.runs.get(&known.summary(place.block).id));
        let having = runs.into_iter().flatten().rev().filter_map(move |runs| {
            let place = neighbour?;
            Some((runs.candidate, place, runs.term_with(place.chunk)?))
        });
        let window = |(number, place, term): (usize, Place, usize)| {
            let candidate = &self.objects[number];
            let found = candidate.place_of(known, term, place)?;
            let after = part.after.and_then(|after| self.find_in(known, number, after));
            Some((candidate, part.window(found, after, candidate.size_bytes)?))
        };
        having.take(BASES_TRIED).filter_map(window)
    }

    /// Returns the place of a chunk in an object.
    fn find_in(&self, known: &KnownChunks, candidate: usize, place: Place) -> Option<Range<u64>> {
        let of_block = self.runs.get(&known.summary(place.block).id)?;
        let runs = of_block.binary_search_by_key(&candidate, |runs| runs.candidate).ok()?;
        let term = of_block[runs].term_with(place.chunk)?;
        self.objects[candidate].place_of(known, term, place)
    }

    /// Returns the chunks of an object that lie in a window, if they are all known.
    fn cut(&self, known: &KnownChunks, candidate: &Candidate, window: &Range<u64>) -> Option<Vec<BaseRun>> {
        let first = candidate.terms.partition_point(|placed| placed.end() <= window.start);
        let mut runs = Vec::new();
        for placed in candidate.terms[first..].iter().take_while(|placed| placed.start < window.end) {
            let block = known.number(&candidate.blocks[placed.term.block as usize])?;
            let mut start = placed.start;
            let mut from = None;
            let mut chunks = Vec::new();
            for number in placed::chunks(&placed.term) {
                let chunk = known.chunk(Place { block, chunk: number })?;
                let end = start + u64::from(chunk.bytes);
                if end > window.start && start < window.end {
                    from.get_or_insert((number, start));
                    chunks.push(chunk);
                }
                start = end;
            }
            let Some((chunk, start)) = from else { continue };
            let term = known.term(Place { block, chunk }, chunks.len() as u16, 0, block);
            if !may_be_base(&term) {
                return None;
            }
            runs.push(BaseRun {
                file: candidate.file.clone(),
                start,
                chunks,
                block: Arc::new(known.summary(block)),
                term,
            });
        }
        (!runs.is_empty()).then_some(runs)
    }
}

impl Candidate {
    /// Returns the place of a chunk in the object, by the term that has it.
    fn place_of(&self, known: &KnownChunks, term: usize, place: Place) -> Option<Range<u64>> {
        let Placed { term, start } = self.terms.get(term)?;
        let first = u32::from(term.first_chunk);
        let bytes = |chunk: u32| known.chunk(Place { chunk, ..place }).map(|chunk| u64::from(chunk.bytes));
        let before: u64 = (first..place.chunk).map(bytes).sum::<Option<u64>>()?;
        Some(start + before..start + before + bytes(place.chunk)?)
    }
}

impl Part {
    /// Returns the window between the part's neighbours in an older object of `size_bytes`. `neighbour` is
    /// the place of the known chunk before the part, or else of the one after it.
    fn window(
        &self,
        neighbour: Range<u64>,
        after: Option<Range<u64>>,
        size_bytes: u64,
    ) -> Option<Range<u64>> {
        let bytes = self.bytes.len() as u64;
        let slack = DELTA_SLACK_BYTES;
        let window = match (self.before, after) {
            (Some((_, 0)), Some(after)) if after.start >= neighbour.end => {
                neighbour.end..after.start.min(neighbour.end + bytes + 2 * slack)
            }
            (Some((_, distance)), _) => return self.window_at(neighbour.end + distance, size_bytes),
            (None, _) => neighbour.start.saturating_sub(bytes + slack)..neighbour.start,
        };
        within(window, size_bytes)
    }

    /// Returns the window where only the part's place in the object is known.
    fn window_at(&self, start: u64, size_bytes: u64) -> Option<Range<u64>> {
        let bytes = self.bytes.len() as u64;
        let slack = DELTA_SLACK_BYTES;
        within(start.saturating_sub(slack)..start + bytes + slack, size_bytes)
    }
}

/// Returns the part of a window that lies in an object of `size_bytes`, if there is any.
fn within(window: Range<u64>, size_bytes: u64) -> Option<Range<u64>> {
    let window = window.start..window.end.min(size_bytes);
    (window.start < window.end).then_some(window)
}

/// The frames that bases lie in, and all frames that these are made from.
#[derive(Clone, Default)]
struct Needs {
    depth: u8,
    frames: BTreeMap<(BlockId, u32), Needed>,
}

impl Needs {
    /// Returns these needs together with those of `runs`. Returns `None` if they are too many or too deep.
    fn with(&self, known: &KnownChunks, runs: &[BaseRun], depth: u8) -> Option<Self> {
        let mut all = self.clone();
        for run in runs {
            let block = known.number(&run.block.id)?;
            let range = run.term.frames_offset..run.term.frames_end();
            for range in known.frames(block, &range) {
                let needs = known.needs(block, &range);
                let below = needs.iter().map(|needs| needs.depth).max().unwrap_or(0);
                all.depth = all.depth.max(below + 1);
                let own = Needed { block: run.block.clone(), range };
                let others = needs.iter().flat_map(|needs| &needs.frames).cloned();
                all.frames
                    .extend(std::iter::once(own).chain(others).map(|n| ((n.block.id, n.range.start), n)));
            }
        }
        (all.depth <= depth.min(limits::DELTA_DEPTH) && all.frames.len() <= limits::DELTA_FRAMES)
            .then_some(all)
    }

    fn finish(self) -> FrameNeeds {
        FrameNeeds { depth: self.depth, frames: self.frames.into_values().collect() }
    }
}

impl FrameBases {
    /// Reads the bases from this machine. Leaves out the bases that are damaged or gone.
    pub(super) fn read(self) -> Bases {
        let mut bases = Bases { needs: self.needs, ..Bases::default() };
        for run in self.runs {
            let start = bases.content.len();
            let bytes = run.term.content_bytes as usize;
            bases.content.resize(start + bytes, 0);
            let content = &mut bases.content[start..];
            if run.file.read_at(content, run.start).is_none() || !is_made_of(content, &run.chunks) {
                tracing::warn!(
                    "the local object {} is damaged or gone: nothing is stored as a patch to it",
                    run.file.oid
                );
                bases.content.truncate(start);
                continue;
            }
            let checksum = term_checksum(content);
            let block = match bases.blocks.iter().position(|block| *block == run.block.id) {
                Some(block) => block,
                None => {
                    bases.blocks.push(run.block.id);
                    bases.blocks.len() - 1
                }
            };
            bases.terms.push(Term { block: block as u32, checksum, ..run.term });
        }
        bases
    }
}

/// Returns true if the content consists of these chunks.
fn is_made_of(mut content: &[u8], chunks: &[Chunk]) -> bool {
    chunks.iter().all(|chunk| {
        let Some((own, rest)) = content.split_at_checked(chunk.bytes as usize) else { return false };
        content = rest;
        chunk_id(own) == chunk.id
    }) && content.is_empty()
}
