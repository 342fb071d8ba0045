//! The gates that cargo itself runs: format, lints, tests, rustdoc.
//!
//! All of them see the same packages with the same features, so that what one builds the next reuses.

use std::process::Command;

use crate::child;
use crate::conformance;
use crate::house::House;
use crate::test::tally::Tally;
use crate::test::{Options, Verdict};

/// All our packages with all their features.
const EVERYTHING: [&str; 2] = ["--workspace", "--all-features"];

/// Workspaces of their own.
const BESIDE: [&str; 2] = ["examples/Cargo.toml", "fuzz/Cargo.toml"];

/// A test that waits for ever must not cost more than its own binary: the longest takes eight minutes on two cores, twelve where as much runs beside it.
const BINARY_LIMIT: &str = "45m";

/// Tests that run at the same time: most wait for processes and servers, on two cores for more than half of their time.
const TESTS_AT_ONCE: &str = "4";

const DENY_WARNINGS: [&str; 3] = ["--", "-D", "warnings"];

pub(super) fn format(house: &House, _: &Options) -> Verdict {
    child::run(child::cargo(house).args(["fmt", "--all", "--check"]))?;
    beside(house, &["fmt", "--all", "--check"], &[])
}

pub(super) fn lints(house: &House, _: &Options) -> Verdict {
    let arguments = ["clippy", "--quiet", "--keep-going", "--all-targets"];
    let mut command = child::cargo(house);
    command.args(arguments).args(EVERYTHING).args(DENY_WARNINGS);
    child::run(&mut command)?;
    beside(house, &arguments, &DENY_WARNINGS)
}

fn beside(house: &House, before: &[&str], after: &[&str]) -> Verdict {
    for manifest in BESIDE.map(|manifest| house.path(manifest)) {
        let mut command = child::cargo(house);
        command
            .args(before)
            .arg("--manifest-path")
            .arg(manifest)
            .args(after);
        child::run(&mut command)?;
    }
    Ok(Tally::default())
}

/// What is tested, with `--quick` without integration tests and doctests.
fn cargo_test(house: &House, options: &Options, how: &str) -> Command {
    let mut command = child::cargo(house);
    command.args(["test", how]).args(EVERYTHING);
    if options.quick {
        command.args(["--lib", "--bins"]);
    }
    command
}

/// The tests, apart from running them: it takes all processors.
pub(super) fn build(house: &House, options: &Options) -> Verdict {
    child::run(&mut cargo_test(house, options, "--no-run"))?;
    Ok(Tally::default())
}

/// Unit tests, integration tests and doctests; with `--quick` unit tests alone.
pub(super) fn tests(house: &House, options: &Options) -> Verdict {
    let mut command = cargo_test(house, options, "--no-fail-fast");
    command.env("RUST_TEST_THREADS", TESTS_AT_ONCE);
    if options.kills.is_none() && can_limit() {
        command.arg("--config").arg(limiting_runner());
    }
    conformance::forget(house)?;
    command.envs(conformance::variables(house)?);
    if options.quick {
        command.env("TIDINGS_TEST_QUICK", "1");
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

/// Whether the machine has the program that ends another after a time.
fn can_limit() -> bool {
    let answer = Command::new("timeout").arg("--version").output();
    answer.is_ok_and(|answer| answer.status.success())
}

/// Cargo starts each test binary through it; what ran last is told by the harness, and the next binaries run.
fn limiting_runner() -> String {
    format!(
        "target.'cfg(all())'.runner = ['timeout', '--foreground', '--verbose', '--signal=KILL', '{BINARY_LIMIT}']"
    )
}

pub(super) fn rustdoc(house: &House, _: &Options) -> Verdict {
    let mut command = child::cargo(house);
    command
        .arg("doc")
        .args(EVERYTHING)
        .args(["--no-deps", "--quiet"])
        .env("RUSTDOCFLAGS", "-D warnings");
    child::run(&mut command)?;
    Ok(Tally::default())
}
