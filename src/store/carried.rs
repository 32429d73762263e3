//! Blocks and shards are read where they are: in files of their own, or inside the index segment of a small commit.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use object_store::path::Path;

use super::{Moved, Pending, Store, layout};
use crate::error::{Error, Kind};
use crate::format::carried::CarriedName;
use crate::id::{BlockId, SegmentId, ShardId};
use crate::limit;

/// What stands inside segments, as the index was read last. A merge gives each file one of its own before it replaces the
/// segment, and so that is where it is when the segment is gone.
#[derive(Default)]
pub(super) struct Carriers(RwLock<HashMap<CarriedName, (SegmentId, Range<u64>)>>);

impl Store {
    /// From now on, this is what stands inside segments.
    pub fn set_carried(&self, carried: HashMap<CarriedName, (SegmentId, Range<u64>)>) {
        *self.carriers.0.write().unwrap_or_else(PoisonError::into_inner) = carried;
    }

    /// The segment that carries a file, and where in it.
    fn carrier(&self, name: CarriedName) -> Option<(Path, Range<u64>)> {
        let carriers = self.carriers.0.read().unwrap_or_else(PoisonError::into_inner);
        carriers.get(&name).map(|(segment, place)| (layout::segment(segment), place.clone()))
    }

    /// Begins to read a byte range of a block into `buffer`, which comes back with exactly that range; `moved`
    /// follows it. Buffers are the caller's so that it can use them again: fresh memory costs more than a read.
    pub fn get_block_range(
        &self,
        id: &BlockId,
        range: Range<u32>,
        buffer: Vec<u8>,
        moved: &Moved,
    ) -> Pending<'_, Vec<u8>> {
        let (path, range) = (layout::block(id), u64::from(range.start)..u64::from(range.end));
        let Some((segment, place)) = self.carrier(CarriedName::Block(*id)) else {
            return self.get_range(path, range, buffer, moved);
        };
        let (files, moved, id) = (self.files.clone(), moved.clone(), *id);
        self.begin(async move {
            let inside = place.start + range.start..place.start + range.end;
            if inside.end > place.end {
                return Err(Error::corrupt(format!("block {id} ends before byte {}", range.end)));
            }
            match files.get_range(&segment, inside, buffer, &moved).await {
                Err(e) if e.kind() == Kind::NotFound => {
                    files.get_range(&path, range, Vec::new(), &moved).await
                }
                done => done,
            }
        })
    }

    /// Begins to look for a block: its size, if it is there.
    pub fn block_bytes(&self, id: &BlockId) -> Pending<'_, Option<u64>> {
        let (files, path, carrier) =
            (self.files.clone(), layout::block(id), self.carrier(CarriedName::Block(*id)));
        self.begin(async move {
            if let Some((segment, place)) = carrier
                && files.size(&segment).await?.is_some()
            {
                return Ok(Some(place.end - place.start));
            }
            files.size(&path).await
        })
    }

    /// Begins to read a whole shard.
    pub fn get_shard(&self, id: &ShardId) -> Pending<'_, Bytes> {
        let path = layout::shard(id);
        let Some((segment, place)) = self.carrier(CarriedName::Shard(*id)) else {
            return self.get(path, limit::SHARD_READ_BYTES);
        };
        let files = self.files.clone();
        self.begin(async move {
            match files.get_range(&segment, place, Vec::new(), &Moved::default()).await {
                Err(e) if e.kind() == Kind::NotFound => files.get(&path, limit::SHARD_READ_BYTES).await,
                done => done.map(Bytes::from),
            }
        })
    }
}
