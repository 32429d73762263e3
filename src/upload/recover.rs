//! Recovery of interrupted pushes: blocks that this user's pushes have stored and not committed. A push
//! deduplicates against these blocks as if they stood in the index, and commits them as if they were new.

use super::Uploader;
use super::push_state::PushState;
use crate::error::{Error, Kind, Result};
use crate::format::block::{Directory, Entry, Summary};
use crate::index::cached_reads::COPIES_IN_FLIGHT;
use crate::store::{Moved, Pending};

/// Learns the blocks of the journal.
///
/// A block is used only if the store has it now, complete, and no condemned list names it. The check after
/// the commit is the same as for any block. All blocks are looked for at once, which takes as long as a few
/// requests. Only the cut objects will show which blocks are needed.
///
/// The directory of each block is read from the block itself, because another program may have written the
/// journal.
pub(super) fn read_journal(uploader: &Uploader, state: &mut PushState) -> Result<()> {
    let found = look_for(uploader, state)?;
    let condemned = uploader.catalog.snapshot().condemned.clone();
    for part in found.chunks(COPIES_IN_FLIGHT) {
        let reading: Vec<_> = part.iter().map(|block| (block, directory(uploader, block))).collect();
        for (block, end) in reading {
            let id = block.id;
            let read = end.wait().and_then(|end| entry(block, &end));
            match read {
                Ok((summary, directory)) => {
                    let mut needed = directory.needs.iter().flat_map(|needs| &needs.frames);
                    if needed.all(|needed| state.may_use(&condemned, &needed.block.id)) {
                        tracing::info!("block {id} of an interrupted push is used");
                        state.seen.insert(id);
                        state.learned.known.add_uncommitted(summary, directory);
                    } else {
                        uploader.journal.forget(&id);
                    }
                }
                Err(e) => skip(uploader, block, e)?,
            }
        }
    }
    Ok(())
}

/// Returns the blocks of the journal that are not known yet, and that the store has with the right size.
fn look_for(uploader: &Uploader, state: &PushState) -> Result<Vec<Summary>> {
    let mut asked = Vec::new();
    let condemned = uploader.catalog.snapshot().condemned.clone();
    for block in uploader.journal.read() {
        if state.learned.known.is_committed(&block.id) || !state.may_use(&condemned, &block.id) {
            uploader.journal.forget(&block.id);
        } else if !state.learned.known.has_block(&block.id) {
            asked.push((block, uploader.catalog.store.settled_block_bytes(&block.id)));
        }
    }
    let mut there = Vec::new();
    for (block, found) in asked {
        match found.wait() {
            Ok(Some(size_bytes)) if size_bytes == u64::from(block.size_bytes) => there.push(block),
            // it never arrived, or another process is still sending it
            Ok(None) => {}
            Ok(Some(size_bytes)) => {
                let expected = block.size_bytes;
                skip(uploader, &block, Error::corrupt(format!("it has {size_bytes} of {expected} bytes")))?;
            }
            Err(e) => skip(uploader, &block, e)?,
        }
    }
    Ok(there)
}

/// Begins to read the part behind the frames of a block: its directory and seek table.
fn directory<'e>(uploader: &'e Uploader, block: &Summary) -> Pending<'e, Vec<u8>> {
    let end = block.frames_bytes..block.size_bytes;
    uploader.catalog.store.get_block_range(&block.id, end, Vec::new(), &Moved::default())
}

/// Returns the summary and directory of a block, by its own end.
fn entry(block: &Summary, end: &[u8]) -> Result<Entry> {
    let directory = Directory::parse_end(end, block.size_bytes as usize)?;
    Ok((directory.summary(block.id, block.size_bytes), directory))
}

/// Skips a block of the journal. Such blocks are hints: without one, its chunks are stored again. But an
/// unreachable store is an error.
fn skip(uploader: &Uploader, block: &Summary, error: Error) -> Result<()> {
    match error.kind() {
        Kind::Unreachable | Kind::Internal => return Err(error),
        Kind::Corrupt => uploader.journal.forget(&block.id),
        _ => {}
    }
    tracing::warn!("block {} of an interrupted push is not used: {error}", block.id);
    Ok(())
}
