//! Frames: up to 256 KiB of consecutive novel chunks, compressed together.
//!
//! A *plain* frame is one Zstandard frame and nothing else. A *grouped* frame is a skippable frame
//! that says so, followed by one Zstandard frame for each plane. A *delta* frame ([`super::delta`]) stands whole
//! inside a skippable frame, because `zstd` alone could not decode it.

use xxhash_rust::xxh64::xxh64;
use zstd::zstd_safe;

use super::byte_grouping;
use super::cursor::{Cursor, Put};
use super::delta::{self, Bases, Delta, FrameNeeds};
use crate::error::{Error, Result};
use crate::limit;

/// Magic of an ordinary Zstandard frame.
const ZSTD_MAGIC: u32 = 0xFD2F_B528;
/// Magic of the skippable frame that begins a frame of another kind than plain.
const KIND_MAGIC: u32 = 0x184D_2A5C;
/// Bytes of a skippable frame's magic and length.
pub(crate) const SKIPPABLE_HEADER_BYTES: usize = 8;
/// Largest raw block of a Zstandard frame (RFC 8878, 3.1.1.2.3).
const RAW_BLOCK_BYTES: usize = 128 * limit::KIB;
/// What is tried on content that looks random, before it is kept raw: fast enough to be nearly free.
const PROBE_LEVEL: i32 = -7;

/// How a frame was made; the numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// One Zstandard frame.
    Plain = 0,
    /// Byte-grouped planes, a Zstandard frame each.
    Grouped = 1,
    /// A patch to the content of terms elsewhere.
    Delta = 2,
}

impl Kind {
    pub(crate) fn from_byte(byte: u8) -> Result<Self> {
        match byte {
            0 => Ok(Self::Plain),
            1 => Ok(Self::Grouped),
            2 => Ok(Self::Delta),
            other => Err(Error::too_new(format!("a frame of kind {other}"))),
        }
    }
}

/// Where the first frame of some bytes ends, how it was made and what it will unpack to.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// How it was made.
    pub kind: Kind,
    /// The whole frame, as stored.
    pub stored: &'a [u8],
    /// Bytes of content that it unpacks to; at most [`limit::FRAME_CONTENT_BYTES`].
    pub content_bytes: usize,
    /// Bytes of one number of a grouped frame, else 1.
    width: usize,
}

fn corrupt() -> Error {
    Error::corrupt("a frame is damaged")
}

impl<'a> Frame<'a> {
    /// Reads the head of the frame that `bytes` begin with, and finds its end.
    pub fn first(bytes: &'a [u8]) -> Result<Self> {
        let mut cursor = Cursor::new(bytes, "a frame");
        if cursor.u32()? != KIND_MAGIC {
            let (stored_bytes, content_bytes) = zstd_frame(bytes)?;
            let stored = &bytes[..stored_bytes];
            return Self { kind: Kind::Plain, stored, content_bytes, width: 1 }.checked();
        }
        let length = cursor.u32()? as usize;
        let payload = cursor.bytes(length)?;
        let mut head = Cursor::new(payload, "a frame's head");
        let kind = match Kind::from_byte(head.u8()?)? {
            Kind::Delta => return Self::of_delta(&bytes[..SKIPPABLE_HEADER_BYTES + length], payload),
            // it needs no head
            Kind::Plain => return Err(corrupt()),
            Kind::Grouped => Kind::Grouped,
        };
        let width = usize::from(head.u8()?);
        if !byte_grouping::WIDTHS.contains(&width) || head.u16()? != 0 {
            return Err(Error::too_new(format!("a frame grouped by {width} bytes")));
        }
        let content_bytes = head.u32()? as usize;
        head.finish()?;
        let mut end = SKIPPABLE_HEADER_BYTES + length;
        for expected in byte_grouping::plane_lengths(content_bytes, width) {
            let (stored, content) = zstd_frame(&bytes[end..])?;
            if content != expected {
                return Err(corrupt());
            }
            end += stored;
        }
        Self { kind, stored: &bytes[..end], content_bytes, width }.checked()
    }

    fn of_delta(stored: &'a [u8], payload: &'a [u8]) -> Result<Self> {
        let delta = Delta::read(payload)?;
        if zstd_frame(delta.packed)? != (delta.packed.len(), delta.content_bytes) {
            return Err(corrupt());
        }
        Self { kind: Kind::Delta, stored, content_bytes: delta.content_bytes, width: 1 }.checked()
    }

    /// What a delta frame is made from. Only of such a frame.
    pub fn delta(&self) -> Result<Delta<'a>> {
        match self.kind {
            Kind::Delta => Delta::read(self.stored.get(SKIPPABLE_HEADER_BYTES..).unwrap_or_default()),
            _ => Err(Error::internal("a frame is no delta")),
        }
    }

    fn checked(self) -> Result<Self> {
        let sound = (1..=limit::FRAME_CONTENT_BYTES).contains(&self.content_bytes)
            && self.stored.len() <= limit::FRAME_STORED_BYTES;
        if sound { Ok(self) } else { Err(corrupt()) }
    }

    /// What the seek table says of it: stored and unpacked bytes of each frame as `zstd` sees them.
    pub(crate) fn zstd_frames(&self) -> Result<Vec<(u32, u32)>> {
        let mut entries = Vec::with_capacity(1 + self.width);
        let mut rest = self.stored;
        if self.kind != Kind::Plain {
            let length = Cursor::new(&rest[4..], "a frame").u32()? as usize + SKIPPABLE_HEADER_BYTES;
            entries.push((length as u32, 0));
            rest = rest.get(length..).ok_or_else(corrupt)?;
        }
        // of a delta frame nothing is left
        while !rest.is_empty() {
            let (stored, content) = zstd_frame(rest)?;
            entries.push((stored as u32, content as u32));
            rest = &rest[stored..];
        }
        Ok(entries)
    }
}

/// Stored and unpacked length of the Zstandard frame that `bytes` begin with.
fn zstd_frame(bytes: &[u8]) -> Result<(usize, usize)> {
    if Cursor::new(bytes, "a frame").u32()? != ZSTD_MAGIC {
        return Err(corrupt());
    }
    let stored = zstd_safe::find_frame_compressed_size(bytes).map_err(|_| corrupt())?;
    match zstd_safe::get_frame_content_size(bytes) {
        Ok(Some(content)) if content <= limit::FRAME_CONTENT_BYTES as u64 && stored <= bytes.len() => {
            Ok((stored, content as usize))
        }
        _ => Err(corrupt()),
    }
}

/// A frame, ready to be stored.
#[derive(Debug)]
pub struct Encoded {
    /// How it was made.
    pub kind: Kind,
    /// The whole frame.
    pub stored: Vec<u8>,
    /// All that a delta frame is made from.
    pub needs: Option<FrameNeeds>,
}

/// Makes frames; one per thread.
pub struct Encoder {
    level_number: i32,
    level: zstd::bulk::Compressor<'static>,
    probe: zstd::bulk::Compressor<'static>,
    sample: Vec<u8>,
    grouped: Vec<u8>,
    tried: Vec<u8>,
}

impl Encoder {
    /// An encoder of this Zstandard level (1 to 22).
    pub fn new(level: i32) -> Result<Self> {
        let compressor = |level| -> Result<_> {
            let failed = |e| Error::internal(format!("Zstandard level {level} is not to be had: {e}"));
            let mut compressor = zstd::bulk::Compressor::new(level).map_err(failed)?;
            compressor.include_checksum(true).map_err(failed)?;
            Ok(compressor)
        };
        Ok(Self {
            level_number: level,
            level: compressor(level)?,
            probe: compressor(PROBE_LEVEL)?,
            sample: Vec::new(),
            grouped: Vec::new(),
            tried: Vec::new(),
        })
    }

    /// Compresses `content` (1 to [`limit::FRAME_CONTENT_BYTES`] bytes) in the way that a cheap
    /// test finds best, raw if nothing helps.
    pub fn encode(&mut self, content: &[u8]) -> Result<Encoded> {
        assert!((1..=limit::FRAME_CONTENT_BYTES).contains(&content.len()));
        let mut stored = Vec::with_capacity(content.len() + limit::KIB);
        let Some(width) = self.width(content)? else {
            self.append(content, &mut stored)?;
            // a block of frames that shrink well would hold several times its size
            stored.shrink_to_fit();
            return Ok(Encoded { kind: Kind::Plain, stored, needs: None });
        };
        stored.put_u32(KIND_MAGIC);
        stored.put_u32(8);
        stored.extend_from_slice(&[Kind::Grouped as u8, width as u8, 0, 0]);
        stored.put_u32(content.len() as u32);
        let mut grouped = std::mem::take(&mut self.grouped);
        let ends = byte_grouping::group(content, width, &mut grouped);
        let mut start = 0;
        for end in ends {
            self.append(&grouped[start..end], &mut stored)?;
            start = end;
        }
        self.grouped = grouped;
        stored.shrink_to_fit();
        Ok(Encoded { kind: Kind::Grouped, stored, needs: None })
    }

    /// As [`Encoder::encode`], or as a patch to `bases` if that saves at least `saves_percent` of the bytes.
    pub fn encode_over(&mut self, content: &[u8], bases: Bases, saves_percent: usize) -> Result<Encoded> {
        let payload = delta::encode(Kind::Delta as u8, self.level_number, content, &bases)?;
        let stored_bytes = SKIPPABLE_HEADER_BYTES + payload.len();
        // what hardly anything else could do isn't tried
        if stored_bytes > content.len() / limit::DELTA_PLAIN_SHARE {
            let other = self.encode(content)?;
            if stored_bytes * 100 > other.stored.len() * (100 - saves_percent.min(100)) {
                return Ok(other);
            }
        }
        let mut stored = Vec::with_capacity(stored_bytes);
        stored.put_u32(KIND_MAGIC);
        stored.put_u32(payload.len() as u32);
        stored.extend_from_slice(&payload);
        Ok(Encoded { kind: Kind::Delta, stored, needs: Some(bases.needs) })
    }

    /// The width to group `content` by, if that helps: guessed from byte counts, confirmed by
    /// compressing a part both ways.
    fn width(&mut self, content: &[u8]) -> Result<Option<usize>> {
        take_sample(content, &mut self.sample);
        let Some(width) = byte_grouping::likely_width(&self.sample) else { return Ok(None) };
        let part = &content[..content.len().min(64 * limit::KIB)];
        let plain = self.compressed(part)?;
        let mut grouped = std::mem::take(&mut self.grouped);
        let ends = byte_grouping::group(part, width, &mut grouped);
        let (mut start, mut bytes) = (0, 0);
        for end in ends {
            bytes += self.compressed(&grouped[start..end])?.min(end - start);
            start = end;
        }
        self.grouped = grouped;
        Ok((bytes * 100 < plain * 98).then_some(width))
    }

    /// How many bytes `content` compresses to, leaving them in `tried`.
    fn compressed(&mut self, content: &[u8]) -> Result<usize> {
        compress(&mut self.level, content, &mut self.tried)
    }

    /// Appends one Zstandard frame of `content`, compressed if that saves anything worth a decoder's
    /// time, else of raw blocks.
    fn append(&mut self, content: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let enough = content.len() - content.len() / 128;
        take_sample(content, &mut self.sample);
        let hopeless = byte_grouping::looks_random(&self.sample)
            && compress(&mut self.probe, content, &mut self.tried)? >= enough;
        if !hopeless && self.compressed(content)? < enough {
            out.extend_from_slice(&self.tried);
        } else {
            append_raw(content, out);
        }
        Ok(())
    }
}

/// Compresses into `out`, replacing what it held.
fn compress(
    compressor: &mut zstd::bulk::Compressor<'static>,
    content: &[u8],
    out: &mut Vec<u8>,
) -> Result<usize> {
    out.clear();
    out.reserve(zstd_safe::compress_bound(content.len()));
    compressor
        .compress_to_buffer(content, out)
        .map_err(|e| Error::internal(format!("Zstandard could not compress a frame: {e}")))
}

/// Sixteen pieces from all over the content, each beginning at a multiple of 8.
fn take_sample(content: &[u8], sample: &mut Vec<u8>) {
    const PIECES: usize = 16;
    const PIECE_BYTES: usize = 2 * limit::KIB;
    sample.clear();
    if content.len() <= PIECES * PIECE_BYTES {
        sample.extend_from_slice(content);
        return;
    }
    for piece in 0..PIECES {
        let start = (content.len() - PIECE_BYTES) / (PIECES - 1) * piece / 8 * 8;
        sample.extend_from_slice(&content[start..start + PIECE_BYTES]);
    }
}

/// A Zstandard frame of raw blocks (RFC 8878, 3.1.1): nothing to compress, nothing lost but the
/// checksum's time.
fn append_raw(content: &[u8], out: &mut Vec<u8>) {
    out.put_u32(ZSTD_MAGIC);
    // a single segment, four bytes of content size, a content checksum
    out.push(0b1010_0100);
    out.put_u32(content.len() as u32);
    let mut blocks = content.chunks(RAW_BLOCK_BYTES).peekable();
    if content.is_empty() {
        out.extend_from_slice(&[1, 0, 0]);
    }
    while let Some(block) = blocks.next() {
        let header = (block.len() as u32) << 3 | u32::from(blocks.peek().is_none());
        out.extend_from_slice(&header.to_le_bytes()[..3]);
        out.extend_from_slice(block);
    }
    out.put_u32(xxh64(content, 0) as u32);
}

/// Unpacks frames; one per thread.
pub struct Decoder {
    zstd: zstd::bulk::Decompressor<'static>,
    planes: Vec<u8>,
    content: Vec<u8>,
}

impl Decoder {
    /// A decoder with empty buffers.
    pub fn new() -> Result<Self> {
        let zstd = zstd::bulk::Decompressor::new()
            .map_err(|e| Error::internal(format!("Zstandard can't be used: {e}")))?;
        Ok(Self { zstd, planes: Vec::new(), content: Vec::new() })
    }

    /// The content of a delta frame, its checksum verified. `base` is what its bases are, one after the other.
    pub fn decode_over(&mut self, frame: &Frame<'_>, base: &[u8]) -> Result<&[u8]> {
        let content = grown(&mut self.content, frame.content_bytes);
        frame.delta()?.decode(base, content)?;
        Ok(content)
    }

    /// The content of `frame`, which must be no delta, its checksums verified.
    pub fn decode(&mut self, frame: &Frame<'_>) -> Result<&[u8]> {
        let content = grown(&mut self.content, frame.content_bytes);
        match frame.kind {
            Kind::Plain => unpack(&mut self.zstd, frame.stored, content)?,
            Kind::Grouped => {
                let planes = grown(&mut self.planes, frame.content_bytes);
                let mut rest = &mut *planes;
                for (stored, content, start) in offsets(frame.zstd_frames()?) {
                    // the head, which is skippable, has none
                    let (plane, others) = rest.split_at_mut_checked(content).ok_or_else(corrupt)?;
                    if content > 0 {
                        unpack(&mut self.zstd, &frame.stored[start..start + stored], plane)?;
                    }
                    rest = others;
                }
                if !rest.is_empty() {
                    return Err(corrupt());
                }
                byte_grouping::ungroup(planes, frame.width, content);
            }
            Kind::Delta => return Err(Error::internal("a delta frame was unpacked without its bases")),
        }
        Ok(content)
    }
}

/// The first `bytes` of a buffer that only grows: clearing it for each frame would cost time.
fn grown(buffer: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    if buffer.len() < bytes {
        buffer.resize(bytes, 0);
    }
    &mut buffer[..bytes]
}

/// Adds to every (stored, content) pair where it begins.
fn offsets(frames: Vec<(u32, u32)>) -> impl Iterator<Item = (usize, usize, usize)> {
    frames.into_iter().scan(0, |end, (stored, content)| {
        let start = *end;
        *end += stored as usize;
        Some((stored as usize, content as usize, start))
    })
}

/// Unpacks one Zstandard frame that fills `content` exactly.
fn unpack(zstd: &mut zstd::bulk::Decompressor<'static>, stored: &[u8], content: &mut [u8]) -> Result<()> {
    match zstd.decompress_to_buffer(stored, content) {
        Ok(written) if written == content.len() => Ok(()),
        _ => Err(corrupt()),
    }
}
