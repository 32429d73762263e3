//! How far a transfer is, as whoever waits for it sees it, and whether anybody still does.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::{Error, Result};
use super::store::Moved;

/// How far a transfer is, and whether anybody still wants it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of the object that are done, or have only to be sent yet.
    pub bytes: AtomicU64,
    /// Those that have to be sent yet.
    unsent: AtomicU64,
    /// What is on its way.
    moving: Mutex<Vec<Arc<Moving>>>,
    cancelled: AtomicBool,
    listener: Listener,
}

/// Hears how many bytes are done, and says whether it is still there.
type Listen = Box<dyn Fn(u64) -> bool + Send>;

/// The one who is told of progress, if it doesn't look by itself.
#[derive(Default)]
struct Listener(Mutex<Option<Listen>>);

impl Listener {
    fn locked(&self) -> MutexGuard<'_, Option<Listen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

/// A part of an object that is on its way to the store or from it.
#[derive(Debug)]
pub(super) struct Moving {
    content_bytes: u64,
    stored_bytes: u64,
    pub moved: Moved,
}

impl Moving {
    /// The content in what has passed so far.
    fn done(&self) -> u64 {
        let moved = self.moved.bytes().min(self.stored_bytes);
        (u128::from(self.content_bytes) * u128::from(moved) / u128::from(self.stored_bytes.max(1))) as u64
    }
}

impl Progress {
    /// Bytes of the object that are done, parts that are on their way in proportion.
    pub fn done(&self) -> u64 {
        let moving: u64 = self.moving().iter().map(|moving| moving.done()).sum();
        let bytes = self.bytes.load(Ordering::Relaxed) + moving;
        bytes.saturating_sub(self.unsent.load(Ordering::Relaxed))
    }

    /// Asks the transfer to stop soon.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Fails once the transfer was asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::busy("the transfer was cancelled"));
        }
        Ok(())
    }

    /// From now on `listen` hears how far it is, whenever [`Self::tell`] is called. It says whether it is still there.
    pub fn tell_to(&self, listen: impl Fn(u64) -> bool + Send + 'static) {
        *self.listener.locked() = Some(Box::new(listen));
    }

    /// After this nobody is told any more.
    pub fn tell_nobody(&self) {
        *self.listener.locked() = None;
    }

    /// Whether somebody has to be told.
    pub fn has_listener(&self) -> bool {
        self.listener.locked().is_some()
    }

    /// Tells how far it is. If nobody is there to hear it, the transfer is cancelled.
    pub fn tell(&self) {
        if let Some(listen) = &*self.listener.locked()
            && !listen(self.done())
        {
            self.cancel();
        }
    }

    /// The transfer begins, perhaps again.
    pub(super) fn restart(&self) {
        self.moving().clear();
        self.bytes.store(0, Ordering::Relaxed);
        self.unsent.store(0, Ordering::Relaxed);
    }

    /// Content that was counted as done has to be sent yet.
    pub(super) fn has_to_send(&self, content_bytes: u64) {
        self.unsent.fetch_add(content_bytes, Ordering::Relaxed);
    }

    /// A part sets out in something of `stored_bytes`, which `moved` follows.
    pub(super) fn depart(&self, content_bytes: u64, stored_bytes: u64, moved: Moved) -> Arc<Moving> {
        let moving = Arc::new(Moving { content_bytes, stored_bytes, moved });
        self.moving().push(moving.clone());
        moving
    }

    /// A part that set out is there.
    pub(super) fn arrive(&self, moving: &Arc<Moving>) {
        self.moving().retain(|other| !Arc::ptr_eq(other, moving));
    }

    /// A part that had to be sent is in the store.
    pub(super) fn is_sent(&self, moving: &Arc<Moving>) {
        self.arrive(moving);
        self.unsent.fetch_sub(moving.content_bytes, Ordering::Relaxed);
    }

    fn moving(&self) -> MutexGuard<'_, Vec<Arc<Moving>>> {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_to_be_sent_counts_as_it_moves() {
        let progress = Progress::default();
        progress.bytes.store(1000, Ordering::Relaxed);
        assert_eq!(progress.done(), 1000);
        progress.has_to_send(800);
        assert_eq!(progress.done(), 200);
        let block = progress.depart(800, 400, Moved::default());
        block.moved.reached(100);
        assert_eq!(progress.done(), 400);
        // a second try begins anew, and takes nothing back
        block.moved.reached(10);
        block.moved.reached(5000);
        assert_eq!(progress.done(), 1000);
        progress.is_sent(&block);
        assert_eq!(progress.done(), 1000);
    }

    #[test]
    fn what_is_fetched_counts_as_it_comes() {
        let progress = Progress::default();
        let range = progress.depart(600, 300, Moved::default());
        range.moved.reached(150);
        assert_eq!(progress.done(), 300);
        progress.arrive(&range);
        progress.bytes.store(600, Ordering::Relaxed);
        assert_eq!(progress.done(), 600);
        progress.restart();
        assert_eq!(progress.done(), 0);
    }
}
