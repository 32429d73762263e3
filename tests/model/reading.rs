//! Reading all commits: LIST page by page, GET what is new, and again until that shows all.

use super::protocol::Setting;
use super::store::{Names, Store};

/// A reading under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reading {
    next_page: u8,
    listed: Names,
    /// The LIST before this one, if all that it named was read.
    before: Option<Names>,
    /// What was read so far: it stays known, whatever becomes of it in the store.
    read: Names,
    lists_left: u8,
}

/// How far a reading is.
pub enum Progress {
    Going(Reading),
    /// Every segment that was listed and that no other of them replaces.
    Read(Names),
    /// The index changes faster than it can be read.
    GaveUp,
}

/// When a reading has seen all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Until {
    OneList,
    TwoEqualLists,
}

impl Reading {
    /// A reading that lists so many times at most.
    pub fn begin(lists: u8) -> Self {
        Self { lists_left: lists, ..Self::default() }
    }

    /// Lists one page more. Behind the last one, GETs what is new of all that was listed. Nothing written changes and no name comes
    /// back, so GETs one after the other see what they would see at the same time: they are one step.
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
