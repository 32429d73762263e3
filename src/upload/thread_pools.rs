//! The threads of an engine's uploads. They stay, because other agents may take what the system allows.

use std::sync::Arc;

use rayon::ThreadPool;

use crate::error::Result;
use crate::threads;

/// The threads of an engine's uploads.
pub(crate) struct Threads {
    /// For one who reads, one who takes SHA-256, and one who looks chunks up: all at the same time.
    pub crew: ThreadPool,
    /// For what is done on all cores.
    pub cores: Arc<ThreadPool>,
}

impl Threads {
    /// Starts them.
    pub(crate) fn start() -> Result<Self> {
        Ok(Self { crew: threads::pool("upload", 3, 3)?, cores: threads::cores()?.clone() })
    }
}
