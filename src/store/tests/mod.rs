//! What every store has to do, wherever it is, and how errors of services are told.

mod contract;
mod folders;
mod google;
mod reach;
