//! The check before an acknowledgement: all blocks that an object relies on are there, and nothing of it is
//! condemned.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::Uploader;
use super::batch::Lead;
use super::group::StoredObject;
use super::push_state::PushState;
use crate::error::{Error, Result};
use crate::format::block::Summary;
use crate::id::BlockId;
use crate::index::inline_files::BlockSize;

/// Tries of an upload. It starts again if files that it relied on were condemned meanwhile.
const COMMIT_ATTEMPTS: usize = 5;

/// Answers the objects that pass the check; the others begin again.
///
/// An object passes if its record is fresh and its blocks are there. A read that begins now must not show
/// its blocks or its record as condemned. The store must still be the one that was written to.
pub(super) fn answer_sound(
    uploader: &Uploader,
    state: &mut PushState,
    lead: &Lead<'_>,
    stored: Vec<StoredObject>,
) -> Result<()> {
    if stored.is_empty() {
        return Ok(());
    }
    lead.waits_for("the check of what was committed");
    uploader.catalog.store.confirm()?;
    // Both at the same time. A block that is gone and not yet condemned is as lost as one that goes later.
    let relied_blocks = stored.iter().flat_map(|object| &object.relied.blocks);
    let asked = look_for_blocks(uploader, state, relied_blocks);
    uploader.catalog.refresh_condemned()?;
    note_found(state, asked)?;
    let condemned = uploader.catalog.snapshot().condemned.clone();
    let mut all_sound = true;
    for StoredObject { wanted, relied } in stored {
        let is_lost = relied.blocks.iter().any(|block| state.lost.contains(&block.id));
        // checked again, because a push may have stood still for a week since it looked the record up
        if !is_lost && relied.is_fresh() && !relied.is_condemned(&condemned) {
            lead.answer(&wanted, Ok(()));
            continue;
        }
        all_sound = false;
        let oid = wanted.oid;
        if wanted.attempts.load(Ordering::Relaxed) + 1 < COMMIT_ATTEMPTS {
            tracing::warn!(
                "object {oid}: blocks or the record that it relies on were condemned during the push, \
                 are lost or too old; uploading it again"
            );
            lead.again(&wanted);
            continue;
        }
        let times = COMMIT_ATTEMPTS;
        let busy = Error::busy(format!(
            "what object {oid} relies on was condemned or lost {times} times while it was pushed"
        ));
        lead.answer(&wanted, Err(busy.remedy("push again when the garbage collection has ended")));
    }
    if !all_sound {
        let PushState { learned, lost, .. } = state;
        learned.known.retain(|block| !condemned.has_block(block) && !lost.contains(block));
    }
    Ok(())
}

/// A block that is looked for.
pub(super) struct SoughtBlock<'s> {
    id: BlockId,
    /// The size that the block must have.
    size_bytes: u32,
    found: BlockSize<'s>,
}

/// Begins to look for the blocks that this process has not seen yet.
pub(super) fn look_for_blocks<'e, 'b>(
    uploader: &'e Uploader,
    state: &PushState,
    blocks: impl Iterator<Item = &'b Summary>,
) -> Vec<SoughtBlock<'e>> {
    let unseen = blocks.filter(|b| !state.seen.contains(&b.id) && !state.lost.contains(&b.id));
    let unseen: BTreeMap<BlockId, u32> = unseen.map(|block| (block.id, block.size_bytes)).collect();
    let snapshot = uploader.catalog.snapshot();
    let seek = |(id, size_bytes)| {
        let found = snapshot.index.inline().look_for_block(&uploader.catalog.store, &id);
        SoughtBlock { id, size_bytes, found }
    };
    unseen.into_iter().map(seek).collect()
}

/// Waits for the answers. Notes the blocks that are there and complete, and those that are lost.
pub(super) fn note_found(state: &mut PushState, asked: Vec<SoughtBlock<'_>>) -> Result<()> {
    for SoughtBlock { id, size_bytes, found } in asked {
        if found.wait()? == Some(u64::from(size_bytes)) {
            state.seen.insert(id);
        } else {
            tracing::error!("block {id} is missing or cut short in the store; its chunks are stored again");
            state.lost.insert(id);
        }
    }
    Ok(())
}
