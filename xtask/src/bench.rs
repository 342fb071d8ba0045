//! `cargo xtask bench`: runs benchmarks by the name of what they measure.

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::child;
use crate::failure::Failure;
use crate::house::House;
use crate::services::{self, TestServers};

/// The name that stands for every benchmark.
const ALL: &str = "all";

/// Which benchmarks to run, and how they report.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What to measure: log, consume, outbox, brokers; redrive, which consume has as well; codecs; or all but codecs
    #[arg(default_value = ALL)]
    name: String,
    /// How to print the figures
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Only see that every benchmark runs; its figures are marked and say nothing about speed
    #[arg(long)]
    quick: bool,
    /// How long a snapshot is held beside a relay, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pinned_secs: Option<u32>,
    #[command(flatten)]
    place: services::Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// A benchmark: `crates/PACKAGE/benches/TARGET/main.rs`, with a harness of its own, which prints a table, or a JSON array when given `-o json`.
#[derive(Debug)]
struct Benchmark {
    name: &'static str,
    package: &'static str,
    target: &'static str,
    /// The beginning of the names of its figures; none means those that run unasked.
    figures: Option<&'static str>,
    /// Whether it belongs to `all`.
    in_all: bool,
    /// Servers that it measures.
    servers: &'static [&'static str],
}

const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "log",
        package: "tidings-log",
        target: "log",
        figures: None,
        in_all: true,
        servers: &[],
    },
    Benchmark {
        name: "consume",
        package: "tidings",
        target: "consume",
        figures: None,
        in_all: true,
        servers: &[],
    },
    Benchmark {
        name: "outbox",
        package: "tidings-sql",
        target: "outbox",
        figures: None,
        in_all: true,
        servers: &["postgres", "mariadb"],
    },
    Benchmark {
        name: "brokers",
        package: "tidings-brokers",
        target: "brokers",
        figures: None,
        in_all: true,
        servers: &["kafka", "rabbitmq", "nats", "nats-synced", "moto", "redis"],
    },
    Benchmark {
        name: "redrive",
        package: "tidings",
        target: "consume",
        figures: Some("redrive"),
        in_all: false,
        servers: &[],
    },
    Benchmark {
        name: "codecs",
        package: "tidings-log",
        target: "log",
        figures: Some("codec"),
        in_all: false,
        servers: &[],
    },
];

pub(crate) fn run(house: &House, options: &Options) -> Result<(), Failure> {
    let chosen = chosen(&options.name)?;
    if chosen.iter().any(|benchmark| benchmark.target == "log") {
        // The import is measured through the command line as it is released.
        child::run(child::cargo(house).args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "tidings-cli",
        ]))?;
    }
    let mut servers = TestServers::default();
    let mut house = house.clone();
    for benchmark in &chosen {
        servers.start_named(&house, &options.place, benchmark.servers)?;
    }
    house.variables = servers.variables(&[]);
    let measured = measure(&house, options, &chosen);
    let stopped = servers.stop_silently();
    if let (Ok(figures), Output::Json) = (&measured, options.output) {
        println!("{:#}", Value::Array(figures.clone()));
    }
    measured.map(drop).and(stopped)
}

/// Runs the benchmarks one after the other; answers their figures where they are wanted as JSON.
fn measure(
    house: &House,
    options: &Options,
    chosen: &[&'static Benchmark],
) -> Result<Vec<Value>, Failure> {
    let mut figures = Vec::new();
    for benchmark in chosen {
        let mut command = child::cargo(house);
        command
            .args(["bench", "--quiet", "--package", benchmark.package])
            .args((!benchmark.servers.is_empty()).then_some("--all-features"))
            .args(["--bench", benchmark.target, "--"])
            .args(benchmark.figures)
            .args(options.quick.then_some("--quick"));
        if let Some(seconds) = options.pinned_secs {
            command.args(["--pinned-secs", &seconds.to_string()]);
        }
        match options.output {
            Output::Table => child::run(&mut command)?,
            Output::Json => {
                let printed = child::capture(command.args(["-o", "json"]))?;
                figures.append(&mut figures_of(benchmark, &printed)?);
            }
        }
    }
    Ok(figures)
}

/// The array that a benchmark printed.
fn figures_of(benchmark: &Benchmark, printed: &str) -> Result<Vec<Value>, Failure> {
    serde_json::from_str(printed).map_err(|cause| {
        Failure::new(format!(
            "the benchmark {} printed no JSON array: {cause}",
            benchmark.name
        ))
    })
}

fn chosen(name: &str) -> Result<Vec<&'static Benchmark>, Failure> {
    if name == ALL {
        return Ok(BENCHMARKS
            .iter()
            .filter(|benchmark| benchmark.in_all)
            .collect());
    }
    match BENCHMARKS.iter().find(|benchmark| benchmark.name == name) {
        Some(benchmark) => Ok(vec![benchmark]),
        None => {
            let known: Vec<&str> = BENCHMARKS.iter().map(|benchmark| benchmark.name).collect();
            Err(Failure::new(format!(
                "no benchmark is named {name}; there are: {ALL}, {}",
                known.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_means_what_the_goals_speak_of() {
        let names: Vec<&str> = chosen(ALL)
            .expect("all")
            .iter()
            .map(|benchmark| benchmark.name)
            .collect();

        assert_eq!(names, ["log", "consume", "outbox", "brokers"]);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let failure = chosen("speed").expect_err("unknown");

        assert_eq!(
            failure.to_string(),
            "no benchmark is named speed; there are: all, log, consume, outbox, brokers, redrive, codecs"
        );
    }

    #[test]
    fn what_is_no_array_is_told_with_the_name_of_the_benchmark() {
        let benchmark = chosen("log").expect("known")[0];

        assert_eq!(figures_of(benchmark, "[1, 2]").expect("an array").len(), 2);
        let failure = figures_of(benchmark, "log.batches 1").expect_err("no array");
        assert!(failure.to_string().contains("benchmark log"), "{failure}");
    }
}
