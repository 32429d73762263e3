//! The chunks that a store is known to have. They come from the shards of committed segments, and from
//! blocks that no commit names yet.

use std::collections::HashMap;
use std::ops::Range;

use hashbrown::HashTable;

use crate::format::block::{Chunk, Directory, FrameEntry, Summary};
use crate::format::delta::FrameNeeds;
use crate::format::frame::Kind;
use crate::format::recipe::Term;
use crate::id::{BlockId, ChunkId};

/// Most places of a chunk in which a push looks for one that is cheap to read.
pub(crate) const PLACES_OF_CHUNK: usize = 4;

/// The place of a known chunk: the number of its block here, and the chunk's number in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub block: u32,
    pub chunk: u32,
}

impl Place {
    /// Returns the place of the chunk that follows in the same block.
    pub(super) fn next(self) -> Self {
        Self { chunk: self.chunk + 1, ..self }
    }
}

/// The place of a frame in its block.
#[derive(Clone, Copy, Debug)]
struct FrameStart {
    chunk: u32,
    offset: u32,
    /// The number of delta frames before it.
    deltas: u32,
}

struct Block {
    summary: Summary,
    chunks: Vec<Chunk>,
    /// One entry for each frame, and one more for the end.
    frames: Vec<FrameStart>,
    /// The needs of the delta frames.
    needs: Vec<FrameNeeds>,
    /// The frames in a shard's form, while no commit is known to name the block. A commit that refers to
    /// such a block must name it as a new one.
    uncommitted: Option<Vec<FrameEntry>>,
}

fn is_usable(summary: &Summary, needs: &[FrameNeeds], usable: &impl Fn(&BlockId) -> bool) -> bool {
    usable(&summary.id) && needs.iter().flat_map(|needs| &needs.frames).all(|needed| usable(&needed.block.id))
}

/// Known chunks by id. Each takes about 50 bytes of memory.
#[derive(Default)]
pub(crate) struct KnownChunks {
    blocks: Vec<Block>,
    numbers: HashMap<BlockId, u32>,
    table: HashTable<Place>,
}

impl KnownChunks {
    /// Adds the blocks of a shard. Skips the blocks that `usable` rejects, and those that depend on such
    /// blocks.
    pub(super) fn add(&mut self, blocks: Vec<(Summary, Directory)>, usable: impl Fn(&BlockId) -> bool) {
        for (summary, directory) in blocks {
            match self.numbers.get(&summary.id) {
                Some(number) => self.blocks[*number as usize].uncommitted = None,
                None if is_usable(&summary, &directory.needs, &usable) => {
                    self.add_block(summary, directory, false);
                }
                None => {}
            }
        }
    }

    /// Adds a block that the store has, but that no commit is known to name.
    pub(super) fn add_uncommitted(&mut self, summary: Summary, directory: Directory) {
        if !self.numbers.contains_key(&summary.id) {
            self.add_block(summary, directory, true);
        }
    }

    fn add_block(&mut self, summary: Summary, directory: Directory, uncommitted: bool) {
        // a newer version wrote such a block, and may need more for its frames than this version knows
        if !directory.frames.iter().all(|f| Kind::from_byte(f.kind).is_ok()) {
            return;
        }
        let mut end = FrameStart { chunk: 0, offset: 0, deltas: 0 };
        let mut frames = vec![end];
        for frame in &directory.frames {
            end.chunk += u32::from(frame.chunk_count);
            end.offset += frame.stored_bytes;
            end.deltas += u32::from(frame.kind == Kind::Delta as u8);
            frames.push(end);
        }
        let number = self.blocks.len() as u32;
        let uncommitted = uncommitted.then_some(directory.frames);
        let Directory { chunks, needs, .. } = directory;
        self.blocks.push(Block { summary, chunks, frames, needs, uncommitted });
        self.numbers.insert(summary.id, number);
        let Self { blocks, table, .. } = self;
        let id_at = |place: &Place| blocks[place.block as usize].chunks[place.chunk as usize].id;
        for (chunk, listed) in blocks[number as usize].chunks.iter().enumerate() {
            let place = Place { block: number, chunk: chunk as u32 };
            // all places of a chunk stay, because the cheapest one to read is known only later
            table.insert_unique(listed.id.word(), place, |p| id_at(p).word());
        }
    }

    /// Returns how many chunks there are.
    pub(crate) fn chunks(&self) -> usize {
        self.table.len()
    }

    /// Returns true if the block is known.
    pub(super) fn has_block(&self, block: &BlockId) -> bool {
        self.numbers.contains_key(block)
    }

    /// Returns true if the block is known and a commit names it.
    pub(super) fn is_committed(&self, block: &BlockId) -> bool {
        let number = self.numbers.get(block);
        number.is_some_and(|number| self.blocks[*number as usize].uncommitted.is_none())
    }

    /// Returns the summary and directory that a commit needs for a block, if no commit names it yet.
    pub(super) fn uncommitted(&self, block: u32) -> Option<(Summary, Directory)> {
        let Block { summary, chunks, needs, uncommitted, .. } = &self.blocks[block as usize];
        let frames = uncommitted.clone()?;
        Some((*summary, Directory { chunks: chunks.clone(), frames, needs: needs.clone() }))
    }

    /// Forgets the chunks of the blocks that `usable` rejects, and of those that depend on such blocks.
    pub(super) fn retain(&mut self, usable: impl Fn(&BlockId) -> bool) {
        let usable: Vec<bool> =
            self.blocks.iter().map(|b| is_usable(&b.summary, &b.needs, &usable)).collect();
        self.table.retain(|place| usable[place.block as usize]);
        for (block, _) in self.blocks.iter_mut().zip(usable).filter(|(_, usable)| !usable) {
            block.chunks = Vec::new();
        }
    }

    /// Returns true if the chunk stands in this place.
    pub(super) fn stands_at(&self, id: &ChunkId, place: Place) -> bool {
        self.id_at(place) == Some(id)
    }

    /// Returns the places of a chunk: only some, if there are many.
    pub(super) fn places(&self, id: &ChunkId) -> impl Iterator<Item = Place> {
        let all = self.table.iter_hash(id.word()).copied();
        all.filter(|place| self.id_at(*place) == Some(id)).take(PLACES_OF_CHUNK)
    }

    /// Returns the needs of the delta frames in a stretch of a block.
    pub(super) fn needs(&self, block: u32, frames: &Range<u32>) -> &[FrameNeeds] {
        let Block { frames: starts, needs, .. } = &self.blocks[block as usize];
        // one more entry stands behind the last frame
        let deltas_before = |offset: u32| {
            let frame = starts.partition_point(|start| start.offset < offset).min(starts.len() - 1);
            starts[frame].deltas as usize
        };
        needs.get(deltas_before(frames.start)..deltas_before(frames.end)).unwrap_or_default()
    }

    /// Returns the number of a block, if it is known.
    pub(super) fn number(&self, block: &BlockId) -> Option<u32> {
        self.numbers.get(block).copied()
    }

    /// Returns the chunk in a place, if its block may be used.
    pub(super) fn chunk(&self, place: Place) -> Option<Chunk> {
        self.blocks[place.block as usize].chunks.get(place.chunk as usize).copied()
    }

    /// Returns the frames in a stretch of a block, each as a range.
    pub(super) fn frames(&self, block: u32, stretch: &Range<u32>) -> impl Iterator<Item = Range<u32>> {
        let frames = &self.blocks[block as usize].frames;
        let first = frames.partition_point(|frame| frame.offset < stretch.start);
        let pairs = frames[first..].windows(2).map(|pair| pair[0].offset..pair[1].offset);
        let end = stretch.end;
        pairs.take_while(move |frame| frame.start < end)
    }

    /// Returns the needs of all delta frames of a block.
    pub(super) fn all_needs(&self, block: u32) -> &[FrameNeeds] {
        &self.blocks[block as usize].needs
    }

    /// Returns the place of a chunk's frame in its block.
    pub(super) fn frame(&self, place: Place) -> Range<u32> {
        let frames = &self.blocks[place.block as usize].frames;
        let frame = frames.partition_point(|f| f.chunk <= place.chunk) - 1;
        frames[frame].offset..frames[frame + 1].offset
    }

    fn id_at(&self, place: Place) -> Option<&ChunkId> {
        let chunk = self.blocks[place.block as usize].chunks.get(place.chunk as usize);
        chunk.map(|chunk| &chunk.id)
    }

    /// Returns the summary of a block.
    pub(super) fn summary(&self, block: u32) -> Summary {
        self.blocks[block as usize].summary
    }

    /// Returns the term for `count` chunks from `first`, with block number `block` in its recipe. All
    /// chunks must be known.
    pub(super) fn term(&self, first: Place, count: u16, checksum: u64, block: u32) -> Term {
        let Block { chunks, frames, .. } = &self.blocks[first.block as usize];
        let end = first.chunk + u32::from(count);
        let frame = frames.partition_point(|f| f.chunk <= first.chunk) - 1;
        let frames_end = frames[frames.partition_point(|f| f.chunk < end)].offset;
        let bytes = |chunks: &[Chunk]| chunks.iter().map(|c| c.bytes).sum::<u32>();
        Term {
            block,
            first_chunk: first.chunk as u16,
            chunk_count: count,
            frames_offset: frames[frame].offset,
            frames_bytes: frames_end - frames[frame].offset,
            skip_bytes: bytes(&chunks[frames[frame].chunk as usize..first.chunk as usize]),
            content_bytes: bytes(&chunks[first.chunk as usize..end as usize]),
            checksum,
        }
    }
}
