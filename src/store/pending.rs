//! The threads of a store, requests that are under way there, and how far they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::{Handle, Runtime};
use tokio::task::{JoinError, JoinHandle};

use crate::error::{Error, Result};

/// A runtime that nobody waits for: a write that hangs must not keep the process from ending.
pub(super) struct OwnRuntime {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl std::ops::Deref for OwnRuntime {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(super) fn runtime() -> Result<OwnRuntime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).thread_name("store").enable_all().build();
    let runtime = runtime.map_err(|e| Error::io("starting the threads for the store", &e))?;
    let handle = runtime.handle().clone();
    Ok(OwnRuntime { runtime: Some(runtime), handle })
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
