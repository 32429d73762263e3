//! Delta frames: content stored as a delta to similar content elsewhere. The *bases* are terms of other
//! blocks. Their contents, one after the other, are the prefix that Zstandard refers to.

use std::ops::Range;
use std::sync::Arc;

use zstd::zstd_safe::{CCtx, CParameter, DCtx};

use super::block::Summary;
use super::cursor::{Cursor, Put};
use super::recipe::{TERM_WIDTH, Term};
use crate::error::{Error, Result};
use crate::format::limits;
use crate::id::{BlockId, ContentHash, Nonce};

/// The bytes of kind, depth, number of blocks, number of bases, a reserved field and content length.
const HEAD_BYTES: usize = 12;
const BLOCK_WIDTH: usize = 40;

/// A frame that has to be unpacked before another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// The frame's block. Many frames share one summary.
    pub block: Arc<Summary>,
    /// The frame's place in the block, in bytes.
    pub range: Range<u32>,
}

/// All frames that a delta frame needs: the frames of its bases and, if these are delta frames, the frames of
/// their bases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameNeeds {
    /// The number of delta frames that may follow on each other, including the frame itself.
    pub depth: u8,
    /// The frames, by block and place, each once. They are at most [`limits::DELTA_FRAMES`].
    pub frames: Vec<Needed>,
}

/// The bases of one delta frame, with their contents.
#[derive(Clone, Debug, Default)]
pub struct Bases {
    /// The blocks that the terms name.
    pub blocks: Vec<BlockId>,
    /// The bases, in their order.
    pub terms: Vec<Term>,
    /// The contents of the bases, one after the other. They have at most [`limits::DELTA_BASE_BYTES`].
    pub content: Vec<u8>,
    /// All frames that a reader has to unpack before the delta frame.
    pub needs: FrameNeeds,
}

/// Returns true if a term may be a base. It must have content. Its frames must not have many more bytes than
/// the content, except for the rest of the first and last frame. Otherwise a forged term could make a reader
/// fetch 16 MiB for one byte.
pub fn may_be_base(term: &Term) -> bool {
    let most = 2 * limits::FRAME_STORED_BYTES + 2 * term.content_bytes as usize;
    !term.is_base() && term.frames_bytes as usize <= most
}

/// The fields of a delta frame.
#[derive(Debug)]
pub struct Delta<'a> {
    /// The depth. It is greater than the depth of every frame that holds a base. Frames of other kinds have
    /// no depth.
    pub depth: u8,
    /// The blocks that the bases name.
    pub blocks: Vec<BlockId>,
    /// The bases, in their order.
    pub bases: Vec<Term>,
    /// Bytes of content.
    pub content_bytes: usize,
    /// A Zstandard frame.
    pub(super) packed: &'a [u8],
}

impl<'a> Delta<'a> {
    /// Reads the payload behind the header of the skippable frame.
    pub(super) fn read(payload: &'a [u8]) -> Result<Self> {
        let mut cursor = Cursor::new(payload, "a delta frame");
        cursor.u8()?;
        let depth = cursor.u8()?;
        let blocks = cursor.u16()?;
        let bases = cursor.u16()?;
        let reserved = cursor.u16()?;
        let content_bytes = cursor.u32()? as usize;
        if reserved != 0 {
            return Err(Error::too_new("a delta frame"));
        }
        let lists = BLOCK_WIDTH * usize::from(blocks) + TERM_WIDTH * usize::from(bases);
        let mut lists = Cursor::new(cursor.bytes(lists)?, "a delta frame's bases");
        let mut delta =
            Self { depth, blocks: Vec::new(), bases: Vec::new(), content_bytes, packed: &payload[0..0] };
        for _ in 0..blocks {
            let hash = ContentHash(lists.array()?);
            delta.blocks.push(BlockId { hash, nonce: Nonce(lists.array()?) });
        }
        for _ in 0..bases {
            delta.bases.push(Term::read(&mut lists, delta.blocks.len())?);
        }
        delta.packed = cursor.bytes(cursor.remaining())?;
        let sound = (1..=limits::DELTA_DEPTH).contains(&depth)
            && !delta.bases.is_empty()
            && delta.bases.iter().all(may_be_base)
            && delta.base_bytes() <= limits::DELTA_BASE_BYTES;
        if sound { Ok(delta) } else { Err(Error::corrupt("a delta frame has impossible bases")) }
    }

    /// Returns the bytes of content of all bases.
    pub fn base_bytes(&self) -> usize {
        self.bases.iter().map(|term| term.content_bytes as usize).sum()
    }

    /// Unpacks the frame into `content`, which it must fill. `base` is the contents of the bases, one after
    /// the other.
    pub(super) fn decode(&self, base: &[u8], content: &mut [u8]) -> Result<()> {
        let corrupt = || Error::corrupt("a delta frame is damaged, or what it was made from");
        if base.len() != self.base_bytes() {
            return Err(Error::internal("a delta frame was given other bases than it names"));
        }
        let mut context = DCtx::try_create().ok_or_else(|| Error::internal("Zstandard can't be used"))?;
        context.ref_prefix(base).map_err(|_| corrupt())?;
        match context.decompress(content, self.packed) {
            Ok(written) if written == content.len() => Ok(()),
            _ => Err(corrupt()),
        }
    }
}

/// Encodes `content` as a delta to `bases`. Returns the payload behind the header of the skippable frame.
pub(super) fn encode(kind: u8, level: i32, content: &[u8], bases: &Bases) -> Result<Vec<u8>> {
    let failed = |code| {
        Error::internal(format!(
            "Zstandard could not compress a delta frame: {}",
            zstd::zstd_safe::get_error_name(code)
        ))
    };
    let mut out = Vec::with_capacity(HEAD_BYTES + BLOCK_WIDTH * bases.blocks.len());
    out.extend_from_slice(&[kind, bases.needs.depth]);
    out.put_u16(bases.blocks.len() as u16);
    out.put_u16(bases.terms.len() as u16);
    out.put_u16(0);
    out.put_u32(content.len() as u32);
    for block in &bases.blocks {
        out.extend_from_slice(&block.hash.0);
        out.extend_from_slice(&block.nonce.0);
    }
    bases.terms.iter().for_each(|term| term.write(&mut out));
    let mut context = CCtx::try_create().ok_or_else(|| Error::internal("Zstandard can't be used"))?;
    // the window holds the whole prefix, so a match may lie anywhere in it
    let window = (bases.content.len() + content.len()).next_power_of_two().ilog2().max(10);
    for parameter in [
        CParameter::CompressionLevel(level),
        CParameter::ChecksumFlag(true),
        CParameter::WindowLog(window),
        CParameter::EnableLongDistanceMatching(true),
    ] {
        context.set_parameter(parameter).map_err(failed)?;
    }
    context.ref_prefix(&bases.content).map_err(failed)?;
    let mut packed = Vec::with_capacity(zstd::zstd_safe::compress_bound(content.len()));
    context.compress2(&mut packed, content).map_err(failed)?;
    out.extend_from_slice(&packed);
    Ok(out)
}

const NEEDED_WIDTH: usize = 12;
/// The name of a list of needs in errors.
const NEEDS: &str = "what delta frames are made from";

/// Writes the needs of all delta frames of a block, in their order.
pub(crate) fn write_needs(needs: &[FrameNeeds], out: &mut Vec<u8>) {
    let all = needs.iter().flat_map(|needs| &needs.frames);
    let mut blocks: Vec<&Summary> = all.map(|needed| &*needed.block).collect();
    blocks.sort_by_key(|block| block.id);
    blocks.dedup_by_key(|block| block.id);
    out.put_u32(blocks.len() as u32);
    blocks.iter().for_each(|block| block.write(out));
    for FrameNeeds { depth, frames } in needs {
        out.extend_from_slice(&[*depth, 0]);
        out.put_u16(frames.len() as u16);
        for Needed { block, range } in frames {
            out.put_u32(blocks.partition_point(|b| b.id < block.id) as u32);
            out.put_u32(range.start);
            out.put_u32(range.len() as u32);
        }
    }
}

/// Returns an upper bound of the bytes that [`write_needs`] takes for one more frame.
pub(crate) fn needs_bytes(needs: &FrameNeeds) -> usize {
    4 + (NEEDED_WIDTH + super::block::SUMMARY_WIDTH) * needs.frames.len()
}

/// Reads the needs of a block that has `frames` delta frames.
pub(crate) fn read_needs(cursor: &mut Cursor<'_>, frames: usize) -> Result<Vec<FrameNeeds>> {
    let count = cursor.u32()? as usize;
    let summaries = cursor.bytes(count.saturating_mul(super::block::SUMMARY_WIDTH))?;
    let read = |cursor: &mut Cursor<'_>| Summary::read(cursor).map(Arc::new);
    let blocks = super::block::read_all(summaries, super::block::SUMMARY_WIDTH, NEEDS, read)?;
    let mut needs = Vec::new();
    for _ in 0..frames {
        let depth = cursor.u8()?;
        let _ = cursor.u8()?;
        let count = usize::from(cursor.u16()?);
        let mut listed = Cursor::new(cursor.bytes(NEEDED_WIDTH * count)?, NEEDS);
        let mut frames = Vec::with_capacity(count);
        while listed.remaining() > 0 {
            frames.push(read_needed(&mut listed, &blocks)?);
        }
        let sorted = frames.is_sorted_by(|a, b| (a.block.id, a.range.start) < (b.block.id, b.range.start));
        if !(1..=limits::DELTA_DEPTH).contains(&depth)
            || !(1..=limits::DELTA_FRAMES).contains(&count)
            || !sorted
        {
            return Err(Error::corrupt("what a delta frame is made from is impossible"));
        }
        needs.push(FrameNeeds { depth, frames });
    }
    Ok(needs)
}

fn read_needed(cursor: &mut Cursor<'_>, blocks: &[Arc<Summary>]) -> Result<Needed> {
    let block = cursor.u32()? as usize;
    let start = cursor.u32()?;
    let bytes = cursor.u32()?;
    let outside = || Error::corrupt("a delta frame is made from a frame that can't be");
    let block = blocks.get(block).ok_or_else(outside)?.clone();
    let end = start.checked_add(bytes).filter(|end| *end <= block.frames_bytes).ok_or_else(outside)?;
    if bytes == 0 || bytes as usize > limits::FRAME_STORED_BYTES {
        return Err(outside());
    }
    Ok(Needed { block, range: start..end })
}
