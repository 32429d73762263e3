//! What pushes of this user have stored and not committed, as they were interrupted or failed: it is deduplicated
//! against as if it stood in the index, and committed as if it were new.

use super::{Engine, View};
use crate::error::{Kind, Result};

/// Learns the blocks of the journal. One is used only if the store shows it now, whole, and nobody has condemned
/// it; the check after the commit is the same as for any block. They are looked for all at once: that takes as long
/// as a few requests, and which of them will be needed is known only when the objects are cut.
pub(super) fn read_journal(engine: &Engine, view: &mut View) -> Result<()> {
    let mut asked = Vec::new();
    for entry in engine.journal.read() {
        let block = entry.0.id;
        let needed = entry.1.needs.iter().flat_map(|needs| &needs.frames);
        let may_use = view.may_use(&block) && needed.clone().all(|needed| view.may_use(&needed.block.id));
        if view.learned.known.is_committed(&block) || !may_use {
            engine.journal.forget(&block);
        } else if !view.learned.known.has_block(&block) {
            asked.push((entry, engine.store.settled_block_bytes(&block)));
        }
    }
    for ((summary, directory), found) in asked {
        let block = summary.id;
        match found.wait() {
            Ok(Some(size_bytes)) if size_bytes == u64::from(summary.size_bytes) => {
                tracing::info!("block {block} of an interrupted push is used");
                view.seen.insert(block);
                view.learned.known.add_uncommitted(summary, directory);
            }
            // it never arrived, or is still on its way from another process
            Ok(None) => {}
            Ok(Some(size_bytes)) => {
                let expected = summary.size_bytes;
                tracing::warn!("block {block} of an interrupted push has {size_bytes} of {expected} bytes");
                engine.journal.forget(&block);
            }
            // they are hints: without one, its chunks are stored again
            Err(e) if !matches!(e.kind(), Kind::Unreachable | Kind::Internal) => {
                tracing::warn!("block {block} of an interrupted push is not used: {e}");
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
