//! A store's immutable metadata: copies from the cache, and what is not there fetched, several at a time.

use std::collections::VecDeque;
use std::fmt::Display;

use bytes::Bytes;

use crate::error::Result;
use crate::id::ContentHash;
use crate::limit;
use crate::local::cache::{Cache, Kept};
use crate::store::Pending;

/// A file that was asked for.
pub(super) struct Copying<'s> {
    kind: Kept,
    name: String,
    hash: ContentHash,
    source: Source<'s>,
}

enum Source<'s> {
    Here(Bytes),
    Coming(Pending<'s, Bytes>),
}

impl<'s> Copying<'s> {
    /// Takes the copy of the file `name`, or asks for it with `begin`.
    pub(super) fn begin(
        cache: &Cache,
        kind: Kept,
        name: &str,
        hash: ContentHash,
        begin: impl FnOnce() -> Pending<'s, Bytes>,
    ) -> Self {
        let source = match cache.find(kind, name, &hash) {
            Some(bytes) => Source::Here(bytes),
            None => Source::Coming(begin()),
        };
        Self { kind, name: name.to_owned(), hash, source }
    }

    /// Waits for it, and keeps it.
    pub(super) fn wait(self, cache: &Cache) -> Result<Bytes> {
        match self.source {
            Source::Here(bytes) => Ok(bytes),
            Source::Coming(pending) => cache.keep(self.kind, &self.name, &self.hash, pending.wait()?),
        }
    }
}

/// The files `names`, each with its bytes or why there are none, in order. Those that the cache lacks are
/// asked for with `begin` while others are taken, and kept.
pub(super) fn copies<'s, N: Copy + Display>(
    cache: &Cache,
    kind: Kept,
    names: impl IntoIterator<Item = N>,
    hash: impl Fn(&N) -> ContentHash,
    begin: impl Fn(&N) -> Pending<'s, Bytes>,
) -> impl Iterator<Item = (N, Result<Bytes>)> {
    let mut names = names.into_iter();
    let mut coming: VecDeque<(N, Copying<'s>)> = VecDeque::new();
    std::iter::from_fn(move || {
        while coming.len() < limit::COPIES_IN_FLIGHT
            && let Some(name) = names.next()
        {
            let copy = Copying::begin(cache, kind, &name.to_string(), hash(&name), || begin(&name));
            coming.push_back((name, copy));
        }
        let (name, copy) = coming.pop_front()?;
        Some((name, copy.wait(cache)))
    })
}
