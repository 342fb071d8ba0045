//! Events of the loan data's shape, and folders for them on the disk that the build lies on.

use crate::measure::Outcome;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidings_core::{Envelope, envelope_json};
use tidings_flow::runtime::SystemClock;
use tidings_log::{Codec, LogBroker, OpenOptions, RealDisk};
use tidings_testkit::loan_data;

/// So many envelopes, and those of whole applications only.
pub(crate) fn envelopes(count: usize) -> Outcome<Vec<Envelope>> {
    loan_data::lines(count as u64 / loan_data::EVENTS_PER_KEY)
        .map(|line| Ok(envelope_json::from_json(line.as_bytes())?))
        .collect()
}

/// A new empty folder. It lies below the build's, because a temporary folder may be in memory, where a flush costs nothing.
pub(crate) fn fresh_folder(name: &str) -> Outcome<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{name}"));
    remove(&folder)?;
    Ok(folder)
}

/// Removes a folder with what is in it.
pub(crate) fn remove(folder: &Path) -> Outcome<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Opens a log with a codec, the rest as it comes.
pub(crate) fn open(folder: &Path, codec: Codec) -> Outcome<LogBroker> {
    let mut options = OpenOptions::new(folder, Arc::new(SystemClock::new()), Arc::new(RealDisk));
    options.codec = codec;
    Ok(LogBroker::open(options)?)
}
