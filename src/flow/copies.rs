//! A store's immutable metadata: copies from the cache, and what is not there fetched, several at a time.

use std::collections::VecDeque;
use std::fmt::Display;

use bytes::Bytes;

use crate::error::Result;
use crate::id::ContentHash;
use crate::limit;
use crate::local::cache::{Cache, Kept};
use crate::store::Pending;

enum Source<'s> {
    Here(Bytes),
    Coming(Pending<'s, Bytes>),
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
    let mut coming: VecDeque<(N, Source<'s>)> = VecDeque::new();
    std::iter::from_fn(move || {
        while coming.len() < limit::COPIES_IN_FLIGHT
            && let Some(name) = names.next()
        {
            let source = match cache.find(kind, &name.to_string(), &hash(&name)) {
                Some(bytes) => Source::Here(bytes),
                None => Source::Coming(begin(&name)),
            };
            coming.push_back((name, source));
        }
        let (name, source) = coming.pop_front()?;
        let bytes = match source {
            Source::Here(bytes) => Ok(bytes),
            Source::Coming(pending) => {
                let fetched = pending.wait();
                fetched.and_then(|bytes| cache.keep(kind, &name.to_string(), &hash(&name), bytes))
            }
        };
        Some((name, bytes))
    })
}
