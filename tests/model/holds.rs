//! All rules kept: nothing is lost, in any state.

use std::num::NonZeroUsize;

use stateright::{Checker, Model};

use super::configurations::*;
use super::left_out::tell;
use super::protocol::{Actor, Beginning, NEVER_BROKEN, Protocol, Setting};
use Beginning::*;

/// Checks every state, and prints how many there are.
fn holds(name: &str, setting: Setting, beginnings: &[Beginning], actors: &[Actor]) {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let protocol = Protocol::new(setting, beginnings, actors);
    let checker = protocol.checker().threads(threads).spawn_bfs().join();
    for property in NEVER_BROKEN {
        if let Some(path) = checker.discovery(property) {
            println!("{name}: it is not so that {property}:");
            tell(path);
        }
    }
    checker.assert_properties();
    println!("{name}: {} states", checker.unique_state_count());
}

const ANY: &[Beginning] = &[Empty, Fresh, Old, Orphan];

#[test]
fn pushes_and_collections() {
    let setting = service(1);
    let collector = collector(&setting);
    holds("two pushes, two collections", setting, ANY, &[pusher(), pusher(), collector, collector]);
    holds("one of them with a cache", setting, ANY, &[with_cache(), pusher(), collector, collector]);
}

/// The first reading of a collection is no part of the argument.
#[test]
fn collections_that_condemn_everything() {
    let setting = service(2);
    let eager = eager_collector(&setting);
    holds("two pushes, a collection that condemns all blocks", setting, ANY, &[pusher(), pusher(), eager]);
}

#[test]
fn interrupted_pushes() {
    let setting = service(1);
    let collector = collector(&setting);
    let name = "an interrupted push, a resumed one, a collection";
    holds(name, setting, &[Empty, Orphan, Old], &[interrupted(), resuming(), collector]);
    let name = "a push resumed twice at the same time, two collections";
    holds(name, setting, &[Orphan], &[resuming(), resuming(), collector, collector]);
}

#[test]
fn merges() {
    let setting = service(2);
    let collector = collector(&setting);
    holds("a push, a merging push, a collection", setting, ANY, &[pusher(), merging(), collector]);
    let name = "a push, one that merges its record, a collection";
    holds(name, setting, ANY, &[pusher(), merging_same(), collector]);
    let name = "two pushes that merge at the same time, a compaction, a pull";
    holds(name, setting, ANY, &[merging(), merging_same(), compactor(1), puller()]);
}

#[test]
fn compactions() {
    let setting = service(2);
    let push = [pusher(), compactor(1), collector(&setting)];
    holds("a push, a compaction, a collection", setting, ANY, &push);
    let merging = [merging_same(), compactor(1), collector(&setting)];
    holds("a merging push, a compaction, a collection", setting, ANY, &merging);
    let setting = service(3);
    let twice = [pusher(), compactor(2), collector(&setting)];
    holds("a push, two compactions, a collection, three pages", setting, ANY, &twice);
}

#[test]
fn pulls() {
    let setting = service(2);
    let name = "a push, a compaction, a collection, a pull";
    holds(name, setting, ANY, &[pusher(), compactor(1), collector(&setting), puller()]);
}

/// A folder has no order; but where it is read at one moment, a LIST has one page.
#[test]
fn directories() {
    let folder = Setting { lists_in_order: false, ..service(1) };
    let actors = [merging_same(), compactor(2), collector(&folder), puller()];
    holds("a folder: a merging push, two compactions, a collection, a pull", folder, ANY, &actors);
    let name = "a folder and a power failure: a push, a merging push, a compaction";
    holds(name, directory(), ANY, &[pusher(), merging_same(), compactor(1)]);
}

/// Commits that are one file, of which no check is made.
#[test]
fn small_commits() {
    let begin = &[Empty, Carried, OldCarried];
    let setting = service(1);
    let collector = collector(&setting);
    let name = "a small commit, a push, two collections";
    holds(name, setting, begin, &[carrying(), pusher(), collector, collector]);
    let eager = eager_collector(&setting);
    holds(
        "a small commit, a push, one that condemns all blocks",
        setting,
        begin,
        &[carrying(), pusher(), eager],
    );
    let setting = service(2);
    let name = "a small commit, a merging push, a collection";
    holds(name, setting, begin, &[carrying(), merging_same(), collector]);
    let name = "a small commit, a merging push, a compaction, a pull";
    holds(name, setting, begin, &[carrying(), merging_same(), compactor(1), puller()]);
    let name = "a folder, a power failure: a merging push and a compaction of a small commit";
    holds(name, directory(), &[Carried, OldCarried], &[pusher(), merging_same(), compactor(1)]);
    let name = "a small commit, a compaction, a collection, a pull";
    holds(name, setting, begin, &[carrying(), compactor(1), collector, puller()]);
}

#[test]
fn lost_blocks() {
    let name = "a lost block: a push, a merging push, a compaction, a pull";
    holds(name, with_losses(), &[Lost], &[pusher(), merging_same(), compactor(1), puller()]);
}

#[test]
#[ignore = "large: a few minutes and gigabytes; tests/run.sh --full runs it"]
fn merges_compactions_and_collections() {
    let setting = service(2);
    let actors = [pusher(), merging_same(), compactor(1), collector(&setting)];
    holds("a push, a merging push, a compaction, a collection", setting, &[Fresh], &actors);
}
