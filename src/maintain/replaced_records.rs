//! The comparison of replaced segments with the segments that replace them. These must have all their
//! records. Before a replaced segment is deleted, all of its records are compared. A check of a store
//! compares some.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Kind, Result};
use crate::format::condemned::CondemnedRecord;
use crate::format::inline::CarriedName;
use crate::format::recipe::{Record, Term};
use crate::format::segment::Segment;
use crate::id::{BlockId, ContentHash, Oid, SegmentId};
use crate::index::cached_reads::{COPIES_IN_FLIGHT, CachedStore};
use crate::index::condemned::CondemnedNames;
use crate::index::inline_files::InlineFiles;
use crate::index::{Found, Index, Standing};
use crate::threads;
use crate::units::MIB;

/// Replaced segments that a check of the index reads for each segment that replaces others.
pub(crate) const REPLACED_CHECKED: usize = 4;
/// Most bytes of a replaced segment that such a check reads.
const REPLACED_CHECKED_BYTES: u64 = MIB as u64;
/// Records of each replaced segment that such a check looks for.
const RECORDS_CHECKED: usize = 4;

/// Fails if `find` misses a record of a replaced segment. A condemned record may be missing, because a
/// collector drops it and no push relies on it. At most `most` records are looked for, evenly spread.
pub(super) fn check_said(
    replaced: &Segment<Bytes>,
    most: usize,
    find: impl Fn(&Oid) -> Result<Vec<Found>>,
    condemned: &CondemnedNames,
) -> Result<()> {
    let step = replaced.record_count()?.div_ceil(most).max(1);
    for record in replaced.records()?.step_by(step) {
        let record = record?;
        let repository = replaced.repositories()[record.repository as usize].clone();
        let name = CondemnedRecord { oid: record.oid, commit: record.commit, repository };
        if condemned.has_record(&name) {
            continue;
        }
        let wanted = places(&record, |number| Ok(replaced.block(number)?.summary.id))?;
        let mut is_said = false;
        for found in find(&record.oid)? {
            let block = |number: u32| Ok(found.blocks[number as usize].summary.id);
            is_said |= found.record.commit == record.commit
                && found.repository == name.repository
                && places(&found.record, block)? == wanted;
        }
        if !is_said {
            return Err(Error::corrupt(format!("its record of {} is in none that replaces it", record.oid))
                .remedy("keep it: pulls find what it says; docs/security.md says how to mend that"));
        }
    }
    Ok(())
}

/// Returns the places of a record's content.
fn places(record: &Record, block: impl Fn(u32) -> Result<BlockId>) -> Result<Vec<(BlockId, Term)>> {
    let place = |term: &Term| Ok((block(term.block)?, Term { block: 0, ..*term }));
    record.terms.iter().map(place).collect()
}

/// Compares some of the segments that each segment replaces. Returns the differences and the damage.
pub(crate) fn look(stored: CachedStore<'_>, index: &Index, condemned: &CondemnedNames) -> Result<Vec<Error>> {
    let mut findings = Vec::new();
    for part in chosen(index).chunks(COPIES_IN_FLIGHT) {
        let checked: Vec<Result<()>> = std::thread::scope(|scope| {
            let begin = |replaced| {
                let work = move || check(stored, index.inline(), replaced, condemned);
                threads::spawn_scoped(scope, "replaced", work)
            };
            // if the system refuses a thread, fewer segments are compared
            let begun: Vec<_> = part.iter().filter_map(|replaced| begin(replaced).ok()).collect();
            let panicked = |_| Err(Error::internal("reading an index segment panicked"));
            begun.into_iter().map(|checking| checking.join().unwrap_or_else(panicked)).collect()
        });
        for checked in checked {
            match checked {
                Err(e) if matches!(e.kind(), Kind::Unreachable | Kind::Internal) => return Err(e),
                Err(e) => findings.push(e),
                Ok(()) => {}
            }
        }
    }
    Ok(findings)
}

/// A segment that others have replaced, and that still stands in the store.
struct Replaced {
    id: SegmentId,
    size_bytes: u64,
    by: Vec<Arc<Standing>>,
}

/// Chooses, for each segment that replaces others, the newest and the oldest of these and some between them.
fn chosen(index: &Index) -> Vec<Replaced> {
    let mut replaced = index.replaced_by();
    let is_small = |id: &SegmentId| index.listed().get(id).is_some_and(|b| *b <= REPLACED_CHECKED_BYTES);
    replaced.retain(|id, _| is_small(id));
    let mut chosen = BTreeMap::new();
    for segment in index.segments() {
        let mut named: Vec<SegmentId> = segment.head.replaces().to_vec();
        named.retain(|id| replaced.contains_key(id));
        named.sort();
        let last = named.len().saturating_sub(1);
        let spread = (0..REPLACED_CHECKED).map(|n| n * last / (REPLACED_CHECKED - 1));
        let spread = spread.filter_map(|place| named.get(place));
        chosen.extend(spread.filter_map(|id| Some((*id, replaced.get(id)?.clone()))));
    }
    let sized = |(id, by)| Some(Replaced { id, size_bytes: *index.listed().get(&id)?, by });
    chosen.into_iter().filter_map(sized).collect()
}

/// Fails if the replacing segments miss a record of a replaced one, or if a block that it carries has no file
/// of its own.
fn check(
    stored: CachedStore<'_>,
    inline: &InlineFiles,
    Replaced { id, size_bytes, by }: &Replaced,
    condemned: &CondemnedNames,
) -> Result<()> {
    let bytes = match stored.store.get_segment(id, *size_bytes).wait() {
        Ok(bytes) if ContentHash::of(&bytes) == id.hash => bytes,
        // a damaged segment says nothing, and is not needed; a missing one was deleted meanwhile
        Ok(_) => return Ok(()),
        Err(e) if e.kind() == Kind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let names: Vec<String> = by.iter().map(|segment| format!("index/{}", segment.id)).collect();
    let hidden = |e: Error| e.context(format!("index/{id} is replaced by {}", names.join(" and ")));
    let segment = Segment::open(bytes).map_err(hidden)?;
    let find = |oid: &Oid| {
        let found = by.iter().map(|segment| segment.find(stored, oid));
        Ok(found.collect::<Result<Vec<_>>>()?.concat())
    };
    check_said(&segment, RECORDS_CHECKED, find, condemned).map_err(hidden)?;
    for (name, bytes) in segment.carried() {
        if let CarriedName::Block(block) = name
            && !condemned.has_block(&block)
            && inline.look_for_block(stored.store, &block).wait()? != Some(bytes.len() as u64)
        {
            let e = Error::corrupt(format!("block {block}, which it carries, has no file of its own"));
            return Err(hidden(e.remedy("run `git lfs-cdc compact`")));
        }
    }
    Ok(())
}
