//! The sizes that are part of the format: what a reader accepts, and what this version writes.

use crate::units::{KIB, MIB};

/// Most bytes of content in one frame. It is small enough to decode for one chunk, and large enough to
/// compress well.
pub const FRAME_CONTENT_BYTES: usize = 256 * KIB;
/// Most bytes of one stored frame: content that does not shrink, block headers, magic, sizes and checksum. A
/// grouped frame has one of each per plane.
pub const FRAME_STORED_BYTES: usize = FRAME_CONTENT_BYTES + KIB;
/// Most bytes of content that a delta frame is made from. So many have to be unpacked, or read, for 256 KiB.
pub const DELTA_BASE_BYTES: usize = MIB;
/// Most delta frames that follow on each other, each made from the next.
pub const DELTA_DEPTH: u8 = 8;
/// Most frames that have to be unpacked for one delta frame, including the frames that its bases need.
pub const DELTA_FRAMES: usize = 128;
/// Most bytes of a stored block, directory and seek table included.
pub const BLOCK_BYTES: usize = 64 * MIB;
/// Most chunks in a block.
pub const BLOCK_CHUNKS: usize = 16_384;
/// Most bytes of content in one term.
pub const TERM_CONTENT_BYTES: usize = 8 * MIB;
/// Most chunks in a shard that this version writes: about 4 MiB.
pub const SHARD_CHUNKS: usize = 100_000;
/// Most bytes of the frames that a term lies in. They hold content that does not shrink, other content in the
/// first and last frame, and the frames' own bytes.
pub const TERM_FRAMES_BYTES: usize = 2 * TERM_CONTENT_BYTES;
/// A shard that claims to be larger is not read.
pub const SHARD_READ_BYTES: usize = 64 * MIB;
/// A condemned list that claims to be larger is not read.
pub const CONDEMNED_READ_BYTES: usize = 64 * MIB;
/// Most bytes of a segment that carries files. Such a segment is read whole, so its reader has the files too.
pub const CARRIER_BYTES: usize = 256 * KIB;
/// Most bytes of a segment's head. It names up to 200,000 replaced segments of 48 bytes each, and the
/// repositories.
pub const HEAD_AT_MOST_BYTES: usize = 64 * MIB;
/// Most bytes of a table of keys or of shards. They are a ninth and a quarter of a segment in which each
/// commit had one small object.
pub const TABLE_BYTES: usize = 128 * MIB;
/// Most bytes of a segment that a look-up reads at a time, even if entries claim more.
pub const SPANS_BYTES: usize = 256 * MIB;
/// Most bytes of an index segment that is read into memory at once.
pub const SEGMENT_READ_BYTES: usize = 1024 * MIB;
/// Most bytes of `store.json`.
pub const STORE_JSON_BYTES: usize = 64 * KIB;
/// Bytes of a page of an index segment, checksum included.
pub const PAGE_BYTES: usize = 4096;
/// Most sections in one file.
pub const SECTIONS: usize = 64;
/// One chunk in this many is a key chunk, in objects of up to sixteen times as many chunks.
pub const KEY_STRIDE: usize = 128;
/// Most bytes of a repository's name.
pub const REPOSITORY_NAME_BYTES: usize = 128;
/// Most bytes of a manifest; one that claims to be larger is not read.
pub const MANIFEST_READ_BYTES: usize = 256 * MIB;

const _: () = assert!(BLOCK_CHUNKS <= u16::MAX as usize);
const _: () = assert!(BLOCK_BYTES <= u32::MAX as usize);
const _: () = assert!(TERM_CONTENT_BYTES <= u32::MAX as usize);
const _: () = assert!(PAGE_BYTES.is_power_of_two());
