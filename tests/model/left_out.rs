//! Rules left out, one at a time: the shortest way to a loss, or a proof that there is none.

use stateright::{Checker, HasDiscoveries, Model, Path};

use super::configurations::*;
use super::protocol::{
    ACKNOWLEDGED_STANDS, Actor, Beginning, NAMES_ARE_NEW, NEVER_BROKEN, PULLS_SUCCEED, Protocol,
    RECORDS_STAND, Setting, State, Step,
};
use super::rules::Rules;
use Beginning::*;

/// Prints a path, one step a line.
pub fn tell(path: Path<State, Step>) {
    for (number, (state, step)) in path.into_vec().into_iter().enumerate() {
        match step {
            Some(Step::Of { actor, .. }) => {
                println!("  {}. {actor}: {}", number + 1, state.actors[actor].next())
            }
            Some(Step::WeeksPass) => println!("  {}. weeks pass", number + 1),
            Some(Step::PowerFails) => println!("  {}. the power fails", number + 1),
            None => {}
        }
    }
}

/// Actors in a setting in which a rule is left out.
struct Without {
    rule: &'static str,
    protocol: Protocol,
}

fn without(
    rule: &'static str,
    leave_out: impl Fn(&mut Rules),
    mut setting: Setting,
    beginnings: &[Beginning],
    actors: impl Fn(&Setting) -> Vec<Actor>,
) -> Without {
    leave_out(&mut setting.rules);
    let protocol = Protocol::new(setting, beginnings, &actors(&setting));
    // so that a trace has the same numbers for them throughout
    Without { rule, protocol: Protocol { actors_are_alike: false, ..protocol } }
}

impl Without {
    /// Asserts that the shortest way to a state in which `property` does not hold has `steps` steps. The
    /// first way that the checker finds need not be the shortest. It is asked for a shorter one until there
    /// is none.
    fn breaks(&self, property: &'static str, steps: usize) {
        let mut shortest = None;
        let mut states = usize::MAX;
        loop {
            let checker = self.protocol.clone().checker();
            let checker = checker.finish_when(HasDiscoveries::AllOf([property].into()));
            let checker = checker.target_max_depth(states).spawn_bfs().join();
            let Some(path) = checker.discovery(property) else { break };
            states = path.clone().into_vec().len();
            shortest = Some(path);
        }
        let path = shortest.unwrap_or_else(|| panic!("without this rule nothing is lost: {}", self.rule));
        println!("left out: {}. After {} steps it is not so that {property}:", self.rule, states - 1);
        tell(path);
        assert_eq!(states - 1, steps, "docs/format.md, The model, gives this number too: {}", self.rule);
    }

    /// Asserts that the rule isn't needed for `properties` here.
    fn keeps(&self, properties: &[&'static str]) {
        let checker = self.protocol.clone().checker().spawn_bfs().join();
        for property in properties {
            checker.assert_no_discovery(property);
        }
        println!("left out: {}. Nothing is lost in {} states", self.rule, checker.unique_state_count());
    }
}

const ANY: &[Beginning] = &[Empty, Fresh, Old, Orphan];

fn push_and_collection(setting: &Setting) -> Vec<Actor> {
    vec![pusher(), collector(setting)]
}

fn compaction_and_collection(setting: &Setting) -> Vec<Actor> {
    vec![pusher(), compactor(1), collector(setting)]
}

fn compactions_and_collection(setting: &Setting) -> Vec<Actor> {
    vec![pusher(), compactor(2), collector(setting)]
}

#[test]
fn the_check() {
    let rules: [(_, fn(&mut Rules), _); 4] = [
        ("the check comes after the commit", |r| r.check_after_commit = false, 9),
        ("what is skipped is checked", |r| r.check_skips = false, 8),
        ("an old record is written afresh", |r| r.renew_old_records = false, 7),
        ("a record is fresh still when it is checked", |r| r.fresh_at_check = false, 8),
    ];
    for (rule, leave_out, steps) in rules {
        without(rule, leave_out, service(1), ANY, push_and_collection).breaks(ACKNOWLEDGED_STANDS, steps);
    }
}

#[test]
fn small_commits() {
    let unload = |r: &mut Rules| r.unload = false;
    let begin = &[Empty, Carried, OldCarried];
    let rule = "what is carried has a file of its own before it is merged";
    without(rule, unload, service(1), begin, |_| vec![carrying(), compactor(1)])
        .breaks(ACKNOWLEDGED_STANDS, 4);
    let rule = "and before a collector deletes the segment";
    let actors = |setting: &Setting| vec![pusher(), collector(setting)];
    without(rule, unload, service(1), begin, actors).breaks(ACKNOWLEDGED_STANDS, 8);
    // the block gets a file of its own, and is condemned there the next time
    let rule = "a collector condemns what is carried";
    without(rule, |r| r.condemn_carried = false, service(1), begin, actors).keeps(&NEVER_BROKEN);
}

#[test]
fn interrupted_pushes() {
    let actors = |setting: &Setting| vec![resuming(), collector(setting)];
    without("what is resumed is checked", |r| r.check_resumed = false, service(1), &[Orphan], actors)
        .breaks(ACKNOWLEDGED_STANDS, 8);
    // without a block, the noted block has not arrived
    without("what is resumed is looked for", |r| r.look_for_resumed = false, service(1), &[Empty], actors)
        .breaks(ACKNOWLEDGED_STANDS, 4);
}

#[test]
fn condemnations() {
    without("all commits are read again", |r| r.read_again = false, service(1), ANY, push_and_collection)
        .breaks(ACKNOWLEDGED_STANDS, 6);
    let lifted = |r: &mut Rules| r.keep_own_lists = false;
    without("condemnations are not lifted after deleting", lifted, service(1), ANY, push_and_collection)
        .breaks(ACKNOWLEDGED_STANDS, 9);
    let two = |setting: &Setting| vec![pusher(), collector(setting), collector(setting)];
    let lifted = |r: &mut Rules| r.keep_others_lists = false;
    without("nobody lifts another's condemnations", lifted, service(1), ANY, two)
        .breaks(ACKNOWLEDGED_STANDS, 10);
}

#[test]
fn names_without_a_nonce() {
    let actors = |setting: &Setting| vec![pusher(), pusher(), collector(setting)];
    let case = without("a block's name has a nonce", |r| r.nonces = false, service(1), ANY, actors);
    case.breaks(NAMES_ARE_NEW, 2);
    // but content that was condemned once can never be pushed again
    case.keeps(&[ACKNOWLEDGED_STANDS, RECORDS_STAND, PULLS_SUCCEED]);
}

#[test]
fn caches() {
    let actors = |setting: &Setting| vec![with_cache(), pusher(), collector(setting)];
    without(
        "a cached segment is used if it is listed",
        |r| r.list_before_cache = false,
        service(1),
        ANY,
        actors,
    )
    .keeps(&NEVER_BROKEN);
}

#[test]
fn the_order_of_deleting() {
    let actors = |setting: &Setting| vec![pusher(), collector(setting), puller()];
    without("entries are deleted before blocks", |r| r.entries_first = false, service(2), ANY, actors)
        .keeps(&NEVER_BROKEN);
}

#[test]
fn records_that_a_merge_keeps() {
    let drops = |r: &mut Rules| r.merge_keeps_records = false;
    let rule = "a merge keeps every record";
    without(rule, drops, service(2), ANY, |_| vec![pusher(), merging()]).breaks(ACKNOWLEDGED_STANDS, 5);
    without(rule, drops, service(2), ANY, |_| vec![pusher(), merging_same()]).breaks(ACKNOWLEDGED_STANDS, 4);
    without(rule, drops, service(2), ANY, |_| vec![pusher(), merging(), compactor(1)])
        .breaks(RECORDS_STAND, 3);
}

#[test]
fn deletion_of_replaced_segments() {
    let actors = |_: &Setting| vec![pusher(), compactor(1)];
    let rule = "the merged segment is put before what it replaces is deleted";
    without(rule, |r| r.put_before_delete = false, service(2), ANY, actors).breaks(ACKNOWLEDGED_STANDS, 4);
    let rule = "in a directory, it is synced before that";
    without(rule, |r| r.sync_before_delete = false, directory(), ANY, actors).breaks(ACKNOWLEDGED_STANDS, 8);
    let rule = "it is listed before that";
    let actors = |setting: &Setting| vec![merging_same(), compactor(1), collector(setting)];
    without(rule, |r| r.list_before_delete = false, service(2), ANY, actors).keeps(&NEVER_BROKEN);
}

#[test]
fn reliance_on_unsynced_files() {
    let rule = "in a directory, what is relied on is synced";
    without(rule, |r| r.sync_before_relying = false, directory(), ANY, |_| vec![pusher(), pusher()])
        .breaks(ACKNOWLEDGED_STANDS, 4);
}

/// One LIST is enough if LISTs are in order and a merged segment sorts after the segments that it replaces. A
/// reader that misses a replaced segment on an earlier page sees the merged one on a later page. Otherwise
/// two equal LISTs are not enough.
#[test]
fn reading_all_commits() {
    let one = |r: &mut Rules| r.two_equal_lists = false;
    let unsorted = |r: &mut Rules| r.merged_sorts_after = false;
    without("two LISTs are equal", one, service(3), &[Empty, Orphan], compactions_and_collection)
        .keeps(&NEVER_BROKEN);
    let neither = |r: &mut Rules| {
        one(r);
        unsorted(r);
    };
    without("neither equal LISTs nor sorted names", neither, service(2), ANY, compaction_and_collection)
        .breaks(ACKNOWLEDGED_STANDS, 13);
    without("a merged segment sorts after", unsorted, service(3), &[Empty], compactions_and_collection)
        .breaks(ACKNOWLEDGED_STANDS, 21);
    let folder = Setting { lists_in_order: false, ..service(3) };
    without("a folder is read at one moment", |_| (), folder, &[Empty], compactions_and_collection)
        .breaks(ACKNOWLEDGED_STANDS, 21);
}

#[test]
fn pulls() {
    let compaction = |_: &Setting| vec![pusher(), compactor(1), puller()];
    without(
        "a pull that misses a segment lists again",
        |r| r.list_again = false,
        service(2),
        ANY,
        compaction,
    )
    .breaks(PULLS_SUCCEED, 11);
    let collection = |setting: &Setting| vec![pusher(), pusher(), collector(setting), puller()];
    without("a pull tries the next record", |r| r.try_next_record = false, service(1), ANY, collection)
        .breaks(PULLS_SUCCEED, 18);
    let rule = "a folder is read at one moment, by a pull";
    let folder = Setting { lists_in_order: false, ..service(3) };
    without(rule, |_| (), folder, &[Fresh], |_| vec![pusher(), compactor(2), puller()])
        .breaks(PULLS_SUCCEED, 19);
}

#[test]
fn lost_blocks() {
    let rule = "a block is looked for before it is relied on";
    without(rule, |r| r.look_for_blocks = false, with_losses(), &[Lost], |_| vec![pusher()])
        .breaks(ACKNOWLEDGED_STANDS, 2);
}
