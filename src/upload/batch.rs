//! The batch of uploads that share a commit.
//!
//! Each upload waits on the thread of its caller. One of these uploads becomes the leader. The leader packs
//! the objects that wait and those that arrive while it packs, and commits them together. Then it answers
//! all of them, and another upload may become the leader. The followers only wait.
//!
//! This module decides which upload leads, and when a batch is complete.

use std::collections::VecDeque;
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::stall_log::Silence;
use crate::error::{Error, Result};
use crate::id::Oid;
use crate::progress::{PROGRESS_INTERVAL_MS, Progress};
use crate::regular_file;
use crate::regular_file::Links;

/// Time for which objects wait for others to share a commit, beyond the cost of a commit.
const GROUP_WAIT_MS: u64 = 200;
/// A batch closes when no new object came for the cost of a commit, divided by this.
const GROUP_QUIET_SHARE: u32 = 4;
/// Least time without a new object before a batch closes. git-lfs starts its agents some 3 ms apart.
const GROUP_QUIET_MS: u64 = 25;

/// An object that a caller waits for.
pub(super) struct Wanted {
    pub oid: Oid,
    pub size_bytes: u64,
    pub path: PathBuf,
    pub progress: Arc<Progress>,
    /// The number of times that it was committed and could not be acknowledged.
    pub attempts: AtomicUsize,
    answer: Mutex<Option<Result<()>>>,
}

impl Wanted {
    pub(super) fn new(oid: Oid, size_bytes: u64, path: PathBuf, progress: Arc<Progress>) -> Arc<Self> {
        let attempts = AtomicUsize::new(0);
        let answer = Mutex::new(None);
        Arc::new(Self { oid, size_bytes, path, progress, attempts, answer })
    }

    /// Opens the object's file. The reader gets at most one byte more than the object's size; that byte
    /// shows that the file is too long.
    pub(super) fn open(&self) -> Result<impl Read + use<>> {
        let failed = |e| Error::io(format!("opening {}", self.path.display()), &e);
        let file = regular_file::open(&self.path, Links::Followed).map_err(failed)?;
        Ok(file.take(self.size_bytes.saturating_add(1)))
    }

    fn answer(&self) -> MutexGuard<'_, Option<Result<()>>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The uploads of an engine.
pub(crate) struct Uploads {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: VecDeque<Arc<Wanted>>,
    is_led: bool,
    /// The number of uploads that may ask at the same time.
    askers: usize,
    last_came: Instant,
    /// The time of the last commit, from the moment when its blocks were durable to the answers.
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

/// The next step of an upload.
pub(super) enum Turn<'u> {
    /// The upload was answered.
    Answered(Result<()>),
    /// No other upload leads, so this one does.
    Lead(Lead<'u>),
}

impl Uploads {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how many uploads may ask at the same time. A batch with an object of each is complete.
    pub(crate) fn set_askers(&self, askers: usize) {
        self.state().askers = askers;
        self.changed.notify_all();
    }

    /// Returns how many uploads wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    pub(super) fn add(&self, wanted: Arc<Wanted>) {
        let mut state = self.state();
        state.waiting.push_back(wanted);
        state.last_came = Instant::now();
        self.changed.notify_all();
    }

    /// Waits until an upload is answered or may lead. Gives up a cancelled upload, unless the leader has
    /// taken it.
    pub(super) fn turn(&self, wanted: &Arc<Wanted>) -> Turn<'_> {
        let mut silence = Silence::new((), Instant::now());
        let mut state = self.state();
        loop {
            let answer = wanted.answer().take();
            if let Some(answer) = answer {
                return Turn::Answered(answer);
            }
            let place = state.waiting.iter().position(|w| Arc::ptr_eq(w, wanted));
            if let (Some(place), Err(e)) = (place, wanted.progress.check()) {
                state.waiting.remove(place);
                return Turn::Answered(Err(e));
            }
            if !state.is_led && place.is_some() {
                state.is_led = true;
                return Turn::Lead(Lead { uploads: self, taken: Mutex::default(), stage: Mutex::default() });
            }
            if let (Some(lasts), Some(_)) = (silence.look((), Instant::now()), place) {
                let oid = wanted.oid;
                let seconds = lasts.as_secs();
                tracing::info!("object {oid} waits since {seconds} s for those that are pushed before it");
            }
            let wait = self.changed.wait_timeout(state, Duration::from_millis(PROGRESS_INTERVAL_MS));
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The right and the duty to work for all waiting uploads. When it is dropped, all uploads that it took are
/// answered.
pub(super) struct Lead<'u> {
    uploads: &'u Uploads,
    taken: Mutex<Vec<Arc<Wanted>>>,
    /// The step that the followers wait for.
    stage: Mutex<&'static str>,
}

impl Lead<'_> {
    /// Notes the step that the followers wait for from now on.
    pub(super) fn waits_for(&self, what: &'static str) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    /// Returns the number of objects, the number of their bytes that are done, and the step that they wait
    /// for.
    pub(super) fn standing(&self) -> (usize, u64, &'static str) {
        let taken = self.taken();
        let done = taken.iter().map(|wanted| wanted.progress.done()).sum();
        (taken.len(), done, *self.stage.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn taken(&self) -> MutexGuard<'_, Vec<Arc<Wanted>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the oldest waiting upload. Skips the uploads of an object that was taken already.
    fn take(&self, state: &mut State) -> Option<Arc<Wanted>> {
        let mut taken = self.taken();
        let is_new = |w: &Arc<Wanted>| taken.iter().all(|t| t.oid != w.oid);
        let next = state.waiting.iter().position(is_new).and_then(|place| state.waiting.remove(place))?;
        taken.push(next.clone());
        Some(next)
    }

    /// Takes the oldest upload that waits now, without waiting for one.
    pub(super) fn next_waiting(&self) -> Option<Arc<Wanted>> {
        self.take(&mut self.uploads.state())
    }

    /// Takes the next upload for a batch that is filled since `begun`. Returns `None` when the batch is
    /// complete.
    ///
    /// A batch is complete when each asker has an object in it, or when no more uploads arrive. It is also
    /// complete when its first upload has waited long enough. A leader that waits lets more objects share
    /// the commit. The cost of a commit decides how long that wait pays.
    pub(super) fn next(&self, begun: Instant) -> Option<Arc<Wanted>> {
        let longest = Duration::from_millis(GROUP_WAIT_MS);
        let mut state = self.uploads.state();
        loop {
            // no wait for the uploads that are here already
            if let Some(next) = self.take(&mut state) {
                return Some(next);
            }
            let last = begun + state.commit_cost + longest;
            if self.taken().len() >= state.askers {
                return None;
            }
            let quiet = state.commit_cost / GROUP_QUIET_SHARE;
            let quiet = quiet.clamp(Duration::from_millis(GROUP_QUIET_MS), longest);
            let until = last.min(state.last_came + quiet);
            let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            let wait = self.uploads.changed.wait_timeout(state, left);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Answers one upload.
    pub(super) fn answer(&self, wanted: &Arc<Wanted>, answer: Result<()>) {
        self.taken().retain(|t| !Arc::ptr_eq(t, wanted));
        *wanted.answer() = Some(answer);
        // under the lock, so that each upload that saw no answer waits by now
        let _state = self.uploads.state();
        self.uploads.changed.notify_all();
    }

    /// Answers all uploads that the leader took, and all that wait. The store fails, so it would fail the
    /// waiting uploads too.
    pub(super) fn fail(&self, error: &Error) {
        let waiting = std::iter::from_fn(|| self.uploads.state().waiting.pop_front());
        let mut all: Vec<_> = waiting.collect();
        all.extend(self.taken().iter().cloned());
        all.iter().for_each(|wanted| self.answer(wanted, Err(error.clone())));
    }

    /// Puts one upload back to the front of the queue.
    pub(super) fn again(&self, wanted: &Arc<Wanted>) {
        self.taken().retain(|t| !Arc::ptr_eq(t, wanted));
        wanted.attempts.fetch_add(1, Ordering::Relaxed);
        self.uploads.state().waiting.push_front(wanted.clone());
    }

    /// Notes the cost of the last commit.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(uploads: &Uploads, number: u8) -> Arc<Wanted> {
        let wanted = Wanted::new(Oid([number; 32]), 1, PathBuf::new(), Arc::default());
        uploads.add(wanted.clone());
        wanted
    }

    #[track_caller]
    fn lead<'u>(uploads: &'u Uploads, wanted: &Arc<Wanted>) -> Lead<'u> {
        match uploads.turn(wanted) {
            Turn::Lead(lead) => lead,
            Turn::Answered(answer) => panic!("answered with {answer:?}"),
        }
    }

    #[track_caller]
    fn answer(uploads: &Uploads, wanted: &Arc<Wanted>) -> Result<()> {
        match uploads.turn(wanted) {
            Turn::Answered(answer) => answer,
            Turn::Lead(_) => panic!("not answered"),
        }
    }

    #[test]
    fn a_group_holds_each_object_once_and_is_complete_with_one_of_everybody() {
        let uploads = Uploads::default();
        uploads.set_askers(3);
        let all = [1, 2, 1, 3].map(|number| wanted(&uploads, number));
        {
            let lead = lead(&uploads, &all[0]);
            let begun = Instant::now();
            let taken: Vec<u8> = std::iter::from_fn(|| lead.next(begun)).map(|w| w.oid.0[0]).collect();
            assert_eq!(taken, [1, 2, 3]);
            [0, 1, 3].into_iter().for_each(|number| lead.answer(&all[number], Ok(())));
        }
        [0, 1, 3].into_iter().for_each(|number| answer(&uploads, &all[number]).unwrap());
        assert!(Arc::ptr_eq(&lead(&uploads, &all[2]).next_waiting().unwrap(), &all[2]), "the next group's");
    }

    #[test]
    fn a_group_ends_when_nobody_comes_however_many_may() {
        let uploads = Uploads::default();
        uploads.set_askers(1000);
        let first = wanted(&uploads, 1);
        let lead = lead(&uploads, &first);
        let begun = Instant::now();
        assert!(lead.next(begun).is_some() && lead.next(begun).is_none());
    }

    #[test]
    fn what_failed_waits_again_as_the_first() {
        let uploads = Uploads::default();
        let all = [1, 2].map(|number| wanted(&uploads, number));
        {
            let lead = lead(&uploads, &all[0]);
            let first = lead.next_waiting().unwrap();
            lead.again(&first);
        }
        let lead = lead(&uploads, &all[1]);
        assert!(Arc::ptr_eq(&lead.next_waiting().unwrap(), &all[0]));
        assert_eq!(all[0].attempts.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_leader_that_panics_or_fails_leaves_nobody_waiting() {
        let uploads = Uploads::default();
        let all = [1, 2, 3].map(|number| wanted(&uploads, number));
        std::thread::scope(|scope| {
            let panics = scope.spawn(|| {
                let lead = lead(&uploads, &all[0]);
                lead.next_waiting();
                panic!("as the test wants it");
            });
            assert!(panics.join().is_err());
        });
        for wanted in &all {
            assert_eq!(answer(&uploads, wanted).unwrap_err().kind(), crate::error::Kind::Internal);
        }
    }

    #[test]
    fn whoever_is_not_wanted_any_more_leaves_the_queue() {
        let uploads = Uploads::default();
        let all = [1, 2].map(|number| wanted(&uploads, number));
        let lead = lead(&uploads, &all[0]);
        all[1].progress.cancel();
        assert!(answer(&uploads, &all[1]).is_err());
        assert!(lead.next_waiting().is_some() && lead.next_waiting().is_none());
    }
}
