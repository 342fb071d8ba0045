//! `cargo xtask fuzz`: builds the targets of `fuzz/` on the stable toolchain and runs each for a bounded time.

mod compiler;
mod outcome;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use clap::Args;

use crate::child;
use crate::failure::Failure;
use crate::fuzz::outcome::Outcome;
use crate::house::House;

const MANIFEST: &str = "fuzz/Cargo.toml";

/// What counts coverage, so that libFuzzer sees which inputs reach something new. All of it is stable; code of build scripts is left alone because a target is named.
const COVERAGE: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Bounds of one input: bytes of it, seconds with it, and memory of the process. An input past them is a finding.
const BOUNDS: [&str; 3] = ["-max_len=4096", "-timeout=20", "-rss_limit_mb=512"];

/// How long each target runs unless something else is asked for.
const SECONDS_DEFAULT: u32 = 10;

struct Target {
    name: &'static str,
    /// Words that the mutator knows, in `fuzz/`.
    dictionary: Option<&'static str>,
}

const TARGETS: &[Target] = &[
    Target {
        name: "frame",
        dictionary: None,
    },
    Target {
        name: "segment_open",
        dictionary: None,
    },
    Target {
        name: "look_up_table",
        dictionary: None,
    },
    Target {
        name: "envelope_json",
        dictionary: Some("json.dict"),
    },
    Target {
        name: "cloudevents_json",
        dictionary: Some("json.dict"),
    },
];

/// Which targets to run, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Seconds that each target runs
    #[arg(long, value_name = "N", default_value_t = SECONDS_DEFAULT, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// What to fuzz; every target if left out
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            seconds: SECONDS_DEFAULT,
            targets: Vec::new(),
        }
    }
}

/// Whether the targets ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Ran,
    /// What they need is not there; it was said.
    Skipped,
}

/// Runs what is asked for; fails if a target found something.
pub(crate) fn run(house: &House, options: &Options) -> Result<Ended, Failure> {
    let targets = chosen(&options.targets)?;
    if let Err(missing) = compiler::ensure() {
        println!("SKIPPED: nothing is fuzzed, for {missing}");
        return Ok(Ended::Skipped);
    }
    let binaries = build(house)?;
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let mut outcomes = Vec::new();
    for together in targets.chunks(at_once) {
        let mut running = Vec::new();
        for target in together {
            running.push(Run::start(house, &binaries, target, options.seconds)?);
        }
        for run in running {
            outcomes.push(run.finish()?);
        }
    }
    println!("{}", outcome::table(&outcomes));
    outcome::failure(&outcomes)
}

fn chosen(names: &[String]) -> Result<Vec<&'static Target>, Failure> {
    if names.is_empty() {
        return Ok(TARGETS.iter().collect());
    }
    let find = |name: &String| {
        let found = TARGETS.iter().find(|target| target.name == name);
        found.ok_or_else(|| {
            let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            Failure::new(format!(
                "no fuzz target is named {name}; there are: {}",
                known.join(", ")
            ))
        })
    };
    names.iter().map(find).collect()
}

/// Builds all targets and answers where they are.
fn build(house: &House) -> Result<PathBuf, Failure> {
    let host = host()?;
    let target = house.target.join("fuzz");
    let mut command = child::cargo(house);
    command
        .args(["build", "--quiet", "--release", "--bins"])
        .args(["--features", "libfuzzer", "--target", &host])
        .arg("--manifest-path")
        .arg(house.path(MANIFEST))
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", COVERAGE);
    child::run(&mut command)?;
    Ok(target.join(host).join("release"))
}

fn host() -> Result<String, Failure> {
    let said = child::capture(Command::new("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| Failure::new("`rustc -vV` does not name its host"))
}

/// A target that is running.
struct Run {
    name: &'static str,
    binary: PathBuf,
    artifacts: PathBuf,
    log: PathBuf,
    child: Child,
}

impl Run {
    fn start(
        house: &House,
        binaries: &Path,
        target: &'static Target,
        seconds: u32,
    ) -> Result<Run, Failure> {
        let name = target.name;
        let found = house.target.join("fuzz").join("found").join(name);
        let artifacts = house.path("fuzz/artifacts").join(name);
        for folder in [&found, &artifacts] {
            fs::create_dir_all(folder).map_err(|e| Failure::file("make", folder, &e))?;
        }
        let log = house.target.join("fuzz").join(format!("{name}.log"));
        let output = File::create(&log).map_err(|e| Failure::file("write", &log, &e))?;
        let binary = binaries.join(name);
        let mut command = Command::new(&binary);
        command
            .arg(format!("-max_total_time={seconds}"))
            .args(BOUNDS)
            .arg("-print_final_stats=1")
            // The message is what counts; whoever repeats the input gets the rest.
            .env("RUST_BACKTRACE", "0")
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args(target.dictionary.map(|dictionary| {
                format!("-dict={}", house.path("fuzz").join(dictionary).display())
            }))
            // New inputs go to the first folder.
            .arg(found)
            .arg(house.path("fuzz/corpus").join(name))
            .stdout(Stdio::null())
            .stderr(output);
        let child = command
            .spawn()
            .map_err(|e| Failure::file("run", &binary, &e))?;
        println!("{name} runs for {seconds} s");
        Ok(Run {
            name,
            binary,
            artifacts,
            log,
            child,
        })
    }

    fn finish(mut self) -> Result<Outcome, Failure> {
        let status = self.child.wait();
        let status = status.map_err(|e| Failure::file("wait for", &self.binary, &e))?;
        let said = fs::read(&self.log).map_err(|e| Failure::file("read", &self.log, &e))?;
        let outcome = Outcome::read(self.name, status.success(), &String::from_utf8_lossy(&said));
        if let Some(input) = &outcome.input {
            println!("{}", outcome.story);
            println!("to repeat it: {} {input}", self.binary.display());
        } else if !status.success() {
            println!("{}", outcome.story);
            println!(
                "{} ended with {status} and kept no input in {}",
                self.name,
                self.artifacts.display()
            );
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_target_is_refused_with_the_known_ones() {
        let failure = chosen(&["frames".to_owned()]).err().expect("unknown");

        assert_eq!(
            failure.to_string(),
            "no fuzz target is named frames; there are: frame, segment_open, look_up_table, envelope_json, cloudevents_json"
        );
    }

    #[test]
    fn without_a_name_every_target_runs() {
        assert_eq!(chosen(&[]).expect("all").len(), TARGETS.len());
    }
}
