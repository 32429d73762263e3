//! The first half of an upload: one read of each object. One thread reads and cuts the object, one takes
//! its SHA-256, and all cores hash the chunks.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use rayon::{ScopeFifo, ThreadPool};
use sha2::{Digest, Sha256};

use super::batch::Wanted;
use crate::error::{Error, Result};
use crate::format::block::Chunk;
use crate::format::chunking::{Suite, chunk_id};
use crate::id::Oid;
use crate::parallel;
use crate::parallel::{Results, Stopped, Work};
use crate::progress::Progress;
use crate::regular_file::READ_BYTES;

/// The number of chunk batches that are read but not yet looked up.
const BATCHES_IN_FLIGHT: usize = 4;

/// A batch of chunks: some consecutive chunks of an object.
pub(super) struct Batch {
    bytes: Arc<Vec<u8>>,
    chunks: Vec<Chunk>,
}

impl Batch {
    /// Returns each chunk with its bytes.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (Chunk, &[u8])> {
        self.chunks.iter().scan(0, |end, chunk| {
            let start = *end;
            *end += chunk.bytes as usize;
            Some((*chunk, &self.bytes[start..*end]))
        })
    }
}

/// A result of reading objects, in their order.
pub(super) struct Piece {
    /// The progress of the object.
    pub progress: Arc<Progress>,
    /// The expected size of the object.
    pub size_bytes: u64,
    pub what: What,
}

/// The content of a piece.
pub(super) enum What {
    /// The next chunks of the object.
    Chunks(Batch),
    /// The end of the object, or of the part that could be read.
    End(Result<ReadObject>),
}

/// The SHA-256 and size of an object that was read to its end.
pub(super) struct ReadObject {
    pub oid: Oid,
    pub size_bytes: u64,
}

/// A message to the thread that takes the SHA-256: bytes to hash, or the end of the object.
enum ToDigest {
    Fresh(Arc<Vec<u8>>, Range<usize>),
    End(Sender<ReadObject>),
}

/// Starts to read and cut objects one after the other. An error of an object is reported at its end, and
/// the next object is read. Takes two threads of `scope`, and hashes on `cores`.
pub(super) fn start<'scope>(
    scope: &ScopeFifo<'scope>,
    cores: &Arc<ThreadPool>,
    mut objects: impl Iterator<Item = Arc<Wanted>> + Send + 'scope,
    suite: Suite,
) -> Results<Piece> {
    let (work, pieces) = parallel::ordered(cores, BATCHES_IN_FLIGHT);
    let (to_digest, digested) = bounded(BATCHES_IN_FLIGHT);
    scope.spawn_fifo(move |_| digest(&digested));
    scope.spawn_fifo(move |_| {
        let cutter = Cutter { suite, work, to_digest };
        // ends early if the receiver takes no more pieces
        let _ = objects.try_for_each(|object| cutter.cut(&object));
    });
    pieces
}

fn digest(digested: &Receiver<ToDigest>) {
    let mut sha = Sha256::new();
    let mut size_bytes = 0;
    for next in digested {
        match next {
            ToDigest::Fresh(bytes, fresh) => {
                size_bytes += fresh.len() as u64;
                sha.update(&bytes[fresh]);
            }
            ToDigest::End(read) => {
                let oid = Oid(sha.finalize_reset().into());
                // the receiver is gone if the upload has failed meanwhile
                let _ = read.send(ReadObject { oid, size_bytes: std::mem::take(&mut size_bytes) });
            }
        }
    }
}

struct Cutter {
    suite: Suite,
    work: Work<Piece>,
    to_digest: Sender<ToDigest>,
}

impl Cutter {
    /// Hands on the chunks of an object, and its end.
    fn cut(&self, object: &Wanted) -> Result<(), Stopped> {
        let read = match object.open().map(|source| self.read(object, source)) {
            Ok(read) => read?,
            Err(error) => Err(error),
        };
        let (to, digest) = bounded(1);
        self.to_digest.send(ToDigest::End(to)).map_err(|_| Stopped)?;
        let progress = object.progress.clone();
        let size_bytes = object.size_bytes;
        self.work.run(move || {
            let digest = digest.recv().map_err(|_| Error::internal("hashing an object panicked"))?;
            Ok(Piece { progress, size_bytes, what: What::End(read.map(|()| digest)) })
        })
    }

    /// Reads the object, cuts it and hands the chunks on until it ends.
    fn read(&self, object: &Wanted, mut source: impl Read) -> Result<Result<()>, Stopped> {
        let suite = self.suite;
        let mut rest: Vec<u8> = Vec::new();
        loop {
            let mut bytes = Vec::with_capacity(suite.max_bytes + READ_BYTES);
            bytes.extend_from_slice(&rest);
            let fresh = rest.len();
            let read = source.by_ref().take(READ_BYTES as u64).read_to_end(&mut bytes);
            let read = read.map_err(|e| Error::io("reading the object", &e));
            if let Err(e) = read.and_then(|_| object.progress.check()) {
                return Ok(Err(e));
            }
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
            self.to_digest.send(ToDigest::Fresh(bytes.clone(), fresh)).map_err(|_| Stopped)?;
            let progress = object.progress.clone();
            let size_bytes = object.size_bytes;
            self.work
                .run(move || Ok(Piece { progress, size_bytes, what: What::Chunks(hash(bytes, &lengths)) }))?;
            if last {
                return Ok(Ok(()));
            }
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
