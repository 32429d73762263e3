//! The requests of a store that are under way, their progress, and the threads of the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use crate::error::{Error, Result};
use crate::threads;

/// Most requests to a folder, or for the address of a host, that are under way at a time. Each has a thread.
const BLOCKING_REQUESTS: usize = 32;

/// A runtime with an end that no thread waits for, because a write that hangs must not keep the process from
/// ending. One thread drives it. Blocking requests have threads of their own: at least one, and more if the
/// system allows that.
pub(super) struct OwnRuntime {
    handle: Handle,
    /// The driving thread ends when this is dropped.
    _ends: oneshot::Sender<()>,
}

impl std::ops::Deref for OwnRuntime {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

/// Starts a runtime, with all threads that it needs at least.
pub(super) fn runtime() -> Result<OwnRuntime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().thread_name("storage").max_blocking_threads(BLOCKING_REQUESTS);
    // the first thread stays; a request that the system refuses a thread for waits for this one
    builder.thread_keep_alive(Duration::from_secs(24 * 60 * 60));
    let runtime = builder.build().map_err(|e| Error::io("starting to talk to the store", &e))?;
    let handle = runtime.handle().clone();
    // tokio panics if the system has no thread for the first request
    std::panic::catch_unwind(|| runtime.spawn_blocking(|| ()))
        .map_err(|_| threads::refused(&std::io::Error::from(std::io::ErrorKind::WouldBlock)))?;
    let (ends, ended) = oneshot::channel::<()>();
    let drive = move || {
        // an error says that the store is closed
        let _ = runtime.block_on(ended);
        runtime.shutdown_background();
    };
    threads::spawn("store", drive).map_err(|refused| refused.error)?;
    Ok(OwnRuntime { handle, _ends: ends })
}

/// The bytes of a file that have passed so far. If a try begins anew, the number doesn't decrease.
#[derive(Clone, Debug, Default)]
pub struct Moved(Arc<AtomicU64>);

impl Moved {
    /// Returns the bytes of the file that have passed so far.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Notes that so many bytes have passed, unless more had passed before.
    pub(crate) fn reached(&self, bytes: u64) {
        self.0.fetch_max(bytes, Ordering::Relaxed);
    }
}

/// A request under way.
pub struct Pending<'a, T> {
    pub(super) runtime: &'a Handle,
    pub(super) task: JoinHandle<Result<T>>,
}

impl<T> Pending<'_, T> {
    /// Waits for the answer.
    pub fn wait(self) -> Result<T> {
        self.runtime.block_on(self.task).unwrap_or_else(stopped)
    }

    /// Hands the answer to `receive`, on a thread of the store. `receive` must not wait.
    pub fn hand_to(self, receive: impl FnOnce(Result<T>) + Send + 'static)
    where
        T: Send + 'static,
    {
        let task = self.task;
        self.runtime.spawn(async move { receive(task.await.unwrap_or_else(stopped)) });
    }

    /// Waits for the first answer to any of several requests. Returns the position of the request in the
    /// list, and the answer.
    pub fn first(mut requests: Vec<&mut Self>) -> Option<(usize, Result<T>)> {
        let runtime = requests.first()?.runtime;
        let tasks = requests.iter_mut().map(|request| &mut request.task);
        let (answer, which, _) = runtime.block_on(futures::future::select_all(tasks));
        Some((which, answer.unwrap_or_else(stopped)))
    }
}

pub(super) fn stopped<T>(why: JoinError) -> Result<T> {
    Err(Error::internal(format!("a request of the store stopped: {why}")))
}
