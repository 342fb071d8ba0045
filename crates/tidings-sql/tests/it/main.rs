//! The SQL stores on the real databases.

#![expect(
    clippy::unwrap_used,
    reason = "a panic of a test is its failure report"
)]

mod alerts;
mod conformance;
mod facts;
mod failures;
mod failures_conformance;
mod hazards;
mod migrations;
mod opening;
mod optional_columns;
mod other_ways;
mod place;
mod privileges;
mod publishing;
mod redrives;
mod refusals;
mod relay;
mod round_trips;
mod schedules;
mod schema;
mod slow_destination;
mod state_elsewhere;
mod tls;
mod vanished;
mod verifying;
mod watching;
