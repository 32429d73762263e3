//! The files of a store: reading, writing and listing them, in all kinds of places. Requests that may succeed
//! later are tried again. Errors carry a remedy.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    Attribute, Error as ObjectError, GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload,
};

use super::retry::Retry;
use super::{Moved, Place, directory, network};
use crate::error::{Error, Kind, Result};
use crate::regular_file::READ_BYTES;
use crate::units::{KIB, MIB};

/// Bytes that are handed to a connection at a time.
pub(crate) const SEND_BYTES: usize = 64 * KIB;
/// Bytes of a part of a block that is stored in parts.
const PART_BYTES: usize = 8 * MIB;
/// Broken PUTs of a block after which it is stored in parts.
const BROKEN_PUTS: usize = 2;
/// Free names that a service may call taken before it is written to without conditions. Once or twice it may
/// say so because it still carries out a lost request.
pub(crate) const FREE_NAMES_CALLED_TAKEN: usize = 3;

/// The files of a store.
#[derive(Clone)]
pub(super) struct Files {
    pub objects: Arc<dyn ObjectStore>,
    pub place: Place,
    /// The switch for conditional writes of new names.
    pub conditions: Conditions,
}

/// A switch for conditional writes: new names are written on the condition that they are free. `store.json`
/// says if the service honoured conditions when the store was made. A service that refuses such a request now
/// overrules it, for as long as the process lives.
#[derive(Clone, Debug)]
pub(super) struct Conditions(Arc<AtomicBool>);

impl Conditions {
    pub(super) fn new(are_used: bool) -> Self {
        Self(Arc::new(AtomicBool::new(are_used)))
    }

    pub(super) fn mode(&self) -> PutMode {
        if self.0.load(Ordering::Relaxed) { PutMode::Create } else { PutMode::Overwrite }
    }

    /// Ends the use of conditions. The service has refused a request with a condition, and has accepted it
    /// without one.
    pub(super) fn give_up(&self, place: &Place) {
        if self.0.swap(false, Ordering::Relaxed) {
            tracing::warn!(
                "{place} refuses conditional writes, and store.json says that it honours them; writing without. \
                 Names are unique, so nothing is overwritten; `git lfs-cdc init` with its URL corrects store.json"
            );
        }
    }
}

/// The expected size of a file that is read whole.
#[derive(Clone, Copy, Debug)]
pub(super) enum Size {
    /// The size in the store's listing, or in the index.
    Exactly(u64),
    /// A bound, because the size is not known.
    AtMost(u64),
}

impl Size {
    fn most(self) -> u64 {
        let (Self::Exactly(bytes) | Self::AtMost(bytes)) = self;
        bytes
    }

    fn is(self, bytes: u64) -> bool {
        match self {
            Self::Exactly(expected) => bytes == expected,
            Self::AtMost(most) => bytes <= most,
        }
    }
}

impl Files {
    /// Stores a file under a name that is used for the first time, and by this process only. The file is
    /// durable when this returns.
    pub(super) async fn put(&self, path: &Path, payload: PutPayload, moved: &Moved) -> Result<()> {
        let mut retry = Retry::new(&self.place, format!("writing {path}"));
        let size_bytes = payload.content_length() as u64;
        let mut mode = self.conditions.mode();
        let mut parts = self.in_parts(size_bytes);
        let mut broken = 0;
        let mut untrue = 0;
        let mut is_first = true;
        loop {
            if let Some((network, way)) = &parts
                && (broken >= BROKEN_PUTS || network.prefers_parts.load(Ordering::Relaxed))
            {
                match self.put_in_parts(network, way, path, &payload, moved).await {
                    // an access key that must not overwrite may be denied this too
                    Err(e) if matches!(e.kind(), Kind::Denied | Kind::Invalid) => {
                        tracing::warn!("{e}; storing it whole instead");
                        parts = None;
                    }
                    done => return done,
                }
            }
            let mut options = self.options(mode.clone());
            // the wire reads this, and reports the progress to it
            options.extensions.insert(moved.clone());
            let error = match self.objects.put_opts(path, payload.clone(), options).await {
                Ok(_) => {
                    if mode == PutMode::Overwrite {
                        self.conditions.give_up(&self.place);
                    }
                    return Ok(());
                }
                Err(error) => error,
            };
            if mode == PutMode::Create && network::may_refuse_conditions(&error) {
                mode = PutMode::Overwrite;
                continue;
            }
            // an earlier try may have succeeded, and its answer may be lost; an access key that must not
            // overwrite is then denied the next try. Also, some services call names taken that are free
            let is_link_failure = network::is_link_failure(&error);
            if is_taken(&error) || (!is_first && !is_link_failure) {
                // looks only once; if the service doesn't answer, the next try will show that
                match self.objects.head(path).await {
                    Ok(found) if found.size == size_bytes => return Ok(()),
                    Ok(_) if is_taken(&error) => {
                        return Err(self.place.explain(&format!("writing {path}"), error));
                    }
                    Err(ObjectError::NotFound { .. }) if is_taken(&error) => {
                        untrue += 1;
                        if untrue == FREE_NAMES_CALLED_TAKEN {
                            // no other process uses the name
                            mode = PutMode::Overwrite;
                            continue;
                        }
                    }
                    _ => {}
                }
            }
            broken += usize::from(is_link_failure);
            is_first = false;
            retry.again(error).await?;
        }
    }

    /// Stores a file, and overwrites the one that is there.
    pub(super) async fn rewrite(&self, path: &Path, bytes: Bytes) -> Result<()> {
        let mut retry = Retry::new(&self.place, format!("writing {path}"));
        loop {
            let mut options = self.options(PutMode::Overwrite);
            if let Place::Network(_) = &self.place {
                // otherwise a web server or CDN in front of the bucket may serve the old file for a long time
                options.attributes.insert(Attribute::CacheControl, "no-cache".into());
            }
            match self.objects.put_opts(path, bytes.clone().into(), options).await {
                Ok(_) => return Ok(()),
                Err(error) => retry.again(error).await?,
            }
        }
    }

    pub(super) fn options(&self, mode: PutMode) -> PutOptions {
        let mut options = PutOptions::from(mode);
        if let Place::Network(network) = &self.place
            && let Some(class) = &network.storage_class
        {
            options.attributes.insert(Attribute::StorageClass, class.clone().into());
        }
        options
    }

    /// Returns the service that stores a file of this size in parts, if there is one.
    fn in_parts(&self, size_bytes: u64) -> Option<(Arc<network::Place>, Arc<dyn network::Service>)> {
        let Place::Network(network) = &self.place else { return None };
        let way = network.parts.clone().filter(|_| size_bytes > PART_BYTES as u64)?;
        Some((network.clone(), way))
    }

    /// Stores a file in parts, for a link that breaks before a whole block has passed. Each part is tried
    /// again by itself. The bucket's lifecycle rule removes parts of an upload that is never completed.
    async fn put_in_parts(
        &self,
        network: &network::Place,
        way: &Arc<dyn network::Service>,
        path: &Path,
        payload: &PutPayload,
        moved: &Moved,
    ) -> Result<()> {
        let full: Path = network.prefix.parts().chain(path.parts()).collect();
        let mut retry = Retry::new(&self.place, format!("beginning {path} in parts"));
        let id = loop {
            let attributes = self.options(PutMode::Overwrite).attributes;
            let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
            match way.create_multipart_opts(&full, options).await {
                Ok(id) => break id,
                Err(error) => retry.again(error).await?,
            }
        };
        let mut stored = Vec::new();
        for (number, part) in divide(payload, PART_BYTES).into_iter().enumerate() {
            moved.reached((number * PART_BYTES) as u64);
            let mut retry = Retry::new(&self.place, format!("writing part {number} of {path}"));
            stored.push(loop {
                match way.put_part(&full, &id, number, part.clone()).await {
                    Ok(part) => break part,
                    Err(error) => retry.again(error).await?,
                }
            });
        }
        let mut retry = Retry::new(&self.place, format!("completing {path}"));
        loop {
            let error = match way.complete_multipart(&full, &id, stored.clone()).await {
                Ok(_) => break,
                Err(error) => error,
            };
            // an earlier try may have completed it
            if matches!(error, ObjectError::NotFound { .. })
                && self.size(path).await? == Some(payload.content_length() as u64)
            {
                break;
            }
            retry.again(error).await?;
        }
        network.prefers_parts.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Reads a whole file. A file of another size is corrupt, and no more bytes than expected are read.
    pub(super) async fn get(&self, path: &Path, size: Size) -> Result<Bytes> {
        let mut retry = Retry::new(&self.place, format!("reading {path}"));
        let most = size.most();
        loop {
            let mut options = GetOptions::default();
            // the wire reads this, and bounds the answer
            options.extensions.insert(network::AnswerBytes(most));
            let error = match self.objects.get_opts(path, options).await {
                Err(error) => error,
                Ok(found) if !size.is(found.meta.size) => {
                    return Err(self.has_other_size(path, found.meta.size, size));
                }
                Ok(found) => match found.payload {
                    GetResultPayload::File(file, _) => {
                        return self
                            .read_file(path, file, 0..found.meta.size, Vec::new())
                            .await
                            .map(Bytes::from);
                    }
                    GetResultPayload::Stream(stream) => {
                        let mut buffer = Vec::with_capacity(most.min(READ_BYTES as u64) as usize);
                        match collect(stream, &mut buffer, most, &Moved::default()).await {
                            Ok(()) if size.is(buffer.len() as u64) => return Ok(buffer.into()),
                            Ok(()) => return Err(self.has_other_size(path, buffer.len() as u64, size)),
                            Err(error) => error,
                        }
                    }
                },
            };
            retry.again(error).await?;
        }
    }

    fn has_other_size(&self, path: &Path, found_bytes: u64, size: Size) -> Error {
        let place = &self.place;
        Error::corrupt(match size {
            Size::Exactly(bytes) if found_bytes < bytes => {
                format!("{path} in {place} is cut short: it has {found_bytes} bytes, and not {bytes}")
            }
            Size::Exactly(bytes) => {
                format!("{path} in {place} has {found_bytes} bytes or more, where {bytes} were expected")
            }
            Size::AtMost(bytes) => format!("{path} in {place} has more than {bytes} bytes"),
        })
    }

    /// Reads a range of an open file into `buffer`.
    async fn read_file(
        &self,
        path: &Path,
        file: std::fs::File,
        range: Range<u64>,
        buffer: Vec<u8>,
    ) -> Result<Vec<u8>> {
        let read = tokio::task::spawn_blocking(move || directory::read_range(file, range, buffer));
        let read = read.await.map_err(|e| Error::internal(format!("a read stopped: {e}")))?;
        read.map_err(|e| Error::io(format!("reading {path} in the store {}", self.place), &e))
    }

    /// Reads a byte range of a file into `buffer`. Bytes that have come before a connection breaks are kept.
    pub(super) async fn get_range(
        &self,
        path: &Path,
        range: Range<u64>,
        mut buffer: Vec<u8>,
        moved: &Moved,
    ) -> Result<Vec<u8>> {
        let short = || Error::corrupt(format!("{path} in {} is cut short", self.place));
        let mut retry = Retry::new(&self.place, format!("reading {path}"));
        buffer.clear();
        while (buffer.len() as u64) < range.end - range.start {
            let rest = range.start + buffer.len() as u64..range.end;
            let wanted = Some(GetRange::Bounded(rest.clone()));
            let mut options = GetOptions { range: wanted, ..GetOptions::default() };
            options.extensions.insert(network::AnswerBytes(rest.end - rest.start));
            let found = match self.objects.get_opts(path, options).await {
                Ok(found) if found.range == rest => found,
                Ok(_) => return Err(short()),
                Err(error) => {
                    // for `object_store`, a range that begins behind the end is an error
                    if !network::is_link_failure(&error)
                        && let Ok(Some(size)) = self.size(path).await
                        && size < rest.end
                    {
                        return Err(short());
                    }
                    retry.again(error).await?;
                    continue;
                }
            };
            match found.payload {
                GetResultPayload::File(file, _) => {
                    return self.read_file(path, file, rest, buffer).await;
                }
                GetResultPayload::Stream(stream) => {
                    let before = buffer.len();
                    let read = collect(stream, &mut buffer, range.end - range.start, moved).await;
                    // with a few bytes each time, the tries would never end
                    if buffer.len() - before >= SEND_BYTES {
                        retry.progressed();
                    }
                    if let Err(error) = read {
                        retry.again(error).await?;
                    } else if buffer.len() == before {
                        return Err(short());
                    }
                }
            }
        }
        Ok(buffer)
    }

    /// Returns the size of a file, if it is there.
    pub(super) async fn size(&self, path: &Path) -> Result<Option<u64>> {
        let mut retry = Retry::new(&self.place, format!("looking for {path}"));
        loop {
            match self.objects.head(path).await {
                Ok(meta) => return Ok(Some(meta.size)),
                Err(ObjectError::NotFound { .. }) => return Ok(None),
                Err(error) => retry.again(error).await?,
            }
        }
    }
}

/// Returns true if the service says that the name is taken.
pub(super) fn is_taken(error: &ObjectError) -> bool {
    matches!(error, ObjectError::AlreadyExists { .. } | ObjectError::Precondition { .. })
}

/// Appends the bytes of a stream to `buffer`. Fails if the buffer would hold more than `most_bytes`.
async fn collect(
    mut stream: BoxStream<'static, object_store::Result<Bytes>>,
    buffer: &mut Vec<u8>,
    most_bytes: u64,
    moved: &Moved,
) -> object_store::Result<()> {
    while let Some(piece) = stream.try_next().await? {
        if (buffer.len() + piece.len()) as u64 > most_bytes {
            return Err(network::too_long(most_bytes));
        }
        buffer.extend_from_slice(&piece);
        moved.reached(buffer.len() as u64);
    }
    Ok(())
}

/// Cuts a payload into parts of `part_bytes`; the last one may be shorter. Copies no bytes.
fn divide(payload: &PutPayload, part_bytes: usize) -> Vec<PutPayload> {
    let (mut parts, mut part, mut room) = (Vec::new(), Vec::new(), part_bytes);
    for piece in payload {
        let mut piece = piece.clone();
        while !piece.is_empty() {
            let taken = piece.split_to(piece.len().min(room));
            room -= taken.len();
            part.push(taken);
            if room == 0 {
                parts.push(PutPayload::from_iter(std::mem::take(&mut part)));
                room = part_bytes;
            }
        }
    }
    if !part.is_empty() {
        parts.push(PutPayload::from_iter(part));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_whole() {
        let bytes = |length: usize| Bytes::from((0..length).map(|i| i as u8).collect::<Vec<_>>());
        let payload = PutPayload::from_iter([bytes(5), bytes(0), bytes(17), bytes(3)]);
        let whole: Bytes = payload.clone().into();
        for part_bytes in [1, 4, 5, 25, 100] {
            let parts = divide(&payload, part_bytes);
            let joined: Vec<u8> = parts.iter().flat_map(|p| Bytes::from(p.clone())).collect();
            assert_eq!(joined, whole);
            let (last, others) = parts.split_last().unwrap();
            assert!(others.iter().all(|p| p.content_length() == part_bytes));
            assert!((1..=part_bytes).contains(&last.content_length()));
        }
    }
}
