//! Threads. Every thread of the program is started here, so a refusal of the system becomes an error and no
//! panic.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// Work for which the system gave no thread.
pub struct Refused<W> {
    /// The work, not begun.
    pub work: W,
    /// The reason.
    pub error: Error,
}

/// Runs `work` on a new thread. If the system refuses one, the caller gets the work back.
pub fn spawn<W: FnOnce() + Send + 'static>(name: &str, work: W) -> Result<(), Refused<W>> {
    spawn_by(start(name), work)
}

fn spawn_by<W: FnOnce() + Send + 'static>(builder: Builder, work: W) -> Result<(), Refused<W>> {
    let place = Arc::new(Mutex::new(Some(work)));
    let there = place.clone();
    let run = move || {
        let work = take(&there);
        if let Some(work) = work {
            work();
        }
    };
    match builder.spawn(run) {
        Ok(_) => Ok(()),
        Err(cause) => match take(&place) {
            Some(work) => Err(Refused { work, error: refused(&cause) }),
            None => Ok(()),
        },
    }
}

/// Runs `work` on a new thread that ends before `scope` does.
pub fn spawn_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    start(name).spawn_scoped(scope, work).map_err(|cause| refused(&cause))
}

/// Does two things at the same time, or one after the other if the system gives no thread. Returns None for
/// `there` if that panics.
pub fn join<A: Send, B>(there: impl FnOnce() -> A + Send, here: impl FnOnce() -> B) -> (Option<A>, B) {
    let place = Mutex::new(Some(there));
    let run = || take(&place).map(|work| work());
    std::thread::scope(|scope| {
        let started = spawn_scoped(scope, "aside", run);
        let here = here();
        let there = match started {
            Ok(thread) => thread.join().unwrap_or(None),
            Err(_) => run(),
        };
        (there, here)
    })
}

/// Makes a pool of `most` threads. Makes a smaller one if the system allows no more, but with at least
/// `least` threads.
pub fn pool(name: &'static str, most: usize, least: usize) -> Result<ThreadPool> {
    let mut threads = most.max(least);
    loop {
        let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(move |n| format!("{name} {n}"));
        match pool.build() {
            Ok(pool) => return Ok(pool),
            Err(e) if threads <= least => return Err(refused(&e)),
            Err(e) => {
                tracing::warn!("{threads} threads for the work on all cores are not to be had: {e}");
                threads = (threads / 2).max(least);
            }
        }
    }
}

/// Returns the pool of this process for work on all cores. Jobs in it may wait for threads outside, but
/// not for each other.
pub fn cores() -> Result<&'static Arc<ThreadPool>> {
    static POOL: OnceLock<Arc<ThreadPool>> = OnceLock::new();
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    match POOL.get() {
        Some(pool) => Ok(pool),
        None => {
            let made = pool("core", count(), 1)?;
            Ok(POOL.get_or_init(|| Arc::new(made)))
        }
    }
}

/// Returns the number of cores, unless the user sets another number of threads.
fn count() -> usize {
    let set = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok());
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    set.filter(|threads| *threads > 0).unwrap_or_else(cores)
}

fn start(name: &str) -> Builder {
    Builder::new().name(name.to_owned())
}

fn take<W>(place: &Mutex<Option<W>>) -> Option<W> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Makes the error for a refused thread. The system has one code for too many processes and too little
/// memory.
pub(crate) fn refused(cause: &dyn std::error::Error) -> Error {
    Error::busy(format!("the system lets this process start no more threads ({cause})")).remedy(
        "allow more processes (ulimit -u, the container's pids limit) or memory, or have git-lfs start fewer agents: \
         git config lfs.concurrenttransfers 8",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_comes_back_when_the_system_refuses_a_thread() {
        // no system has so much memory for a stack
        let Err(refused) = spawn_by(Builder::new().stack_size(1 << 60), || ()) else {
            panic!("no thread can be so large")
        };
        (refused.work)();
        assert!(refused.error.to_string().contains("lfs.concurrenttransfers"), "{}", refused.error);
    }

    #[test]
    fn a_pool_has_fewer_threads_where_the_system_allows_no_more() {
        let pool = pool("few", 3, 1).unwrap();
        assert_eq!(pool.current_num_threads(), 3);
        assert_eq!(pool.install(|| 7), 7);
    }
}
