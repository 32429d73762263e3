//! The protocol as the checker sees it: actors around a store. Each takes one step at a time, and the checker
//! tries every order.
//!
//! An actor that is killed, or pauses for ever, takes no further step. That needs no step of its own, because
//! the checker looks for a fault in every state.

use std::fmt::Debug;
use std::ops::Range;

use stateright::{Model, Property};

use super::collector::{self, Collector};
use super::compactor::{self, Compactor};
use super::puller::{self, Puller};
use super::pusher::{self, Pusher};
use super::rules::Rules;
use super::store::{Names, Record, Segment, Store};

/// The surroundings of the actors.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub rules: Rules,
    /// Pages of a LIST of `index/`.
    pub pages: u8,
    /// True if a LIST is in the order of names. One of a folder is not.
    pub lists_in_order: bool,
    /// Number of LISTs after which a reader gives up an index that changes.
    pub lists: u8,
    /// True if files must be synced before they outlive a power failure. There is one power failure at most.
    pub is_directory: bool,
    /// True if blocks get lost otherwise than by collectors.
    pub blocks_are_lost: bool,
}

impl Setting {
    pub const SERVICE: Self = Self {
        rules: Rules::ALL,
        pages: 1,
        lists_in_order: true,
        lists: 4,
        is_directory: false,
        blocks_are_lost: false,
    };

    /// The pages that the name of a merged segment may be on.
    pub fn pages_after(&self, store: &Store, merged: Names) -> Range<u8> {
        let last = merged.iter().map(|name| store.segment(name).page).max().unwrap_or(0);
        let sorts_after = self.lists_in_order && self.rules.merged_sorts_after;
        (if sorts_after { last } else { 0 })..self.pages
    }
}

/// The state that the actors share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct World {
    pub store: Store,
    /// The records behind acknowledgements.
    pub acknowledged: Names,
    /// Records that only recent acknowledgements need.
    pub young: Names,
    /// Old records that their repository has asked to drop.
    pub requested: Names,
    pub has_pulled: bool,
    pub is_name_reused: bool,
    pub has_power_failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Actor {
    Pusher(Pusher),
    Collector(Collector),
    Compactor(Compactor),
    Puller(Puller),
    /// Has ended.
    Gone,
}

pub const ACTORS: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    pub world: World,
    pub actors: [Actor; ACTORS],
}

/// One step of one actor, and its choice where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Of {
        actor: usize,
        choice: u8,
    },
    /// Young records become old, and their repository asks to drop them.
    WeeksPass,
    PowerFails,
}

/// The content of the store at the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    Empty,
    /// One commit of object 1 and repository 1, with a fresh record.
    Fresh,
    /// One commit with an old record. A push that relies on it has to write it afresh.
    Old,
    /// A block that an interrupted push has left.
    Orphan,
    /// One commit with a lost block.
    Lost,
    /// As [`Self::Fresh`], but the segment carries the block.
    Carried,
    /// As [`Self::Old`], likewise.
    OldCarried,
}

impl Beginning {
    fn world(self, setting: &Setting) -> World {
        let mut world = World::default();
        if self == Self::Empty {
            return world;
        }
        let is_carried = matches!(self, Self::Carried | Self::OldCarried);
        let block = if is_carried { world.store.name_block() } else { world.store.put_block() };
        if self == Self::Orphan {
            return world;
        }
        let carried = if is_carried { Names::of([block]) } else { Names::default() };
        let record = world.store.name_record(Record { object: 1, block, repository: 1 });
        let page = setting.pages - 1;
        world.store.put_segment(Segment {
            records: Names::of([record]),
            carried,
            page,
            ..Segment::default()
        });
        match self {
            Self::Lost => world.store.delete_block(block),
            Self::Old | Self::OldCarried => world.requested = Names::of([record]),
            _ => world.young = Names::of([record]),
        }
        world
    }
}

/// One configuration of the model.
#[derive(Clone, Debug)]
pub struct Protocol {
    pub setting: Setting,
    pub beginnings: Vec<Beginning>,
    pub actors: Vec<Actor>,
    /// True if equal actors may change places: then states that differ only in this are one state.
    pub actors_are_alike: bool,
}

pub const ACKNOWLEDGED_STANDS: &str = "what was acknowledged can be read";
pub const RECORDS_STAND: &str = "no record vanishes but a condemned one";
pub const PULLS_SUCCEED: &str = "no pull of what was acknowledged fails";
pub const NAMES_ARE_NEW: &str = "no name is used again";

pub const NEVER_BROKEN: [&str; 4] = [ACKNOWLEDGED_STANDS, RECORDS_STAND, PULLS_SUCCEED, NAMES_ARE_NEW];

impl Actor {
    fn pages(&self, world: &World, setting: &Setting) -> Range<u8> {
        match self {
            Self::Pusher(pusher) => pusher.pages(world, setting),
            Self::Collector(collector) => collector.pages(world, setting),
            Self::Compactor(compactor) => compactor.pages(world, setting),
            Self::Puller(_) => 0..1,
            Self::Gone => 0..0,
        }
    }

    fn step(self, choice: u8, world: &mut World, setting: &Setting) -> Option<Self> {
        let next = match self {
            Self::Pusher(pusher) => Self::Pusher(pusher.step(choice, world, setting)?),
            Self::Collector(collector) => Self::Collector(collector.step(choice, world, setting)?),
            Self::Compactor(compactor) => Self::Compactor(compactor.step(choice, world, setting)?),
            Self::Puller(puller) => Self::Puller(puller.step(world, setting)?),
            Self::Gone => return None,
        };
        Some(if next.has_ended() { Self::Gone } else { next })
    }

    fn has_ended(&self) -> bool {
        match self {
            Self::Pusher(pusher) => pusher.next == pusher::Next::Done,
            Self::Collector(collector) => collector.next == collector::Next::Done,
            Self::Compactor(compactor) => compactor.next == compactor::Next::Done,
            Self::Puller(puller) => puller.next == puller::Next::Done,
            Self::Gone => true,
        }
    }

    /// The step that it takes next, in words.
    pub fn next(&self) -> String {
        let (name, next): (_, &dyn Debug) = match self {
            Self::Pusher(pusher) => ("pusher", &pusher.next),
            Self::Collector(collector) => ("collector", &collector.next),
            Self::Compactor(compactor) => ("compactor", &compactor.next),
            Self::Puller(puller) => ("puller", &puller.next),
            Self::Gone => ("nobody", &()),
        };
        format!("{name} {next:?}")
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut actors = [Actor::Gone; ACTORS];
        actors[..self.actors.len()].copy_from_slice(&self.actors);
        self.beginnings.iter().map(|b| State { world: b.world(&self.setting), actors }).collect()
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for (actor, now) in state.actors.iter().enumerate() {
            let pages = now.pages(&state.world, &self.setting);
            steps.extend(pages.map(|choice| Step::Of { actor, choice }));
            if matches!(now, Actor::Pusher(pusher) if pusher.may_restart()) {
                steps.push(Step::Of { actor, choice: pusher::RESTART });
            }
        }
        if !state.world.young.is_empty() {
            steps.push(Step::WeeksPass);
        }
        if self.setting.is_directory && !state.world.has_power_failed {
            steps.push(Step::PowerFails);
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut state = *state;
        match step {
            Step::Of { actor, choice } => {
                state.actors[actor] = state.actors[actor].step(choice, &mut state.world, &self.setting)?;
            }
            Step::WeeksPass => {
                let World { young, requested, acknowledged, .. } = &mut state.world;
                *requested = *young;
                // the repository that asks so knows all pushes until then
                *acknowledged = acknowledged.without(*young);
                *young = Names::default();
            }
            Step::PowerFails => {
                let World { store, has_power_failed, .. } = &mut state.world;
                *has_power_failed = true;
                store.blocks = store.blocks.without(store.loose_blocks);
                store.segments = store.segments.without(store.loose_segments);
                state.actors = [Actor::Gone; ACTORS];
            }
        }
        if self.actors_are_alike {
            state.actors.sort_unstable();
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(ACKNOWLEDGED_STANDS, |_, State { world, .. }| {
                let store = &world.store;
                let found = store.records_found();
                let blocks = store.blocks_of(world.acknowledged);
                let readable = store.readable(store.unreplaced(store.segments));
                world.acknowledged.without(found).is_empty() && blocks.without(readable).is_empty()
            }),
            Property::always(RECORDS_STAND, |_, State { world, .. }| {
                let store = &world.store;
                let may_be_gone = store.condemned().records;
                // a write that was not durable has not happened
                world.has_power_failed
                    || store.records_ever().without(store.records_found()).without(may_be_gone).is_empty()
            }),
            Property::always(PULLS_SUCCEED, |_, State { world, actors }| {
                let has_failed = |p: &Puller| {
                    p.next == puller::Next::Failed && !p.wanted.within(world.acknowledged).is_empty()
                };
                !actors.iter().any(|actor| matches!(actor, Actor::Puller(p) if has_failed(p)))
            }),
            Property::always(NAMES_ARE_NEW, |_, State { world, .. }| !world.is_name_reused),
            Property::sometimes("something is acknowledged", |_, State { world, .. }| {
                !world.acknowledged.is_empty()
            }),
        ];
        // the properties don't hold vacuously
        let has = |is: fn(&Actor) -> bool| self.actors.iter().any(is);
        if has(|actor| matches!(actor, Actor::Puller(_))) {
            properties
                .push(Property::sometimes("a pull succeeds", |_, state: &State| state.world.has_pulled));
        }
        if has(|actor| matches!(actor, Actor::Collector(_))) {
            properties.push(Property::sometimes("a collection deletes a block", |_, state: &State| {
                state.world.store.has_deleted_blocks()
            }));
        }
        if has(|actor| matches!(actor, Actor::Compactor(_))) {
            properties.push(Property::sometimes("a compaction deletes a segment", |_, state: &State| {
                state.world.store.has_deleted_segments()
            }));
        }
        properties
    }
}
