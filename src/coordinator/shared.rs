//! The engine of a command: opened when the first object needs it, and used by all its agents.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::{Error, Result};
use crate::flow::{Engine, Progress, Transfer};
use crate::id::Oid;

/// What came of opening an engine.
pub struct Opened {
    /// The engine, or why there is none.
    pub engine: Result<Engine>,
    /// Where more is to be found about errors.
    pub log: Option<PathBuf>,
}

/// Opens an engine.
pub type Open = Arc<dyn Fn() -> Opened + Send + Sync>;

/// One engine for several sessions.
pub(super) struct Shared {
    open: Open,
    /// Why other agents can't come here.
    alone: Option<Error>,
    engine: OnceLock<Arc<Engine>>,
    /// Held by whoever opens the engine; what it failed by last.
    opening: Mutex<Option<Error>>,
    /// How often that was tried.
    attempts: AtomicUsize,
    log: Mutex<Option<PathBuf>>,
    /// The sessions of other agents.
    others: Mutex<usize>,
    one_less: Condvar,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(open: Open, alone: Option<Error>) -> Self {
        Self {
            open,
            alone,
            engine: OnceLock::new(),
            opening: Mutex::default(),
            attempts: AtomicUsize::new(0),
            log: Mutex::default(),
            others: Mutex::default(),
            one_less: Condvar::new(),
        }
    }

    /// The engine. Where it can't be opened, all that wait meanwhile hear why, and the next one tries again.
    fn engine(&self) -> Result<Arc<Engine>> {
        let attempts = self.attempts.load(Ordering::Acquire);
        let mut failure = locked(&self.opening);
        if let Some(engine) = self.engine.get() {
            return Ok(engine.clone());
        }
        if let Some(failure) = &*failure
            && self.attempts.load(Ordering::Acquire) != attempts
        {
            return Err(failure.clone());
        }
        let Opened { engine, log } = (self.open)();
        self.attempts.fetch_add(1, Ordering::AcqRel);
        *locked(&self.log) = log;
        if let Some(reason) = &self.alone {
            tracing::warn!("this agent works for itself, not for all of its command: {reason}");
        }
        let engine = engine.inspect_err(|e| *failure = Some(e.clone()))?;
        let engine = self.engine.get_or_init(|| Arc::new(engine)).clone();
        self.count_askers();
        Ok(engine)
    }

    /// Another agent has come; it is gone when what this returns is dropped.
    pub(super) fn one_more(self: &Arc<Self>) -> Present {
        *locked(&self.others) += 1;
        self.count_askers();
        Present { shared: self.clone() }
    }

    /// This process asks too.
    fn count_askers(&self) {
        let others = locked(&self.others);
        if let Some(engine) = self.engine.get() {
            engine.set_askers(*others + 1);
        }
    }

    /// Waits until all other agents are gone.
    pub(super) fn wait_for_others(&self) {
        let mut others = locked(&self.others);
        while *others > 0 {
            others = self.one_less.wait(others).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// That an agent is there.
pub(super) struct Present {
    shared: Arc<Shared>,
}

impl Drop for Present {
    fn drop(&mut self) {
        *locked(&self.shared.others) -= 1;
        self.shared.one_less.notify_all();
        self.shared.count_askers();
    }
}

impl Transfer for Shared {
    fn prepare(&self) {
        let _ = self.engine();
    }

    fn upload(&self, oid: &Oid, size_bytes: u64, path: &Path, progress: &Arc<Progress>) -> Result<()> {
        self.engine()?.upload(oid, size_bytes, path, progress)
    }

    fn download(&self, oid: &Oid, size_bytes: u64, progress: &Arc<Progress>) -> Result<PathBuf> {
        self.engine()?.download(oid, size_bytes, progress)
    }

    fn finish(&self) {
        // one that was never opened has nothing to finish
        if let Some(engine) = self.engine.get() {
            engine.finish();
        }
    }

    fn log(&self) -> Option<PathBuf> {
        locked(&self.log).clone()
    }
}
