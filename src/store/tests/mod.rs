//! The tests of stores: the contract that every store keeps, and the errors of services.

mod contract;
mod folders;
mod google;
mod reach;
