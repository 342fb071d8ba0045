//! Reopening a large log whose writer was killed.

use crate::events::{envelopes, fresh_folder, open, remove};
use crate::measure::{Goal, Outcome, Report, Request, Rounds, progress, timed};
use crate::publish::publish_all;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tidings_core::broker::{Position, ReadRequest, Reader as _};
use tidings_log::Codec;
use tokio::runtime::Runtime;

const BATCH_EVENTS: usize = 1_000;
/// The child says this once the log is as large as asked for, and goes on writing.
const LARGE_ENOUGH: &str = "large enough";

/// From opening until the first event is acknowledged and the oldest one is read, with 10 million events in at least 2 GiB, the writer killed while it wrote, and nothing of the log in memory where that is allowed.
///
/// Bare: what nobody can do without – reading the last segment whole, as one must to find the end, then writing and flushing an event's bytes, and reading the first bytes of the oldest segment.
pub(crate) fn reopen(request: &Request, report: &mut Report) -> Outcome<()> {
    progress("log.reopen");
    let folder = fresh_folder("reopen")?;
    let events = request.full_or_quick(10_000_000, 100_000);
    let bytes = request.full_or_quick(2_u64 << 30, 0);
    let runtime = Runtime::new()?;
    let sample = envelopes(20)?;
    let mut rounds = Rounds::default();
    for _ in 0..request.full_or_quick(5, 1) {
        kill_a_writer(&folder, events, bytes)?;
        drop_file_cache();
        let (_, bare) = timed(|| touch_bare(&folder))?;
        drop_file_cache();
        let (broker, ours) = timed(|| {
            let broker = open(&folder, Codec::None)?;
            runtime.block_on(async {
                publish_all(&broker, sample.get(..1).unwrap_or_default()).await?;
                let oldest = ReadRequest {
                    from: Position(0),
                    patterns: &[],
                    events_max: 1,
                };
                let page = broker.read(oldest).await?;
                assert_eq!(page.events.len(), 1, "the oldest event is there");
                Outcome::Ok(())
            })?;
            Ok(broker)
        })?;
        drop(broker);
        rounds.ours.push(ours.as_secs_f64());
        rounds.bare.push(bare.as_secs_f64());
    }
    remove(&folder)?;
    report.compared("log.reopen", "s", &rounds, Goal::ValueMax(1.0));
    Ok(())
}

/// Starts a child that writes until the log is large enough and beyond, and kills it there.
fn kill_a_writer(folder: &Path, events: u64, bytes: u64) -> Outcome<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--child")
        .arg(folder)
        .args([events.to_string(), bytes.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    // It writes on meanwhile, so that this interrupts it.
    child.kill()?;
    child.wait()?;
    if line.trim() == LARGE_ENOUGH {
        Ok(())
    } else {
        Err("the child that writes the log ended early".into())
    }
}

/// The child: publishes in batches until it is killed.
pub(crate) fn write_until_killed(arguments: &[String]) -> Outcome<()> {
    let [folder, events, bytes] = arguments else {
        return Err("the child takes a folder, a count of events and one of bytes".into());
    };
    let (folder, events_min, bytes_min) = (
        PathBuf::from(folder),
        events.parse::<u64>()?,
        bytes.parse::<u64>()?,
    );
    let pool = envelopes(20_000)?;
    let broker = open(&folder, Codec::None)?;
    Runtime::new()?.block_on(async {
        let mut written = broker.end().await?.0;
        let mut told = false;
        loop {
            for batch in pool.chunks_exact(BATCH_EVENTS) {
                publish_all(&broker, batch).await?;
                written += batch.len() as u64;
            }
            if !told && written >= events_min && length_of(&folder)? >= bytes_min {
                println!("{LARGE_ENOUGH}");
                told = true;
            }
        }
    })
}

fn segments(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder.join("log/main"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    paths.sort();
    Ok(paths)
}

fn length_of(folder: &Path) -> Outcome<u64> {
    let lengths = segments(folder)?
        .iter()
        .map(|path| Ok(path.metadata()?.len()))
        .sum::<std::io::Result<u64>>();
    Ok(lengths?)
}

fn touch_bare(folder: &Path) -> Outcome<()> {
    let paths = segments(folder)?;
    let (Some(oldest), Some(newest)) = (paths.first(), paths.last()) else {
        return Err("there is no segment".into());
    };
    let mut whole = Vec::new();
    File::open(newest)?.read_to_end(&mut whole)?;
    let scratch = folder.with_extension("scratch");
    let file = File::create(&scratch)?;
    file.write_all_at(whole.get(..300).unwrap_or_default(), 0)?;
    file.sync_data()?;
    let mut first = vec![0; 262_144];
    let _read = File::open(oldest)?.read_at(&mut first, 0)?;
    std::fs::remove_file(scratch)?;
    Ok(())
}

/// Drops what the kernel keeps of files; only root may. Otherwise the figure is one of a warm cache, and it is said.
fn drop_file_cache() {
    rustix::fs::sync();
    if std::fs::write("/proc/sys/vm/drop_caches", "3").is_err() {
        eprintln!(
            "log.reopen: the file cache could not be dropped, which only root may: the figure is one of a warm cache"
        );
    }
}
