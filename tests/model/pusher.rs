//! A push of an object: look it up, store it, commit, check, `complete`.

use super::protocol::{Setting, World};
use super::store::{Names, Record, Segment};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pusher {
    pub next: Next,
    pub object: u8,
    pub repository: u8,
    /// True if its commits merge the segments that it has read.
    pub merges: bool,
    /// True if its block stands in its segment.
    pub carries: bool,
    /// Segments that a former command has left in the cache.
    pub cached: Names,
    /// The block that was noted before its PUT began.
    pub journal: Option<u8>,
    /// Number of times that it may be killed and started again.
    pub restarts: u8,
    /// Number of attempts. It begins again when blocks that it relied on were condemned.
    pub attempts: u8,
    /// The segments that stood when it looked, if it is going to merge them.
    seen: Names,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Next {
    LookUp,
    FindJournaled(u8),
    PutBlock,
    SyncBlock(u8),
    CheckBlock(u8),
    /// PUTs blocks that the segments to merge carry.
    Unload {
        block: u8,
        is_resumed: bool,
    },
    Commit {
        block: u8,
        is_resumed: bool,
    },
    CommitCarrying,
    SyncIndex(u8),
    Check(u8),
    CompleteFresh(u8),
    Complete(u8),
    Done,
}

/// The choice to be killed and started again.
pub const RESTART: u8 = u8::MAX;

impl Pusher {
    pub fn of(object: u8, repository: u8) -> Self {
        Self {
            next: Next::LookUp,
            object,
            repository,
            merges: false,
            carries: false,
            cached: Names::default(),
            journal: None,
            restarts: 0,
            attempts: 2,
            seen: Names::default(),
        }
    }

    pub fn merging(self) -> Self {
        Self { merges: true, ..self }
    }

    pub fn carrying(self) -> Self {
        Self { carries: true, ..self }
    }

    pub fn with_cached(self, segment: u8) -> Self {
        Self { cached: Names::of([segment]), ..self }
    }

    pub fn with_journal(self, block: u8) -> Self {
        Self { journal: Some(block), ..self }
    }

    pub fn restarting(self) -> Self {
        Self { restarts: 1, ..self }
    }

    pub fn may_restart(&self) -> bool {
        self.restarts > 0 && self.next != Next::LookUp
    }

    /// The pages that a commit's name may be on.
    pub fn pages(&self, world: &World, setting: &Setting) -> std::ops::Range<u8> {
        match self.next {
            Next::Commit { .. } if self.merges => setting.pages_after(&world.store, self.seen),
            Next::Commit { .. } | Next::CommitCarrying => 0..setting.pages,
            _ => 0..1,
        }
    }

    pub fn step(mut self, choice: u8, world: &mut World, setting: &Setting) -> Option<Self> {
        if choice == RESTART {
            self.restarts -= 1;
            return Some(Self { next: Next::LookUp, seen: Names::default(), ..self });
        }
        self.next = match self.next {
            Next::LookUp => self.look_up(world, setting),
            Next::FindJournaled(block) => {
                if world.store.blocks.has(block) || !setting.rules.look_for_resumed {
                    self.unload_or_commit(block, true, world, setting)
                } else {
                    Next::PutBlock
                }
            }
            Next::PutBlock if self.carries => Next::CommitCarrying,
            Next::PutBlock => self.put_block(world, setting),
            Next::SyncBlock(block) => {
                world.store.loose_blocks = Names::default();
                self.before_commit(block, world, setting)
            }
            Next::CheckBlock(block) => {
                if world.store.condemned().blocks.has(block) {
                    self.begin_again()
                } else {
                    self.unload_or_commit(block, false, world, setting)
                }
            }
            Next::Unload { block, is_resumed } => {
                let carried = world.store.carried_by(self.seen);
                world.store.unload(carried);
                Next::Commit { block, is_resumed }
            }
            Next::CommitCarrying => self.commit_carrying(choice, world),
            Next::Commit { block, is_resumed } => self.commit(block, is_resumed, choice, world, setting),
            Next::SyncIndex(record) => {
                world.store.loose_segments = Names::default();
                Next::Check(record)
            }
            Next::Check(record) => self.check(record, world, setting),
            Next::CompleteFresh(record) => self.complete_fresh(record, world, setting),
            Next::Complete(record) => complete(record, world),
            Next::Done => return None,
        };
        Some(self)
    }

    fn put_block(&mut self, world: &mut World, setting: &Setting) -> Next {
        let block = if setting.rules.nonces { world.store.put_block() } else { 0 };
        if !setting.rules.nonces {
            world.is_name_reused |= world.store.put_block_again(block);
        }
        self.journal = Some(block);
        if setting.is_directory {
            world.store.loose_blocks = world.store.loose_blocks.with(block);
            Next::SyncBlock(block)
        } else {
            self.before_commit(block, world, setting)
        }
    }

    fn check(&mut self, record: u8, world: &mut World, setting: &Setting) -> Next {
        let rules = &setting.rules;
        let condemned = world.store.condemned();
        let block = world.store.record(record).block;
        let is_stale = rules.fresh_at_check && rules.renew_old_records && world.requested.has(record);
        if is_stale || condemned.records.has(record) || condemned.blocks.has(block) {
            self.begin_again()
        } else {
            complete(record, world)
        }
    }

    /// No list can name a block that came into the store with this record.
    fn complete_fresh(&mut self, record: u8, world: &mut World, setting: &Setting) -> Next {
        if setting.rules.fresh_at_check && world.requested.has(record) {
            self.begin_again()
        } else {
            complete(record, world)
        }
    }

    /// One LIST of the index and one of the condemned lists, and GETs of all that both name.
    fn look_up(&mut self, world: &World, setting: &Setting) -> Next {
        let store = &world.store;
        let rules = &setting.rules;
        let known = if rules.list_before_cache { store.segments } else { store.segments.and(self.cached) };
        let seen = store.unreplaced(known);
        if self.merges {
            self.seen = seen;
        }
        let condemned = store.condemned();
        let may_use = |block: u8| {
            !condemned.blocks.has(block)
                && (!rules.look_for_blocks || !setting.blocks_are_lost || store.readable(seen).has(block))
        };
        let usable = Names::of(
            store.records_of_object(self.object, seen).iter().filter(|r| may_use(store.record(*r).block)),
        );
        let is_fresh = |record: &u8| {
            let is_own = store.record(*record).repository == self.repository;
            (is_own && !world.requested.has(*record) || !rules.renew_old_records)
                && !condemned.records.has(*record)
        };
        if let Some(record) = usable.iter().rev().find(is_fresh) {
            return if !rules.check_skips {
                Next::Complete(record)
            } else if setting.is_directory && rules.sync_before_relying {
                Next::SyncIndex(record)
            } else {
                Next::Check(record)
            };
        }
        if let Some(old) = usable.iter().next_back() {
            return self.before_commit(store.record(old).block, world, setting);
        }
        match self.journal.filter(|block| !condemned.blocks.has(*block)) {
            Some(block) => Next::FindJournaled(block),
            None => Next::PutBlock,
        }
    }

    /// One PUT of a segment with the block itself.
    fn commit_carrying(&mut self, page: u8, world: &mut World) -> Next {
        let block = world.store.name_block();
        let record =
            world.store.name_record(Record { object: self.object, block, repository: self.repository });
        let records = Names::of([record]);
        let carried = Names::of([block]);
        world.store.put_segment(Segment { records, carried, page, ..Segment::default() });
        self.journal = None;
        Next::CompleteFresh(record)
    }

    /// One PUT: the own record, and the records that were read before.
    fn commit(
        &mut self,
        block: u8,
        is_resumed: bool,
        page: u8,
        world: &mut World,
        setting: &Setting,
    ) -> Next {
        let rules = &setting.rules;
        let record =
            world.store.name_record(Record { object: self.object, block, repository: self.repository });
        let mut segment = Segment { records: Names::of([record]), page, ..Segment::default() };
        if self.merges {
            segment.replaces = self.seen.and(world.store.replaced_by(self.seen));
            if rules.merge_keeps_records {
                segment.records = segment.records.and(world.store.records_of(self.seen));
            }
        }
        let name = world.store.put_segment(segment);
        self.journal = None;
        self.seen = Names::default();
        if setting.is_directory {
            world.store.loose_segments = world.store.loose_segments.with(name);
            return if rules.sync_before_relying { Next::SyncIndex(record) } else { Next::Check(record) };
        }
        if rules.check_after_commit && (rules.check_resumed || !is_resumed) {
            Next::Check(record)
        } else {
            Next::Complete(record)
        }
    }

    fn before_commit(&self, block: u8, world: &World, setting: &Setting) -> Next {
        if setting.rules.check_after_commit {
            self.unload_or_commit(block, false, world, setting)
        } else {
            Next::CheckBlock(block)
        }
    }

    fn unload_or_commit(&self, block: u8, is_resumed: bool, world: &World, setting: &Setting) -> Next {
        let carried = world.store.carried_by(self.seen).without(world.store.blocks);
        if setting.rules.unload && !carried.is_empty() {
            Next::Unload { block, is_resumed }
        } else {
            Next::Commit { block, is_resumed }
        }
    }

    fn begin_again(&mut self) -> Next {
        self.attempts -= 1;
        if self.attempts == 0 { Next::Done } else { Next::LookUp }
    }
}

fn complete(record: u8, world: &mut World) -> Next {
    world.acknowledged = world.acknowledged.with(record);
    Next::Done
}
