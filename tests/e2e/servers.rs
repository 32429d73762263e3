//! The servers and corpora that `tests/run.sh` provides, as its variables name them.
//!
//! A test that needs one is marked `#[ignore = "needs …"]`. Where somebody asks for the test, and the
//! variable is missing, the test fails.

use std::path::PathBuf;

/// Returns the value of a variable that `tests/run.sh` sets.
///
/// # Panics
/// If the variable isn't set.
#[track_caller]
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set\n  remedy: run tests/run.sh, or set it as CONTRIBUTING.md says")
    })
}

/// A web server that knows nothing of stores.
pub struct Web {
    pub address: String,
    /// The folder that the server shows.
    pub root: PathBuf,
}

impl Web {
    #[track_caller]
    pub fn server() -> Web {
        Web {
            address: variable("GIT_LFS_CDC_TEST_HTTP"),
            root: variable("GIT_LFS_CDC_TEST_HTTP_ROOT").into(),
        }
    }
}

/// Returns the folder of the corpora.
#[track_caller]
pub fn corpora() -> PathBuf {
    variable("GIT_LFS_CDC_CORPORA").into()
}
