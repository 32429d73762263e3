//! A compaction by a key that may delete: merge what stands, look again, delete what was replaced.

use super::protocol::{Setting, World};
use super::store::{Names, Segment};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Compactor {
    pub next: Next,
    /// How many compactions follow each other.
    rounds: u8,
}

/// What is to be done next. `read`: the segments whose content it knows.
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

    /// Where many small segments are merged in the real store, one is enough here: that is the shorter way to everything that may happen.
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
            Next::PutMerged { read } => {
                let merged = store.unreplaced(read);
                // a name that isn't listed any more does not come back
                let replaces = merged.and(store.replaced_by(merged).within(read));
                let mut records = store.records_of(merged);
                if !rules.merge_keeps_records {
                    records = Names::of(records.iter().next_back());
                }
                let name = store.put_segment(Segment { records, replaces, page, ..Segment::default() });
                let read = read.with(name);
                match setting.is_directory {
                    true => {
                        store.loose_segments = store.loose_segments.with(name);
                        if rules.sync_before_delete {
                            Next::SyncIndex { read }
                        } else {
                            Next::ListAgain { read }
                        }
                    }
                    false => Next::ListAgain { read },
                }
            }
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
