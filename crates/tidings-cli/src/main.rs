//! The `tidings` command: parses the arguments, runs one command, answers with an exit code.

mod arguments;
mod commands;
mod demo;
mod failure;
mod folder;
mod input;
mod interrupt;
mod output;
mod rows;
mod when;

use arguments::Arguments;
use clap::Parser as _;
use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_logging(&arguments);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return Failure::file("start the runtime of", "tidings", &error).report(false);
        }
    };
    let verbose = arguments.global.verbose > 0;
    let result = runtime.block_on(commands::run(arguments));
    // A blocked read of standard input must not keep the process alive.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(failure) => failure.report(verbose),
    }
}

/// Warnings of the library go to standard error; `-v` shows more, `--quiet` nothing but errors.
fn start_logging(arguments: &Arguments) {
    let level = match (arguments.global.quiet, arguments.global.verbose) {
        (true, _) => tracing::Level::ERROR,
        (false, 0) => tracing::Level::WARN,
        (false, 1) => tracing::Level::INFO,
        (false, _) => tracing::Level::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .compact()
        .init();
}
