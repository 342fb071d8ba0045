//! `cargo xtask conformance`: what every broker shows and declares, as docs/reference/brokers.md.
//!
//! The results that the page was made from stand beside it. A test run writes results too, and the check compares them: nothing runs twice.

mod page;
mod results;

use clap::{Args, ValueEnum};
use std::fs;
use std::path::PathBuf;

use crate::child;
use crate::conformance::results::{Results, Row};
use crate::failure::Failure;
use crate::house::House;
use crate::services::{self, TestServers};

/// What the page was made from.
const STORED: &str = "docs/reference/brokers.json";
const PAGE: &str = "docs/reference/brokers.md";
/// Below cargo's target directory: what the tests of a run found.
const FOUND: &str = "conformance.jsonl";
/// What instances of a group share in the suite; the brokers it starts by itself.
const DATABASES: [&str; 2] = ["postgres", "mariadb"];
/// The packages whose tests run the suite.
const PACKAGES: &[&str] = &["tidings-testkit", "tidings-log", "tidings-brokers"];

/// How to run the suite of brokers, and what to do with what it finds.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How to print the results
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Run nothing and write nothing; fail if the page differs from what the last test run found
    #[arg(long)]
    check: bool,
    /// Run nothing; take results that a test wrote to this file (TIDINGS_CONFORMANCE_RESULTS)
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    from: Option<PathBuf>,
    /// Take the full counts instead of the short ones
    #[arg(long)]
    full: bool,
    /// Servers that are not there; what the page says of them stays
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    without: Vec<String>,
    #[command(flatten)]
    place: services::Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// The file that a run of tests writes its results to.
pub(crate) fn found(house: &House) -> PathBuf {
    house.target.join(FOUND)
}

/// Forgets what an earlier run found, so that the next check compares what this one finds.
pub(crate) fn forget(house: &House) -> Result<(), Failure> {
    let file = found(house);
    match fs::remove_file(&file) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::file("remove", &file, &cause))
        }
        _ => Ok(()),
    }
}

pub(crate) fn run(house: &House, options: &Options) -> Result<(), Failure> {
    if options.check {
        return check(house);
    }
    services::check_names(&options.without)?;
    let (file, passed) = match &options.from {
        Some(file) => (file.clone(), Ok(())),
        None => {
            forget(house)?;
            let passed = with_databases(house, options);
            (found(house), passed)
        }
    };
    let results = Results::stored(house)?.merged(&Results::read(&file)?);
    match options.output {
        Output::Json => println!("{}", results.json(false)),
        Output::Table => results.rows.iter().for_each(|row| println!("{row}")),
    }
    write(house, STORED, &results.json(true))?;
    write(house, PAGE, &page::text(&results))?;
    passed
}

/// Runs the tests of the suite beside the databases that instances share.
fn with_databases(house: &House, options: &Options) -> Result<(), Failure> {
    let mut servers = TestServers::default();
    let is_there = |name: &&str| options.without.iter().all(|left_out| left_out != name);
    let names: Vec<&str> = DATABASES.into_iter().filter(is_there).collect();
    let started = servers.start_named(house, &options.place, &names);
    let mut house = house.clone();
    house.variables = servers.variables(&[]);
    let passed = started.and_then(|()| run_suite(&house, options));
    passed.and(servers.stop_silently())
}

/// Runs the tests of the suite; their words go to stderr, because stdout may be somebody's JSON.
fn run_suite(house: &House, options: &Options) -> Result<(), Failure> {
    let mut command = child::cargo(house);
    command.args(["test", "--all-features", "--no-fail-fast", "--test", "it"]);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    command.args(["conform", "--", "--nocapture"]);
    command.envs(variables(house)?);
    if options.full {
        command.env("TIDINGS_CONFORMANCE", "full");
    }
    if !options.without.is_empty() {
        command.env("TIDINGS_TEST_WITHOUT", options.without.join(","));
    }
    let success = child::each_line(&mut command, |line| eprintln!("{line}"))?;
    if success {
        return Ok(());
    }
    Err(Failure::new("a broker does not conform, see above"))
}

/// Where tests write what they find, and how they start servers of their own.
pub(crate) fn variables(house: &House) -> Result<[(String, String); 2], Failure> {
    let program = child::this_program()?;
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    Ok([
        ("TIDINGS_CONFORMANCE_RESULTS".to_owned(), text(found(house))),
        ("TIDINGS_XTASK".to_owned(), text(program)),
    ])
}

/// Compares page, stored results and what the last run of tests found.
pub(crate) fn check(house: &House) -> Result<(), Failure> {
    let stored = Results::stored(house)?;
    let path = house.path(PAGE);
    // A missing page differs from every page.
    let present = fs::read_to_string(&path).unwrap_or_default();
    let mut stale = Vec::new();
    if present != page::text(&stored) {
        stale.push(format!("{PAGE} is not what {STORED} makes"));
    }
    let found = Results::read(&found(house))?;
    for broker in stored.brokers() {
        if !found.brokers().contains(&broker) {
            println!("conformance: {broker} was not looked at, what the page says of it stays");
        }
    }
    for row in &found.rows {
        stale.extend(difference(&stored, row));
    }
    stale.extend(vanished(&stored, &found));
    if stale.is_empty() {
        let count = found.rows.len();
        println!("conformance: the page says what {count} results say");
        return Ok(());
    }
    Err(Failure::new(format!(
        "{}; run `cargo xtask conformance`",
        stale.join("; ")
    )))
}

/// How a result differs from the stored one; another version of a broker is told and is no difference.
fn difference(stored: &Results, row: &Row) -> Option<String> {
    let Some(known) = stored.find(&row.broker, &row.property) else {
        return Some(format!("{} of {} is not on it", row.property, row.broker));
    };
    if known.version != row.version && row.property == "A1" {
        println!(
            "conformance: {} is {} here, and {} on the page",
            row.broker, row.version, known.version
        );
    }
    if known.title != row.title {
        return Some(format!(
            "{} of {} claims on it that {}, and was looked at for this: {}",
            row.property, row.broker, known.title, row.title
        ));
    }
    let same = known.result == row.result && known.reason == row.reason;
    (!same).then(|| {
        format!(
            "{} of {} is {} on it, and {} was found {}",
            row.property, row.broker, known.result, row.result, row.reason
        )
    })
}

/// What is on the page of a broker that was looked at, and was not found.
fn vanished(stored: &Results, found: &Results) -> Vec<String> {
    let brokers = found.brokers();
    stored
        .rows
        .iter()
        .filter(|row| brokers.contains(&row.broker.as_str()))
        .filter(|row| found.find(&row.broker, &row.property).is_none())
        .map(|row| {
            format!(
                "{} of {} is on it and was not looked at",
                row.property, row.broker
            )
        })
        .collect()
}

fn write(house: &House, name: &str, text: &str) -> Result<(), Failure> {
    let path = house.path(name);
    fs::write(&path, text).map_err(|cause| Failure::file("write", &path, &cause))?;
    eprintln!("wrote {name}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(version: &str, result: &str, reason: &str) -> Row {
        Row {
            broker: "nats".to_owned(),
            version: version.to_owned(),
            property: "A1".to_owned(),
            title: "it arrives".to_owned(),
            result: result.to_owned(),
            reason: reason.to_owned(),
        }
    }

    #[test]
    fn another_version_is_no_difference_and_another_result_is() {
        let stored = Results {
            rows: vec![row("1", "pass", "")],
        };

        assert_eq!(difference(&stored, &row("2", "pass", "")), None);
        assert!(difference(&stored, &row("1", "declared", "why")).is_some());
        let mut other = row("1", "pass", "");
        other.broker = "kafka".to_owned();
        assert!(difference(&stored, &other).is_some());
        let mut renamed = row("1", "pass", "");
        renamed.title = "it arrives once".to_owned();
        assert!(difference(&stored, &renamed).is_some());
    }

    #[test]
    fn a_property_that_is_looked_at_no_more_is_a_difference_where_its_broker_was() {
        let mut second = row("1", "pass", "");
        second.property = "A2".to_owned();
        let mut other = row("1", "pass", "");
        other.broker = "kafka".to_owned();
        let stored = Results {
            rows: vec![row("1", "pass", ""), second, other],
        };
        let found = Results {
            rows: vec![row("1", "pass", "")],
        };

        let gone = vanished(&stored, &found);

        assert_eq!(gone, ["A2 of nats is on it and was not looked at"]);
        assert_eq!(vanished(&stored, &stored), [] as [String; 0]);
    }

    #[test]
    fn results_of_a_broker_replace_its_old_ones_and_no_others() {
        let mut other = row("7", "pass", "");
        other.broker = "kafka".to_owned();
        let stored = Results {
            rows: vec![row("1", "pass", ""), other],
        };
        let found = Results {
            rows: vec![row("2", "fail", "lost")],
        };

        let merged = stored.merged(&found);

        let results: Vec<_> = merged.rows.iter().map(|row| row.result.as_str()).collect();
        assert_eq!(merged.brokers(), ["kafka", "nats"]);
        assert_eq!(results, ["pass", "fail"]);
    }

    #[test]
    fn results_are_read_as_they_are_written() {
        let results = Results {
            rows: vec![row("1", "declared", "a \"reason\"")],
        };

        let read = Results::parsed(&results.json(true)).expect("readable");

        assert_eq!(read, results);
        assert!(!results.json(false).contains("title"));
    }
}
