//! The embedded log for a process beside its owner: it reads the log itself, works for groups under their leases, and publishes through the outbox of `state.db`.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use tidings_core::broker::{
    Admin, Broker, BrokerError, Capabilities, KeyOrder, PublishError, PublishOutcome, Reader,
    Receipt, SubscribeRequest, Subscription,
};
use tidings_core::limits::PAYLOAD_BYTES_MAX;
use tidings_core::seam::{Chance, Clock};
use tidings_core::store::StoreError;
use tidings_core::{BoxFuture, Envelope};
use tidings_log::{LogReader, RealDisk};
use tidings_sql::{Database, Failures, Outbox, OutboxConfig};

/// The log of a folder that another process owns.
#[derive(Debug)]
pub(crate) struct BesideBroker {
    reader: LogReader,
    database: Database,
    outbox: Outbox,
}

impl BesideBroker {
    /// Opens the log for reading and the database for writing. It blocks for as long as the log's end is looked up.
    pub(crate) async fn open(
        folder: &Path,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
    ) -> Result<Self, crate::Error> {
        // The log first: where there is no folder, its error says so.
        let reader = LogReader::open(folder, Arc::clone(&clock), Arc::new(RealDisk))?;
        let database = super::open(folder).await?;
        let outbox = Outbox::new(OutboxConfig::default(), clock, chance)?;
        Ok(Self {
            reader,
            database,
            outbox,
        })
    }

    /// The database of the folder.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// What groups could not handle yet; the owner of the folder carries the facts about it into the log.
    pub(crate) async fn failures(&self) -> Result<Failures, crate::Error> {
        let failures = Failures::open(&self.database).await?;
        Ok(failures.with_outbox(self.outbox.clone()))
    }

    /// All of them in one transaction.
    async fn write(&self, batch: &[Envelope]) -> Result<(), StoreError> {
        self.outbox
            .publish_envelopes_alone(&self.database, batch)
            .await
    }

    /// Each in a transaction of its own, after the whole was refused: nothing of a key behind its first failure.
    async fn write_each(&self, batch: &[Envelope]) -> Vec<PublishOutcome> {
        let mut failed = HashSet::new();
        let mut outcomes = Vec::with_capacity(batch.len());
        for envelope in batch {
            let key = envelope.aggregate_id();
            if key.is_some_and(|key| failed.contains(key)) {
                outcomes.push(Err(PublishError::NotAttempted));
                continue;
            }
            let outcome = self.write(std::slice::from_ref(envelope)).await;
            if outcome.is_err() {
                failed.extend(key);
            }
            outcomes.push(
                outcome
                    .map(|()| accepted())
                    .map_err(|error| refusal(&error)),
            );
        }
        outcomes
    }
}

/// Durable; its place in the log is known once the owner has carried it there.
fn accepted() -> Receipt {
    Receipt { position: None }
}

fn refusal(error: &StoreError) -> PublishError {
    if error.may_have_happened() {
        return PublishError::Ambiguous {
            reason: error.to_string(),
        };
    }
    PublishError::Refused {
        reason: error.to_string(),
        class: error.class(),
        code: error.code(),
    }
}

impl Broker for BesideBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "the embedded log, beside its owner",
            key_order: KeyOrder::AcrossInstances,
            group_leased: true,
            tells_assignment: true,
            replay: true,
            old_events_for_late_groups: true,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            synced: true,
        }
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        Box::pin(async move {
            match self.write(batch).await {
                Ok(()) => batch.iter().map(|_| Ok(accepted())).collect(),
                Err(StoreError::Refused { .. }) if batch.len() > 1 => self.write_each(batch).await,
                Err(error) => batch.iter().map(|_| Err(refusal(&error))).collect(),
            }
        })
    }

    fn subscribe<'a>(
        &'a self,
        request: &'a SubscribeRequest,
    ) -> BoxFuture<'a, Result<Subscription, BrokerError>> {
        Box::pin(async move { self.reader.subscribe(request) })
    }

    fn reader(&self) -> Option<&dyn Reader> {
        Some(&self.reader)
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(&self.reader)
    }

    fn close(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move {
            self.database.close().await;
            Ok(())
        })
    }
}
