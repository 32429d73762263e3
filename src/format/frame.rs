//! Frames: up to 256 KiB of consecutive new chunks, compressed together.
//!
//! A *plain* frame is one Zstandard frame. A *grouped* frame begins with a skippable frame that says so. One
//! Zstandard frame for each plane follows. A *delta* frame ([`super::delta`]) stands whole inside a skippable
//! frame, because `zstd` alone could not decode it.

use xxhash_rust::xxh64::xxh64;
use zstd::zstd_safe;

use super::byte_grouping;
use super::cursor::{Cursor, Put};
use super::delta::{self, Bases, Delta, FrameNeeds};
use crate::error::{Error, Result};
use crate::format::limits;
use crate::units::KIB;

/// A delta frame that takes no more than one part in this many of its content is kept. No other encoding is
/// tried then.
const DELTA_PLAIN_SHARE: usize = 50;

/// The magic of an ordinary Zstandard frame.
const ZSTD_MAGIC: u32 = 0xFD2F_B528;
/// The magic of the skippable frame at the beginning of a frame that is not plain.
const KIND_MAGIC: u32 = 0x184D_2A5C;
/// The bytes of a skippable frame's magic and length.
pub(crate) const SKIPPABLE_HEADER_BYTES: usize = 8;
/// The bytes of the largest raw block of a Zstandard frame (RFC 8878, 3.1.1.2.3).
const RAW_BLOCK_BYTES: usize = 128 * KIB;
/// The level that is tried on content that looks random, before it is kept raw. It is so fast that it is
/// nearly free.
const PROBE_LEVEL: i32 = -7;

/// The kinds of frames. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// One Zstandard frame.
    Plain = 0,
    /// A Zstandard frame for each byte-grouped plane.
    Grouped = 1,
    /// A delta to the content of terms in other blocks.
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

/// The first frame in some bytes: its kind, its stored bytes and the length of its content.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The frame's kind.
    pub kind: Kind,
    /// The whole frame, in its stored form.
    pub stored: &'a [u8],
    /// Bytes of content; at most [`limits::FRAME_CONTENT_BYTES`].
    pub content_bytes: usize,
    /// Bytes of one number of a grouped frame; 1 for the other kinds.
    width: usize,
}

fn corrupt() -> Error {
    Error::corrupt("a frame is damaged")
}

impl<'a> Frame<'a> {
    /// Reads the head of the frame at the beginning of `bytes`, and finds its end.
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
            // a plain frame has no head
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

    /// Reads the fields of a delta frame. Fails for the other kinds.
    pub fn delta(&self) -> Result<Delta<'a>> {
        match self.kind {
            Kind::Delta => Delta::read(self.stored.get(SKIPPABLE_HEADER_BYTES..).unwrap_or_default()),
            _ => Err(Error::internal("a frame is no delta")),
        }
    }

    fn checked(self) -> Result<Self> {
        let sound = (1..=limits::FRAME_CONTENT_BYTES).contains(&self.content_bytes)
            && self.stored.len() <= limits::FRAME_STORED_BYTES;
        if sound { Ok(self) } else { Err(corrupt()) }
    }

    /// Returns the frame's entries for the seek table: stored and unpacked bytes of each frame that `zstd` sees.
    pub(crate) fn zstd_frames(&self) -> Result<Vec<(u32, u32)>> {
        let mut entries = Vec::with_capacity(1 + self.width);
        let mut rest = self.stored;
        if self.kind != Kind::Plain {
            let length = Cursor::new(&rest[4..], "a frame").u32()? as usize + SKIPPABLE_HEADER_BYTES;
            entries.push((length as u32, 0));
            rest = rest.get(length..).ok_or_else(corrupt)?;
        }
        // a delta frame has nothing behind the skippable frame
        while !rest.is_empty() {
            let (stored, content) = zstd_frame(rest)?;
            entries.push((stored as u32, content as u32));
            rest = &rest[stored..];
        }
        Ok(entries)
    }
}

/// Returns the stored and the unpacked length of the Zstandard frame at the beginning of `bytes`.
fn zstd_frame(bytes: &[u8]) -> Result<(usize, usize)> {
    if Cursor::new(bytes, "a frame").u32()? != ZSTD_MAGIC {
        return Err(corrupt());
    }
    let stored = zstd_safe::find_frame_compressed_size(bytes).map_err(|_| corrupt())?;
    match zstd_safe::get_frame_content_size(bytes) {
        Ok(Some(content)) if content <= limits::FRAME_CONTENT_BYTES as u64 && stored <= bytes.len() => {
            Ok((stored, content as usize))
        }
        _ => Err(corrupt()),
    }
}

/// A frame, ready to be stored.
#[derive(Debug)]
pub struct Encoded {
    /// The frame's kind.
    pub kind: Kind,
    /// The whole frame.
    pub stored: Vec<u8>,
    /// The needs of a delta frame; `None` for the other kinds.
    pub needs: Option<FrameNeeds>,
}

/// An encoder of frames. Each thread has its own.
pub struct Encoder {
    level_number: i32,
    level: zstd::bulk::Compressor<'static>,
    probe: zstd::bulk::Compressor<'static>,
    sample: Vec<u8>,
    grouped: Vec<u8>,
    tried: Vec<u8>,
}

impl Encoder {
    /// Makes an encoder with this Zstandard level (1 to 22).
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

    /// Compresses `content` (1 to [`limits::FRAME_CONTENT_BYTES`] bytes), plain or grouped by a cheap test.
    /// Keeps it raw if compression doesn't help.
    pub fn encode(&mut self, content: &[u8]) -> Result<Encoded> {
        assert!((1..=limits::FRAME_CONTENT_BYTES).contains(&content.len()));
        let mut stored = Vec::with_capacity(content.len() + KIB);
        let Some(width) = self.width(content)? else {
            self.append(content, &mut stored)?;
            // without this, a block of well compressed frames would hold several times its size
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

    /// Encodes `content` as a delta to `bases` if that saves at least `saves_percent` of the bytes. Otherwise
    /// does the same as [`Encoder::encode`].
    pub fn encode_over(&mut self, content: &[u8], bases: Bases, saves_percent: usize) -> Result<Encoded> {
        let payload = delta::encode(Kind::Delta as u8, self.level_number, content, &bases)?;
        let stored_bytes = SKIPPABLE_HEADER_BYTES + payload.len();
        // other kinds are not tried if they could hardly be smaller
        if stored_bytes > content.len() / DELTA_PLAIN_SHARE {
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

    /// Returns the width by which grouping helps `content`, if any. It is guessed from byte counts, and
    /// confirmed by compressing a part both ways.
    fn width(&mut self, content: &[u8]) -> Result<Option<usize>> {
        take_sample(content, &mut self.sample);
        let Some(width) = byte_grouping::likely_width(&self.sample) else { return Ok(None) };
        let part = &content[..content.len().min(64 * KIB)];
        let plain = self.compressed(part)?;
        let mut grouped = std::mem::take(&mut self.grouped);
        let ends = byte_grouping::group(part, width, &mut grouped);
        let mut start = 0;
        let mut bytes = 0;
        for end in ends {
            bytes += self.compressed(&grouped[start..end])?.min(end - start);
            start = end;
        }
        self.grouped = grouped;
        Ok((bytes * 100 < plain * 98).then_some(width))
    }

    /// Compresses `content` into `tried`, and returns the number of bytes.
    fn compressed(&mut self, content: &[u8]) -> Result<usize> {
        compress(&mut self.level, content, &mut self.tried)
    }

    /// Appends one Zstandard frame of `content`. The frame has raw blocks if compression doesn't save enough
    /// for the decoder's time.
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

/// Compresses into `out`, and replaces its old bytes.
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

/// Takes sixteen pieces from all parts of the content. Each begins at a multiple of 8.
fn take_sample(content: &[u8], sample: &mut Vec<u8>) {
    const PIECES: usize = 16;
    const PIECE_BYTES: usize = 2 * KIB;
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

/// Appends a Zstandard frame of raw blocks (RFC 8878, 3.1.1). Only the checksum takes time.
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

/// A decoder of frames. Each thread has its own.
pub struct Decoder {
    zstd: zstd::bulk::Decompressor<'static>,
    planes: Vec<u8>,
    content: Vec<u8>,
}

impl Decoder {
    /// Makes a decoder with empty buffers.
    pub fn new() -> Result<Self> {
        let zstd = zstd::bulk::Decompressor::new()
            .map_err(|e| Error::internal(format!("Zstandard can't be used: {e}")))?;
        Ok(Self { zstd, planes: Vec::new(), content: Vec::new() })
    }

    /// Unpacks a delta frame, and verifies its checksum. `base` is the contents of its bases, one after the
    /// other.
    pub fn decode_over(&mut self, frame: &Frame<'_>, base: &[u8]) -> Result<&[u8]> {
        let content = grown(&mut self.content, frame.content_bytes);
        frame.delta()?.decode(base, content)?;
        Ok(content)
    }

    /// Unpacks `frame`, which must not be a delta frame, and verifies its checksums.
    pub fn decode(&mut self, frame: &Frame<'_>) -> Result<&[u8]> {
        let content = grown(&mut self.content, frame.content_bytes);
        match frame.kind {
            Kind::Plain => unpack(&mut self.zstd, frame.stored, content)?,
            Kind::Grouped => {
                let planes = grown(&mut self.planes, frame.content_bytes);
                let mut rest = &mut *planes;
                for (stored, content, start) in offsets(frame.zstd_frames()?) {
                    // the skippable head has no content
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

/// Returns the first `bytes` of a buffer that only grows. Clearing it for each frame would cost time.
fn grown(buffer: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    if buffer.len() < bytes {
        buffer.resize(bytes, 0);
    }
    &mut buffer[..bytes]
}

/// Adds the offset of each frame to its (stored, content) pair.
fn offsets(frames: Vec<(u32, u32)>) -> impl Iterator<Item = (usize, usize, usize)> {
    frames.into_iter().scan(0, |end, (stored, content)| {
        let start = *end;
        *end += stored as usize;
        Some((stored as usize, content as usize, start))
    })
}

/// Unpacks one Zstandard frame, which must fill `content` exactly.
fn unpack(zstd: &mut zstd::bulk::Decompressor<'static>, stored: &[u8], content: &mut [u8]) -> Result<()> {
    match zstd.decompress_to_buffer(stored, content) {
        Ok(written) if written == content.len() => Ok(()),
        _ => Err(corrupt()),
    }
}
