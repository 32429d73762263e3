//! Configurations to check: the actors that share a store, and their setting.

use super::collector::Collector;
use super::compactor::Compactor;
use super::protocol::{Actor, Beginning, Protocol, Setting};
use super::puller::Puller;
use super::pusher::Pusher;

pub fn pusher() -> Actor {
    Actor::Pusher(Pusher::of(1, 1))
}

/// Pushes another object, and merges the segments that it finds.
pub fn merging() -> Actor {
    Actor::Pusher(Pusher::of(2, 1).merging())
}

/// Pushes the same object from another repository, which needs a record and no data. Merges the segments that
/// it finds.
pub fn merging_same() -> Actor {
    Actor::Pusher(Pusher::of(1, 2).merging())
}

/// A push with a commit of one file.
pub fn carrying() -> Actor {
    Actor::Pusher(Pusher::of(1, 1).carrying())
}

/// A push that has the segment of the beginning in its cache.
pub fn with_cache() -> Actor {
    Actor::Pusher(Pusher::of(1, 1).with_cached(0))
}

/// A push after an interrupted one, which has noted the very first block. This push may be interrupted too.
pub fn resuming() -> Actor {
    Actor::Pusher(Pusher::of(1, 1).with_journal(0).restarting())
}

pub fn interrupted() -> Actor {
    Actor::Pusher(Pusher::of(1, 1).restarting())
}

pub fn collector(setting: &Setting) -> Actor {
    Actor::Collector(Collector::new(setting))
}

pub fn eager_collector(setting: &Setting) -> Actor {
    Actor::Collector(Collector::new(setting).marking_all())
}

pub fn compactor(rounds: u8) -> Actor {
    Actor::Compactor(Compactor::new(rounds))
}

pub fn puller() -> Actor {
    Actor::Puller(Puller::new())
}

/// An object store with LISTs of `pages` pages.
pub fn service(pages: u8) -> Setting {
    Setting { pages, ..Setting::SERVICE }
}

/// A folder: its files aren't listed in order, and they must be synced.
pub fn directory() -> Setting {
    Setting { is_directory: true, ..Setting::SERVICE }
}

/// Blocks that somebody has removed by hand.
pub fn with_losses() -> Setting {
    Setting { blocks_are_lost: true, ..Setting::SERVICE }
}

impl Protocol {
    pub fn new(setting: Setting, beginnings: &[Beginning], actors: &[Actor]) -> Self {
        Self { setting, beginnings: beginnings.to_vec(), actors: actors.to_vec(), actors_are_alike: true }
    }
}
