//! Networks and services that fail, between agent and store: what was acknowledged is there, what is delivered is right, and
//! what failed says why and is completed by a second try.

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
