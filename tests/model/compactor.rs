//! A compaction by a key that may delete: merge all segments, list again, delete the replaced segments.

use super::protocol::{Setting, World};
use super::store::{Names, Segment, Store};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Compactor {
    pub next: Next,
    /// Number of compactions, one after the other.
    rounds: u8,
}

/// The next step. `read`: the segments that it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Next {
    Read,
    Unload { read: Names },
    PutMerged { read: Names },
    SyncIndex { read: Names },
    ListAgain { read: Names },
    Delete { replaced: Names },
    DeleteTooEarly { read: Names, replaced: Names },
    Done,
}

impl Compactor {
    pub fn new(rounds: u8) -> Self {
        Self { next: Next::Read, rounds }
    }

    pub fn pages(&self, world: &World, setting: &Setting) -> std::ops::Range<u8> {
        match self.next {
            Next::PutMerged { read } => setting.pages_after(&world.store, read),
            _ => 0..1,
        }
    }

    /// The real compaction merges many small segments. Here one is enough, because that is the shorter way to
    /// all that may happen.
    pub fn step(mut self, page: u8, world: &mut World, setting: &Setting) -> Option<Self> {
        let rules = &setting.rules;
        let store = &mut world.store;
        self.next = match self.next {
            Next::Read => match store.segments {
                none if none.is_empty() => Next::Done,
                read if !rules.put_before_delete => Next::DeleteTooEarly { read, replaced: read },
                read if rules.unload && !store.carried_by(read).is_empty() => Next::Unload { read },
                read => Next::PutMerged { read },
            },
            Next::Unload { read } => {
                let merged = store.unreplaced(read);
                store.unload(store.carried_by(merged));
                Next::PutMerged { read }
            }
            Next::PutMerged { read } => put_merged(read, page, store, setting),
            Next::SyncIndex { read } => {
                store.loose_segments = Names::default();
                Next::ListAgain { read }
            }
            Next::ListAgain { read } => {
                let replacing = if rules.list_before_delete { read.within(store.segments) } else { read };
                self.go_on_deleting(store.replaced_by(replacing).within(store.segments))
            }
            Next::Delete { replaced } => {
                let first = Names::of(replaced.iter().next());
                first.iter().for_each(|name| store.delete_segment(name));
                self.go_on_deleting(replaced.without(first))
            }
            Next::DeleteTooEarly { read, replaced } => {
                let first = Names::of(replaced.iter().next());
                first.iter().for_each(|name| store.delete_segment(name));
                match replaced.without(first) {
                    none if none.is_empty() => Next::PutMerged { read },
                    replaced => Next::DeleteTooEarly { read, replaced },
                }
            }
            Next::Done => return None,
        };
        Some(self)
    }

    fn go_on_deleting(&mut self, replaced: Names) -> Next {
        if !replaced.is_empty() {
            return Next::Delete { replaced };
        }
        self.rounds -= 1;
        if self.rounds == 0 { Next::Done } else { Next::Read }
    }
}

/// PUTs one segment in the place of all that were read.
fn put_merged(read: Names, page: u8, store: &mut Store, setting: &Setting) -> Next {
    let merged = store.unreplaced(read);
    // a name that isn't listed any more does not come back
    let replaces = merged.and(store.replaced_by(merged).within(read));
    let mut records = store.records_of(merged);
    if !setting.rules.merge_keeps_records {
        records = Names::of(records.iter().next_back());
    }
    let name = store.put_segment(Segment { records, replaces, page, ..Segment::default() });
    let read = read.with(name);
    if setting.is_directory {
        store.loose_segments = store.loose_segments.with(name);
    }
    if setting.is_directory && setting.rules.sync_before_delete {
        Next::SyncIndex { read }
    } else {
        Next::ListAgain { read }
    }
}
