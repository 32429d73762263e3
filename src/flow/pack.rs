//! The second half of an upload: chunks are looked up, novel ones compressed on all cores and packed
//! into blocks, and each full block is on its way to the store while the next is filled.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use xxhash_rust::xxh3::Xxh3;

use super::cut::{self, ReadObject};
use super::dedup::{Dedup, NovelFrame, Run};
use super::known::KnownChunks;
use super::ordered::{self, Results, Work};
use super::progress::{Moving, Progress};
use crate::error::{Error, Result};
use crate::format::block::{Builder, Chunk, Directory, FramePlace, Summary};
use crate::format::chunking::Suite;
use crate::format::frame::{Encoded, Encoder};
use crate::format::recipe::Term;
use crate::id::Nonce;
use crate::store::{Pending, Store};

/// An object whose novel chunks stand in durable blocks. Nothing refers to them yet.
pub(super) struct Packed {
    /// What was read.
    pub object: ReadObject,
    /// How the object is made; terms refer to `blocks`.
    pub terms: Vec<Term>,
    /// Every block that the terms name: first the new ones, as many as `directories`, then others.
    pub blocks: Vec<Summary>,
    /// The directories of the new blocks.
    pub directories: Vec<Directory>,
}

/// Reads `source` once and packs it. When this returns, its new blocks are durable.
pub(super) fn pack(
    source: impl Read + Send,
    suite: Suite,
    level: i32,
    known: &KnownChunks,
    store: &Store,
    progress: &Progress,
) -> Result<Packed> {
    // enough that no core waits, whichever frame takes longest
    let depth = 2 * rayon::current_num_threads() + 2;
    std::thread::scope(|scope| {
        let (batches, reader) = cut::start(scope, source, suite);
        let (work, frames) = ordered::ordered(depth);
        let looker = scope.spawn(move || look_up(batches, known, level, &work, progress));
        let mut assembly = Assembly::new(store, progress);
        let assembled = frames.into_iter().try_for_each(|frame| assembly.add(frame?));
        let dedup = looker.join().map_err(|_| Error::internal("deduplication panicked"))?;
        let object = reader.join().map_err(|_| Error::internal("reading an object panicked"))?;
        assembled?;
        assembly.finish(&dedup?, object?)
    })
}

type Compressed = (NovelFrame, Encoded);

/// Looks every chunk up; ends early if nobody takes the frames any more.
fn look_up<'k>(
    batches: Results<cut::Batch>,
    known: &'k KnownChunks,
    level: i32,
    work: &Work<Compressed>,
    progress: &Progress,
) -> Result<Dedup<'k>> {
    let mut dedup = Dedup::new(known);
    let compress = |frame: NovelFrame| work.run(move || encode(frame, level)).is_ok();
    for batch in batches {
        for (chunk, bytes) in batch?.chunks() {
            let full = dedup.push(chunk, bytes);
            progress.check()?;
            if !full.is_none_or(compress) {
                return Ok(dedup);
            }
            progress.bytes.fetch_add(u64::from(chunk.bytes), Ordering::Relaxed);
        }
    }
    if let Some(last) = dedup.finish() {
        compress(last);
    }
    Ok(dedup)
}

fn encode(frame: NovelFrame, level: i32) -> Result<Compressed> {
    thread_local! {
        static ENCODER: RefCell<Option<(i32, Encoder)>> = const { RefCell::new(None) };
    }
    ENCODER.with_borrow_mut(|kept| {
        let (_, encoder) = match kept {
            Some(kept) if kept.0 == level => kept,
            _ => kept.insert((level, Encoder::new(level)?)),
        };
        let encoded = encoder.encode(&frame.content)?;
        Ok((frame, encoded))
    })
}

/// Frames in order, as they find their places in blocks.
struct Assembly<'s> {
    store: &'s Store,
    open: Builder,
    summaries: Vec<Summary>,
    directories: Vec<Directory>,
    in_flight: Vec<(Arc<Moving>, Pending<'s, ()>)>,
    progress: &'s Progress,
    /// The block and place of each frame.
    places: Vec<(u32, FramePlace)>,
    run: Option<(Term, Xxh3)>,
    /// Terms of novel chunks, in order.
    terms: Vec<Term>,
}

impl<'s> Assembly<'s> {
    fn new(store: &'s Store, progress: &'s Progress) -> Self {
        Self {
            store,
            progress,
            open: Builder::default(),
            summaries: Vec::new(),
            directories: Vec::new(),
            in_flight: Vec::new(),
            places: Vec::new(),
            run: None,
            terms: Vec::new(),
        }
    }

    fn add(&mut self, (frame, encoded): Compressed) -> Result<()> {
        if !self.open.fits(encoded.stored.len(), frame.chunks.len()) {
            self.close_block()?;
        }
        let place = self.open.push(encoded, &frame.chunks)?;
        self.progress.has_to_send(frame.content.len() as u64);
        let block = self.summaries.len() as u32;
        self.places.push((block, place));
        let mut skip = 0;
        for (number, chunk) in frame.chunks.iter().enumerate() {
            if frame.begins_run[number] {
                self.close_run();
            }
            let (term, checksum) = self.run.get_or_insert_with(|| {
                let first_chunk = place.first_chunk + number as u16;
                let term = Term {
                    block,
                    first_chunk,
                    chunk_count: 0,
                    frames_offset: place.offset,
                    frames_bytes: 0,
                    skip_bytes: skip as u32,
                    content_bytes: 0,
                    checksum: 0,
                };
                (term, Xxh3::new())
            });
            term.chunk_count += 1;
            term.frames_bytes = place.offset + place.bytes - term.frames_offset;
            term.content_bytes += chunk.bytes;
            let end = skip + chunk.bytes as usize;
            checksum.update(&frame.content[skip..end]);
            skip = end;
        }
        Ok(())
    }

    fn close_run(&mut self) {
        if let Some((term, checksum)) = self.run.take() {
            self.terms.push(Term { checksum: checksum.digest(), ..term });
        }
    }

    /// Sends the open block on its way, and waits while there are too many on it to fill another.
    fn close_block(&mut self) -> Result<()> {
        self.close_run();
        let sealed = std::mem::take(&mut self.open).finish(Nonce::random()?);
        let summary = sealed.summary;
        tracing::debug!("block {} of {} bytes", summary.id, summary.size_bytes);
        let moving = self.progress.depart(summary.content_bytes.into(), summary.size_bytes.into());
        let put = self.store.put_block(&summary.id, sealed.pieces, &moving.moved);
        self.in_flight.push((moving, put));
        self.summaries.push(summary);
        self.directories.push(sealed.directory);
        while self.in_flight.len() > self.store.reach().blocks_in_flight {
            self.settle_one()?;
        }
        Ok(())
    }

    /// Waits until one more block is durable, whichever is first.
    fn settle_one(&mut self) -> Result<()> {
        let requests = self.in_flight.iter_mut().map(|(_, put)| put).collect();
        if let Some((which, done)) = Pending::first(requests) {
            let (moving, _) = self.in_flight.remove(which);
            done?;
            self.progress.is_sent(&moving);
        }
        Ok(())
    }

    /// Waits until every block is durable, and puts the terms into the order of the object.
    fn finish(mut self, dedup: &Dedup<'_>, object: ReadObject) -> Result<Packed> {
        if !self.open.is_empty() {
            self.close_block()?;
        }
        while !self.in_flight.is_empty() {
            self.settle_one()?;
        }
        let mut blocks = self.summaries.clone();
        let mut numbers = HashMap::new();
        let mut novel = self.terms.iter().copied();
        let mut terms = Vec::with_capacity(dedup.runs.len());
        for run in &dedup.runs {
            match *run {
                Run::Known { first, count, checksum } => {
                    let number = *numbers.entry(first.block).or_insert_with(|| {
                        blocks.push(dedup.known().summary(first.block));
                        blocks.len() as u32 - 1
                    });
                    terms.push(dedup.known().term(first, count, checksum, number));
                }
                Run::Repeated { first, count, checksum } => {
                    terms.push(self.repeated(dedup, first, count, checksum));
                }
                Run::Novel { count } => {
                    let mut left = count;
                    while left > 0 {
                        let lost = || Error::internal("a novel chunk found no place");
                        let term = novel.next().ok_or_else(lost)?;
                        left = left.checked_sub(u32::from(term.chunk_count)).ok_or_else(lost)?;
                        terms.push(term);
                    }
                }
            }
        }
        Ok(Packed { object, terms, blocks, directories: self.directories })
    }

    /// The term for chunks of a frame that stand earlier in this upload.
    fn repeated(&self, dedup: &Dedup<'_>, first: u32, count: u16, checksum: u64) -> Term {
        let frame = dedup.frame_firsts.partition_point(|f| *f <= first) - 1;
        let (block, place) = self.places[frame];
        let start = usize::from(place.first_chunk);
        let skipped = (first - dedup.frame_firsts[frame]) as usize;
        let chunks = &self.directories[block as usize].chunks[start..start + skipped + usize::from(count)];
        let bytes = |chunks: &[Chunk]| chunks.iter().map(|c| c.bytes).sum::<u32>();
        Term {
            block,
            first_chunk: (start + skipped) as u16,
            chunk_count: count,
            frames_offset: place.offset,
            frames_bytes: place.bytes,
            skip_bytes: bytes(&chunks[..skipped]),
            content_bytes: bytes(&chunks[skipped..]),
            checksum,
        }
    }
}
