//! The gates that cargo itself runs: format, lints, tests, rustdoc.
//!
//! All of them see the same packages with the same features, so that what one builds the next reuses.

use std::process::Command;

use crate::child;
use crate::failure::Failure;
use crate::house::House;
use crate::test::tally::Tally;
use crate::test::{Options, Verdict};

/// All our packages with all their features.
const EVERYTHING: [&str; 2] = ["--workspace", "--all-features"];

pub(super) fn format(house: &House, _: &Options) -> Verdict {
    child::run(child::cargo(house).args(["fmt", "--all", "--check"]))?;
    let examples = house.path("examples/Cargo.toml");
    if examples.exists() {
        let mut command = child::cargo(house);
        command
            .args(["fmt", "--all", "--check", "--manifest-path"])
            .arg(examples);
        child::run(&mut command)?;
    }
    Ok(Tally::default())
}

pub(super) fn lints(house: &House, _: &Options) -> Verdict {
    let mut command = child::cargo(house);
    command.arg("clippy").args(EVERYTHING).args([
        "--all-targets",
        "--keep-going",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]);
    passed_or_failed(&mut command)
}

/// Unit tests, integration tests and doctests; with `--quick` unit tests alone.
pub(super) fn tests(house: &House, options: &Options) -> Verdict {
    let mut command = child::cargo(house);
    command.args(["test", "--no-fail-fast"]).args(EVERYTHING);
    if options.quick {
        command
            .args(["--lib", "--bins"])
            .env("TIDINGS_TEST_QUICK", "1");
    }
    if !options.without.is_empty() {
        command.env("TIDINGS_TEST_WITHOUT", options.without.join(","));
    }
    if let Some(kills) = options.kills {
        command.env("TIDINGS_TEST_KILLS", kills.to_string());
    }
    let mut tally = Tally::default();
    let success = child::each_line(&mut command, |line| {
        println!("{line}");
        tally.read(line);
    })?;
    tally.broken = !success;
    Ok(tally)
}

pub(super) fn rustdoc(house: &House, _: &Options) -> Verdict {
    let mut command = child::cargo(house);
    command
        .arg("doc")
        .args(EVERYTHING)
        .args(["--no-deps", "--quiet"])
        .env("RUSTDOCFLAGS", "-D warnings");
    passed_or_failed(&mut command)
}

fn passed_or_failed(command: &mut Command) -> Result<Tally, Failure> {
    child::run(command).map(|()| Tally::default())
}
