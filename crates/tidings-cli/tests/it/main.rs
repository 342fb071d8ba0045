//! The command line as its users run it: real processes, real files, real kills.

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
