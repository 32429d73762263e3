//! Log lines about long silences of a push. They say for how long nothing has moved, and which step the
//! push waits for.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use super::batch::Lead;
use crate::threads;

/// Time without any movement of a push after which the log says on which step it waits.
const SILENCE_SECONDS: u64 = 5;

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Runs a leader's work. A second thread, which ends with the work, logs its silences.
pub(super) fn explained<T>(lead: &Lead<'_>, work: impl FnOnce() -> T) -> T {
    let (working, ended) = bounded(0);
    std::thread::scope(|scope| {
        // dropped at the end of the work, even by a panic, so that the other thread ends
        let _working = working;
        // the work goes on without this thread
        let _ = threads::spawn_scoped(scope, "silence", move || explain(lead, &ended));
        work()
    })
}

fn explain(lead: &Lead<'_>, ended: &Receiver<Infallible>) {
    let mut silence = Silence::new((0, ""), Instant::now());
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK) {
        let (objects, moved, stage) = lead.standing();
        if let Some(lasts) = silence.look((moved, stage), Instant::now()) {
            tracing::info!("nothing has moved for {} s, {objects} objects wait for {stage}", lasts.as_secs());
        }
    }
}

/// A state that stays the same, and the time since when.
pub(super) struct Silence<T> {
    state: T,
    since: Instant,
    /// The length of the silence at which it is logged.
    due: Duration,
}

impl<T: PartialEq> Silence<T> {
    pub(super) fn new(state: T, now: Instant) -> Self {
        Self { state, since: now, due: Duration::from_secs(SILENCE_SECONDS) }
    }

    /// Returns how long nothing has changed, if that is due for the log: after a while, and each time that
    /// it has doubled.
    pub(super) fn look(&mut self, state: T, now: Instant) -> Option<Duration> {
        if state != self.state {
            *self = Self::new(state, now);
        }
        let lasts = now.duration_since(self.since);
        let is_due = lasts >= self.due;
        if is_due {
            self.due = 2 * lasts;
        }
        is_due.then_some(lasts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_said_when_it_has_lasted_and_whenever_that_has_doubled() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut silence = Silence::new(0, start);
        let mut said =
            |seconds: u64, state: u64| silence.look(state, at(seconds)).map(|lasts| lasts.as_secs());
        assert_eq!(said(SILENCE_SECONDS - 1, 0), None);
        assert_eq!(said(SILENCE_SECONDS, 1), None, "something has moved");
        assert_eq!(said(2 * SILENCE_SECONDS, 1), Some(SILENCE_SECONDS));
        assert_eq!(said(3 * SILENCE_SECONDS - 1, 1), None);
        assert_eq!(said(3 * SILENCE_SECONDS, 1), Some(2 * SILENCE_SECONDS));
        assert_eq!(said(4 * SILENCE_SECONDS, 1), None);
        assert_eq!(said(4 * SILENCE_SECONDS, 2), None);
        assert_eq!(said(5 * SILENCE_SECONDS, 2), Some(SILENCE_SECONDS));
    }
}
