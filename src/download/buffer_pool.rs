//! The memory for fetched bytes, which all downloads of an engine share. A download that would exceed it
//! waits.
//!
//! A download that already holds memory never waits for more. So the downloads that hold memory always go
//! on, and give it back.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Result;
use crate::progress::{PROGRESS_INTERVAL_MS, Progress};
use crate::units::MIB;

/// Buffers that together take a bounded number of bytes. They are in use or kept for later use, because
/// fresh memory costs more than a read.
pub(super) struct Buffers {
    most_bytes: u64,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    used_bytes: u64,
    idle_bytes: u64,
    idle: Vec<Vec<u8>>,
    /// The numbers of the waiting downloads, the first one first.
    waiting: VecDeque<u64>,
    last_number: u64,
    #[cfg(test)]
    peak_bytes: u64,
}

/// The right to a number of bytes. It is given back when it is dropped.
pub(super) struct Share {
    bytes: u64,
    buffers: Arc<Buffers>,
}

/// Returns the capacity of a buffer. It is whole MiB, so that the buffer fits the next range too; small
/// buffers are not kept.
fn capacity(bytes: usize) -> usize {
    if bytes < MIB { bytes } else { bytes.next_multiple_of(MIB) }
}

impl Buffers {
    pub(super) fn new(most_bytes: u64) -> Arc<Self> {
        Arc::new(Self { most_bytes, state: Mutex::default(), freed: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an empty buffer with room for `bytes`. Returns `None` if there is no memory for it now, or
    /// if others wait. Never waits.
    pub(super) fn try_take(self: &Arc<Self>, bytes: usize) -> Option<(Vec<u8>, Share)> {
        let mut state = self.state();
        let is_free = state.waiting.is_empty() && self.fits(&state, bytes);
        is_free.then(|| self.grant(&mut state, bytes))
    }

    /// Returns an empty buffer as soon as its turn comes and there is memory. Only a download that holds
    /// none may call this. Fails if the download is cancelled.
    pub(super) fn take(self: &Arc<Self>, bytes: usize, progress: &Progress) -> Result<(Vec<u8>, Share)> {
        let mut state = self.state();
        state.last_number += 1;
        let number = state.last_number;
        state.waiting.push_back(number);
        loop {
            let cancelled = progress.check();
            let is_next = state.waiting.front() == Some(&number) && self.fits(&state, bytes);
            if is_next || cancelled.is_err() {
                state.waiting.retain(|other| *other != number);
                // the next one's turn
                self.freed.notify_all();
            }
            cancelled?;
            if is_next {
                return Ok(self.grant(&mut state, bytes));
            }
            let wait = Duration::from_millis(PROGRESS_INTERVAL_MS);
            state = self.freed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn fits(&self, state: &State, bytes: usize) -> bool {
        // a request that is larger than all memory gets all memory
        state.used_bytes + capacity(bytes) as u64 <= self.most_bytes || state.used_bytes == 0
    }

    fn grant(self: &Arc<Self>, state: &mut State, bytes: usize) -> (Vec<u8>, Share) {
        let capacity = capacity(bytes);
        let fitting = |b: &Vec<u8>| b.capacity() >= capacity && b.capacity() / 2 <= capacity;
        let mut buffer = match state.idle.iter().position(fitting) {
            Some(place) => state.idle.swap_remove(place),
            None => Vec::new(),
        };
        state.idle_bytes -= buffer.capacity() as u64;
        let bytes = buffer.capacity().max(capacity) as u64;
        state.used_bytes += bytes;
        while state.used_bytes + state.idle_bytes > self.most_bytes
            && let Some(idle) = state.idle.pop()
        {
            state.idle_bytes -= idle.capacity() as u64;
        }
        #[cfg(test)]
        {
            state.peak_bytes = state.peak_bytes.max(state.used_bytes + state.idle_bytes);
        }
        buffer.reserve_exact(capacity);
        (buffer, Share { bytes, buffers: self.clone() })
    }

    /// Returns the most bytes that were ever in use or kept.
    #[cfg(test)]
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.state().peak_bytes
    }
}

impl Share {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the share back with its buffer, so that others can use that buffer.
    pub(super) fn give_back(mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity() as u64;
        if buffer.capacity() >= MIB && bytes <= self.bytes {
            buffer.clear();
            let mut state = self.buffers.state();
            state.used_bytes -= std::mem::take(&mut self.bytes);
            state.idle_bytes += bytes;
            state.idle.push(buffer);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.buffers.state().used_bytes -= self.bytes;
        self.buffers.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_comes_before_whoever_only_tries() {
        let buffers = Buffers::new(10 * MIB as u64);
        let first = buffers.try_take(8 * MIB).unwrap();
        assert!(buffers.try_take(3 * MIB).is_none());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| buffers.take(5 * MIB, &Progress::default()).unwrap());
            while buffers.state().waiting.is_empty() {
                std::thread::yield_now();
            }
            assert!(buffers.try_take(MIB).is_none(), "somebody waits");
            drop(first);
            let (buffer, _share) = waits.join().unwrap();
            assert!(buffer.capacity() >= 5 * MIB);
            assert!(buffers.try_take(MIB).is_some());
        });
    }

    #[test]
    fn whoever_is_cancelled_waits_no_longer_and_blocks_nobody() {
        let buffers = Buffers::new(10 * MIB as u64);
        let _all = buffers.try_take(8 * MIB).unwrap();
        let cancelled = Progress::default();
        cancelled.cancel();
        assert!(buffers.take(5 * MIB, &cancelled).is_err());
        assert!(buffers.try_take(MIB).is_some());
    }

    #[test]
    fn buffers_in_use_and_kept_stay_within_the_bound() {
        let buffers = Buffers::new(40 * MIB as u64);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let buffers = &buffers;
                scope.spawn(move || {
                    for round in 0..200 {
                        let bytes = 1 + (thread * 7919 + round * 104_729) % (17 * MIB);
                        let (buffer, share) = buffers.take(bytes, &Progress::default()).unwrap();
                        assert!(buffer.is_empty() && buffer.capacity() >= bytes);
                        if round % 3 > 0 {
                            share.give_back(buffer);
                        }
                    }
                });
            }
        });
        let peak = buffers.peak_bytes();
        assert!(peak > 17 * MIB as u64 && peak <= 40 * MIB as u64, "{peak}");
        assert_eq!(buffers.state().used_bytes, 0);
    }
}
