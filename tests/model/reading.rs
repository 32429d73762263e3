//! A reading of all commits: LIST page by page, GET the new segments, and again until it has seen all.

use super::protocol::Setting;
use super::store::{Names, Store};

/// A reading under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reading {
    next_page: u8,
    listed: Names,
    /// The LIST before this one, if all its segments were read.
    before: Option<Names>,
    /// The segments that were read so far. They stay known, even if the store loses them.
    read: Names,
    lists_left: u8,
}

/// The progress of a reading.
pub enum Progress {
    Going(Reading),
    /// All listed segments that no other listed segment replaces.
    Read(Names),
    /// The index changes faster than it can be read.
    GaveUp,
}

/// The condition under which a reading has seen all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Until {
    OneList,
    TwoEqualLists,
}

impl Reading {
    /// A reading that lists at most `lists` times.
    pub fn begin(lists: u8) -> Self {
        Self { lists_left: lists, ..Self::default() }
    }

    /// Lists one more page. After the last page, GETs all listed segments that are new. These GETs are one
    /// step, because written segments don't change and no name comes back.
    pub fn step(mut self, store: &Store, setting: &Setting, until: Until) -> Progress {
        if self.next_page < setting.pages {
            self.listed = self.listed.and(store.list_page(self.next_page));
            self.next_page += 1;
            let is_listed = self.next_page == setting.pages;
            if !is_listed || !self.listed.without(self.read).is_empty() {
                return Progress::Going(self);
            }
        }
        self.read = self.read.and(self.listed.within(store.segments));
        let known = self.listed.within(self.read);
        let vanished = self.listed.without(known).without(store.replaced_by(known));
        let is_all_read = vanished.is_empty() || !setting.rules.list_again;
        let all = Progress::Read(store.unreplaced(known));
        if is_all_read && (until == Until::OneList || self.before == Some(self.listed)) {
            return all;
        }
        self.before = is_all_read.then_some(self.listed);
        self.lists_left -= 1;
        self.next_page = 0;
        self.listed = Names::default();
        if self.lists_left == 0 { Progress::GaveUp } else { Progress::Going(self) }
    }
}
