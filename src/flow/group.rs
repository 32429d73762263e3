//! Uploads that are under way at the same time: who of those that wait does the work for all, and when a
//! group of objects is complete.
//!
//! Each upload waits on the thread of its caller. One of them leads: it packs what waits, and what comes
//! while it packs, and commits that together. Then it answers, and another may lead.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Progress, cut, pack};
use crate::error::{Error, Result};
use crate::id::Oid;
use crate::limit;

/// An object that somebody waits for.
pub(super) struct Wanted {
    pub oid: Oid,
    pub size_bytes: u64,
    pub path: PathBuf,
    pub progress: Arc<Progress>,
    /// How often it was committed, and could not be acknowledged.
    pub attempts: AtomicUsize,
    answer: Mutex<Option<Result<()>>>,
}

impl Wanted {
    pub(super) fn new(oid: Oid, size_bytes: u64, path: PathBuf, progress: Arc<Progress>) -> Arc<Self> {
        let (attempts, answer) = (AtomicUsize::new(0), Mutex::new(None));
        Arc::new(Self { oid, size_bytes, path, progress, attempts, answer })
    }

    fn answer(&self) -> MutexGuard<'_, Option<Result<()>>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl cut::Source for Arc<Wanted> {
    fn open(&self) -> Result<Box<dyn Read + Send>> {
        let failed = |e| Error::io(format!("opening {}", self.path.display()), &e);
        let file = File::open(&self.path).map_err(failed)?;
        // one byte more shows a file that is too long
        Ok(Box::new(file.take(self.size_bytes.saturating_add(1))))
    }

    fn check(&self) -> Result<()> {
        self.progress.check()
    }
}

impl pack::Source for Arc<Wanted> {
    fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }
}

/// The uploads of an engine.
pub(super) struct Uploads {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: VecDeque<Arc<Wanted>>,
    is_led: bool,
    /// How many may ask at the same time.
    askers: usize,
    last_came: Instant,
    /// What the last commit took, from its blocks being durable to the answers.
    commit_cost: Duration,
}

impl Default for Uploads {
    fn default() -> Self {
        let state = State {
            waiting: VecDeque::new(),
            is_led: false,
            askers: 1,
            last_came: Instant::now(),
            commit_cost: Duration::ZERO,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

/// What an upload is to do next.
pub(super) enum Turn<'u> {
    /// It was answered.
    Answered(Result<()>),
    /// Nobody leads: it does.
    Lead(Lead<'u>),
}

impl Uploads {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many may ask at the same time: a group with an object of each is complete.
    pub(super) fn set_askers(&self, askers: usize) {
        self.state().askers = askers;
        self.changed.notify_all();
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    pub(super) fn add(&self, wanted: Arc<Wanted>) {
        let mut state = self.state();
        state.waiting.push_back(wanted);
        state.last_came = Instant::now();
        self.changed.notify_all();
    }

    /// Waits until an upload is answered or may lead. One that nobody wants any more is given up, unless the
    /// leader has it.
    pub(super) fn turn(&self, wanted: &Arc<Wanted>) -> Turn<'_> {
        let mut state = self.state();
        loop {
            if let Some(answer) = wanted.answer().take() {
                return Turn::Answered(answer);
            }
            let place = state.waiting.iter().position(|w| Arc::ptr_eq(w, wanted));
            if let (Some(place), Err(e)) = (place, wanted.progress.check()) {
                state.waiting.remove(place);
                return Turn::Answered(Err(e));
            }
            if !state.is_led && place.is_some() {
                state.is_led = true;
                return Turn::Lead(Lead { uploads: self, taken: Mutex::default() });
            }
            let wait = self.changed.wait_timeout(state, Duration::from_millis(limit::PROGRESS_INTERVAL_MS));
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The right, and the duty, to work for all that wait. When it ends, everything that it took is answered.
pub(super) struct Lead<'u> {
    uploads: &'u Uploads,
    taken: Mutex<Vec<Arc<Wanted>>>,
}

impl Lead<'_> {
    fn taken(&self) -> MutexGuard<'_, Vec<Arc<Wanted>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest upload that waits, but for one of an object that was taken already.
    fn take(&self, state: &mut State) -> Option<Arc<Wanted>> {
        let mut taken = self.taken();
        let is_new = |w: &Arc<Wanted>| taken.iter().all(|t| t.oid != w.oid);
        let next = state.waiting.iter().position(is_new).and_then(|place| state.waiting.remove(place))?;
        taken.push(next.clone());
        Some(next)
    }

    /// The oldest upload that waits now.
    pub(super) fn next_waiting(&self) -> Option<Arc<Wanted>> {
        self.take(&mut self.uploads.state())
    }

    /// The next upload for a group that is filled since `begun`, or nothing when that is complete: everybody who
    /// may ask has an object in it, or no more come, or its first has waited long enough. A commit is shared by more if it waits for
    /// them, and what it costs says how long that pays.
    pub(super) fn next(&self, begun: Instant) -> Option<Arc<Wanted>> {
        let longest = Duration::from_millis(limit::GROUP_WAIT_MS);
        let mut state = self.uploads.state();
        loop {
            let last = begun + state.commit_cost + longest;
            if last <= Instant::now() {
                return None;
            }
            if let Some(next) = self.take(&mut state) {
                return Some(next);
            }
            if self.taken().len() >= state.askers {
                return None;
            }
            let quiet = state.commit_cost / limit::GROUP_QUIET_SHARE;
            let quiet = quiet.clamp(Duration::from_millis(limit::GROUP_QUIET_MS), longest);
            let until = last.min(state.last_came + quiet);
            let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            let wait = self.uploads.changed.wait_timeout(state, left);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Answers one.
    pub(super) fn answer(&self, wanted: &Arc<Wanted>, answer: Result<()>) {
        self.taken().retain(|t| !Arc::ptr_eq(t, wanted));
        *wanted.answer() = Some(answer);
        // under the lock, as whoever looked before must be waiting by now
        let _state = self.uploads.state();
        self.uploads.changed.notify_all();
    }

    /// Answers all that it took, and all that wait: it is the store that fails, and would fail them too.
    pub(super) fn fail(&self, error: &Error) {
        let waiting = std::iter::from_fn(|| self.uploads.state().waiting.pop_front());
        let mut all: Vec<_> = waiting.collect();
        all.extend(self.taken().iter().cloned());
        all.iter().for_each(|wanted| self.answer(wanted, Err(error.clone())));
    }

    /// Has one wait again, as the first.
    pub(super) fn again(&self, wanted: &Arc<Wanted>) {
        self.taken().retain(|t| !Arc::ptr_eq(t, wanted));
        wanted.attempts.fetch_add(1, Ordering::Relaxed);
        self.uploads.state().waiting.push_front(wanted.clone());
    }

    /// What a commit costs now.
    pub(super) fn has_committed(&self, cost: Duration) {
        self.uploads.state().commit_cost = cost;
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if !self.taken().is_empty() {
            self.fail(&Error::internal("the transfer panicked, which is a bug of ours"));
        }
        self.uploads.state().is_led = false;
        self.uploads.changed.notify_all();
    }
}
