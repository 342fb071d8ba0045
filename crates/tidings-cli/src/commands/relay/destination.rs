//! Where a relay carries events to: the embedded broker of a data folder, another broker, or standard output.

use crate::failure::Failure;
use crate::folder;
use crate::place;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use tidings::Envelope;
use tidings::broker::{Destination, PublishError, PublishOutcome, Receipt};
use tidings::core::{BoxFuture, envelope_json};
use tidings::{Durability, Location, Tidings};
use tokio::sync::{Mutex, watch};

/// Where to, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A data folder.
    Folder(PathBuf),
    /// A broker.
    Broker(Location),
    /// Standard output.
    StandardOutput,
}

impl Target {
    /// Reads `DIR`, `file:///DIR`, the URL of a broker, or `-`.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        if text == "-" {
            return Ok(Self::StandardOutput);
        }
        if text.is_empty() {
            return Err(Failure::usage(
                "--to is empty; write DIR, file:///DIR, the URL of a broker, or - for standard output",
            ));
        }
        Ok(match place::location(text)? {
            Location::Folder(folder) => Self::Folder(folder),
            broker @ Location::Broker(_) => Self::Broker(broker),
        })
    }

    /// What it is called.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::Broker(broker) => broker.to_string(),
            Self::StandardOutput => "standard output".to_owned(),
        }
    }
}

/// A destination that is open.
pub(crate) enum Open {
    /// A folder, owned by this process or written beside its owner, or a broker.
    Place(Tidings),
    /// Standard output.
    Lines(Arc<Lines>),
}

impl Open {
    pub(crate) async fn new(target: &Target) -> Result<Self, Failure> {
        Ok(match target {
            Target::Folder(path) => Self::Place(folder::write(path).await?),
            Target::Broker(broker) => Self::Place(place::open(broker, Durability::Synced).await?),
            Target::StandardOutput => Self::Lines(Arc::new(Lines::new())),
        })
    }

    /// As the relay sees it.
    pub(crate) fn destination(&self) -> Arc<dyn Destination> {
        match self {
            Self::Place(tidings) => Arc::new(Arc::clone(tidings.broker())),
            Self::Lines(lines) => Arc::clone(lines) as Arc<dyn Destination>,
        }
    }

    /// The place, where it is one that figures can be told of.
    pub(crate) fn place(&self) -> Option<Tidings> {
        match self {
            Self::Place(tidings) => Some(tidings.clone()),
            Self::Lines(_) => None,
        }
    }

    /// Ends when the destination is gone for good, with the reason.
    pub(crate) async fn gone(&self) -> String {
        match self {
            Self::Place(_) => std::future::pending().await,
            Self::Lines(lines) => lines.gone().await,
        }
    }

    /// Lets go of it.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        if let Self::Place(tidings) = self {
            tidings.shutdown().await?;
        }
        Ok(())
    }
}

/// Standard output: one envelope a line. An event is accepted once its line is handed to the operating system.
pub(crate) struct Lines {
    /// Held while lines are written, so that batches do not mix; a writer that was given up by its caller keeps it until it is done.
    writing: Arc<Mutex<()>>,
    /// Why nothing can be written any more.
    gone: watch::Sender<Option<String>>,
}

impl Lines {
    fn new() -> Self {
        Self {
            writing: Arc::new(Mutex::new(())),
            gone: watch::Sender::new(None),
        }
    }

    async fn gone(&self) -> String {
        let mut gone = self.gone.subscribe();
        match gone.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    async fn write(&self, batch: &[Envelope]) -> Vec<PublishOutcome> {
        let mut text = String::new();
        for envelope in batch {
            text.push_str(&envelope_json::to_json(envelope));
            text.push('\n');
        }
        let held = Arc::clone(&self.writing).lock_owned().await;
        if self.gone.borrow().is_some() {
            return batch
                .iter()
                .map(|_| Err(PublishError::NotAttempted))
                .collect();
        }
        // A reader that is slow blocks the writer, which must not be a thread that renews leases.
        let written = tokio::task::spawn_blocking(move || {
            let _held = held;
            let mut stdout = std::io::stdout().lock();
            stdout
                .write_all(text.as_bytes())
                .and_then(|()| stdout.flush())
        });
        let reason = match written.await {
            Ok(Ok(())) => {
                return batch
                    .iter()
                    .map(|_| Ok(Receipt { position: None }))
                    .collect();
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        // Nothing can be said about where a later line would begin: it is over, also for reasons other than a closed pipe.
        self.gone.send_replace(Some(reason.clone()));
        let ambiguous = |_| {
            Err(PublishError::Ambiguous {
                reason: reason.clone(),
            })
        };
        batch.iter().map(ambiguous).collect()
    }
}

impl Destination for Lines {
    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        Box::pin(self.write(batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_folder_or_standard_output() {
        let target = |text| Target::parse(text).map_err(|failure| failure.message().to_owned());

        assert_eq!(target("-"), Ok(Target::StandardOutput));
        assert_eq!(target("data"), Ok(Target::Folder("data".into())));
        assert_eq!(target("file:///data"), Ok(Target::Folder("/data".into())));
        assert!(matches!(target("kafka://h"), Ok(Target::Broker(_))));
        for (wrong, word) in [
            ("file://data", "file:///DIR"),
            ("redis://localhost", "there is no broker redis"),
            ("", "empty"),
        ] {
            assert!(
                target(wrong).is_err_and(|message| message.contains(word)),
                "{wrong}"
            );
        }
    }
}
