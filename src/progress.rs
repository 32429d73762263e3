//! The progress of a transfer: how far it is, and whether it is still wanted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::{Error, Result};
use super::store::Moved;

/// Least time between two reports of progress.
pub(crate) const PROGRESS_INTERVAL_MS: u64 = 100;

/// The progress of one transfer. Several threads may use it at once.
#[derive(Debug, Default)]
pub struct Progress {
    /// The bytes of the object that are done, or that only have to be sent.
    pub bytes: AtomicU64,
    /// Of these, the bytes that still have to be sent.
    unsent: AtomicU64,
    /// The parts in flight.
    moving: Mutex<Vec<Arc<Moving>>>,
    cancelled: AtomicBool,
    listener: Listener,
}

/// A function that gets the number of bytes done, and returns true if its receiver is still there.
type Listen = Box<dyn Fn(u64) -> bool + Send>;

/// The receiver of progress reports, if the waiting side doesn't look by itself.
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

/// A part of an object in flight, to the store or from it.
#[derive(Debug)]
pub(super) struct Moving {
    content_bytes: u64,
    stored_bytes: u64,
    pub moved: Moved,
}

impl Moving {
    /// Returns the content in the stored bytes that have moved so far.
    fn done(&self) -> u64 {
        let moved = self.moved.bytes().min(self.stored_bytes);
        (u128::from(self.content_bytes) * u128::from(moved) / u128::from(self.stored_bytes.max(1))) as u64
    }
}

impl Progress {
    /// Returns the bytes of the object that are done. Parts in flight count in proportion.
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

    /// Sets a listener, which each call of [`Self::tell`] tells the bytes done. `listen` returns true while
    /// its receiver is still there.
    pub fn tell_to(&self, listen: impl Fn(u64) -> bool + Send + 'static) {
        *self.listener.locked() = Some(Box::new(listen));
    }

    /// Removes the listener.
    pub fn tell_nobody(&self) {
        *self.listener.locked() = None;
    }

    /// Returns true if there is a listener.
    pub fn has_listener(&self) -> bool {
        self.listener.locked().is_some()
    }

    /// Tells the listener how far the transfer is. Cancels the transfer if the receiver is gone.
    pub fn tell(&self) {
        if let Some(listen) = &*self.listener.locked()
            && !listen(self.done())
        {
            self.cancel();
        }
    }

    /// Begins the transfer, perhaps again.
    pub(super) fn restart(&self) {
        self.moving().clear();
        self.bytes.store(0, Ordering::Relaxed);
        self.unsent.store(0, Ordering::Relaxed);
    }

    /// Notes that content counted as done still has to be sent.
    pub(super) fn has_to_send(&self, content_bytes: u64) {
        self.unsent.fetch_add(content_bytes, Ordering::Relaxed);
    }

    /// Adds a part in flight. Its content is in `stored_bytes`, which `moved` counts.
    pub(super) fn depart(&self, content_bytes: u64, stored_bytes: u64, moved: Moved) -> Arc<Moving> {
        let moving = Arc::new(Moving { content_bytes, stored_bytes, moved });
        self.moving().push(moving.clone());
        moving
    }

    /// Removes a part that has arrived.
    pub(super) fn arrive(&self, moving: &Arc<Moving>) {
        self.moving().retain(|other| !Arc::ptr_eq(other, moving));
    }

    /// Removes a part that had to be sent and is in the store now.
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
