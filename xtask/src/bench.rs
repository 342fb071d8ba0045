//! `cargo xtask bench`: runs benchmarks by the name of what they measure.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::child;
use crate::failure::Failure;
use crate::house::House;

/// Which benchmarks to run, and how they report.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What to measure; everything if left out
    name: Option<String>,
    /// How to print the figures
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

impl Output {
    /// What the benchmark is told; tables are what it prints unasked.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Output::Table => &[],
            Output::Json => &["--", "-o", "json"],
        }
    }
}

/// A benchmark: `crates/PACKAGE/benches/NAME.rs`, with a harness of its own, which prints
/// a table, or JSON when given `-o json`.
#[derive(Debug)]
struct Benchmark {
    name: &'static str,
    package: &'static str,
}

const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "log",
        package: "tidings-log",
    },
    Benchmark {
        name: "consume",
        package: "tidings-flow",
    },
];

pub(crate) fn run(house: &House, options: &Options) -> Result<(), Failure> {
    for benchmark in chosen(options.name.as_deref())? {
        let source = source_of(benchmark);
        if !house.path(&source).exists() {
            return Err(Failure::new(format!(
                "the benchmark {} is not written yet: {} does not exist",
                benchmark.name,
                source.display()
            )));
        }
        let mut command = child::cargo(house);
        command
            .args([
                "bench",
                "--quiet",
                "--package",
                benchmark.package,
                "--bench",
                benchmark.name,
            ])
            .args(options.output.arguments());
        child::run(&mut command)?;
    }
    Ok(())
}

fn source_of(benchmark: &Benchmark) -> PathBuf {
    Path::new("crates")
        .join(benchmark.package)
        .join("benches")
        .join(format!("{}.rs", benchmark.name))
}

fn chosen(name: Option<&str>) -> Result<Vec<&'static Benchmark>, Failure> {
    let Some(name) = name else {
        return Ok(BENCHMARKS.iter().collect());
    };
    match BENCHMARKS.iter().find(|benchmark| benchmark.name == name) {
        Some(benchmark) => Ok(vec![benchmark]),
        None => {
            let known: Vec<&str> = BENCHMARKS.iter().map(|benchmark| benchmark.name).collect();
            Err(Failure::new(format!(
                "no benchmark is named {name}; there are: {}",
                known.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_name_every_benchmark_runs() {
        assert_eq!(chosen(None).expect("all").len(), BENCHMARKS.len());
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let failure = chosen(Some("speed")).expect_err("unknown");

        assert_eq!(
            failure.to_string(),
            "no benchmark is named speed; there are: log, consume"
        );
    }
}
