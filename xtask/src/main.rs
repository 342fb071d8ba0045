//! `cargo xtask`: every chore of the repository, one sub-command each. `cargo xtask` alone lists them.
#![expect(
    clippy::print_stdout,
    reason = "what the chores have to say goes to stdout"
)]

mod bench;
mod child;
mod conformance;
mod docs;
mod examples;
mod failure;
mod fuzz;
mod house;
mod markdown;
mod powercut;
mod sabotage;
mod services;
mod stopwatch;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::failure::Failure;
use crate::house::House;

/// Chores of the tidings repository. `cargo xtask test` is the only one you need to know.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    chore: Option<Chore>,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Run every gate and every test; with --quick only what needs seconds
    Test(test::Options),
    /// Check the form of the house: edges, sizes, names, tables, links
    Tidy,
    /// Run the examples and compare what they print with expected.txt
    Examples {
        /// Only the examples whose name begins so: `05`, `05_dead_letter`
        only: Option<String>,
    },
    /// Run benchmarks: all of them, or one by name
    Bench(bench::Options),
    /// Run the suite of brokers and write docs/reference/brokers.md from what it finds
    Conformance(conformance::Options),
    /// Fuzz what reads foreign bytes: every target, or those named
    Fuzz(fuzz::Options),
    /// Plant known bugs in a copy of the tree and see whether the tests find them
    Sabotage(sabotage::Options),
    /// Cut the power under the program at random instants and compare what it kept with its receipts
    Powercut(powercut::Options),
    /// Start, stop and look at the real servers that tests need
    Services(services::Options),
    /// Write docs/reference/ from the code
    Docs {
        /// Write nothing; fail if a page differs from what the code says
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let Some(chore) = Arguments::parse().chore else {
        // A failing write means that nobody listens; there is nobody to tell.
        let _ = Arguments::command().print_help();
        return ExitCode::SUCCESS;
    };
    match perform(&chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn perform(chore: &Chore) -> Result<(), Failure> {
    if let Chore::Powercut(options) = chore
        && let Some(handled) = powercut::handler(options)
    {
        return handled;
    }
    let house = House::find()?;
    match chore {
        Chore::Test(options) => test::run(&house, options),
        Chore::Tidy => tidy::run(&house),
        Chore::Examples { only } => examples::run(&house, only.as_deref()),
        Chore::Bench(options) => bench::run(&house, options),
        Chore::Conformance(options) => conformance::run(&house, options),
        Chore::Fuzz(options) => fuzz::run(&house, options).map(|_| ()),
        Chore::Sabotage(options) => sabotage::run(&house, options).and_then(sabotage::require),
        Chore::Powercut(options) => powercut::run_alone(&house, options),
        Chore::Services(options) => services::run(&house, options),
        Chore::Docs { check: true } => docs::check(&house),
        Chore::Docs { check: false } => docs::write(&house),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_chore_is_a_valid_command_line() {
        let arguments = Arguments::try_parse_from(["cargo xtask"]).expect("parses");

        assert!(arguments.chore.is_none());
    }
}
