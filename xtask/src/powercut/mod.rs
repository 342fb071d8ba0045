//! `cargo xtask powercut`: the real program on a real file system, whose power is cut at random instants.
//!
//! Each write to the disk is logged, so that the disk can be rebuilt as of any instant, with the writes that were not
//! flushed dropped, halved or torn. Everything runs in namespaces of its own: whatever ends it, the kernel takes away
//! mounts, loop devices, memory and the daemon.

mod chance;
mod check;
mod cut;
mod disk;
mod events;
mod facilities;
mod failing;
mod figures;
mod group;
mod log;
mod rig;
mod run;
mod workload;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::child;
use crate::failure::Failure;
use crate::house::House;
use crate::powercut::figures::Figures;
use crate::powercut::rig::Mount;
use crate::powercut::run::Orders;
use crate::powercut::workload::Program;
use crate::stopwatch::{self, Stopwatch};

/// How the inner run ends where the machine does not allow it.
const EXIT_SKIPPED: i32 = 77;
/// Memory of the run, in disks; what is not written takes none.
const MEMORY_DISKS: u64 = 12;
/// Cuts of a run with a planted bug in the tests; tens of broken promises are found in these.
const CUTS_WITH_A_BUG: u64 = 40;
/// Seeds that are tried until a broken promise is found.
const SEEDS_WITH_A_BUG: u64 = 4;
/// No run is longer: what hangs is ended. A cut takes a tenth of a second, and forty times that on a machine with twenty other things to do.
const SECONDS_START_MAX: u64 = 900;
const MILLIS_PER_CUT_MAX: u64 = 6_000;
const MILLIS_PER_FAILED_FLUSH_MAX: u64 = 60_000;
/// Disks of each round on which a flush fails, unless told otherwise.
const FAILED_FLUSHES: u64 = 3;

/// How often to cut, and what.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Power cuts
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    cuts: u64,
    /// Where chance begins
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Size of the disk
    #[arg(long, default_value_t = 512, value_name = "MIB", value_parser = clap::value_parser!(u64).range(128..=8_192))]
    image_mib: u64,
    /// Disks of each round on which a flush fails; a round has up to 1,000 cuts
    #[arg(long, default_value_t = FAILED_FLUSHES, value_name = "N")]
    failed_flushes: u64,
    /// Begin no new round after so many minutes
    #[arg(long, value_name = "MINUTES")]
    minutes: Option<u64>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    /// Build the program with optimizations
    #[arg(long)]
    release: bool,
    /// Break a promise on purpose; the run then has to find it
    #[arg(long, value_enum, value_name = "HOW")]
    sabotage: Option<Sabotage>,
    /// The program, instead of building it
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// The run itself, inside the namespaces that the command makes
    #[arg(long, hide = true, value_name = "FOLDER")]
    inside: Option<PathBuf>,
    /// The handler of the group: where it notes, and the log of the disk
    #[arg(long, hide = true, num_args = 2, value_names = ["JOURNAL", "LOG"])]
    handle: Option<Vec<PathBuf>>,
    /// The handler answers before it notes
    #[arg(long, hide = true, requires = "handle")]
    early: bool,
}

impl Options {
    /// As many cuts as a full test run makes.
    pub(crate) fn of_the_tests() -> Options {
        Options {
            cuts: 200,
            seed: 1,
            image_mib: 512,
            failed_flushes: FAILED_FLUSHES,
            minutes: None,
            json: false,
            release: false,
            sabotage: None,
            binary: None,
            inside: None,
            handle: None,
            early: false,
        }
    }

    /// One run for each promise that can be broken: what never finds anything shows nothing.
    fn of_a_planted_bug(sabotage: Sabotage, seed: u64) -> Options {
        Options {
            cuts: CUTS_WITH_A_BUG,
            seed,
            sabotage: Some(sabotage),
            ..Options::of_the_tests()
        }
    }
}

/// Breaks each promise on purpose, which has to be found: where chance hits no instant at which it shows, from another seed.
pub(crate) fn find_planted_bugs(house: &House) -> Result<Vec<Outcome>, Failure> {
    let mut outcomes = Vec::new();
    for sabotage in Sabotage::ALL {
        let mut found = run(house, &Options::of_a_planted_bug(sabotage, 1));
        for seed in 2..=SEEDS_WITH_A_BUG {
            if found.is_ok() {
                break;
            }
            found = run(house, &Options::of_a_planted_bug(sabotage, seed));
        }
        outcomes.push(found?);
    }
    Ok(outcomes)
}

/// Promises that can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sabotage {
    /// Receipts come from the page cache, before the flush
    Written,
    /// The group's handler says that it is done with an event before it is, so that the cursor runs ahead
    Settled,
}

impl Sabotage {
    const ALL: [Sabotage; 2] = [Sabotage::Written, Sabotage::Settled];

    /// The word on the command line.
    fn name(self) -> &'static str {
        match self {
            Sabotage::Written => "written",
            Sabotage::Settled => "settled",
        }
    }

    /// What a run finds that notices, and how often this one did.
    fn found(self, figures: &Figures) -> (&'static str, u64) {
        match self {
            Sabotage::Written => ("lost events", figures.lost),
            Sabotage::Settled => ("skipped events of the group", figures.skipped),
        }
    }
}

/// How a run ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    /// The machine does not allow it; that was said.
    Skipped,
}

/// The command as a person gives it: who asks for cuts and gets none is not told that all is well.
pub(crate) fn run_alone(house: &House, options: &Options) -> Result<(), Failure> {
    match run(house, options)? {
        Outcome::Passed => Ok(()),
        Outcome::Skipped => Err(Failure::new("nothing was cut, so nothing is shown")),
    }
}

/// The handler of the group, if that is what this process was started as: it needs nothing of the repository.
pub(crate) fn handler(options: &Options) -> Option<Result<(), Failure>> {
    match options.handle.as_deref()? {
        [journal, log] => Some(group::handle(journal, log, options.early)),
        _ => None,
    }
}

/// Cuts, or says why it cannot.
pub(crate) fn run(house: &House, options: &Options) -> Result<Outcome, Failure> {
    if let Some(folder) = &options.inside {
        return Ok(inside(house, options, folder));
    }
    if let Some(reason) = facilities::missing() {
        return Ok(skipped(&reason));
    }
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => build(house, options.release)?,
    };
    let folder = house.target.join("powercut").join("run");
    rig::make_folder(&folder)?;
    let mut child = inner(options, &binary, &folder)?
        .spawn()
        .map_err(|cause| Failure::new(format!("cannot run unshare: {cause}")))?;
    // Its end of the pipe closes when this process ends, whatever ends it: that is how the inner run learns of Ctrl-C.
    let held = child.stdin.take();
    let status = child
        .wait()
        .map_err(|cause| Failure::new(format!("cannot await the run: {cause}")))?;
    drop(held);
    match status.code() {
        Some(0) => Ok(Outcome::Passed),
        Some(EXIT_SKIPPED) => Ok(Outcome::Skipped),
        _ => Err(Failure::new(format!("the power cuts failed ({status})"))),
    }
}

fn skipped(reason: &str) -> Outcome {
    println!("SKIPPED powercut: {reason}");
    Outcome::Skipped
}

fn build(house: &House, release: bool) -> Result<PathBuf, Failure> {
    let mut command = child::cargo(house);
    command.args(["build", "--quiet", "--package", "tidings-cli"]);
    if release {
        command.arg("--release");
    }
    child::run(&mut command)?;
    let profile = if release { "release" } else { "debug" };
    Ok(house.target.join(profile).join("tidings"))
}

/// This program again, in namespaces for its mounts and its processes.
fn inner(options: &Options, binary: &Path, folder: &Path) -> Result<Command, Failure> {
    let ourselves = child::this_program()?;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "--pid", "--fork"])
        .args(["--kill-child", "--mount-proc", "--"])
        .arg(ourselves)
        .arg("powercut")
        .args(["--cuts", &options.cuts.to_string()])
        .args(["--seed", &options.seed.to_string()])
        .args(["--image-mib", &options.image_mib.to_string()])
        .args(["--failed-flushes", &options.failed_flushes.to_string()])
        .arg("--binary")
        .arg(binary)
        .arg("--inside")
        .arg(folder)
        .stdin(Stdio::piped());
    if let Some(minutes) = options.minutes {
        command.args(["--minutes", &minutes.to_string()]);
    }
    if options.json {
        command.arg("--json");
    }
    if let Some(sabotage) = options.sabotage {
        command.args(["--sabotage", sabotage.name()]);
    }
    Ok(command)
}

/// The run inside; it ends the process, because its exit code is all that goes out.
fn inside(house: &House, options: &Options, folder: &Path) -> Outcome {
    end_with_the_outer_process();
    end_in_time(options);
    let code = match cut(house, options, folder) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("error: {failure}");
            1
        }
    };
    std::process::exit(code);
}

fn cut(house: &House, options: &Options, folder: &Path) -> Result<i32, Failure> {
    let stopwatch = Stopwatch::start();
    let memory = Mount::memory(options.image_mib * MEMORY_DISKS, folder);
    let usable = memory.and_then(|memory| {
        let disk = run::try_out(&folder.join("try"))?;
        Ok((memory, disk))
    });
    let memory = match usable {
        Ok((memory, disk)) => {
            disk.finish()?;
            memory
        }
        Err(failure) => {
            skipped(&failure.to_string());
            return Ok(EXIT_SKIPPED);
        }
    };
    let Some(binary) = &options.binary else {
        return Err(Failure::new("the inner run is told which program to use"));
    };
    let orders = Orders {
        program: Program {
            binary: binary.clone(),
            acks_early: options.sabotage == Some(Sabotage::Written),
            settles_early: options.sabotage == Some(Sabotage::Settled),
        },
        cuts: options.cuts,
        seed: options.seed,
        image_mib: options.image_mib,
        failed_flushes: options.failed_flushes,
        minutes: options.minutes,
        folder: folder.to_owned(),
        kept: house.target.join("powercut"),
    };
    let figures = run::rounds(&orders)?;
    memory.unmount()?;
    let took = stopwatch.elapsed();
    match options.json {
        true => println!("{}", figures.json(options.seed, took)),
        false => println!("{} ({})", figures.line(), stopwatch::readable(took)),
    }
    let Some(sabotage) = options.sabotage else {
        return match figures.is_clean() {
            true => Ok(0),
            false => Err(Failure::new("a power cut broke a promise")),
        };
    };
    let (name, (what, count)) = (sabotage.name(), sabotage.found(&figures));
    match count {
        0 => Err(Failure::new(format!(
            "sabotage {name}: a promise was broken on purpose, and no {what} were found"
        ))),
        _ => {
            eprintln!("sabotage {name}: {count} {what} were found, as must be");
            Ok(0)
        }
    }
}

/// The outer process holds the other end of our input and writes nothing; the end of the input is its end.
fn end_with_the_outer_process() {
    std::thread::spawn(|| {
        // An error is an end as well.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(130);
    });
}

fn end_in_time(options: &Options) {
    let failed_flushes = run::rounds_of(options.cuts).saturating_mul(options.failed_flushes);
    let limit = Duration::from_secs(SECONDS_START_MAX)
        + Duration::from_millis(MILLIS_PER_CUT_MAX.saturating_mul(options.cuts))
        + Duration::from_millis(MILLIS_PER_FAILED_FLUSH_MAX.saturating_mul(failed_flushes));
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        eprintln!(
            "error: the power cuts take longer than {}",
            stopwatch::readable(limit)
        );
        std::process::exit(1);
    });
}
