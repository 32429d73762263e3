//! Faults of networks and services between agent and store. Acknowledged objects are there, and delivered
//! bytes are right. A command that fails says why, and a second try completes it.

mod anywhere;
mod compact;
mod conditions;
mod other_services;
mod pace;
mod parts;
mod policies;
mod pull;
mod push;
mod refusals;
mod requests;
mod resumed_pull;
pub mod scene;
mod taken_names;
mod waiting;
