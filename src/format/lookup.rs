//! The look-up of an object in an index segment. It reads a few pages of the segment, which may be in memory,
//! in a file or in a store.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::block::Summary;
use super::container::Container;
use super::cursor::Cursor;
use super::inline::{self, CarriedName};
use super::pages::Layout;
use super::recipe::{Record, Term};
use super::segment::{self, BLOCKS, BlockEntry, DEPENDENCIES, KEYS, Key, RECORDS, SHARDS, ShardEntry, TERMS};
use super::sparse_index::Fence;
use crate::error::{Error, Result};
use crate::format::limits;
use crate::id::{CommitId, Oid, SegmentId};
use crate::units::MIB;

/// Pages of a table that are read at a time: 4 MiB.
const TABLE_PART_PAGES: usize = 1024;
/// Most records that a look-up reads to find those of one object. Records are sorted, and the place is known
/// to within some 400.
const RECORDS_LOOKED_AT: usize = 128 * 1024;
/// Most terms of all records that a look-up finds. An object of 16 TB has so many, or one of 256 GB that
/// changed everywhere.
const TERMS_LOOKED_AT: usize = 4 * MIB;
/// Entries of blocks before that of an object's first term that are read with it.
const BLOCKS_BEFORE: usize = 32;
/// Entries of blocks from that one on that are read with it. They often belong to the same object.
const BLOCKS_BEHIND: usize = 224;

/// A place that holds the bytes of a segment.
pub trait Source {
    /// Reads the bytes of each of these ranges. They lie in the segment, if the segment is as long as its
    /// header claims.
    fn read(&self, ranges: &[Range<usize>]) -> Result<Vec<Cow<'_, [u8]>>>;
}

impl Source for &[u8] {
    fn read(&self, ranges: &[Range<usize>]) -> Result<Vec<Cow<'_, [u8]>>> {
        let part = |range: &Range<usize>| self.get(range.clone()).map(Cow::Borrowed);
        let outside = || Error::corrupt("an index segment is cut short");
        ranges.iter().map(|range| part(range).ok_or_else(outside)).collect()
    }
}

/// A record, and the repository and blocks that its numbers refer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The record; its terms refer to `blocks`.
    pub record: Record,
    /// The repository that pushed it.
    pub repository: String,
    /// The blocks that the terms name, each with its dependencies (indexes into this table). Then the blocks
    /// that no term names but these blocks depend on, without dependencies of their own.
    pub blocks: Vec<BlockEntry>,
}

/// The head of a segment: all that is needed to read its tables in part.
#[derive(Clone, Debug)]
pub struct Head {
    pub(super) container: Container,
    pub(super) repositories: Vec<String>,
    pub(super) replaces: Vec<SegmentId>,
    carried: Vec<(CarriedName, Range<usize>)>,
    /// The fence of the records. Segments that were written before fences existed have none.
    fence: Option<Fence>,
}

/// A record's entry in the first table: the record with its first term, and the place of the other terms.
struct Row {
    record: Record,
    rest: Range<usize>,
}

/// Entries of the block table by their numbers, each with the place of its dependencies.
type BlockRows = BTreeMap<u32, (Summary, Range<usize>)>;

impl Head {
    /// Reads the head from `start`, the beginning of a segment of `segment_bytes`. `start` must have the
    /// length that [`Head::bytes`] returns.
    pub fn parse(start: &[u8], segment_bytes: usize) -> Result<Self> {
        let container = segment::container(start, segment_bytes)?;
        let repositories = segment::read_repositories(container.section(start, segment::REPOSITORIES)?)?;
        let replaces = segment::read_replaces(container.section(start, segment::REPLACES)?)?;
        let fence = if container.has(segment::FENCE) {
            Some(Fence::read(container.section(start, segment::FENCE)?)?)
        } else {
            None
        };
        let carried = inline::read(&container, start, segment_bytes)?;
        Ok(Self { container, repositories, replaces, carried, fence })
    }

    /// Returns the length of the head. `start` is the beginning of the segment: at least a kilobyte, or the
    /// whole segment.
    pub fn bytes(start: &[u8], segment_bytes: usize) -> Result<usize> {
        match segment::container(start, segment_bytes)?.plain_end() {
            bytes if bytes <= limits::HEAD_AT_MOST_BYTES => Ok(bytes),
            bytes => Err(Error::corrupt(format!("the head of an index segment would have {bytes} bytes"))),
        }
    }

    /// Returns the names of the segments that this one has merged.
    pub fn replaces(&self) -> &[SegmentId] {
        &self.replaces
    }

    /// Returns the names of the carried files, and the range of each in the segment.
    pub fn carried(&self) -> &[(CarriedName, Range<usize>)] {
        &self.carried
    }

    /// Returns true if this version may merge the segment: it knows every feature and section of the segment.
    pub fn can_merge(&self) -> bool {
        self.container.features.read_only == 0 && self.container.only_has(1..segment::KINDS_END)
    }

    /// Returns the number of entries in a table.
    pub(super) fn count(&self, layout: Layout) -> Result<usize> {
        layout.count(self.container.paged_section(layout.kind)?.len())
    }

    /// Reads all shards, in the order in which keys refer to them.
    pub fn shards(&self, source: &dyn Source) -> Result<Vec<ShardEntry>> {
        self.table(source, SHARDS, segment::read_shard)
    }

    /// Reads all keys, sorted.
    pub fn keys(&self, source: &dyn Source) -> Result<Vec<Key>> {
        self.table(source, KEYS, segment::read_key)
    }

    /// Reads a whole table in parts. Fails if the table is longer than a table may be.
    fn table<T>(
        &self,
        source: &dyn Source,
        layout: Layout,
        read: impl Fn(&[u8]) -> Result<T>,
    ) -> Result<Vec<T>> {
        let section = self.container.paged_section(layout.kind)?;
        let count = self.count(layout)?;
        if section.len() > limits::TABLE_BYTES {
            let bytes = section.len();
            return Err(Error::corrupt(format!(
                "table {} of an index segment has {bytes} bytes",
                layout.kind
            )));
        }
        // the exact capacity, because there may be millions of entries
        let mut table = Vec::with_capacity(count);
        let step = TABLE_PART_PAGES * layout.entries_per_page();
        for start in (0..count).step_by(step) {
            let entries = start..count.min(start + step);
            let part = source.read(&[span(&section, layout, &entries)])?;
            for entry in part.iter().flat_map(|part| layout.spanned(part, entries.clone())) {
                table.push(read(entry?)?);
            }
        }
        Ok(table)
    }

    /// Finds all records of an object, oldest commit first. It takes three reads, one after the other. It
    /// takes four if the blocks of the object were first used far from each other.
    pub fn find(&self, source: &dyn Source, oid: &Oid) -> Result<Vec<Found>> {
        let (records, mut blocks) = self.locate(source, oid)?;
        let named = records.iter().flat_map(|record| &record.terms).map(|term| term.block);
        let named: BTreeSet<u32> = named.collect();
        self.add_blocks(source, &mut blocks, named.iter().copied().collect())?;
        let dependencies = self.dependencies(source, &blocks, named)?;
        self.add_blocks(source, &mut blocks, dependencies.values().flatten().copied().collect())?;
        let found = |record| self.resolve(record, &blocks, &dependencies);
        records.into_iter().map(found).collect()
    }

    /// Finds the records of an object. Also returns the block entries near those of the first terms.
    pub(super) fn locate(&self, source: &dyn Source, oid: &Oid) -> Result<(Vec<Record>, BlockRows)> {
        let rows = self.rows(source, oid)?;
        if rows.is_empty() {
            return Ok(Default::default());
        }
        let terms = self.container.paged_section(TERMS.kind)?;
        let blocks = self.count(BLOCKS)?;
        // an object's blocks stand one after the other, at the place of their first use
        let firsts = rows.iter().filter_map(|row| row.record.terms.first());
        let near = |term: &Term| {
            let first = term.block as usize;
            first.saturating_sub(BLOCKS_BEFORE)..blocks.min(first + BLOCKS_BEHIND)
        };
        let near: Vec<Range<usize>> = join(firsts.map(near).collect(), BLOCKS_BEHIND);
        let spans = rows.iter().map(|row| span(&terms, TERMS, &row.rest));
        let table = self.container.paged_section(BLOCKS.kind)?;
        let spans: Vec<_> = spans.chain(near.iter().map(|range| span(&table, BLOCKS, range))).collect();
        let parts = read_spans(source, &spans)?;
        let (term_parts, block_parts) = parts.split_at(rows.len());
        let mut entries = BlockRows::new();
        for (range, part) in near.into_iter().zip(block_parts) {
            self.read_blocks(part, range, &mut entries)?;
        }
        let complete = |(row, part): (Row, &Cow<'_, [u8]>)| {
            self.complete(row.record, TERMS.spanned(part, row.rest), blocks)
        };
        let records = rows.into_iter().zip(term_parts).map(complete).collect::<Result<_>>()?;
        Ok((records, entries))
    }

    /// Reads the entries of an object's records.
    fn rows(&self, source: &dyn Source, oid: &Oid) -> Result<Vec<Row>> {
        let section = self.container.paged_section(RECORDS.kind)?;
        let count = RECORDS.count(section.len())?;
        let hash = u64::from_be_bytes(*oid.0.first_chunk().unwrap_or(&[0; 8]));
        let fence = self.fence.clone().unwrap_or_default();
        let stretch = fence.stretch(count, hash);
        let mut entries = BTreeMap::new();
        // the ranges to read next, each with the bounds in which a search from there stays
        let mut looks = vec![(stretch.guess(hash), stretch.entries)];
        let mut looked_at = 0;
        while let Some((look, within)) = looks.pop() {
            // pages are read whole
            let look = look.start - look.start % RECORDS.entries_per_page()
                ..RECORDS.page_end(look.end.saturating_sub(1));
            let look = look.start.max(within.start)..look.end.min(within.end);
            if look.is_empty() {
                continue;
            }
            looked_at += look.len();
            if looked_at > RECORDS_LOOKED_AT {
                return Err(Error::corrupt(format!(
                    "the records of an index segment are not in order at {oid}"
                )));
            }
            let part = read_spans(source, &[span(&section, RECORDS, &look)])?;
            let part = part.first().map_or(&[][..], |part| part.as_ref());
            let mut first = None;
            let mut last = None;
            for (number, entry) in look.clone().zip(RECORDS.spanned(part, look.clone())) {
                let entry = entry?;
                let order = entry[..32].cmp(&oid.0[..]);
                first = first.or(Some(order));
                last = Some(order);
                if order.is_eq() {
                    entries.insert(number, entry.to_vec());
                }
            }
            if first.is_some_and(|order| order.is_ge()) {
                let start = look.start.saturating_sub(2 * look.len());
                looks.push((start..look.start, within.start..look.start));
            }
            if last.is_some_and(|order| order.is_le()) {
                looks.push((look.end..look.end + 2 * look.len(), look.end..within.end));
            }
        }
        let mut terms_end = 0;
        let rows = entries.values().map(|entry| self.read_row(entry, &mut terms_end));
        let mut rows = rows.collect::<Result<Vec<Row>>>()?;
        // the newest records are tried first, so the oldest of very many are left out
        let mut terms = 0;
        let kept = rows.iter().rev().take_while(|row| {
            terms += row.rest.len();
            terms <= TERMS_LOOKED_AT
        });
        let left_out = rows.len() - kept.count();
        if left_out == rows.len() && !rows.is_empty() {
            return Err(Error::corrupt(format!("the recipe of {oid} is longer than any may be")));
        }
        rows.drain(..left_out);
        Ok(rows)
    }

    /// Reads a record's entry. Terms lie in the order of their records. `terms_end` is the end of the terms
    /// of the record before. So no two records can claim the same terms and make a reader read much more than
    /// the segment has.
    fn read_row(&self, entry: &[u8], terms_end: &mut usize) -> Result<Row> {
        let mut cursor = Cursor::new(entry, "a record");
        let oid = Oid(cursor.array()?);
        let size_bytes = cursor.u64()?;
        let commit = CommitId(cursor.array()?);
        let repository = cursor.u32()?;
        let term_count = cursor.u32()? as usize;
        let rest_start = cursor.u64()? as usize;
        if repository as usize >= self.repositories.len() {
            return Err(Error::corrupt(format!("the record of {oid} names no repository")));
        }
        let rest = rest_start..rest_start.saturating_add(term_count.saturating_sub(1));
        if rest.start < *terms_end || rest.end > self.count(TERMS)? {
            return Err(Error::corrupt(format!("the recipe of {oid} lies outside its place")));
        }
        *terms_end = rest.end;
        let mut terms = Vec::new();
        if term_count > 0 {
            terms.push(Term::read(&mut cursor, self.count(BLOCKS)?)?);
        }
        Ok(Row { record: Record { oid, size_bytes, commit, repository, terms }, rest })
    }

    /// Adds the other terms to a record.
    fn complete<'t>(
        &self,
        mut record: Record,
        terms: impl Iterator<Item = Result<&'t [u8]>>,
        blocks: usize,
    ) -> Result<Record> {
        for entry in terms {
            record.terms.push(Term::read(&mut Cursor::new(entry?, "a term"), blocks)?);
        }
        record.check()?;
        Ok(record)
    }

    /// Reads a record from its entry and the whole section of terms. `terms_end` has the same meaning as in
    /// [`Self::read_row`].
    pub(super) fn read_record(&self, entry: &[u8], terms: &[u8], terms_end: &mut usize) -> Result<Record> {
        let Row { record, rest } = self.read_row(entry, terms_end)?;
        self.complete(record, TERMS.range(terms, rest), self.count(BLOCKS)?)
    }

    fn read_blocks(&self, part: &[u8], range: Range<usize>, into: &mut BlockRows) -> Result<()> {
        let dependencies = self.count(DEPENDENCIES)?;
        for (number, entry) in range.clone().zip(BLOCKS.spanned(part, range)) {
            into.insert(number as u32, segment::read_block_row(entry?, dependencies)?);
        }
        Ok(())
    }

    /// Reads the missing ones of these blocks' entries, neighbours together.
    fn add_blocks(&self, source: &dyn Source, blocks: &mut BlockRows, mut numbers: Vec<u32>) -> Result<()> {
        numbers.retain(|number| !blocks.contains_key(number));
        let single = |number: u32| number as usize..number as usize + 1;
        let ranges = join(numbers.into_iter().map(single).collect(), BLOCKS_BEHIND);
        if ranges.is_empty() {
            return Ok(());
        }
        let section = self.container.paged_section(BLOCKS.kind)?;
        let spans: Vec<_> = ranges.iter().map(|range| span(&section, BLOCKS, range)).collect();
        for (range, part) in ranges.into_iter().zip(read_spans(source, &spans)?) {
            self.read_blocks(&part, range, blocks)?;
        }
        Ok(())
    }

    /// Reads the dependencies of each of these blocks. Blocks without dependencies are left out.
    fn dependencies(
        &self,
        source: &dyn Source,
        blocks: &BlockRows,
        of: BTreeSet<u32>,
    ) -> Result<BTreeMap<u32, Vec<u32>>> {
        let section = self.container.paged_section(DEPENDENCIES.kind)?;
        let count = self.count(BLOCKS)?;
        let place = |number: u32| Some((number, blocks.get(&number)?.1.clone()));
        let mut places: Vec<_> = of.into_iter().filter_map(place).filter(|(_, p)| !p.is_empty()).collect();
        places.sort_by_key(|(_, place)| place.start);
        if !places.is_sorted_by(|(_, a), (_, b)| a.end <= b.start) {
            return Err(Error::corrupt("the dependencies of blocks overlap in an index segment"));
        }
        let ranges = join(places.iter().map(|(_, place)| place.clone()).collect(), 0);
        if ranges.is_empty() {
            return Ok(BTreeMap::new());
        }
        let spans: Vec<_> = ranges.iter().map(|range| span(&section, DEPENDENCIES, range)).collect();
        let mut numbers = BTreeMap::new();
        for (range, part) in ranges.iter().zip(read_spans(source, &spans)?) {
            let read = segment::read_dependencies(DEPENDENCIES.spanned(&part, range.clone()), count)?;
            numbers.extend(range.clone().zip(read));
        }
        let of_place = |place: Range<usize>| numbers.range(place).map(|(_, number)| *number).collect();
        Ok(places.into_iter().map(|(number, place)| (number, of_place(place))).collect())
    }

    /// Looks up the repository and the blocks that the numbers in a record refer to.
    fn resolve(
        &self,
        mut record: Record,
        blocks: &BlockRows,
        dependencies: &BTreeMap<u32, Vec<u32>>,
    ) -> Result<Found> {
        let mut numbers: Vec<u32> = record.terms.iter().map(|t| t.block).collect();
        numbers.sort_unstable();
        numbers.dedup();
        for term in &mut record.terms {
            term.block = numbers.partition_point(|n| *n < term.block) as u32;
        }
        let depended_on = numbers.iter().filter_map(|number| dependencies.get(number)).flatten();
        let depended_on: BTreeSet<u32> = depended_on.copied().collect();
        let others: Vec<u32> =
            depended_on.into_iter().filter(|number| numbers.binary_search(number).is_err()).collect();
        let place = |number: &u32| match numbers.binary_search(number) {
            Ok(place) => place as u32,
            Err(_) => (numbers.len() + others.partition_point(|other| other < number)) as u32,
        };
        let missing = || Error::internal("a block's entry was not read");
        let entry = |number: &u32, on: Option<&Vec<u32>>| -> Result<BlockEntry> {
            let (summary, _) = blocks.get(number).ok_or_else(missing)?;
            let dependencies = on.into_iter().flatten().map(place).collect();
            Ok(BlockEntry { summary: *summary, dependencies })
        };
        // blocks that no term names get no dependencies: these may be missing in the table
        let named = numbers.iter().map(|number| entry(number, dependencies.get(number)));
        let blocks = named.chain(others.iter().map(|number| entry(number, None))).collect::<Result<_>>()?;
        let repository = self.repositories[record.repository as usize].clone();
        Ok(Found { record, repository, blocks })
    }
}

/// Reads the bytes of these ranges. Fails if they are more than any look-up needs.
fn read_spans<'s>(source: &'s dyn Source, spans: &[Range<usize>]) -> Result<Vec<Cow<'s, [u8]>>> {
    let bytes: usize = spans.iter().map(Range::len).sum();
    if bytes > limits::SPANS_BYTES {
        return Err(Error::corrupt(format!("an entry of an index segment would take {bytes} bytes to read")));
    }
    source.read(spans)
}

/// Returns the place in the segment of the pages that hold these entries of a table.
fn span(section: &Range<usize>, layout: Layout, entries: &Range<usize>) -> Range<usize> {
    let span = layout.span(section.len(), entries);
    section.start + span.start..section.start + span.end
}

/// Sorts ranges, and joins ranges that overlap or have at most `gap` between them.
fn join(mut ranges: Vec<Range<usize>>, gap: usize) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(gap) => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}
