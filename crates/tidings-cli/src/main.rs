//! The `tidings` command: parses the arguments, runs one command, answers with an exit code.

#[cfg(not(any(feature = "sqlite", feature = "postgres", feature = "mysql")))]
compile_error!("tidings-cli needs a database: enable sqlite, postgres or mysql");

mod alert_arguments;
mod arguments;
mod bridge_arguments;
mod commands;
mod config;
mod consumer_arguments;
#[cfg(feature = "sqlite")]
mod demo;
mod dlq_arguments;
mod event_arguments;
mod failing_arguments;
mod failure;
mod folder;
mod follow;
mod health;
mod inbox_arguments;
mod input;
mod interrupt;
mod outbox_arguments;
mod output;
mod place;
mod quantity;
mod rows;
mod schedule_arguments;
mod store_arguments;
mod when;

use arguments::Arguments;
use clap::Parser as _;
use failure::Failure;
use std::process::ExitCode;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return misused(&error),
    };
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

/// Tells what is wrong with the arguments, or shows the help that was asked for.
fn misused(error: &clap::Error) -> ExitCode {
    // Nothing can be told where standard error is gone.
    let _ = error.print();
    let is_flag = |word: &std::ffi::OsString| word.to_string_lossy().starts_with('-');
    let mut words = std::env::args_os().skip(1).skip_while(is_flag);
    let is_check = words.next().is_some_and(|word| word == "check");
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        // To a monitoring system 2 says that what is watched is in trouble.
        _ if is_check => ExitCode::from(commands::check::UNKNOWN),
        code => ExitCode::from(u8::try_from(code).unwrap_or(2)),
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
    let verbose = arguments.global.verbose;
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .compact()
        .finish()
        .with(filter_fn(move |event| {
            // The client of RabbitMQ reports as an error what is the answer to a question whether something exists; what goes wrong is told by us.
            verbose > 0 || !event.target().starts_with("lapin")
        }))
        .init();
}
