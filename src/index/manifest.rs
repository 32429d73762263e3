//! The manifest: the list of index segments for readers that can't list a folder.

use std::collections::HashSet;

use crossbeam_channel::Receiver;

use crate::error::{Error, Result};
use crate::id::SegmentId;
use crate::store::Store;

/// Times that a process writes the manifest at most. It writes it again because others have committed
/// meanwhile.
const MANIFEST_ATTEMPTS: usize = 3;

/// Writes the manifest of all segments, and returns their number. After each write it lists again, and writes
/// again if others have committed meanwhile. They may have written their manifest before this one. So the
/// writer of the last manifest has listed after writing it, and it holds all earlier commits.
pub fn write(store: &Store) -> Result<usize> {
    write_without(store, &HashSet::new())
}

/// Does the same without the segments `gone`, which are about to be deleted because others replace them.
pub(crate) fn write_without(store: &Store, gone: &HashSet<SegmentId>) -> Result<usize> {
    let list = || -> Result<Vec<_>> {
        Ok(store.list_segments()?.into_iter().filter(|(id, _)| !gone.contains(id)).collect())
    };
    let mut listed = list()?;
    for _ in 0..MANIFEST_ATTEMPTS {
        store.put_manifest(&listed)?;
        let now = list()?;
        if now == listed {
            break;
        }
        listed = now;
    }
    Ok(listed.len())
}

/// The duty of this process to write the manifest after its last commit.
#[derive(Default)]
pub(crate) enum Owed {
    /// None: this process has made no commit.
    #[default]
    Nothing,
    /// Open: the store was asked if it keeps a manifest.
    Asked(Receiver<Result<bool>>),
    /// Certain: the store keeps a manifest.
    Manifest,
}

impl Owed {
    /// Notes a commit. Asks the store if it keeps a manifest, unless that is known, and doesn't wait for the
    /// answer. It asks after each commit, because another process may make the first manifest meanwhile. Then
    /// either that process sees the commit, or this one sees the manifest.
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

    /// Writes the manifest, if this process has to.
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
