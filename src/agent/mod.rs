//! git-lfs's protocol for custom transfer agents: JSON lines on stdin and stdout.

mod client;
mod inbox;
mod message;
mod session;

pub use self::client::{Answer, Client, Object};
pub use self::message::Init;
#[doc(hidden)]
pub use self::message::is_understood;
pub use self::session::{run, run_here, welcome};
