//! `cargo xtask test`: every gate and every test; one that fails does not keep the next from running.

mod beside;
mod cargo_deny;
mod cargo_gates;
mod features;
mod summary;
pub(crate) mod tally;

use std::collections::BTreeMap;

use clap::Args;

use crate::failure::Failure;
use crate::house::House;
use crate::services::{self, TestServers};
use crate::stopwatch::Stopwatch;
use crate::test::beside::Beside;
use crate::test::summary::{Entry, Summary};
use crate::test::tally::Tally;
use crate::{conformance, docs, examples, fuzz, powercut, sabotage, tidy};

/// How much of the tests to run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only format, tidy and unit tests: no servers, no long runs
    #[arg(long)]
    quick: bool,
    /// Servers, or listeners with TLS, that are not there; tests that need them are left out instead of failing
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    without: Vec<String>,
    /// How often tests that kill a process do so; the kind of test stays the same
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    kills: Option<u32>,
    /// Leave the servers that this run started up at its end
    #[arg(long)]
    keep_services: bool,
    #[command(flatten)]
    place: services::Place,
}

/// What a gate found: nothing but its own verdict, or tests that it counted.
type Verdict = Result<Tally, Failure>;

/// How a gate does its work.
enum Work {
    /// When its turn comes.
    Here(fn(&House, &Options) -> Verdict),
    /// As a chore that begins with the tests, once they are built, and is waited for when its turn comes; what it said is read then.
    BesideTests(&'static str, fn(&str) -> Verdict),
}

/// A check of the whole repository.
struct Gate {
    name: &'static str,
    work: Work,
    /// Part of the inner loop too.
    quick: bool,
}

/// The gate beside which others do their work.
const TESTS: &str = "tests";

/// Cheap ones first: who waits for a result should not wait for a formatting error.
const GATES: &[Gate] = &[
    Gate {
        name: "format",
        work: Work::Here(cargo_gates::format),
        quick: true,
    },
    Gate {
        name: "tidy",
        work: Work::Here(|house, _| tidy::run(house).map(|()| Tally::default())),
        quick: true,
    },
    Gate {
        name: "lints",
        work: Work::Here(cargo_gates::lints),
        quick: false,
    },
    Gate {
        name: "build",
        work: Work::Here(cargo_gates::build),
        quick: true,
    },
    Gate {
        name: TESTS,
        work: Work::Here(cargo_gates::tests),
        quick: true,
    },
    Gate {
        name: "features",
        work: Work::Here(features::check),
        quick: false,
    },
    Gate {
        name: "conformance",
        work: Work::Here(|house, _| conformance::check(house).map(|()| Tally::default())),
        quick: false,
    },
    Gate {
        name: "rustdoc",
        work: Work::Here(cargo_gates::rustdoc),
        quick: false,
    },
    Gate {
        name: "docs",
        work: Work::Here(|house, _| docs::check(house).map(|()| Tally::default())),
        quick: false,
    },
    Gate {
        name: "examples",
        work: Work::Here(|house, _| examples::run(house, None).map(|()| Tally::default())),
        quick: false,
    },
    Gate {
        name: "fuzz",
        work: Work::Here(|house, _| {
            fuzz::run(house, &fuzz::Options::default()).map(tally_of_fuzzing)
        }),
        quick: false,
    },
    Gate {
        name: "sabotage",
        work: Work::BesideTests("sabotage", |said| {
            sabotage::Found::read(said).map(tally_of_planted_bugs)
        }),
        quick: false,
    },
    Gate {
        name: "powercut",
        work: Work::Here(|house, _| {
            let options = powercut::Options::of_the_tests();
            powercut::run(house, &options).map(tally_of_power_cuts)
        }),
        quick: false,
    },
    Gate {
        name: "cut sabotage",
        work: Work::Here(|house, _| {
            let mut tally = Tally::default();
            for outcome in powercut::find_planted_bugs(house)? {
                tally.add(tally_of_power_cuts(outcome));
            }
            Ok(tally)
        }),
        quick: false,
    },
    Gate {
        name: "cargo-deny",
        work: Work::Here(cargo_deny::check),
        quick: false,
    },
];

/// A planted bug that is found counts as a test that passed.
fn tally_of_planted_bugs(bugs: sabotage::Found) -> Tally {
    Tally {
        passed: bugs.found,
        failed: bugs.planted - bugs.found,
        ..Tally::default()
    }
}

/// What was skipped is counted, so that the table does not look as if it had passed.
fn tally_of_fuzzing(ended: fuzz::Ended) -> Tally {
    Tally {
        skipped: ended == fuzz::Ended::Skipped,
        ..Tally::default()
    }
}

/// A machine that allows no power cuts has shown nothing about them.
fn tally_of_power_cuts(outcome: powercut::Outcome) -> Tally {
    Tally {
        skipped: outcome == powercut::Outcome::Skipped,
        ..Tally::default()
    }
}

/// Runs what is asked for, prints a table and the closing line, fails if anything failed.
pub(crate) fn run(house: &House, options: &Options) -> Result<(), Failure> {
    services::check_left_out(&options.without)?;
    let whole = Stopwatch::start();
    let mut summary = Summary::default();
    let mut house = house.clone();
    let mut servers = TestServers::default();
    summary.add(measured("libraries", || {
        services::libraries().map(|()| Tally::default())
    }));
    if !options.quick {
        summary.add(measured("services", || {
            let started = servers.start(&house, &options.place, &options.without);
            started.map(|()| Tally::default())
        }));
    }
    house.variables = servers.variables(&options.without);
    let gates = || GATES.iter().filter(|gate| gate.quick || !options.quick);
    let mut beside = BTreeMap::new();
    for gate in gates() {
        if gate.name == TESTS {
            for gate in gates() {
                if let Work::BesideTests(chore, _) = gate.work {
                    beside.insert(chore, Beside::start(&house, chore));
                }
            }
        }
        summary.add(measured(gate.name, || match gate.work {
            Work::Here(check) => check(&house, options),
            Work::BesideTests(chore, read) => match beside.remove(chore) {
                Some(running) => read(&running?.end()?),
                None => Err(Failure::new(
                    "it begins with the tests, and they are not run",
                )),
            },
        }));
    }
    let stopped = if options.keep_services {
        Ok(())
    } else {
        servers.stop()
    };
    println!("\n{}", summary.table(whole.elapsed()));
    println!("{}", summary.closing_line());
    summary.failure().and(stopped)
}

/// A gate under its heading, with its time.
fn measured(name: &'static str, check: impl FnOnce() -> Verdict) -> Entry {
    println!("\n── {name} ──");
    let stopwatch = Stopwatch::start();
    let verdict = check();
    if let Err(failure) = &verdict {
        println!("error: {failure}");
    }
    Entry::new(name, stopwatch.elapsed(), verdict.ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_loop_is_format_tidy_and_tests() {
        let quick: Vec<&str> = GATES
            .iter()
            .filter(|gate| gate.quick)
            .map(|gate| gate.name)
            .collect();

        assert_eq!(quick, ["format", "tidy", "build", "tests"]);
    }
}
