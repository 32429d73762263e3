//! The objects of a batch, sorted by the work that they need: none, a fresh record, or packing.

use std::sync::Arc;

use super::Uploader;
use super::batch::Wanted;
use super::push_state::PushState;
use crate::id::Oid;
use crate::index::Found;
use crate::index::relied::Relied;

/// An object, and the blocks and the record that its acknowledgement relies on.
pub(super) struct StoredObject {
    pub wanted: Arc<Wanted>,
    pub relied: Relied,
}

/// The objects of a batch, by the work that they need.
#[derive(Default)]
pub(super) struct Group {
    /// Objects that the store has.
    pub stored: Vec<StoredObject>,
    /// Objects with all data in the store, but without a record that may be relied on.
    pub renewable: Vec<(Arc<Wanted>, Found)>,
    /// Objects that are being packed, in this order.
    pub packing: Vec<Arc<Wanted>>,
}

impl Group {
    /// Adds an object. Returns true if it has to be packed.
    pub(super) fn lacks(&mut self, uploader: &Uploader, state: &PushState, wanted: &Arc<Wanted>) -> bool {
        wanted.progress.restart();
        match find_usable(uploader, state, &wanted.oid, wanted.size_bytes) {
            Present::Fresh(relied) => self.stored.push(StoredObject { wanted: wanted.clone(), relied }),
            Present::Renewable(found) => self.renewable.push((wanted.clone(), found)),
            Present::No => {
                self.packing.push(wanted.clone());
                return true;
            }
        }
        false
    }
}

/// The presence of an object in the store.
enum Present {
    /// Present by a record that may be relied on unchanged.
    Fresh(Relied),
    /// The blocks may be relied on, but the record is old, condemned or another repository's. A collector
    /// could drop that record, so this repository needs one of its own.
    Renewable(Found),
    No,
}

fn find_usable(uploader: &Uploader, state: &PushState, oid: &Oid, size_bytes: u64) -> Present {
    let snapshot = uploader.catalog.snapshot();
    let mut found = snapshot.index.find(uploader.catalog.stored(), oid).found;
    found.retain(|f| {
        f.record.size_bytes == size_bytes
            && f.blocks.iter().all(|b| state.may_use(&snapshot.condemned, &b.summary.id))
    });
    let fresh = found.iter().find(|f| {
        f.repository == uploader.settings.repository
            && Relied::on(f).is_fresh()
            && !snapshot.condemned.has_record(&Relied::on(f).record)
    });
    match fresh {
        Some(fresh) => Present::Fresh(Relied::on(fresh)),
        None => found.into_iter().next().map_or(Present::No, Present::Renewable),
    }
}
