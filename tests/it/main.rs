//! Tests of the crate from outside, in one binary.

mod coordinator;
mod format;
mod meeting;
mod play;
mod protocol;
mod session;
mod skip;
