//! End-to-end tests: the real binary driven by real git and real git-lfs, against directory stores.
//!
//! Three environment variables, all set by `tests/run.sh`, widen what is covered:
//! * `GIT_LFS_CDC_TEST_GIT_LFS`: a folder with the `git-lfs` to use instead of the one on `PATH`.
//! * `GIT_LFS_CDC_CORPORA`: a folder made by `tests/setup/corpora.sh`; without it `corpora` is skipped.
//! * `GIT_LFS_CDC_FULL=1`: the large forms of the tests that have one.

mod concurrency;
mod corpora;
mod damage;
mod data;
mod dedup;
mod install;
#[cfg(target_os = "linux")]
mod kill;
mod layouts;
mod machine;
mod process;
mod repo;
mod sandbox;
mod store_faults;
mod transfer;
mod urls;
mod users;
