//! Importing a file through the built command line.

use crate::bare::BareFile;
use crate::events::{fresh_folder, remove};
use crate::measure::{Goal, Outcome, Report, Request, Rounds, per_second, progress, timed};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tidings_testkit::loan_data;

/// Applications of twenty events: 262,200 events in all.
const KEYS: u64 = 13_110;
/// As many as the import acknowledges at once.
const BATCH_EVENTS: usize = 1_000;

/// `tidings event import` from its start to its end. Bare: one loop that reads the lines, parses each with `serde_json` into an envelope's fields, and writes the same lines, flushed as often as the import acknowledges.
pub(crate) fn import(request: &Request, report: &mut Report) -> Outcome<()> {
    progress("import");
    let folder = fresh_folder("import")?;
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("events.jsonl");
    let keys = request.full_or_quick(KEYS, 100);
    let mut lines = BufWriter::new(File::create(&file)?);
    for line in loan_data::lines(keys) {
        writeln!(lines, "{line}")?;
    }
    lines.into_inner()?.sync_all()?;
    let events = (keys * loan_data::EVENTS_PER_KEY) as usize;
    let tidings = built_binary()?;
    let rounds = Rounds::measure(
        request.full_or_quick(9, 1),
        || {
            let data = folder.join("data");
            let ((), took) = timed(|| run_import(&tidings, &file, &data, &[]))?;
            remove(&data)?;
            Ok(per_second(events, took))
        },
        || {
            let bare = folder.join("bare");
            let ((), took) = timed(|| import_bare(&file, &bare))?;
            remove(&bare)?;
            Ok(per_second(events, took))
        },
    )?;
    report.compared("import", "events/s", &rounds, Goal::RatioMin(0.5));
    skip_existing(request, report, &tidings, &file, events)?;
    remove(&folder)
}

/// The same import with `--skip-existing`, into an empty folder and into one that holds all of it. Bare: the import without it.
fn skip_existing(
    request: &Request,
    report: &mut Report,
    tidings: &Path,
    file: &Path,
    events: usize,
) -> Outcome<()> {
    let data = file.with_file_name("data-once");
    let plain = file.with_file_name("data");
    let mut again = Rounds::default();
    let rounds = Rounds::measure(
        request.full_or_quick(9, 1),
        || {
            let ((), took) = timed(|| run_import(tidings, file, &data, &["--skip-existing"]))?;
            let first = per_second(events, took);
            let ((), took) = timed(|| run_import(tidings, file, &data, &["--skip-existing"]))?;
            again.ours.push(per_second(events, took));
            remove(&data)?;
            Ok(first)
        },
        || {
            let ((), took) = timed(|| run_import(tidings, file, &plain, &[]))?;
            remove(&plain)?;
            Ok(per_second(events, took))
        },
    )?;
    again.bare.clone_from(&rounds.bare);
    let goal = Goal::RatioMin(0.6);
    report.compared("import.skip-existing", "events/s", &rounds, goal);
    report.compared("import.again", "events/s", &again, Goal::None);
    Ok(())
}

/// The command line beside this benchmark, which `cargo xtask bench` builds first.
fn built_binary() -> Outcome<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own
        .parent()
        .and_then(Path::parent)
        .map(|release| release.join("tidings"))
        .filter(|path| path.exists());
    path.ok_or_else(|| "build the command line first: cargo build --release -p tidings-cli".into())
}

fn run_import(tidings: &Path, file: &Path, data: &Path, flags: &[&str]) -> Outcome<()> {
    let status = Command::new(tidings)
        .args(["event", "import", "--quiet"])
        .args(flags)
        .arg("--data")
        .arg(data)
        .arg(file)
        .stdout(Stdio::null())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the import ended with {status}").into())
    }
}

/// An envelope as `serde_json` reads it, with texts of its own and the payload as it stands.
#[derive(Deserialize)]
struct Line {
    event_id: String,
    event_type: String,
    aggregate_id: Option<String>,
    timestamp: Option<String>,
    version: Option<u32>,
    source: Option<String>,
    correlation_id: Option<String>,
    payload: Option<Box<RawValue>>,
}

fn import_bare(file: &Path, folder: &Path) -> Outcome<()> {
    let mut lines = BufReader::new(File::open(file)?);
    let mut bare = BareFile::create(folder)?;
    let mut batch = Vec::new();
    let (mut line, mut count) = (Vec::new(), 0);
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line)?;
        if read > 0 {
            keep(&serde_json::from_slice(&line)?);
            batch.extend_from_slice(&line);
            count += 1;
        }
        if count == BATCH_EVENTS || (read == 0 && count > 0) {
            bare.append_synced(&batch)?;
            batch.clear();
            count = 0;
        }
        if read == 0 {
            return Ok(());
        }
    }
}

/// Lets the optimizer leave no field out.
fn keep(line: &Line) {
    black_box((&line.event_id, &line.event_type, &line.aggregate_id));
    black_box((&line.timestamp, &line.version, &line.source));
    black_box((&line.correlation_id, &line.payload));
}
