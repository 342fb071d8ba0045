//! What of a batch is in the log already, or on its way there, for `tidings event import --skip-existing`.

use crate::failure::Failure;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use tidings::broker::{Broker, Position};
use tidings::core::DedupeKey;
use tidings::{Envelope, Location, Tidings};

/// A batch, parted into what is to be published and what is not.
#[derive(Debug, Default)]
pub(super) struct Parted {
    /// Events that are neither in the log nor on their way there, each dedupe key once.
    pub(super) fresh: Vec<Envelope>,
    /// The others, in the order of the batch.
    pub(super) existing: Vec<Existing>,
}

/// An event that is left out.
#[derive(Debug)]
pub(super) struct Existing {
    pub(super) event_id: String,
    pub(super) place: Place,
    /// Whether what exists says something else under the same id.
    pub(super) differs: bool,
}

/// Where the event of the same dedupe key is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// In the log.
    At(Position),
    /// Durable beside the owner of the folder, who carries it into the log.
    Waiting,
    /// Among the fresh events of the same batch.
    Fresh(usize),
}

/// The events that wait beside the owner of a folder.
pub(super) struct Beside {
    #[cfg(feature = "sqlite")]
    waiting: Option<tidings::Waiting>,
}

impl Beside {
    /// Opens the database of a folder, if it has one. A broker that cannot be asked for an event by its id is refused.
    pub(super) async fn open(location: &Location, tidings: &Tidings) -> Result<Self, Failure> {
        // Asked for before anything is published.
        tidings.reader()?;
        // Only the database of a folder, which is SQLite's, has events that wait.
        let _ = location;
        Ok(Self {
            #[cfg(feature = "sqlite")]
            waiting: match location {
                Location::Folder(folder) => Some(tidings::Waiting::open(folder).await?),
                Location::Broker(_) => None,
            },
        })
    }

    /// For each event the one of the same dedupe key that waits.
    async fn of(&self, batch: &[Envelope]) -> Result<Vec<Option<Envelope>>, Failure> {
        #[cfg(feature = "sqlite")]
        if let Some(waiting) = &self.waiting {
            return Ok(waiting.of(batch).await?);
        }
        Ok(vec![None; batch.len()])
    }

    /// Lets go of the database.
    pub(super) async fn close(self) {
        #[cfg(feature = "sqlite")]
        if let Some(waiting) = self.waiting {
            waiting.close().await;
        }
    }
}

/// Parts a batch. Nothing of earlier batches is remembered: they are in the log or wait to be carried there, and both are asked.
pub(super) async fn part(
    broker: &dyn Broker,
    beside: &Beside,
    batch: Vec<Envelope>,
) -> Result<Parted, Failure> {
    let reader = broker.reader().ok_or_else(|| {
        Failure::usage("--skip-existing needs a broker that can be asked what it holds")
    })?;
    // In this order: what the owner carries over meanwhile is found in the log.
    let waiting = beside.of(&batch).await?;
    let recorded = reader.recorded(&batch).await?;
    let twins = twins(&batch);
    let mut parted = Parted::default();
    // Where each event of the batch went, if it is fresh.
    let mut places: Vec<Option<usize>> = Vec::with_capacity(batch.len());
    let found = recorded.into_iter().zip(waiting);
    for ((envelope, (recorded, waiting)), twin) in batch.into_iter().zip(found).zip(twins) {
        let fresh = twin.and_then(|twin| places.get(twin).copied().flatten());
        let (place, differs) = match (recorded, waiting, fresh) {
            (Some(recorded), _, _) => (Place::At(recorded.position), recorded.envelope != envelope),
            (None, Some(waiting), _) => (Place::Waiting, waiting != envelope),
            (None, None, Some(first)) => (
                Place::Fresh(first),
                parted.fresh.get(first) != Some(&envelope),
            ),
            (None, None, None) => {
                places.push(Some(parted.fresh.len()));
                parted.fresh.push(envelope);
                continue;
            }
        };
        places.push(None);
        parted.existing.push(Existing {
            event_id: envelope.into_parts().event_id,
            place,
            differs,
        });
    }
    Ok(parted)
}

/// For each event the first one of the batch with its dedupe key, if that is another. A key takes time to make, so that it is made where ids are the same.
fn twins(batch: &[Envelope]) -> Vec<Option<usize>> {
    let mut first: HashMap<&str, usize> = HashMap::with_capacity(batch.len());
    let mut same_id: HashMap<DedupeKey, usize> = HashMap::new();
    let mut twin_of = |(place, envelope): (usize, &'_ Envelope), known: usize| {
        let key = DedupeKey::of(envelope);
        if batch.get(known).map(DedupeKey::of) == Some(key) {
            return Some(known);
        }
        let twin = *same_id.entry(key).or_insert(place);
        (twin != place).then_some(twin)
    };
    let places = batch.iter().enumerate();
    places
        .map(|(place, envelope)| match first.entry(envelope.event_id()) {
            Entry::Vacant(entry) => {
                entry.insert(place);
                None
            }
            Entry::Occupied(known) => twin_of((place, envelope), *known.get()),
        })
        .collect()
}
