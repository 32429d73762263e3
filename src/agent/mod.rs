//! git-lfs's protocol for custom transfer agents: JSON lines on stdin and stdout.

mod message;
mod session;

pub use self::session::{Opened, run};
