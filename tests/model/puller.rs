//! A pull of object 1. It begins when the object was acknowledged.

use super::protocol::{Setting, World};
use super::reading::{Progress, Reading, Until};
use super::store::Names;

const OBJECT: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Puller {
    pub next: Next,
    /// The records that were acknowledged when it began.
    pub wanted: Names,
    /// Number of further tries when it has found nothing.
    refreshes: u8,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Next {
    Begin,
    Read(Reading),
    Fetch { segments: Names },
    Done,
    Failed,
}

impl Puller {
    pub fn new() -> Self {
        Self { next: Next::Begin, wanted: Names::default(), refreshes: 1 }
    }

    pub fn step(mut self, world: &mut World, setting: &Setting) -> Option<Self> {
        self.next = match self.next {
            Next::Begin => {
                let is_wanted = |record: &u8| world.store.record(*record).object == OBJECT;
                self.wanted = Names::of(world.acknowledged.iter().filter(is_wanted));
                if self.wanted.is_empty() {
                    return None;
                }
                Next::Read(Reading::begin(setting.lists))
            }
            Next::Read(reading) => match reading.step(&world.store, setting, Until::OneList) {
                Progress::Going(reading) => Next::Read(reading),
                Progress::Read(segments) => Next::Fetch { segments },
                Progress::GaveUp => Next::Failed,
            },
            Next::Fetch { segments } => self.fetch(segments, world, setting),
            Next::Done | Next::Failed => return None,
        };
        Some(self)
    }

    /// Tries the newest record first.
    fn fetch(&mut self, segments: Names, world: &mut World, setting: &Setting) -> Next {
        let store = &world.store;
        let records = store.records_of_object(OBJECT, segments).iter().rev();
        let tried = if setting.rules.try_next_record { usize::MAX } else { 1 };
        if records.take(tried).any(|record| store.readable(segments).has(store.record(record).block)) {
            world.has_pulled = true;
            return Next::Done;
        }
        if self.refreshes == 0 || !setting.rules.list_again {
            return Next::Failed;
        }
        self.refreshes -= 1;
        Next::Read(Reading::begin(setting.lists))
    }
}
