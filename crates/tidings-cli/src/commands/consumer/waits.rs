//! Why a group that somebody works for waits all the same, as its store tells: `state.db` beside its log, or a shared one.

use crate::commands::outbox::source;
use crate::failure::Failure;
use crate::folder;
use crate::place::Place;
use crate::store_arguments::SharedStore;
use std::collections::HashMap;
use tidings::Location;
use tidings::broker::GroupStatus;
use tidings::core::store::{DeadLetterStore as _, OpenCircuit, StoreError};
use tidings::sql::Failures;

/// What persons and instances said of groups.
pub(super) struct Waits {
    failures: Option<Failures>,
    paused: HashMap<String, String>,
}

impl Waits {
    /// Opens the shared store, or else what is beside the log; on a broker, and in a folder in which nothing ever failed, nothing is.
    pub(super) async fn open(place: &Place, store: &SharedStore) -> Result<Self, Failure> {
        let failures = match &store.url {
            Some(url) => Some(Failures::open(&source::database(url, false).await?).await?),
            None => beside(place).await?,
        };
        let mut paused = HashMap::new();
        if let Some(failures) = &failures {
            let groups = failures.paused().await?.into_iter();
            paused = groups.map(|one| (one.group, one.reason)).collect();
        }
        Ok(Self { failures, paused })
    }

    /// Why a group waits; `None` if it does not, or if nobody works for it.
    pub(super) async fn of(&self, group: &GroupStatus) -> Result<Option<String>, Failure> {
        if group.owner.is_none() {
            return Ok(None);
        }
        let name = group.name.as_str();
        if let Some(reason) = self.paused.get(name) {
            return Ok(Some(format!("paused: {reason}")));
        }
        let Some(failures) = &self.failures else {
            return Ok(None);
        };
        match failures.circuit(name).await {
            // Tables of an older version have no place for it.
            Err(StoreError::TableMissing { .. }) => Ok(None),
            circuit => Ok(circuit?.as_ref().map(words)),
        }
    }
}

async fn beside(place: &Place) -> Result<Option<Failures>, Failure> {
    let Location::Folder(folder) = place.location()? else {
        return Ok(None);
    };
    let file = folder::state(&folder);
    if !file.exists() {
        return Ok(None);
    }
    let database = source::file(&file, false).await?;
    // Tables that are not there yet say nothing.
    Ok(Failures::open(&database).await.ok())
}

fn words(circuit: &OpenCircuit) -> String {
    let OpenCircuit {
        since,
        probe_at,
        reason,
    } = circuit;
    match probe_at {
        Some(at) => format!("circuit open since {since}, one event is tried at {at}: {reason}"),
        None => format!("circuit open since {since}, one event is being tried: {reason}"),
    }
}
