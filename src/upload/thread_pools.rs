//! The threads of an engine's uploads. They live as long as the engine, because other agents may take the
//! threads that the system allows.

use std::sync::Arc;

use rayon::ThreadPool;

use crate::error::Result;
use crate::threads;

/// The threads of an engine's uploads.
pub(crate) struct Threads {
    /// Three threads that work at the same time: one reads, one takes the SHA-256, one looks chunks up.
    pub crew: ThreadPool,
    /// The threads for work on all cores.
    pub cores: Arc<ThreadPool>,
}

impl Threads {
    /// Starts the threads.
    pub(crate) fn start() -> Result<Self> {
        Ok(Self { crew: threads::pool("upload", 3, 3)?, cores: threads::cores()?.clone() })
    }
}
