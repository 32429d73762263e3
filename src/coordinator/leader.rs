//! The engine of a command. It is opened when the first object needs it, and all agents of the command use
//! it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use interprocess::local_socket::Stream;

use super::follower;
use crate::agent::Init;
use crate::engine::{Engine, Transfer};
use crate::error::{Error, Kind, Result};
use crate::id::Oid;
use crate::progress::{PROGRESS_INTERVAL_MS, Progress};
use crate::repo::Direction;
use crate::threads;

/// Time for which a coordinator that ends waits for the other agents to end.
const PARTING_MS: u64 = 400;

/// The result of opening an engine.
pub struct Opened {
    /// The engine, or the error.
    pub engine: Result<Engine>,
    /// The log file, which says more about errors.
    pub log: Option<PathBuf>,
}

/// Opens an engine.
pub type Open = Arc<dyn Fn() -> Opened + Send + Sync>;

/// One engine for several sessions.
pub(super) struct Shared {
    direction: Direction,
    /// The number of objects that are asked for at a time.
    transfers: usize,
    open: Open,
    /// The reason why other agents can't come here.
    alone: Option<Error>,
    engine: OnceLock<Arc<Engine>>,
    /// The errors of objects so far.
    said: Mutex<HashSet<String>>,
    /// Held by the thread that opens the engine. It holds the last error, and the time until which that is
    /// believed.
    opening: Mutex<Option<(Error, Instant)>>,
    log: Mutex<Option<PathBuf>>,
    /// The connections of other agents.
    others: Mutex<Vec<Arc<Stream>>>,
    one_less: Condvar,
    moving: Arc<Mutex<Moving>>,
}

/// The objects that are moved now.
#[derive(Default)]
struct Moving {
    objects: Vec<Arc<Progress>>,
    /// True if a thread reports their progress.
    is_told: bool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Makes the shared engine for the agents of the command that began a session with `init`, or for one
    /// that is `alone`.
    pub(super) fn new(init: &Init, open: Open, alone: Option<Error>) -> Self {
        Self {
            direction: init.direction,
            transfers: if alone.is_some() { 1 } else { init.transfers },
            open,
            alone,
            engine: OnceLock::new(),
            said: Mutex::default(),
            opening: Mutex::default(),
            log: Mutex::default(),
            others: Mutex::default(),
            one_less: Condvar::new(),
            moving: Arc::default(),
        }
    }

    /// Returns the direction in which objects go.
    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// Returns the engine, and opens it if need be. If that fails, all objects that wait meanwhile fail with
    /// the same error. So do later ones: for the whole command or, if the error may pass, for as long as the
    /// attempt took. With thousands of objects, each must not wait for a new attempt.
    fn engine(&self) -> Result<Arc<Engine>> {
        let mut failure = locked(&self.opening);
        if let Some(engine) = self.engine.get() {
            return Ok(engine.clone());
        }
        match &*failure {
            Some((failure, _)) if !may_pass(failure) => return Err(failure.clone()),
            Some((failure, until)) if Instant::now() < *until => return Err(failure.clone()),
            _ => {}
        }
        let begun = Instant::now();
        let Opened { engine, log } = (self.open)();
        *locked(&self.log) = log;
        if let Some(reason) = &self.alone {
            tracing::warn!(
                "agents of this git command can't share one engine; this one runs alone: {reason}"
            );
        }
        let believed = Instant::now() + begun.elapsed();
        let engine = engine.inspect_err(|e| *failure = Some((e.clone(), believed)))?;
        engine.set_askers(self.transfers);
        Ok(self.engine.get_or_init(|| Arc::new(engine)).clone())
    }

    /// Shortens an error that was reported before. git-lfs shows a line for each failed object. If all fail
    /// for one reason outside of them, the first one has the whole message, and the others refer to it.
    fn once(&self, error: Error) -> Error {
        if !matches!(error.kind(), Kind::Denied | Kind::Unreachable | Kind::TooNew)
            && self.engine.get().is_some()
        {
            return error;
        }
        // for one reason, block names and times may differ
        let reason = error.to_string().replace(|c: char| c.is_ascii_hexdigit() || c == '.', "");
        let is_first = locked(&self.said).insert(reason);
        if is_first {
            error
        } else {
            Error::new(error.kind(), "failed as another object did")
                .remedy("the whole message stands with that one")
        }
    }

    /// Notes another agent. It counts as gone when the returned value is dropped.
    pub(super) fn one_more(self: &Arc<Self>, connection: Arc<Stream>) -> Present {
        locked(&self.others).push(connection.clone());
        Present { shared: self.clone(), connection }
    }

    /// Waits until all other agents are gone, for `longest` at most.
    pub(super) fn wait_for_others(&self, longest: Duration) {
        let others = locked(&self.others);
        let _ = self.one_less.wait_timeout_while(others, longest, |others| !others.is_empty());
    }

    /// Ends the sessions of all other agents, and gives them a moment to remove unfinished files.
    pub(super) fn part(&self) {
        locked(&self.others).iter().for_each(|connection| follower::close(connection));
        locked(&self.moving).objects.iter().for_each(|progress| progress.cancel());
        self.wait_for_others(Duration::from_millis(PARTING_MS));
    }

    /// Notes an object that is moved, and makes sure that its progress is reported.
    fn begin(&self, progress: &Arc<Progress>) -> Moves {
        let mut moving = locked(&self.moving);
        moving.objects.push(progress.clone());
        if !moving.is_told && progress.has_listener() {
            let there = self.moving.clone();
            // if the system refuses a thread, only the end is reported
            moving.is_told = threads::spawn("progress", move || tell(&there)).is_ok();
        }
        Moves { moving: self.moving.clone(), progress: progress.clone() }
    }
}

/// Returns true if another try in the same command may succeed.
fn may_pass(failure: &Error) -> bool {
    matches!(failure.kind(), Kind::Unreachable | Kind::Busy | Kind::Internal)
}

/// Reports the progress of objects now and again, until there are none.
fn tell(moving: &Mutex<Moving>) {
    loop {
        std::thread::sleep(Duration::from_millis(PROGRESS_INTERVAL_MS));
        let mut moving = locked(moving);
        let objects = moving.objects.clone();
        moving.is_told = !objects.is_empty();
        drop(moving);
        if objects.is_empty() {
            return;
        }
        objects.iter().for_each(|progress| progress.tell());
    }
}

/// An object that is being moved, until this is dropped.
struct Moves {
    moving: Arc<Mutex<Moving>>,
    progress: Arc<Progress>,
}

impl Drop for Moves {
    fn drop(&mut self) {
        locked(&self.moving).objects.retain(|other| !Arc::ptr_eq(other, &self.progress));
    }
}

/// The presence of an agent. Its connection is closed when this is dropped, even by a panic.
pub(super) struct Present {
    shared: Arc<Shared>,
    connection: Arc<Stream>,
}

impl Drop for Present {
    fn drop(&mut self) {
        follower::close(&self.connection);
        locked(&self.shared.others).retain(|other| !Arc::ptr_eq(other, &self.connection));
        self.shared.one_less.notify_all();
    }
}

impl Transfer for Shared {
    fn prepare(&self) {
        if let Ok(engine) = self.engine() {
            engine.prepare(self.direction);
        }
    }

    fn upload(&self, oid: &Oid, size_bytes: u64, path: &Path, progress: &Arc<Progress>) -> Result<()> {
        let _moves = self.begin(progress);
        let done = self.engine().and_then(|engine| engine.upload(oid, size_bytes, path, progress));
        done.map_err(|error| self.once(error))
    }

    fn download(&self, oid: &Oid, size_bytes: u64, progress: &Arc<Progress>) -> Result<PathBuf> {
        let _moves = self.begin(progress);
        let done = self.engine().and_then(|engine| engine.download(oid, size_bytes, progress));
        done.map_err(|error| self.once(error))
    }

    fn finish(&self) {
        // an engine that was never opened has nothing to finish
        if let Some(engine) = self.engine.get() {
            engine.finish();
        }
    }

    fn log(&self) -> Option<PathBuf> {
        locked(&self.log).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn why_an_engine_cannot_be_opened_is_believed_for_as_long_as_it_took_to_find_out() {
        let times = Arc::new(AtomicUsize::new(0));
        let count = times.clone();
        let open = move || {
            count.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_secs(1));
            Opened { engine: Err(Error::busy("as the test wants it")), log: None }
        };
        let init = Init { direction: Direction::Upload, remote: String::new(), transfers: 8 };
        let shared = Shared::new(&init, Arc::new(open), None);
        let fails = || assert!(shared.engine().is_err_and(|e| e.to_string().contains("wants it")));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(fails);
            }
        });
        fails();
        assert_eq!(times.load(Ordering::Relaxed), 1);
        std::thread::sleep(Duration::from_secs(2));
        fails();
        assert_eq!(times.load(Ordering::Relaxed), 2);
    }
}
