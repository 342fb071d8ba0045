//! The command line as its users run it: real processes, real files, real kills.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic of a test is its failure report; tests of processes wait by the clock and are told by the environment how often to repeat"
)]

mod beside;
mod command;
mod consumer_run;
mod crash;
mod dead_letters;
mod demo;
mod failures;
mod import_export;
mod look_ups;
mod real_data;
