//! End-to-end tests: real git and real git-lfs drive the real binary, against stores in folders or in a
//! bucket.
//!
//! A test that needs more than git, git-lfs and folders is marked `#[ignore = "needs …"]`. `tests/run.sh`
//! provides the servers and corpora, and runs the marked tests too. `all_releases` needs the corpora of its
//! `--full`.
//!
//! These environment variables name the servers, and choose the tests to run. `tests/run.sh` sets all but the
//! seed:
//! * `GIT_LFS_CDC_TEST_GIT_LFS`: a folder with the `git-lfs` to use instead of the one on `PATH`.
//! * `GIT_LFS_CDC_CORPORA`: a folder made by `tests/setup/corpora.sh`.
//! * `GIT_LFS_CDC_FULL=1`: the large forms of the tests that have one.
//! * `GIT_LFS_CDC_TORTURE_SEED`: the number that drives the choices of `torture`. Without it each run takes
//!   another.
//! * `GIT_LFS_CDC_TEST_S3` and the keys that `tests/setup/servers.sh` writes along with it: an S3 server.
//! * `GIT_LFS_CDC_TEST_RCLONE`: an S3 server that takes any session token.
//! * `GIT_LFS_CDC_TEST_AZURE`, `GIT_LFS_CDC_TEST_AZURE_KEY`: a server of Azure Blob Storage.
//! * `GIT_LFS_CDC_TEST_HTTP`, `GIT_LFS_CDC_TEST_HTTP_ROOT`: a web server, and the folder that it serves.
//! * `GIT_LFS_CDC_TEST_HTTPS`, `GIT_LFS_CDC_TEST_HTTPS_CERTIFICATE`: the same with TLS. No authority knows
//!   the certificate.
//! * `GIT_LFS_CDC_TEST_FUSE`: a Python with mfusepy, where file systems may be mounted.
//! * `GIT_LFS_CDC_TEST_STORE=s3`: all stores are made there instead of in folders.

mod all_releases;
mod cache;
mod compact;
mod concurrency;
mod corpora;
mod counted;
mod credentials;
mod damage;
mod data;
mod dedup;
mod deltas;
mod dice;
mod downloads;
mod evil_service;
mod file_systems;
mod hostile_store;
mod install;
#[cfg(target_os = "linux")]
mod kill;
mod layouts;
mod least_privilege;
#[cfg(target_os = "linux")]
mod limits;
mod machine;
mod mistakes;
mod modes;
mod network_faults;
mod process;
mod proxy;
mod random_kills;
mod recipes;
mod repo;
#[cfg(target_os = "linux")]
mod resume;
mod reuse;
mod s3;
mod sandbox;
mod scan;
mod secrets;
mod servers;
#[path = "../it/skip.rs"]
mod skip;
mod storage;
mod store_faults;
mod token_server;
#[cfg(target_os = "linux")]
mod torture;
mod transfer;
mod trust;
mod urls;
mod users;
mod web;
mod work_trees;
