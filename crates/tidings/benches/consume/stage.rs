//! The stage of the figures: a folder on the disk that the build lies on, with events of the loan data's shape in it.

use crate::measure::Outcome;
use std::path::{Path, PathBuf};
use tidings::core::envelope_json;
use tidings::log::LogReader;
use tidings::{Codec, Envelope, Tidings};
use tidings_testkit::loan_data;

const BATCH_EVENTS: usize = 1_000;

/// A new empty folder. It lies below the build's, because a temporary folder may be in memory.
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

/// So many envelopes of the loan data, and those of whole applications only.
pub(crate) fn envelopes(count: usize) -> Outcome<Vec<Envelope>> {
    loan_data::lines(count as u64 / loan_data::EVENTS_PER_KEY)
        .map(|line| Ok(envelope_json::from_json(line.as_bytes())?))
        .collect()
}

/// The same, one after the other, and no more of them in memory than are asked for.
pub(crate) fn lines(count: usize) -> impl Iterator<Item = Outcome<Envelope>> {
    loan_data::lines(count as u64 / loan_data::EVENTS_PER_KEY)
        .map(|line| Ok(envelope_json::from_json(line.as_bytes())?))
}

/// Opens a folder; frames are stored as they are, so that both sides read the same bytes and nothing is unpacked.
pub(crate) async fn open(folder: &Path) -> Outcome<Tidings> {
    Ok(Tidings::builder().codec(Codec::None).open(folder).await?)
}

/// Publishes in batches.
pub(crate) async fn publish(tidings: &Tidings, events: &[Envelope]) -> Outcome<()> {
    for batch in events.chunks(BATCH_EVENTS) {
        for outcome in tidings.publish_envelopes(batch).await {
            outcome?;
        }
    }
    Ok(())
}

/// A reader of the folder that shares nothing with what is open.
pub(crate) fn reader(folder: &Path) -> Outcome<LogReader> {
    use std::sync::Arc;
    let clock = Arc::new(tidings::flow::runtime::SystemClock::new());
    Ok(LogReader::open(
        folder,
        clock,
        Arc::new(tidings::log::RealDisk),
    )?)
}

/// Publishes so many envelopes of the loan data, made as they are published.
pub(crate) async fn publish_lines(tidings: &Tidings, count: usize) -> Outcome<()> {
    let mut events = lines(count);
    loop {
        let batch = events.by_ref().take(BATCH_EVENTS);
        let batch = batch.collect::<Outcome<Vec<Envelope>>>()?;
        if batch.is_empty() {
            return Ok(());
        }
        publish(tidings, &batch).await?;
    }
}
