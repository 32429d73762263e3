//! The retries of a request. Each try begins the request anew, and so signs it anew. The total time is
//! bounded. The final error says how many tries there were.

use std::time::{Duration, Instant};

use super::Place;
use super::network::Hope;
use crate::error::Result;

/// Least tries of a request that takes long by itself, even if they take longer than the time for it.
const TRIES_AT_LEAST: u32 = 3;
/// The first pause between two tries.
const BACKOFF_MS: u64 = 200;
/// The longest pause between two tries, unless the service asks for more.
const BACKOFF_MAX_MS: u64 = 10_000;

/// One request and its tries.
pub(super) struct Retry {
    place: Place,
    doing: String,
    tries: u32,
    since: Instant,
}

impl Retry {
    pub(super) fn new(place: &Place, doing: impl Into<String>) -> Self {
        Self { place: place.clone(), doing: doing.into(), tries: 0, since: Instant::now() }
    }

    /// Resets tries and time, because a part of the request is done.
    pub(super) fn progressed(&mut self) {
        (self.tries, self.since) = (0, Instant::now());
    }

    /// Waits until the request may be tried again after `error`. If it may not, fails with an explanation of
    /// `error`. In a directory, nothing is tried again.
    pub(super) async fn again(&mut self, error: object_store::Error) -> Result<()> {
        let network = match &self.place {
            Place::Directory(place) => return Err(place.explain(&self.doing, error)),
            Place::Network(network) => network,
        };
        self.tries += 1;
        let (error, hope) = network.explain(&self.doing, &error);
        let (mut pause, total) = (backoff(self.tries), network.retry_time);
        let total = match hope {
            Hope::None => return Err(error),
            Hope::Slight => total / 8,
            Hope::Good | Hope::Silent => total,
            Hope::After(wanted) => {
                pause = pause.max(wanted);
                total
            }
        };
        let spent = self.since.elapsed();
        let is_late = spent + pause > total;
        // on a slow link, one try of a large request may take longer than that
        let is_enough = self.tries >= TRIES_AT_LEAST || hope != Hope::Good;
        if is_late && is_enough {
            return Err(error.tried(self.tries, spent));
        }
        // no warning, because a later try often succeeds; otherwise the final error says so once
        tracing::info!("{error}; trying again in {:.1} s", pause.as_secs_f32());
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Returns the pause before the next try. It doubles with each try up to a bound, and varies at random. So
/// processes that failed together don't come back together.
fn backoff(tries: u32) -> Duration {
    let longest = Duration::from_millis(BACKOFF_MS << tries.min(16).saturating_sub(1));
    let longest = longest.min(Duration::from_millis(BACKOFF_MAX_MS));
    // without random numbers, the pause is the longest one
    let share = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
    longest.mul_f64(0.5 + share / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let most = Duration::from_millis(BACKOFF_MAX_MS);
        for tries in 1..100 {
            let pause = backoff(tries);
            assert!(pause <= most && pause >= Duration::from_millis(BACKOFF_MS / 2), "{pause:?}");
        }
        assert!(backoff(1) <= Duration::from_millis(BACKOFF_MS));
        assert!(backoff(60) >= most / 2);
    }
}
