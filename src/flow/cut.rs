//! The first half of an upload: one read of the object, its SHA-256 on the way, cut into chunks, the
//! chunks hashed on all cores.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;
use std::thread::{Scope, ScopedJoinHandle};

use crossbeam_channel::{Sender, bounded};
use sha2::{Digest, Sha256};

use super::ordered::{self, Results, Work};
use crate::error::{Error, Result};
use crate::format::block::Chunk;
use crate::format::chunking::{Suite, chunk_id};
use crate::id::Oid;
use crate::limit;

/// Batches that are read but not yet looked up.
const BATCHES_IN_FLIGHT: usize = 4;

/// Some consecutive chunks of an object.
pub(super) struct Batch {
    bytes: Arc<Vec<u8>>,
    chunks: Vec<Chunk>,
}

impl Batch {
    /// Each chunk with its bytes.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (Chunk, &[u8])> {
        self.chunks.iter().scan(0, |end, chunk| {
            let start = *end;
            *end += chunk.bytes as usize;
            Some((*chunk, &self.bytes[start..*end]))
        })
    }
}

/// What came of reading an object to its end.
pub(super) struct ReadObject {
    pub oid: Oid,
    pub size_bytes: u64,
}

/// Starts reading and cutting `source`. The batches come in order; when they have ended, the handle
/// says what was read, or why reading failed.
pub(super) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    source: impl Read + Send + 'scope,
    suite: Suite,
) -> (Results<Batch>, ScopedJoinHandle<'scope, Result<ReadObject>>) {
    let (work, batches) = ordered::ordered(BATCHES_IN_FLIGHT);
    let (to_digest, digested) = bounded::<(Arc<Vec<u8>>, Range<usize>)>(BATCHES_IN_FLIGHT);
    let digest = scope.spawn(move || {
        let (mut sha, mut size_bytes) = (Sha256::new(), 0);
        for (bytes, fresh) in digested {
            size_bytes += fresh.len() as u64;
            sha.update(&bytes[fresh]);
        }
        ReadObject { oid: Oid(sha.finalize().into()), size_bytes }
    });
    let cutter = scope.spawn(move || {
        let read = cut(source, suite, &work, &to_digest);
        drop((work, to_digest));
        let digest = digest.join().map_err(|_| Error::internal("hashing an object panicked"))?;
        read.map(|()| digest)
    });
    (batches, cutter)
}

/// Reads, cuts and hands on until the end, or until nobody takes the batches any more.
fn cut(
    mut source: impl Read,
    suite: Suite,
    work: &Work<Batch>,
    to_digest: &Sender<(Arc<Vec<u8>>, Range<usize>)>,
) -> Result<()> {
    let mut rest: Vec<u8> = Vec::new();
    loop {
        let mut bytes = Vec::with_capacity(suite.max_bytes + limit::READ_BYTES);
        bytes.extend_from_slice(&rest);
        let fresh = rest.len();
        let read = source.by_ref().take(limit::READ_BYTES as u64).read_to_end(&mut bytes);
        read.map_err(|e| Error::io("reading the object", &e))?;
        let last = bytes.len() == fresh;
        let mut lengths = Vec::with_capacity(bytes.len() / suite.min_bytes);
        let mut end = 0;
        while let Some(length) = suite.next_cut(&bytes[end..], last) {
            lengths.push(length);
            end += length;
        }
        rest.clear();
        rest.extend_from_slice(&bytes[end..]);
        let bytes = Arc::new(bytes);
        let fresh = fresh..bytes.len();
        let stopped = to_digest.send((bytes.clone(), fresh)).is_err()
            || work.run(move || Ok(hash(bytes, &lengths))).is_err();
        if last || stopped {
            return Ok(());
        }
    }
}

fn hash(bytes: Arc<Vec<u8>>, lengths: &[usize]) -> Batch {
    let mut start = 0;
    let chunk = |length: &usize| {
        let id = chunk_id(&bytes[start..start + length]);
        start += length;
        Chunk { id, bytes: *length as u32 }
    };
    let chunks = lengths.iter().map(chunk).collect();
    Batch { bytes, chunks }
}
