//! The threads of a store, requests that are under way there, and how far they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use crate::error::{Error, Result};
use crate::limit;
use crate::threads;

/// A runtime that nobody waits for: a write that hangs must not keep the process from ending. One thread drives it, and
/// blocking requests have threads of their own: at least one, and more where the system allows that.
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

/// Starts a runtime, with all threads that it can't do without.
pub(super) fn runtime() -> Result<OwnRuntime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().thread_name("storage").max_blocking_threads(limit::BLOCKING_REQUESTS);
    // the first one stays, so that what the system refuses a thread for waits for it
    builder.thread_keep_alive(Duration::from_secs(24 * 60 * 60));
    let runtime = builder.build().map_err(|e| Error::io("starting to talk to the store", &e))?;
    let handle = runtime.handle().clone();
    // tokio panics where the system has no thread for the first one
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

/// Bytes of a file that have passed so far. Another try begins anew, and takes nothing back.
#[derive(Clone, Debug, Default)]
pub struct Moved(Arc<AtomicU64>);

impl Moved {
    /// So many bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// So many have passed, if not more before.
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

    /// Hands the answer to `receive`, on a thread of the store, which must not wait there.
    pub fn hand_to(self, receive: impl FnOnce(Result<T>) + Send + 'static)
    where
        T: Send + 'static,
    {
        let task = self.task;
        self.runtime.spawn(async move { receive(task.await.unwrap_or_else(stopped)) });
    }

    /// Waits for the first answer to any of several requests, and returns which it was.
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
