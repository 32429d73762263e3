//! Blocks: frames, the block directory in a skippable frame, and the seek table of Zstandard's seekable
//! format. The whole block is an ordinary Zstandard file.

use std::ops::Range;

use bytes::Bytes;

use super::container::{self, Container, Features, Section};
use super::cursor::{Cursor, Put};
use super::delta::{self, FrameNeeds};
use super::frame::{Encoded, Frame, Kind, SKIPPABLE_HEADER_BYTES};
use crate::error::{Error, Result};
use crate::format::limits;
use crate::id::{BlockId, ChunkId, ContentHash, Nonce};

const MAGIC: &[u8; 8] = b"CDCblock";
const DIRECTORY_MAGIC: u32 = 0x184D_2A5D;
/// The magic numbers of the seekable format's specification (zstd, contrib/seekable_format).
const SEEK_TABLE_MAGIC: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
const SEEK_ENTRY_BYTES: usize = 8;
const SEEK_FOOTER_BYTES: usize = 9;

const SECTION_CHUNKS: u32 = 1;
const SECTION_FRAMES: u32 = 2;
const SECTION_NEEDS: u32 = 3;
pub(crate) const CHUNK_WIDTH: usize = 36;
pub(crate) const FRAME_WIDTH: usize = 12;
/// The bytes of a [`Summary`] without its block.
pub const SUMMARY_WIDTH: usize = 56;
/// An upper bound of the bytes of header, section table, skippable headers and seek table footer.
const OVERHEAD_BYTES: usize = 512;

/// An entry of a directory's chunk list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The chunk's id.
    pub id: ChunkId,
    /// The chunk's length in bytes.
    pub bytes: u32,
}

impl Chunk {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0);
        out.put_u32(self.bytes);
    }

    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        Ok(Self { id: ChunkId(cursor.array()?), bytes: cursor.u32()? })
    }
}

/// An entry of a directory's frame list. The frame's offset is the sum of the stored bytes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameEntry {
    /// The frame's kind, as the stored byte.
    pub kind: u8,
    /// The number of chunks in the frame.
    pub chunk_count: u16,
    /// Bytes of the frame in the block.
    pub stored_bytes: u32,
    /// Bytes of content.
    pub content_bytes: u32,
}

impl FrameEntry {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.kind, 0]);
        out.put_u16(self.chunk_count);
        out.put_u32(self.stored_bytes);
        out.put_u32(self.content_bytes);
    }

    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        let kind = cursor.u8()?;
        cursor.u8()?;
        let chunk_count = cursor.u16()?;
        let stored_bytes = cursor.u32()?;
        let content_bytes = cursor.u32()?;
        Ok(Self { kind, chunk_count, stored_bytes, content_bytes })
    }
}

/// The name and the sizes of a block, known without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The block's name.
    pub id: BlockId,
    /// Bytes of the whole block.
    pub size_bytes: u32,
    /// Bytes of all frames. The directory begins behind them.
    pub frames_bytes: u32,
    /// Bytes of content in all chunks.
    pub content_bytes: u32,
    /// The number of chunks.
    pub chunk_count: u32,
}

impl Summary {
    /// Reads a summary without its block.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(bytes, "a block's summary");
        let summary = Self::read(&mut cursor)?;
        cursor.finish()?;
        Ok(summary)
    }

    /// Returns the bytes behind the frames: directory and seek table.
    pub fn directory_bytes(&self) -> u64 {
        u64::from(self.size_bytes.saturating_sub(self.frames_bytes))
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.hash.0);
        out.extend_from_slice(&self.id.nonce.0);
        out.put_u32(self.size_bytes);
        out.put_u32(self.frames_bytes);
        out.put_u32(self.content_bytes);
        out.put_u32(self.chunk_count);
    }

    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        let summary = Self {
            id: BlockId { hash: ContentHash(cursor.array()?), nonce: Nonce(cursor.array()?) },
            size_bytes: cursor.u32()?,
            frames_bytes: cursor.u32()?,
            content_bytes: cursor.u32()?,
            chunk_count: cursor.u32()?,
        };
        let sound = summary.size_bytes as usize <= limits::BLOCK_BYTES
            && summary.frames_bytes < summary.size_bytes
            && summary.chunk_count as usize <= limits::BLOCK_CHUNKS;
        if sound {
            Ok(summary)
        } else {
            Err(Error::corrupt(format!("block {} has impossible sizes", summary.id)))
        }
    }
}

/// The directory of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// Chunks in the order of their content.
    pub chunks: Vec<Chunk>,
    /// Frames in the order in which they are stored.
    pub frames: Vec<FrameEntry>,
    /// The needs of each delta frame, in the same order.
    pub needs: Vec<FrameNeeds>,
}

impl Directory {
    /// Reads the directory of a whole block, and checks that frames, chunks and seek table agree.
    pub fn parse(block: &[u8]) -> Result<Self> {
        Self::parse_end(block, block.len())
    }

    /// Reads the directory from `end`, the end of a block of `block_bytes`. `end` begins at or before the end
    /// of the frames.
    pub fn parse_end(end: &[u8], block_bytes: usize) -> Result<Self> {
        let (frames_bytes, directory) = locate(end, block_bytes)?;
        let container = Container::parse(directory, MAGIC, "a block's directory")?;
        let chunks = container.section(directory, SECTION_CHUNKS)?;
        let frames = container.section(directory, SECTION_FRAMES)?;
        let mut parsed = Self {
            chunks: read_all(chunks, CHUNK_WIDTH, "a block's chunk list", Chunk::read)?,
            frames: read_all(frames, FRAME_WIDTH, "a block's frame list", FrameEntry::read)?,
            needs: Vec::new(),
        };
        if parsed.delta_count() > 0 {
            let mut cursor = Cursor::new(container.section(directory, SECTION_NEEDS)?, "a block's needs");
            parsed.needs = delta::read_needs(&mut cursor, parsed.delta_count())?;
            cursor.finish()?;
        }
        parsed.check(frames_bytes)?;
        Ok(parsed)
    }

    /// Checks that the lengths in the lists agree with each other and with the bytes of all frames.
    pub(crate) fn check(&self, frames_bytes: usize) -> Result<()> {
        let disagree = || Error::corrupt("a block's chunks and frames disagree");
        let mut chunks = self.chunks.as_slice();
        let mut stored = 0;
        for frame in &self.frames {
            let (own, rest) = chunks.split_at_checked(usize::from(frame.chunk_count)).ok_or_else(disagree)?;
            let content: u64 = own.iter().map(|c| u64::from(c.bytes)).sum();
            let sound = !own.is_empty()
                && own.iter().all(|c| c.bytes > 0)
                && content == u64::from(frame.content_bytes)
                && (1..=limits::FRAME_STORED_BYTES).contains(&(frame.stored_bytes as usize))
                && content <= limits::FRAME_CONTENT_BYTES as u64;
            if !sound {
                return Err(disagree());
            }
            stored += frame.stored_bytes as usize;
            chunks = rest;
        }
        let listed = stored == frames_bytes && self.needs.len() == self.delta_count();
        if !chunks.is_empty() || !listed || self.chunks.len() > limits::BLOCK_CHUNKS {
            return Err(disagree());
        }
        Ok(())
    }

    /// Returns the number of delta frames.
    pub fn delta_count(&self) -> usize {
        self.frames.iter().filter(|frame| frame.kind == Kind::Delta as u8).count()
    }

    /// Returns the needs of the delta frames in a stretch of the block.
    pub fn needs_in(&self, stretch: &Range<u32>) -> &[FrameNeeds] {
        let deltas_before = |offset: u32| {
            let starts = self.frames.iter().scan(0, |end, frame| {
                let start = *end;
                *end += frame.stored_bytes;
                Some((start, frame))
            });
            let before = starts.take_while(|(start, _)| *start < offset);
            before.filter(|(_, frame)| frame.kind == Kind::Delta as u8).count()
        };
        self.needs.get(deltas_before(stretch.start)..deltas_before(stretch.end)).unwrap_or_default()
    }

    /// Makes the summary of this directory's block, which has the name `id` and `size_bytes`.
    pub fn summary(&self, id: BlockId, size_bytes: u32) -> Summary {
        Summary {
            id,
            size_bytes,
            frames_bytes: self.frames.iter().map(|frame| frame.stored_bytes).sum(),
            content_bytes: self.content_bytes() as u32,
            chunk_count: self.chunks.len() as u32,
        }
    }

    /// Returns the bytes of content in all chunks.
    pub fn content_bytes(&self) -> u64 {
        self.frames.iter().map(|f| u64::from(f.content_bytes)).sum()
    }
}

/// A block's summary and its directory.
pub type Entry = (Summary, Directory);

/// Reads fixed-width entries until the section ends.
pub(crate) fn read_all<T>(
    section: &[u8],
    width: usize,
    what: &'static str,
    read: impl Fn(&mut Cursor<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut cursor = Cursor::new(section, what);
    let mut entries = Vec::with_capacity(section.len() / width);
    while cursor.remaining() > 0 {
        entries.push(read(&mut cursor)?);
    }
    Ok(entries)
}

/// Finds the end of a block's frames and the directory's container, by the seek table at the end of the
/// block.
fn locate(block_end: &[u8], block_bytes: usize) -> Result<(usize, &[u8])> {
    let torn = || Error::corrupt("a block's seek table is damaged");
    if block_bytes > limits::BLOCK_BYTES {
        return Err(Error::corrupt(format!("a block is {block_bytes} bytes long")));
    }
    let before = block_bytes.checked_sub(block_end.len()).ok_or_else(torn)?;
    let footer = block_end.len().checked_sub(SEEK_FOOTER_BYTES).ok_or_else(torn)?;
    let mut cursor = Cursor::new(&block_end[footer..], "a block's seek table");
    let count = cursor.u32()? as usize;
    let flags = cursor.u8()?;
    let magic = cursor.u32()?;
    let entries_start = count.checked_mul(SEEK_ENTRY_BYTES).and_then(|b| footer.checked_sub(b));
    let start = entries_start.and_then(|s| s.checked_sub(SKIPPABLE_HEADER_BYTES)).ok_or_else(torn)?;
    let mut table = Cursor::new(&block_end[start..footer], "a block's seek table");
    let length = block_end.len() - start - SKIPPABLE_HEADER_BYTES;
    if magic != SEEKABLE_MAGIC
        || flags != 0
        || count == 0
        || table.u32()? != SEEK_TABLE_MAGIC
        || table.u32()? as usize != length
    {
        return Err(torn());
    }
    let mut end = 0usize;
    let mut directory_start = 0;
    for _ in 0..count {
        directory_start = end;
        end += table.u32()? as usize;
        table.u32()?;
    }
    let listed = directory_start.checked_sub(before).and_then(|first| block_end.get(first..start));
    let directory = listed.filter(|_| end == before + start).ok_or_else(torn)?;
    let mut cursor = Cursor::new(directory, "a block's directory");
    let magic = cursor.u32()?;
    let length = cursor.u32()? as usize;
    if magic != DIRECTORY_MAGIC || length != cursor.remaining() {
        return Err(torn());
    }
    Ok((directory_start, cursor.bytes(length)?))
}

/// The place of a frame in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramePlace {
    /// Offset in the block.
    pub offset: u32,
    /// Bytes in the block.
    pub bytes: u32,
    /// The number of the frame's first chunk, counted in the block.
    pub first_chunk: u16,
}

/// A block that is being filled.
#[derive(Default)]
pub struct Builder {
    pieces: Vec<Bytes>,
    frames_bytes: usize,
    hasher: blake3::Hasher,
    directory: Directory,
    /// An upper bound of the bytes that the needs of the delta frames take in the directory.
    needs_bytes: usize,
    seek: Vec<u8>,
}

impl Builder {
    /// Returns true if the block has no frames yet.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Returns the bytes of all frames.
    pub fn frames_bytes(&self) -> usize {
        self.frames_bytes
    }

    /// Returns true if the block has room for a frame of `chunk_count` chunks.
    pub fn fits(&self, frame: &Encoded, chunk_count: usize) -> bool {
        let chunks = self.directory.chunks.len() + chunk_count;
        let needs = self.needs_bytes + frame.needs.as_ref().map_or(0, delta::needs_bytes);
        // a grouped frame has at most nine Zstandard frames, each with a seek entry
        let directory = CHUNK_WIDTH * chunks + FRAME_WIDTH * (self.directory.frames.len() + 1) + needs;
        let seek = self.seek.len() + 9 * SEEK_ENTRY_BYTES;
        chunks <= limits::BLOCK_CHUNKS
            && self.frames_bytes + frame.stored.len() + directory + seek + OVERHEAD_BYTES
                <= limits::BLOCK_BYTES
    }

    /// Adds a frame and its chunks. Panics if the frame doesn't fit.
    pub fn push(&mut self, frame: Encoded, chunks: &[Chunk]) -> Result<FramePlace> {
        assert!(self.fits(&frame, chunks.len()));
        for (stored, content) in Frame::first(&frame.stored)?.zstd_frames()? {
            self.seek.put_u32(stored);
            self.seek.put_u32(content);
        }
        let place = FramePlace {
            offset: self.frames_bytes as u32,
            bytes: frame.stored.len() as u32,
            first_chunk: self.directory.chunks.len() as u16,
        };
        self.directory.frames.push(FrameEntry {
            kind: frame.kind as u8,
            chunk_count: chunks.len() as u16,
            stored_bytes: place.bytes,
            content_bytes: chunks.iter().map(|c| c.bytes).sum(),
        });
        self.directory.chunks.extend_from_slice(chunks);
        self.needs_bytes += frame.needs.as_ref().map_or(0, delta::needs_bytes);
        self.directory.needs.extend(frame.needs);
        self.frames_bytes += frame.stored.len();
        self.append(frame.stored);
        Ok(place)
    }

    fn append(&mut self, piece: Vec<u8>) {
        self.hasher.update(&piece);
        self.pieces.push(Bytes::from(piece));
    }

    /// Writes directory and seek table, and names the block.
    pub fn finish(mut self, nonce: Nonce) -> Sealed {
        let container = self.write_directory();
        let mut tail = Vec::with_capacity(container.len() + self.seek.len() + 64);
        tail.put_u32(DIRECTORY_MAGIC);
        tail.put_u32(container.len() as u32);
        tail.extend_from_slice(&container);
        self.seek.put_u32(tail.len() as u32);
        self.seek.put_u32(0);
        tail.put_u32(SEEK_TABLE_MAGIC);
        tail.put_u32((self.seek.len() + SEEK_FOOTER_BYTES) as u32);
        tail.extend_from_slice(&self.seek);
        tail.put_u32((self.seek.len() / SEEK_ENTRY_BYTES) as u32);
        tail.push(0);
        tail.put_u32(SEEKABLE_MAGIC);
        self.append(tail);
        let size_bytes = self.pieces.iter().map(Bytes::len).sum::<usize>();
        assert!(size_bytes <= limits::BLOCK_BYTES);
        let hash = ContentHash(*self.hasher.finalize().as_bytes());
        let summary = self.directory.summary(BlockId { hash, nonce }, size_bytes as u32);
        Sealed { summary, pieces: self.pieces, directory: self.directory }
    }

    fn write_directory(&self) -> Vec<u8> {
        let mut chunks = Vec::new();
        let mut frames = Vec::new();
        self.directory.chunks.iter().for_each(|c| c.write(&mut chunks));
        self.directory.frames.iter().for_each(|f| f.write(&mut frames));
        let section = |kind, bytes| Section { kind, bytes, paged: false };
        let mut sections = vec![section(SECTION_CHUNKS, chunks), section(SECTION_FRAMES, frames)];
        if !self.directory.needs.is_empty() {
            let mut needs = Vec::new();
            delta::write_needs(&self.directory.needs, &mut needs);
            sections.push(section(SECTION_NEEDS, needs));
        }
        container::write(MAGIC, Features::default(), &sections)
    }
}

/// A finished block: its name, its bytes and its directory.
pub struct Sealed {
    /// Name and sizes.
    pub summary: Summary,
    /// The bytes, in pieces.
    pub pieces: Vec<Bytes>,
    /// The directory.
    pub directory: Directory,
}
