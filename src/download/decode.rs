//! The decoding of fetched bytes into an object's file. Every frame is unpacked once, every piece is
//! written at its place, and every term is verified.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::Xxh3;

use super::delta::{Lost, Patcher};
use super::plan::Fetch;
use crate::error::{Error, Result};
use crate::format::frame::{Decoder, Frame, Kind};
use crate::format::recipe::Term;
use crate::index::placed::Placed;
use crate::local::partial_download::ScratchFile;

/// Idle decoders. Their number is the most that were ever in use at once, which the cores bound.
#[derive(Default)]
pub(crate) struct Decoders(Mutex<Vec<Decoder>>);

impl Decoders {
    /// Runs `work` with a decoder that no other thread uses meanwhile.
    pub(super) fn lend<T>(&self, work: impl FnOnce(&mut Decoder) -> Result<T>) -> Result<T> {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut decoder = idle.map_or_else(Decoder::new, Ok)?;
        let done = work(&mut decoder);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(decoder);
        done
    }
}

/// The reason why a fetch could not be unpacked.
pub(super) enum Failed {
    /// The bytes are not the stored ones. The error names the frame.
    Damaged(Error),
    /// The content could not be written, or the bases could not be had.
    Unwritten(Error),
}

/// Unpacks each frame of the fetched `bytes` that a term needs, once, and writes the terms' pieces. Calls
/// `written` with the bytes of each piece.
pub(super) fn unpack(
    fetch: &Fetch,
    bytes: &[u8],
    decoder: &mut Decoder,
    patcher: &Patcher<'_>,
    file: &ScratchFile,
    mut written: impl FnMut(u64),
) -> Result<(), Failed> {
    // terms without content only needed the fetch
    let mut waiting = fetch.terms.iter().filter(|placed| !placed.term.is_base()).peekable();
    // terms that continue in the next frame
    let mut open: Vec<OpenTerm> = Vec::new();
    let mut position = fetch.range.start;
    loop {
        match waiting.peek() {
            None if open.is_empty() => return Ok(()),
            // frames between terms may belong to no wanted term
            Some(next) if open.is_empty() => position = position.max(next.term.frames_offset),
            _ => {}
        }
        let damaged = |e: Error| Failed::Damaged(e.context(format!("frame at byte {position}")));
        let rest = bytes.get((position - fetch.range.start) as usize..).unwrap_or_default();
        let frame = Frame::first(rest).map_err(damaged)?;
        let content: Cow<'_, [u8]> = match frame.kind {
            Kind::Delta => patcher.unpack(&frame).map(Cow::Owned).map_err(|lost| match lost {
                Lost::Here(e) => damaged(e),
                Lost::Below(e) => Failed::Unwritten(e),
            })?,
            _ => Cow::Borrowed(decoder.decode(&frame).map_err(damaged)?),
        };
        let end = position + frame.stored.len() as u32;
        let mut still_open = Vec::new();
        let begins_here = |next: &&Placed| next.term.frames_offset <= position;
        let beginning = std::iter::from_fn(|| waiting.next_if(begins_here))
            .map(|placed| OpenTerm::new(placed.term, placed.start));
        for mut term in open.into_iter().chain(beginning) {
            let start = term.start + u64::from(term.done);
            let piece = term.take(&content, position).map_err(damaged)?;
            file.write_at(piece, start).map_err(Failed::Unwritten)?;
            written(piece.len() as u64);
            if end >= term.term.frames_end() {
                term.verify().map_err(damaged)?
            } else {
                still_open.push(term)
            }
        }
        open = still_open;
        position = end;
    }
}

/// A term that is being unpacked.
pub(super) struct OpenTerm {
    term: Term,
    /// The place in the object where the term begins.
    start: u64,
    done: u32,
    checksum: Xxh3,
}

impl OpenTerm {
    pub(super) fn new(term: Term, start: u64) -> Self {
        Self { term, start, done: 0, checksum: Xxh3::new() }
    }

    /// Returns the term's piece of the content of the frame at `position`.
    pub(super) fn take<'c>(&mut self, content: &'c [u8], position: u32) -> Result<&'c [u8]> {
        let begins_here = self.term.frames_offset == position;
        if !begins_here && self.done == 0 {
            return Err(Error::corrupt("a term begins inside a frame"));
        }
        let from = if begins_here { self.term.skip_bytes as usize } else { 0 };
        let wanted = (self.term.content_bytes - self.done) as usize;
        let to = content.len().min(from.saturating_add(wanted));
        let piece = content.get(from..to).filter(|piece| !piece.is_empty());
        let piece = piece.ok_or_else(|| Error::corrupt("a term ends before its frames"))?;
        self.done += piece.len() as u32;
        self.checksum.update(piece);
        Ok(piece)
    }

    /// Checks that all of the term has come, with the right checksum.
    pub(super) fn verify(&self) -> Result<()> {
        if self.done == self.term.content_bytes && self.checksum.digest() == self.term.checksum {
            return Ok(());
        }
        Err(Error::corrupt("a term's content fails its checksum"))
    }
}
