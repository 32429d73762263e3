//! The writer of blocks: it fills the open block with frames, and sends full blocks while the next one is
//! filled.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::error::Result;
use crate::format::block::{Builder, Entry, FramePlace};
use crate::format::frame::Encoded;
use crate::id::{BlockId, Nonce};
use crate::local::journal::Journal;
use crate::progress::{Moving, Progress};
use crate::store::{Moved, Pending, Store};

use super::dedup::NovelFrame;

/// The part of an object in a block in flight.
struct Departed {
    progress: Arc<Progress>,
    moving: Arc<Moving>,
}

impl Departed {
    fn is_sent(&self) {
        self.progress.is_sent(&self.moving);
    }
}

/// A block that was sent, and the parts that objects have in it.
struct SentBlock<'s> {
    departed: Vec<Departed>,
    put: Pending<'s, ()>,
}

/// Blocks in flight to the store, with the parts that objects have in them.
#[derive(Default)]
pub(super) struct BlocksInFlight<'s> {
    sent: Vec<SentBlock<'s>>,
    /// The only block of the batch, if it is so small that its commit's segment may carry it.
    small: Option<ClosedBlock>,
}

/// A closed block that is not sent yet.
pub(super) struct ClosedBlock {
    pub id: BlockId,
    pub pieces: Vec<Bytes>,
    pub moved: Moved,
    departed: Vec<Departed>,
}

impl ClosedBlock {
    pub(super) fn size_bytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Notes that the block is in the store.
    pub(super) fn is_sent(&self) {
        self.departed.iter().for_each(Departed::is_sent);
    }
}

impl<'s> BlocksInFlight<'s> {
    /// Returns true if every block that was sent is durable.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Takes the small block, if there is one. Then no other block was sent.
    pub(super) fn take_small(&mut self) -> Option<ClosedBlock> {
        self.small.take()
    }

    /// Sends a block.
    pub(super) fn send(&mut self, store: &'s Store, block: ClosedBlock) {
        let ClosedBlock { id, pieces, moved, departed } = block;
        self.sent.push(SentBlock { departed, put: store.put_block(&id, pieces, &moved) });
    }

    /// Waits until one more block is durable, in any order.
    fn settle_one(&mut self) -> Result<()> {
        let requests = self.sent.iter_mut().map(|sent| &mut sent.put).collect();
        if let Some((which, done)) = Pending::first(requests) {
            let SentBlock { departed, .. } = self.sent.remove(which);
            done?;
            departed.iter().for_each(Departed::is_sent);
        }
        Ok(())
    }

    /// Waits until each block that was sent is durable or has failed.
    pub(super) fn settle(mut self) -> Result<()> {
        let mut settled = Ok(());
        while !self.sent.is_empty() {
            settled = settled.and(self.settle_one());
        }
        settled
    }
}

/// The settings and services of a [`BlockWriter`].
#[derive(Clone, Copy)]
pub(super) struct Writing<'a, 's> {
    pub store: &'s Store,
    pub journal: &'a Journal,
    /// The size at which a block is closed.
    pub block_bytes: usize,
    /// The number of blocks that may be in flight while the next is filled.
    pub blocks_in_flight: usize,
    /// The bytes of all blocks that are or were in flight.
    pub departed_bytes: &'a AtomicUsize,
}

/// The place of a frame in the blocks of a [`BlockWriter`].
#[derive(Clone, Copy)]
pub(super) struct PlacedFrame {
    /// The number of its block among the new blocks.
    pub block: u32,
    pub place: FramePlace,
}

/// The content bytes of an object in the open block.
struct ObjectShare {
    progress: Arc<Progress>,
    content_bytes: u64,
}

/// The open block, and the blocks that were closed before it. Runs on one thread, and waits there while too
/// many blocks are in flight.
pub(super) struct BlockWriter<'a, 's> {
    writing: Writing<'a, 's>,
    open: Builder,
    /// The size at which the open block is closed.
    enough_bytes: usize,
    shares: Vec<ObjectShare>,
    /// The closed blocks, in order.
    new: Vec<Entry>,
    in_flight: BlocksInFlight<'s>,
}

impl<'a, 's> BlockWriter<'a, 's> {
    pub(super) fn new(writing: Writing<'a, 's>) -> Self {
        Self {
            writing,
            open: Builder::default(),
            enough_bytes: writing.block_bytes.min(writing.store.reach().first_block_bytes),
            shares: Vec::new(),
            new: Vec::new(),
            in_flight: BlocksInFlight::default(),
        }
    }

    /// Adds a frame to the open block. Sends that block before, if it is full.
    pub(super) fn add(
        &mut self,
        frame: &NovelFrame,
        encoded: Encoded,
        progress: &Arc<Progress>,
    ) -> Result<PlacedFrame> {
        let is_enough = self.open.frames_bytes() >= self.enough_bytes;
        if is_enough || !self.open.fits(&encoded, frame.chunks.len()) {
            self.enough_bytes = self.writing.block_bytes.min(2 * self.enough_bytes);
            self.close_block()?;
        }
        let place = self.open.push(encoded, &frame.chunks)?;
        let content_bytes = frame.content.len() as u64;
        progress.has_to_send(content_bytes);
        match self.shares.last_mut() {
            Some(last) if Arc::ptr_eq(&last.progress, progress) => last.content_bytes += content_bytes,
            _ => self.shares.push(ObjectShare { progress: progress.clone(), content_bytes }),
        }
        Ok(PlacedFrame { block: self.new.len() as u32, place })
    }

    /// Closes the open block.
    fn seal(&mut self) -> Result<ClosedBlock> {
        let sealed = std::mem::take(&mut self.open).finish(Nonce::random()?);
        let summary = sealed.summary;
        tracing::debug!("block {} of {} bytes", summary.id, summary.size_bytes);
        self.writing.departed_bytes.fetch_add(summary.size_bytes as usize, Ordering::Relaxed);
        let moved = Moved::default();
        let depart = |ObjectShare { progress, content_bytes }| {
            let moving = progress.depart(content_bytes, summary.size_bytes.into(), moved.clone());
            Departed { progress, moving }
        };
        let departed = std::mem::take(&mut self.shares).into_iter().map(depart).collect();
        self.new.push((summary, sealed.directory));
        Ok(ClosedBlock { id: summary.id, pieces: sealed.pieces, moved, departed })
    }

    /// Sends the open block, and waits while too many blocks are in flight.
    fn close_block(&mut self) -> Result<()> {
        let block = self.seal()?;
        // Noted before the block is sent. A kill may come after the store has the block and before this
        // process knows it.
        if let Some((block, _)) = self.new.last() {
            self.writing.journal.note(block);
        }
        self.in_flight.send(self.writing.store, block);
        while self.in_flight.sent.len() > self.writing.blocks_in_flight {
            self.in_flight.settle_one()?;
        }
        Ok(())
    }

    /// Sends the last block, unless it is the only one and small.
    pub(super) fn end(&mut self) -> Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        // the commit sends it after all if it is too large together with the shard
        if self.new.is_empty() && self.open.frames_bytes() <= self.writing.store.reach().carried_bytes {
            self.in_flight.small = Some(self.seal()?);
            return Ok(());
        }
        self.close_block()
    }

    /// Returns the new blocks, and the blocks in flight.
    pub(super) fn into_blocks(self) -> WrittenBlocks<'s> {
        WrittenBlocks { new: self.new, in_flight: self.in_flight }
    }
}

/// The blocks of a batch, each durable or in flight.
pub(super) struct WrittenBlocks<'s> {
    pub new: Vec<Entry>,
    pub in_flight: BlocksInFlight<'s>,
}
