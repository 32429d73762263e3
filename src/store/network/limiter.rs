//! The limit on requests at a time: as many as the service bears, unless the user sets a number.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests at a time at first, until a service was seen to bear more or fewer.
const REQUESTS_AT_FIRST: usize = 8;
/// Requests at a time at most, unless the user sets more.
const REQUESTS_AT_MOST: usize = 32;

/// A gate that lets requests in. It uses additive increase and multiplicative decrease, like TCP. The bound
/// halves when the service asks us to slow down. It grows by one for every full round of answers.
#[derive(Debug)]
pub(super) struct Gate {
    places: Arc<Semaphore>,
    state: Mutex<State>,
    adapts: bool,
}

#[derive(Debug)]
struct State {
    bound: usize,
    /// Places to be taken away when requests in progress end.
    surplus: usize,
    answers: usize,
    /// The time until which the service has asked for no requests.
    closed_until: Option<Instant>,
}

/// A request that was let in.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Arc<Gate>,
    place: Option<OwnedSemaphorePermit>,
}

impl Gate {
    /// Makes a gate with a fixed bound, or with a usual first bound that adapts.
    pub(super) fn new(fixed: Option<usize>) -> Arc<Self> {
        let bound = fixed.unwrap_or(REQUESTS_AT_FIRST).max(1);
        let state = State { bound, surplus: 0, answers: 0, closed_until: None };
        let places = Arc::new(Semaphore::new(bound));
        Arc::new(Self { places, state: Mutex::new(state), adapts: fixed.is_none() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed_until(&self) -> Option<Instant> {
        self.state().closed_until.filter(|until| *until > Instant::now())
    }

    /// Waits for a place.
    pub(super) async fn enter(self: &Arc<Self>) -> Pass {
        // the semaphore is never closed, so there is a place in the end
        let place = self.places.clone().acquire_owned().await.ok();
        while let Some(until) = self.closed_until() {
            tokio::time::sleep_until(until.into()).await;
        }
        Pass { gate: self.clone(), place }
    }

    /// Notes that the service has answered as usual.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        state.answers += 1;
        if self.adapts && state.answers >= state.bound && state.bound < REQUESTS_AT_MOST {
            (state.bound, state.answers) = (state.bound + 1, 0);
            match state.surplus.checked_sub(1) {
                Some(less) => state.surplus = less,
                None => self.places.add_permits(1),
            }
        }
    }

    /// Notes that the service has too much to do, and perhaps how long it needs.
    pub(super) fn throttled(&self, pause: Option<Duration>) {
        let mut state = self.state();
        if let Some(pause) = pause {
            let until = Instant::now() + pause;
            state.closed_until = state.closed_until.max(Some(until));
        }
        if self.adapts {
            let less = state.bound / 2;
            (state.bound, state.answers) = (state.bound - less, 0);
            state.surplus += less;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        if state.surplus > 0
            && let Some(place) = self.place.take()
        {
            state.surplus -= 1;
            place.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(gate: &Gate) -> usize {
        gate.places.available_permits()
    }

    #[test]
    fn the_bound_halves_when_throttled_and_grows_with_answers() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let gate = Gate::new(None);
            let mut passes = Vec::new();
            for _ in 0..REQUESTS_AT_FIRST {
                passes.push(gate.enter().await);
            }
            assert_eq!(free(&gate), 0);
            gate.throttled(None);
            passes.clear();
            assert_eq!(free(&gate), REQUESTS_AT_FIRST / 2);
            for _ in 0..10_000 {
                gate.answered();
            }
            assert_eq!(free(&gate), REQUESTS_AT_MOST);
            for _ in 0..10 {
                gate.throttled(None);
            }
            assert_eq!(gate.state().bound, 1, "one is always let in");
        });
    }

    #[test]
    fn a_bound_that_was_set_stays() {
        let gate = Gate::new(Some(3));
        gate.throttled(None);
        (0..100).for_each(|_| gate.answered());
        assert_eq!((gate.state().bound, free(&gate)), (3, 3));
    }

    #[test]
    fn nobody_enters_before_the_time_that_the_service_named() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let gate = Gate::new(None);
            let pause = Duration::from_millis(200);
            let start = Instant::now();
            gate.throttled(Some(pause));
            let _pass = gate.enter().await;
            assert!(start.elapsed() >= pause);
        });
    }
}
