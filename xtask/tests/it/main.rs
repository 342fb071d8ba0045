//! Integration tests of the chores: what needs real servers, run through the program itself.

#![expect(
    clippy::disallowed_methods,
    reason = "the environment tells tests which servers are not there"
)]

mod containers;
mod own_port;
mod servers_of_events;
mod services;
