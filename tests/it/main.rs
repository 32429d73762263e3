//! Tests of the crate from outside, in one binary.

mod format;
mod protocol;
mod session;
