//! The gate of features: each database and each client of a broker compiles alone, and whoever asks for none of them gets none.

use crate::child;
use crate::failure::Failure;
use crate::house::House;
use crate::test::tally::Tally;
use crate::test::{Options, Verdict};

/// What each package is checked with, one by one: another feature must not bring what is missing, nor may another package.
///
/// What the library does with a database is compiled with the command line, which does nothing of its own with a broker. Nothing is the library without a feature.
const CHECKED: &[(&str, &[&str])] = &[
    (
        "tidings-brokers",
        &["kafka", "rabbitmq", "nats", "sns_sqs", "eventbridge"],
    ),
    ("tidings-sql", &["sqlite", "postgres", "mysql"]),
    (
        "tidings",
        &[
            "",
            "kafka",
            "rabbitmq",
            "nats",
            "sns_sqs",
            "eventbridge",
            "webhook",
            "testkit",
        ],
    ),
    // It needs a database.
    (PROGRAM, &["sqlite", "postgres", "mysql", "sqlite,webhook"]),
];
/// The program that everybody installs.
const PROGRAM: &str = "tidings-cli";
/// How the names of packages begin that only an adapter may bring.
const HEAVY: &[&str] = &["rdkafka", "aws-", "lapin", "async-nats"];

pub(super) fn check(house: &House, _: &Options) -> Verdict {
    for (package, features) in CHECKED {
        for feature in *features {
            let mut command = child::cargo(house);
            command.args(["check", "--quiet", "--package", package]);
            command.args(["--no-default-features", "--features", feature]);
            child::run(&mut command)?;
        }
        println!("features: {package} compiles with each alone of {features:?}");
    }
    let mut command = child::cargo(house);
    command.args(["tree", "--edges", "normal", "--package", PROGRAM]);
    command.args(["--prefix", "none", "--format", "{p}"]);
    let tree = child::capture(&mut command)?;
    let heavy = heavy_in(&tree);
    if heavy.is_empty() {
        println!("features: {PROGRAM} is light");
        return Ok(Tally::default());
    }
    Err(Failure::new(format!(
        "{PROGRAM} without features depends on {}; only a feature may bring them",
        heavy.join(", ")
    )))
}

fn heavy_in(tree: &str) -> Vec<&str> {
    let mut heavy: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| HEAVY.iter().any(|heavy| name.starts_with(heavy)))
        .collect();
    heavy.sort_unstable();
    heavy.dedup();
    heavy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heavy_clients_are_found_among_others() {
        let tree = "tidings-cli v0.1.0 (/x)\nserde v1.0.0\naws-sdk-sqs v1.2.3\nlapin v4.0.0 (*)\naws-sdk-sqs v1.2.3 (*)\n";

        assert_eq!(heavy_in(tree), ["aws-sdk-sqs", "lapin"]);
    }
}
