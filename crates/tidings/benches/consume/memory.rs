//! The most memory that a process needs which writes a large log while ten groups read it.

use crate::measure::{Goal, Outcome, Report, Request, Rounds, progress};
use crate::stage::{envelopes, fresh_folder, publish, remove};
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use tidings::{Envelope, Tidings};

const GROUPS: usize = 10;
const POOL_EVENTS: usize = 10_000;

/// Of a child process of its own, since the kernel counts the most that a process ever had. Bare: a child that keeps the same events ready and writes as many lines to a file.
pub(crate) fn memory(request: &Request, report: &mut Report) -> Outcome<()> {
    progress("memory");
    let events = request.full_or_quick(10_000_000, 50_000);
    let folder = fresh_folder("memory")?;
    let rounds = Rounds {
        ours: vec![mebibytes_of(&[
            "ours",
            folder_name(&folder)?,
            &events.to_string(),
        ])?],
        bare: vec![mebibytes_of(&[
            "bare",
            folder_name(&folder)?,
            &events.to_string(),
        ])?],
        ..Rounds::default()
    };
    remove(&folder)?;
    report.compared("memory", "MiB", &rounds, Goal::ValueMax(150.0));
    Ok(())
}

fn folder_name(folder: &Path) -> Outcome<&str> {
    folder
        .to_str()
        .ok_or_else(|| "the folder of the build is not UTF-8".into())
}

/// The most memory of a child of this process.
pub(crate) fn mebibytes_of(arguments: &[&str]) -> Outcome<f64> {
    let output = Command::new(std::env::current_exe()?)
        .arg("--child")
        .args(arguments)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("the child ended with {}", output.status).into());
    }
    let kibibytes: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
    Ok(kibibytes / 1_024.0)
}

/// The child: works, then prints the most memory that it had, in KiB.
pub(crate) async fn child(arguments: &[String]) -> Outcome<()> {
    let [kind, folder, events] = arguments else {
        return Err("the child takes a kind, a folder and a count of events".into());
    };
    let (folder, events) = (Path::new(folder), events.parse()?);
    match kind.as_str() {
        "ours" => ours(folder, events).await?,
        "redrive" => crate::redrive::child(folder).await?,
        "failing" => crate::failing::child(folder, events, true).await?,
        "well" => crate::failing::child(folder, events, false).await?,
        _ => bare(folder, events)?,
    }
    println!("{}", peak_kibibytes()?);
    Ok(())
}

/// As it comes: no setting is changed.
async fn ours(folder: &Path, events: usize) -> Outcome<()> {
    let pool = envelopes(POOL_EVENTS)?;
    let tidings = Tidings::open(folder).await?;
    let mut consumers = Vec::new();
    for group in 0..GROUPS {
        let consumer = tidings
            .consumer(format!("group-{group}"))
            .on_raw("**", ignore);
        consumers.push(consumer.start().await?);
    }
    for _ in 0..events.div_ceil(POOL_EVENTS) {
        publish(&tidings, &pool).await?;
    }
    for consumer in &consumers {
        consumer.wait_idle().await?;
        assert!(
            consumer.stats().handled >= events as u64,
            "every group handles every event"
        );
    }
    tidings.shutdown().await?;
    Ok(())
}

async fn ignore(envelope: Envelope) {
    black_box(envelope);
}

fn bare(folder: &Path, events: usize) -> Outcome<()> {
    let pool = envelopes(POOL_EVENTS)?;
    let lines: Vec<String> = pool
        .iter()
        .map(tidings::core::envelope_json::to_json)
        .collect();
    std::fs::create_dir_all(folder)?;
    let mut file = std::fs::File::create(folder.join("bare"))?;
    for _ in 0..events.div_ceil(POOL_EVENTS) {
        for line in &lines {
            file.write_all(line.as_bytes())?;
        }
    }
    Ok(())
}

/// The most memory that this process had so far.
fn peak_kibibytes() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number
        .ok_or("the kernel does not tell the peak of memory")?
        .parse()?)
}
