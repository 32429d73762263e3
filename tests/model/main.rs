//! A model of the protocol by which many machines share a store, checked in every order of their steps
//! (`docs/format.md`, *The model*).

mod collector;
mod compactor;
mod configurations;
mod holds;
mod left_out;
mod protocol;
mod puller;
mod pusher;
mod reading;
mod rules;
mod store;
