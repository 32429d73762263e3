//! The store of the model: blocks, index segments and condemned lists, and PUT, GET, LIST and DELETE.
//!
//! Names are numbers. A written segment never changes, so an actor that has read it keeps only its name. An
//! object is one block's content, and a record names the block.

use std::fmt;

/// A set of names of one kind.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Names(u16);

impl Names {
    /// The largest number of names.
    pub const MOST: usize = 16;

    pub fn of(names: impl IntoIterator<Item = u8>) -> Self {
        names.into_iter().fold(Self::default(), Self::with)
    }

    pub fn has(self, name: u8) -> bool {
        self.0 >> name & 1 == 1
    }

    pub fn with(self, name: u8) -> Self {
        Self(self.0 | 1 << name)
    }

    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    pub fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub fn within(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl DoubleEndedIterator<Item = u8> {
        (0..Self::MOST as u8).filter(move |name| self.has(*name))
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The place of an object's content, according to one commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    pub object: u8,
    pub block: u8,
    pub repository: u8,
}

/// The content of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    pub records: Names,
    pub replaces: Names,
    /// Blocks that stand in the segment.
    pub carried: Names,
    /// The page of a LIST that has its name.
    pub page: u8,
}

/// A condemned list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Condemned {
    pub blocks: Names,
    pub records: Names,
}

const SEGMENTS: usize = 10;
const RECORDS: usize = 6;
const LISTS: usize = 3;

/// The files that stand, and all that were ever written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Store {
    pub blocks: Names,
    pub segments: Names,
    pub lists: Names,
    /// In a directory: visible, but not yet sure to outlive a power failure.
    pub loose_blocks: Names,
    pub loose_segments: Names,
    blocks_named: u8,
    segments_named: u8,
    records_named: u8,
    lists_named: u8,
    segment: [Segment; SEGMENTS],
    record: [Record; RECORDS],
    list: [Condemned; LISTS],
}

impl Store {
    /// PUTs a block under a new name.
    pub fn put_block(&mut self) -> u8 {
        let name = self.name_block();
        self.blocks = self.blocks.with(name);
        name
    }

    /// The name of a block that the next segment will carry.
    pub fn name_block(&mut self) -> u8 {
        self.blocks_named += 1;
        self.blocks_named - 1
    }

    /// PUTs blocks that segments carry into files of their own.
    pub fn unload(&mut self, blocks: Names) {
        self.blocks = self.blocks.and(blocks);
    }

    pub fn carried_by(&self, segments: Names) -> Names {
        segments.iter().fold(Names::default(), |all, name| all.and(self.segment(name).carried))
    }

    /// The blocks that a reader of these segments can read.
    pub fn readable(&self, segments: Names) -> Names {
        self.blocks.and(self.carried_by(segments.within(self.segments)))
    }

    /// PUTs a block under a name that comes from its content alone. Returns true if the name was used before.
    pub fn put_block_again(&mut self, name: u8) -> bool {
        let is_used = name < self.blocks_named;
        self.blocks_named = self.blocks_named.max(name + 1);
        self.blocks = self.blocks.with(name);
        is_used
    }

    /// A record that the next segment will have.
    pub fn name_record(&mut self, record: Record) -> u8 {
        self.record[self.records_named as usize] = record;
        self.records_named += 1;
        self.records_named - 1
    }

    pub fn put_segment(&mut self, segment: Segment) -> u8 {
        let name = self.segments_named;
        self.segment[name as usize] = segment;
        self.segments_named += 1;
        self.segments = self.segments.with(name);
        name
    }

    pub fn put_list(&mut self, list: Condemned) -> u8 {
        let name = self.lists_named;
        self.list[name as usize] = list;
        self.lists_named += 1;
        self.lists = self.lists.with(name);
        name
    }

    /// One page of a LIST of `index/`.
    pub fn list_page(&self, page: u8) -> Names {
        Names::of(self.segments.iter().filter(|name| self.segment(*name).page == page))
    }

    pub fn delete_segment(&mut self, name: u8) {
        self.segments = self.segments.without(Names::of([name]));
        self.loose_segments = self.loose_segments.within(self.segments);
    }

    pub fn delete_block(&mut self, name: u8) {
        self.blocks = self.blocks.without(Names::of([name]));
        self.loose_blocks = self.loose_blocks.within(self.blocks);
    }

    /// The content of a segment, for actors that have read it.
    pub fn segment(&self, name: u8) -> &Segment {
        &self.segment[name as usize]
    }

    pub fn record(&self, name: u8) -> &Record {
        &self.record[name as usize]
    }

    pub fn records_ever(&self) -> Names {
        Names::of(0..self.records_named)
    }

    pub fn has_deleted_blocks(&self) -> bool {
        !Names::of(0..self.blocks_named).without(self.readable(self.segments)).is_empty()
    }

    pub fn has_deleted_segments(&self) -> bool {
        !Names::of(0..self.segments_named).without(self.segments).is_empty()
    }

    /// All entries of the condemned lists that stand now.
    pub fn condemned(&self) -> Condemned {
        self.lists.iter().map(|name| self.list[name as usize]).fold(Condemned::default(), |all, list| {
            Condemned { blocks: all.blocks.and(list.blocks), records: all.records.and(list.records) }
        })
    }

    pub fn list(&self, name: u8) -> Condemned {
        self.list[name as usize]
    }

    /// The segments that some of `segments` name as replaced.
    pub fn replaced_by(&self, segments: Names) -> Names {
        segments.iter().fold(Names::default(), |all, name| all.and(self.segment(name).replaces))
    }

    /// The `segments` that no other of them replaces.
    pub fn unreplaced(&self, segments: Names) -> Names {
        segments.without(self.replaced_by(segments))
    }

    pub fn records_of(&self, segments: Names) -> Names {
        segments.iter().fold(Names::default(), |all, name| all.and(self.segment(name).records))
    }

    pub fn records_of_object(&self, object: u8, segments: Names) -> Names {
        let records = self.records_of(segments);
        Names::of(records.iter().filter(|name| self.record(*name).object == object))
    }

    pub fn blocks_of(&self, records: Names) -> Names {
        Names::of(records.iter().map(|name| self.record(name).block))
    }

    /// The records that a reader of the index finds now.
    pub fn records_found(&self) -> Names {
        self.records_of(self.unreplaced(self.segments))
    }
}
