//! Deduplication: the split of objects into known, repeated and new chunks. Pure: no store, no threads.
//!
//! Chunks go in in the order of the objects. Runs and frames of new chunks come out in that order.

use std::ops::Range;

use hashbrown::HashTable;
use xxhash_rust::xxh3::Xxh3;

use super::chunk_index::{KnownChunks, Place};
use super::read_cost::Reading;
use super::sampling::KeyChunks;
use crate::format::block::Chunk;
use crate::format::shard::Shard;
use crate::format::{chunking, limits};
use crate::id::{BlockId, ChunkId};

/// Chunks that follow each other in an object and in their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// Chunks in a block that the store has.
    Known { first: Place, count: u16, checksum: u64 },
    /// Chunks that stand earlier in this upload, in this object or another, all in one frame. `first`
    /// counts new chunks.
    Repeated { first: u32, count: u16, checksum: u64 },
    /// New chunks. They become terms when their frames have found a place.
    Novel { count: u32 },
}

/// The runs and key chunks of an object.
pub(super) struct MadeOf {
    pub runs: Vec<Run>,
    /// The key chunks of the object.
    pub keys: Vec<ChunkId>,
}

/// The place where a chunk comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Known(Place),
    Repeated(u32),
    Novel,
}

/// New chunks that are compressed together.
#[derive(Debug, Default)]
pub(super) struct NovelFrame {
    pub content: Vec<u8>,
    pub chunks: Vec<Chunk>,
    /// For each chunk, true if a run begins with it.
    pub begins_run: Vec<bool>,
    /// The stretches of chunks that follow each other in the object.
    pub parts: Vec<Part>,
}

/// New chunks of a frame that follow each other in the object, with their known neighbours.
#[derive(Debug)]
pub(super) struct Part {
    /// The place in the content of the frame.
    pub bytes: Range<usize>,
    /// The place in the object where they begin.
    pub start: u64,
    /// The last known chunk before them, and the number of bytes between.
    pub before: Option<(Place, u64)>,
    /// The known chunk that follows directly.
    pub after: Option<Place>,
}

/// The deduplication of the objects of one batch.
pub(super) struct Dedup<'k> {
    known: &'k mut KnownChunks,
    novel: Vec<Chunk>,
    /// The numbers of new chunks, by their ids.
    table: HashTable<u32>,
    frame: NovelFrame,
    /// The number of the open frame's first chunk.
    frame_first: u32,
    /// For each closed frame, the number of its first chunk.
    pub frame_firsts: Vec<u32>,
    run: Option<OpenRun>,
    runs: Vec<Run>,
    keys: KeyChunks,
    reading: Reading,
    /// The bytes of the object that have passed.
    position: u64,
    /// The last known chunk of the object, and the position where it ended.
    anchor: Option<(Place, u64)>,
    /// True if the last chunk was a new one of the open frame.
    continues_part: bool,
}

struct OpenRun {
    first: Source,
    next: Source,
    count: u32,
    bytes: usize,
    checksum: Xxh3,
}

impl<'k> Dedup<'k> {
    pub(super) fn new(known: &'k mut KnownChunks, reading: Reading) -> Self {
        Self {
            known,
            novel: Vec::new(),
            table: HashTable::new(),
            frame: NovelFrame::default(),
            frame_first: 0,
            frame_firsts: Vec::new(),
            run: None,
            runs: Vec::new(),
            keys: KeyChunks::default(),
            reading,
            position: 0,
            anchor: None,
            continues_part: false,
        }
    }

    /// Takes the next chunk. Returns a frame if one is full now.
    pub(super) fn push(&mut self, chunk: Chunk, bytes: &[u8]) -> Option<NovelFrame> {
        self.keys.push(chunk.id);
        let source = self.find(&chunk.id);
        self.reading.pass(chunk.bytes);
        let begins_run = self.continue_run(source, bytes);
        let start = self.position;
        self.position += u64::from(chunk.bytes);
        if source != Source::Novel {
            self.end_part(source);
            return None;
        }
        let full = self.frame.content.len() + bytes.len() > limits::FRAME_CONTENT_BYTES;
        let closed = if full { self.close_frame() } else { None };
        let number = self.novel.len() as u32;
        self.novel.push(chunk);
        let novel = &self.novel;
        self.table.insert_unique(chunk.id.word(), number, |n| novel[*n as usize].id.word());
        if self.frame.content.is_empty() {
            self.frame.content.reserve_exact(limits::FRAME_CONTENT_BYTES);
        }
        self.continue_part(start, bytes.len());
        self.frame.content.extend_from_slice(bytes);
        self.frame.chunks.push(chunk);
        self.frame.begins_run.push(begins_run);
        closed
    }

    /// Adds a new chunk to a part of the open frame. The chunk begins at `start` in the object and has
    /// `bytes` bytes.
    fn continue_part(&mut self, start: u64, bytes: usize) {
        let begin = self.frame.content.len();
        match self.frame.parts.last_mut().filter(|_| self.continues_part) {
            Some(part) => part.bytes.end = begin + bytes,
            None => {
                let before = self.anchor.map(|(place, end)| (place, start - end));
                self.frame.parts.push(Part { bytes: begin..begin + bytes, start, before, after: None });
            }
        }
        self.continues_part = true;
    }

    /// Ends the open part, because a chunk has come that is not new.
    fn end_part(&mut self, source: Source) {
        let Source::Known(place) = source else {
            self.continues_part = false;
            return;
        };
        if let Some(part) = self.frame.parts.last_mut().filter(|_| self.continues_part) {
            part.after = Some(place);
        }
        self.continues_part = false;
        self.anchor = Some((place, self.position));
    }

    /// Returns the known chunks.
    pub(super) fn known(&self) -> &KnownChunks {
        self.known
    }

    /// Learns the chunks of a shard. Later chunks may be found there.
    pub(super) fn learn(&mut self, shard: Shard, may_use: impl Fn(&BlockId) -> bool) {
        self.known.add(shard.blocks, may_use);
    }

    fn find(&mut self, id: &ChunkId) -> Source {
        if let Some(place) = self.cheap_place(id) {
            self.take(place);
            return Source::Known(place);
        }
        let same = |number: &u32| self.novel[*number as usize].id == *id;
        match self.table.find(id.word(), same) {
            Some(number) => Source::Repeated(*number),
            None => Source::Novel,
        }
    }

    /// Notes that the object needs the frame of a chunk, and the frames that it is made from.
    fn take(&mut self, place: Place) {
        let frame = self.known.frame(place);
        for needed in self.known.needs(place.block, &frame).iter().flat_map(|needs| &needs.frames) {
            if let Some(block) = self.known.number(&needed.block.id) {
                self.reading.take(block, needed.range.clone());
            }
        }
        self.reading.take(place.block, frame);
    }

    /// Returns a place of a chunk that is cheap to read.
    ///
    /// The place behind the last chunk comes first, so that runs stay whole. The next choice is a place
    /// that takes no further request. While requests are cheap, any place will do.
    fn cheap_place(&self, id: &ChunkId) -> Option<Place> {
        if let Some(Source::Known(place)) = self.run.as_ref().map(|run| run.next)
            && self.known.stands_at(id, place)
        {
            return Some(place);
        }
        let is_near = |place: &Place| self.reading.has_near(place.block, &self.known.frame(*place));
        let first = || self.known.places(id).next().filter(|_| self.reading.affords_request());
        self.known.places(id).find(is_near).or_else(first)
    }

    /// Adds a chunk to the open run, or closes that run and begins another. Returns true if it began one.
    fn continue_run(&mut self, source: Source, bytes: &[u8]) -> bool {
        let fits = |run: &OpenRun| run.bytes + bytes.len() <= limits::TERM_CONTENT_BYTES;
        let continues = self.run.as_ref().is_some_and(|run| run.next == source && fits(run));
        if !continues {
            self.close_run();
        }
        let next = match source {
            Source::Known(place) => Source::Known(place.next()),
            // frames may be parted between blocks, so a run of repeated chunks ends with its frame
            Source::Repeated(number) if self.begins_frame(number + 1) => Source::Repeated(u32::MAX),
            Source::Repeated(number) => Source::Repeated(number + 1),
            Source::Novel => Source::Novel,
        };
        let run = self.run.get_or_insert_with(|| OpenRun {
            first: source,
            next,
            count: 0,
            bytes: 0,
            checksum: Xxh3::new(),
        });
        run.next = next;
        run.count += 1;
        run.bytes += bytes.len();
        // new chunks get their checksums when the ends of their terms are known
        if source != Source::Novel {
            run.checksum.update(bytes);
        }
        !continues
    }

    fn begins_frame(&self, number: u32) -> bool {
        number == self.frame_first || self.frame_firsts.binary_search(&number).is_ok()
    }

    fn close_run(&mut self) {
        let Some(run) = self.run.take() else { return };
        let count = run.count;
        let checksum = run.checksum.digest();
        self.runs.push(match run.first {
            Source::Known(first) => Run::Known { first, count: count as u16, checksum },
            Source::Repeated(first) => Run::Repeated { first, count: count as u16, checksum },
            Source::Novel => Run::Novel { count },
        });
    }

    fn close_frame(&mut self) -> Option<NovelFrame> {
        if self.frame.chunks.is_empty() {
            return None;
        }
        self.continues_part = false;
        self.frame_firsts.push(self.frame_first);
        self.frame_first = self.novel.len() as u32;
        Some(std::mem::take(&mut self.frame))
    }

    /// Takes the end of an object. Returns the object's runs and key chunks, and the last frame if one is
    /// open. A frame holds the chunks of one object only, so that reading a small object reads no others.
    pub(super) fn end_object(&mut self) -> (MadeOf, Option<NovelFrame>) {
        self.close_run();
        self.reading.restart();
        (self.position, self.anchor) = (0, None);
        let made_of = MadeOf { runs: std::mem::take(&mut self.runs), keys: self.keys.end_object() };
        (made_of, self.close_frame())
    }
}

const _: () = assert!(limits::TERM_CONTENT_BYTES / chunking::GEAR_16K.min_bytes < u16::MAX as usize);
