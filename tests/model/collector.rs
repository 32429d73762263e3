//! A collection: mark, condemn, read all commits again, delete the blocks that are still unreachable.

use super::protocol::{Setting, World};
use super::reading::{Progress, Reading, Until};
use super::store::{Condemned, Names, Segment};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Collector {
    pub next: Next,
    /// True if its first reading misses everything, so that it condemns all blocks.
    pub marks_all: bool,
    own_list: Option<u8>,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Next {
    LiftOthers,
    Mark,
    Condemn(Condemned),
    Read(Reading),
    /// PUTs the blocks that stand in segments to replace or delete. Leaves out blocks to delete.
    Unload {
        segments: Names,
        blocks: Names,
    },
    /// PUTs the remaining records of segments with condemned records.
    Rewrite {
        segments: Names,
        blocks: Names,
    },
    Delete {
        segments: Names,
        blocks: Names,
    },
    LiftOwn,
    Done,
}

impl Collector {
    pub fn new(setting: &Setting) -> Self {
        let next = if setting.rules.keep_others_lists { Next::Mark } else { Next::LiftOthers };
        Self { next, marks_all: false, own_list: None }
    }

    pub fn marking_all(self) -> Self {
        Self { marks_all: true, ..self }
    }

    pub fn pages(&self, world: &World, setting: &Setting) -> std::ops::Range<u8> {
        match self.next {
            Next::Rewrite { segments, .. } => setting.pages_after(&world.store, segments),
            _ => 0..1,
        }
    }

    pub fn step(mut self, page: u8, world: &mut World, setting: &Setting) -> Option<Self> {
        let rules = &setting.rules;
        self.next = match self.next {
            Next::LiftOthers => {
                world.store.lists = Names::default();
                Next::Mark
            }
            Next::Mark => {
                let marked = self.mark(world, setting);
                if marked == Condemned::default() { Next::Done } else { Next::Condemn(marked) }
            }
            Next::Condemn(list) => {
                self.own_list = Some(world.store.put_list(list));
                if rules.read_again {
                    Next::Read(Reading::begin(setting.lists))
                } else {
                    // its marks, as if nothing had been committed since
                    self.sweep(Names::default(), world, setting)
                }
            }
            Next::Read(reading) => {
                // a LIST of one page shows one moment
                let needs_two = rules.two_equal_lists && setting.pages > 1;
                let until = if needs_two { Until::TwoEqualLists } else { Until::OneList };
                match reading.step(&world.store, setting, until) {
                    Progress::Going(reading) => Next::Read(reading),
                    Progress::Read(segments) => self.sweep(segments, world, setting),
                    Progress::GaveUp => Next::Done,
                }
            }
            Next::Unload { segments, blocks } => {
                let carried = world.store.carried_by(segments).without(blocks);
                world.store.unload(carried);
                self.rewrite_or_delete(segments, blocks, world, setting)
            }
            Next::Rewrite { segments, blocks } => {
                let condemned = self.condemned(world).records;
                world.store.put_segment(Segment {
                    records: world.store.records_of(segments).without(condemned),
                    replaces: segments.and(world.store.replaced_by(segments)),
                    page,
                    ..Segment::default()
                });
                Next::Delete { segments, blocks }
            }
            Next::Delete { segments, blocks } => delete_one(segments, blocks, world, setting),
            Next::LiftOwn => {
                world.store.lists = world.store.lists.without(Names::of(self.own_list));
                Next::Done
            }
            Next::Done => return None,
        };
        Some(self)
    }

    /// Records are dropped on request, blocks when no other record names them.
    fn mark(&self, world: &World, setting: &Setting) -> Condemned {
        let store = &world.store;
        let found = store.records_found();
        let condemned = store.condemned();
        let records = world.requested.within(found).without(condemned.records);
        let reachable = if self.marks_all {
            Names::default()
        } else {
            store.blocks_of(found.without(condemned.records).without(records))
        };
        let carried = if setting.rules.condemn_carried {
            store.carried_by(store.unreplaced(store.segments))
        } else {
            Names::default()
        };
        let blocks = store.blocks.and(carried).without(reachable).without(condemned.blocks);
        Condemned { blocks, records }
    }

    fn condemned(&self, world: &World) -> Condemned {
        self.own_list.map(|list| world.store.list(list)).unwrap_or_default()
    }

    /// Chooses the condemned blocks and segments to delete, after it has read `segments`. A condemned record
    /// refers to nothing.
    fn sweep(&self, segments: Names, world: &World, setting: &Setting) -> Next {
        let store = &world.store;
        let own = self.condemned(world);
        let dropped = store.condemned().records.and(own.records);
        let reachable = store.blocks_of(store.records_of(segments).without(dropped));
        let blocks = own.blocks.without(reachable);
        let has_dropped = |name: &u8| !store.segment(*name).records.within(own.records).is_empty();
        let segments = Names::of(segments.iter().filter(has_dropped));
        let is_carried = !store.carried_by(segments).without(blocks).without(store.blocks).is_empty();
        if setting.rules.unload && is_carried {
            return Next::Unload { segments, blocks };
        }
        self.rewrite_or_delete(segments, blocks, world, setting)
    }

    fn rewrite_or_delete(&self, segments: Names, blocks: Names, world: &World, setting: &Setting) -> Next {
        let own = self.condemned(world);
        if world.store.records_of(segments).without(own.records).is_empty() {
            to_delete(segments, blocks, setting)
        } else {
            Next::Rewrite { segments, blocks }
        }
    }
}

fn to_delete(segments: Names, blocks: Names, setting: &Setting) -> Next {
    if !segments.is_empty() || !blocks.is_empty() {
        Next::Delete { segments, blocks }
    } else if setting.rules.keep_own_lists {
        Next::Done
    } else {
        Next::LiftOwn
    }
}

/// Index entries first, then blocks.
fn delete_one(segments: Names, blocks: Names, world: &mut World, setting: &Setting) -> Next {
    let segment = segments.iter().next();
    let block = blocks.iter().next();
    match (segment, block) {
        (Some(segment), _) if setting.rules.entries_first || block.is_none() => {
            world.store.delete_segment(segment);
            to_delete(segments.without(Names::of([segment])), blocks, setting)
        }
        (_, Some(block)) => {
            world.store.delete_block(block);
            to_delete(segments, blocks.without(Names::of([block])), setting)
        }
        _ => to_delete(segments, blocks, setting),
    }
}
