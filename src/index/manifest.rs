//! The manifest, which tells readers that can't list which index segments there are.

use std::collections::HashSet;

use crossbeam_channel::Receiver;

use crate::error::{Error, Result};
use crate::id::SegmentId;
use crate::limit;
use crate::store::Store;

/// Writes the manifest of all segments, and returns how many they are. It is written again if others have
/// committed meanwhile, and perhaps have put theirs before ours: so whoever puts the last one has listed
/// after it, and all that was committed before is in it.
pub fn write(store: &Store) -> Result<usize> {
    write_without(store, &HashSet::new())
}

/// The same, without those that are about to be deleted, as others stand in their place.
pub(crate) fn write_without(store: &Store, gone: &HashSet<SegmentId>) -> Result<usize> {
    let list = || -> Result<Vec<_>> {
        Ok(store.list_segments()?.into_iter().filter(|(id, _)| !gone.contains(id)).collect())
    };
    let mut listed = list()?;
    for _ in 0..limit::MANIFEST_ATTEMPTS {
        store.put_manifest(&listed)?;
        let now = list()?;
        if now == listed {
            break;
        }
        listed = now;
    }
    Ok(listed.len())
}

/// Whether this process has to write the manifest when it has made its last commit.
#[derive(Default)]
pub(crate) enum Owed {
    /// It has made none.
    #[default]
    Nothing,
    /// If the store says that it keeps one.
    Asked(Receiver<Result<bool>>),
    /// It does.
    Manifest,
}

impl Owed {
    /// A commit was made: asks the store, unless it has said so already, and doesn't wait for the answer. That is done after each
    /// commit: if somebody else makes the first manifest meanwhile, either that one sees the commit, or this one sees the manifest.
    pub(crate) fn after_commit(&mut self, store: &Store) {
        let is_known = match self {
            Self::Nothing => false,
            Self::Asked(answer) => matches!(answer.try_recv(), Ok(Ok(true))),
            Self::Manifest => true,
        };
        if is_known {
            *self = Self::Manifest;
            return;
        }
        let (sender, answer) = crossbeam_channel::bounded(1);
        store.keeps_manifest().hand_to(move |keeps| drop(sender.send(keeps)));
        *self = Self::Asked(answer);
    }

    /// Writes it, if it has to be.
    pub(crate) fn settle(self, store: &Store) -> Result<()> {
        let is_kept = match self {
            Self::Nothing => false,
            Self::Asked(answer) => {
                answer.recv().unwrap_or_else(|_| Err(Error::internal("a request of the store stopped")))?
            }
            Self::Manifest => true,
        };
        if is_kept { write(store).map(drop) } else { Ok(()) }
    }
}
