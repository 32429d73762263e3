//! The cover of a wanted run of chunks by runs in local files. Pure: no files, no store.

use std::ops::Range;

use crate::format::chunking::Suite;
use crate::format::recipe::Term;
use crate::index::placed::chunks;

/// A run of a block's chunks that stands in a file `F`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Local<F> {
    /// The chunks, counted in the block.
    pub chunks: Range<u32>,
    pub file: F,
    /// The place where the run begins in the file, in bytes.
    pub start: u64,
    /// The length of the run in bytes.
    pub bytes: u32,
}

impl<F> Local<F> {
    /// Returns the run of a term that stands in the file.
    pub(super) fn of(term: &Term, start: u64, file: F) -> Self {
        Self { chunks: chunks(term), file, start, bytes: term.content_bytes }
    }
}

/// A part of a wanted run: these chunks of a local run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece<F> {
    pub local: Local<F>,
    pub chunks: Range<u32>,
}

impl<F> Piece<F> {
    /// Returns true if the piece is all of its local run. Then the ends of chunks in that run don't matter.
    pub(super) fn is_whole(&self) -> bool {
        self.chunks == self.local.chunks
    }

    /// Returns the place of the piece's bytes in the file, or `None` if `ends` are too few.
    ///
    /// `ends` are the ends of the chunks in the local run, counted from its beginning. A whole run doesn't
    /// need them.
    pub(super) fn bytes(&self, ends: &[u32]) -> Option<Range<u64>> {
        if self.is_whole() {
            return Some(self.local.start..self.local.start + u64::from(self.local.bytes));
        }
        let end_of = |chunk: u32| -> Option<u64> {
            let before = chunk.checked_sub(self.local.chunks.start)? as usize;
            before.checked_sub(1).map_or(Some(0), |last| ends.get(last).copied().map(u64::from))
        };
        Some(self.local.start + end_of(self.chunks.start)?..self.local.start + end_of(self.chunks.end)?)
    }
}

/// Returns the ends of the `count` chunks that `content` consists of, counted from its beginning.
///
/// The content decides the cuts, so cutting it again gives the same chunks. Returns `None` if there are not
/// `count` chunks, because then the content is something else.
pub(super) fn chunk_ends(content: &[u8], count: usize, suite: Suite) -> Option<Vec<u32>> {
    let mut ends = Vec::with_capacity(count);
    let mut end = 0;
    while let Some(length) = suite.next_cut(&content[end..], true) {
        end += length;
        ends.push(end as u32);
        if ends.len() > count {
            return None;
        }
    }
    (ends.len() == count).then_some(ends)
}

/// The local runs of one block.
#[derive(Clone, Debug)]
pub(super) struct LocalRuns<F> {
    /// The runs, by their first chunk.
    runs: Vec<Local<F>>,
    /// For each run, the number of the run up to here that reaches furthest.
    furthest: Vec<u32>,
}

impl<F> Default for LocalRuns<F> {
    fn default() -> Self {
        Self { runs: Vec::new(), furthest: Vec::new() }
    }
}

impl<F: Clone> LocalRuns<F> {
    /// Adds runs.
    pub(super) fn add(&mut self, new: impl IntoIterator<Item = Local<F>>) {
        self.runs.extend(new);
        // of the runs with the same first chunk, the longest comes first
        self.runs.sort_by_key(|run| (run.chunks.start, std::cmp::Reverse(run.chunks.end)));
        self.find_furthest();
    }

    /// Forgets the runs of files that `usable` rejects.
    pub(super) fn retain(&mut self, usable: impl Fn(&F) -> bool) {
        self.runs.retain(|run| usable(&run.file));
        self.find_furthest();
    }

    fn find_furthest(&mut self) {
        let mut furthest = 0;
        let reaches = |run: &Local<F>| run.chunks.end;
        self.furthest.clear();
        for (number, run) in self.runs.iter().enumerate() {
            if reaches(run) > reaches(&self.runs[furthest as usize]) {
                furthest = number as u32;
            }
            self.furthest.push(furthest);
        }
    }

    /// Returns the fewest pieces that make up the chunks `wanted`, in order. Returns `None` if one of the
    /// chunks stands in no file.
    pub(super) fn cover(&self, wanted: &Range<u32>) -> Option<Vec<Piece<F>>> {
        let mut pieces = Vec::new();
        let mut next = wanted.start;
        while next < wanted.end {
            let begun = self.runs.partition_point(|run| run.chunks.start <= next);
            let local = &self.runs[*self.furthest.get(begun.checked_sub(1)?)? as usize];
            let chunks = next..local.chunks.end.min(wanted.end);
            if chunks.is_empty() {
                return None;
            }
            next = chunks.end;
            pieces.push(Piece { local: local.clone(), chunks });
        }
        Some(pieces)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::chunking::GEAR_16K;
    use crate::test_data::noise;

    fn run(chunks: Range<u32>, file: u32) -> Local<u32> {
        Local { chunks, file, start: 0, bytes: 0 }
    }

    #[test]
    fn the_fewest_pieces_are_taken_and_nothing_is_made_up() {
        let mut runs = LocalRuns::default();
        assert_eq!(runs.cover(&(0..1)), None);
        runs.add([run(0..10, 1), run(5..20, 2), run(8..12, 3), run(30..40, 4), run(5..7, 5)]);
        let cover = |runs: &LocalRuns<u32>, wanted| {
            let pieces = runs.cover(&wanted)?.into_iter();
            Some(pieces.map(|piece| (piece.local.file, piece.chunks)).collect::<Vec<_>>())
        };
        assert_eq!(cover(&runs, 0..20), Some(vec![(1, 0..10), (2, 10..20)]));
        assert_eq!(cover(&runs, 6..11), Some(vec![(2, 6..11)]));
        assert_eq!(cover(&runs, 30..40), Some(vec![(4, 30..40)]));
        for missing in [19..21, 20..22, 25..35, 39..41, 40..41] {
            assert_eq!(cover(&runs, missing), None);
        }
        runs.retain(|file| *file != 2);
        assert_eq!(cover(&runs, 0..12), Some(vec![(1, 0..10), (3, 10..12)]));
        assert_eq!(cover(&runs, 0..13), None);
    }

    /// Runs of a block that a file has, and a seed for the bytes between them.
    type File = (Vec<Range<usize>>, u64);

    /// A block's content, files with runs of the block, and a wanted run.
    fn block() -> impl Strategy<Value = (Vec<u8>, Vec<File>, Range<usize>)> {
        let ranges = prop::collection::vec((any::<prop::sample::Index>(), 1..40usize), 1..8);
        let files = prop::collection::vec((ranges, any::<u64>()), 1..5);
        let wanted = (any::<prop::sample::Index>(), 1..40usize);
        (any::<u64>(), 200_000..900_000usize, files, wanted).prop_map(|(seed, bytes, files, wanted)| {
            let content = noise(seed, bytes);
            let count = cuts(&content).len();
            let range = |(start, length): (prop::sample::Index, usize)| {
                let start = start.index(count);
                start..(start + length).min(count)
            };
            let files = files.into_iter().map(|(runs, seed)| (runs.into_iter().map(range).collect(), seed));
            (content, files.collect(), range(wanted))
        })
    }

    fn cuts(content: &[u8]) -> Vec<usize> {
        let mut ends = vec![];
        while let Some(length) = GEAR_16K.next_cut(&content[ends.last().copied().unwrap_or(0)..], true) {
            ends.push(ends.last().copied().unwrap_or(0) + length);
        }
        ends
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// A covered run is assembled right, and a run is covered if all its chunks stand somewhere.
        #[test]
        fn what_is_assembled_is_the_run((content, files, wanted) in block()) {
            let ends = cuts(&content);
            let bytes = |run: &Range<usize>| {
                let start = run.start.checked_sub(1).map_or(0, |before| ends[before]);
                start..ends[run.end - 1]
            };
            let mut written: Vec<Vec<u8>> = Vec::new();
            let mut runs = LocalRuns::default();
            for (number, (parts, seed)) in files.iter().enumerate() {
                let mut file = noise(*seed, 1000);
                let mut locals = Vec::new();
                for part in parts {
                    let (chunks, of) = (part.start as u32..part.end as u32, bytes(part));
                    locals.push(Local { chunks, file: number, start: file.len() as u64, bytes: of.len() as u32 });
                    file.extend_from_slice(&content[of]);
                    file.extend(noise(*seed ^ 1, 100));
                }
                written.push(file);
                runs.add(locals);
            }
            let is_somewhere = |chunk: usize| files.iter().flat_map(|(parts, _)| parts).any(|part| part.contains(&chunk));
            let cover = runs.cover(&(wanted.start as u32..wanted.end as u32));
            prop_assert_eq!(cover.is_some(), wanted.clone().all(is_somewhere));
            let Some(pieces) = cover else { return Ok(()) };
            let mut assembled = Vec::new();
            for piece in &pieces {
                let Local { chunks, file, start, bytes } = &piece.local;
                let local = &written[*file][*start as usize..][..*bytes as usize];
                let ends = chunk_ends(local, chunks.len(), GEAR_16K).unwrap();
                let place = piece.bytes(&ends).unwrap();
                assembled.extend_from_slice(&written[*file][place.start as usize..place.end as usize]);
            }
            prop_assert!(assembled == content[bytes(&wanted)]);
        }

        /// Other content is noticed, or gives only ranges inside the run.
        #[test]
        fn other_content_gives_no_range_outside(seed: u64, bytes in 0..300_000usize, count in 0..40usize, chunks in (0..50u32, 0..50u32)) {
            let content = noise(seed, bytes);
            let Some(ends) = chunk_ends(&content, count, GEAR_16K) else { return Ok(()) };
            let local = Local { chunks: 5..5 + count as u32, file: (), start: 7, bytes: bytes as u32 };
            let piece = Piece { local, chunks: chunks.0.min(chunks.1)..chunks.0.max(chunks.1) };
            if let Some(place) = piece.bytes(&ends) {
                prop_assert!(7 <= place.start && place.start <= place.end && place.end <= 7 + bytes as u64);
            }
        }
    }
}
