//! The embedded broker in this process, for the figures that put it next to its peers.

use crate::measure::Outcome;
use crate::stage::Ours;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidings_core::Envelope;
use tidings_flow::runtime::SystemClock;
use tidings_log::{Durability, LogBroker, OpenOptions, RealDisk};

/// A log in a folder of its own, which goes with it.
pub(crate) struct Embedded {
    pub(crate) publisher: Ours<LogBroker>,
    pub(crate) folder: PathBuf,
}

impl Embedded {
    /// A new log, everything as it comes but when it acknowledges. It lies below the build's folder, because a temporary folder may be in memory.
    pub(crate) fn new(durability: Durability, events: &Arc<Vec<Envelope>>) -> Outcome<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-embedded");
        remove(&folder)?;
        let clock = Arc::new(SystemClock::new());
        let mut options = OpenOptions::new(&folder, clock, Arc::new(RealDisk));
        options.durability = durability;
        Ok(Self {
            publisher: Ours {
                broker: LogBroker::open(options)?,
                events: Arc::clone(events),
            },
            folder,
        })
    }
}

/// Removes a folder with what is in it.
pub(crate) fn remove(folder: &Path) -> Outcome<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
