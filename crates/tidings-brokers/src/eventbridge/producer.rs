//! Publishing to the bus in batches of at most ten, with an outcome for each event.

use super::Inner;
use super::mapping::{self, Outgoing};
use crate::aws::error::{Failure, Fault};
use crate::aws::publishing::{Sent, entry_failed, failed, publish};
use crate::aws::session::refused;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use tidings_core::Envelope;
use tidings_core::broker::{KeyOrder, PublishError, PublishOutcome};

/// How codes of EventBridge begin or end that hold the service guilty; all others hold us.
const THEIRS: [&str; 2] = ["Internal", "ServiceUnavailable"];

impl Inner {
    pub(super) async fn publish_batch(&self, batch: &[Envelope]) -> Vec<PublishOutcome> {
        if let Err(error) = self.bus_arn().await {
            return refused(batch, &error);
        }
        let (sizes, entries): (Vec<_>, Vec<_>) = batch
            .iter()
            .map(
                |envelope| match mapping::write(envelope, &self.config.source) {
                    Ok(outgoing) => (Ok(outgoing.bytes), Some(outgoing)),
                    Err(error) => (Err(error), None),
                },
            )
            .unzip();
        let entries = &entries;
        publish(
            batch,
            sizes,
            KeyOrder::None,
            &*self.session.clock,
            |places| {
                Box::pin(async move {
                    let outgoing = places
                        .iter()
                        .filter_map(|place| entries.get(*place)?.as_ref());
                    self.send(outgoing.map(|one| self.entry(one)).collect())
                        .await
                })
            },
        )
        .await
    }

    fn entry(&self, outgoing: &Outgoing) -> PutEventsRequestEntry {
        let time = outgoing.time.map(|time| {
            let seconds = time.as_micros().div_euclid(1_000_000);
            DateTime::from_secs(seconds)
        });
        let resources = outgoing.resource.clone().map(|resource| vec![resource]);
        PutEventsRequestEntry::builder()
            .event_bus_name(&self.config.bus)
            .source(&outgoing.source)
            .detail_type(&outgoing.detail_type)
            .detail(&outgoing.detail)
            .set_time(time)
            .set_resources(resources)
            .build()
    }

    async fn send(&self, entries: Vec<PutEventsRequestEntry>) -> Sent {
        let count = entries.len();
        let request = self.events.put_events().set_entries(Some(entries));
        let answer = match request.send().await.map_err(Failure::from) {
            Ok(answer) => answer,
            Err(failure) => {
                if failure.fault == Fault::Missing {
                    // It is looked for, and made where that is allowed, with the next batch.
                    self.session.know(None);
                }
                return failed(failure, count, &self.session.speaker, || self.bus_missing());
            }
        };
        let mut outcomes: Vec<_> = answer
            .entries()
            .iter()
            .map(|entry| match entry.error_code() {
                None => Ok(()),
                Some(code) => {
                    let ours = !THEIRS.iter().any(|word| code.contains(word));
                    let message = entry.error_message().unwrap_or_default();
                    Err(entry_failed(code, message, ours, &self.session.speaker))
                }
            })
            .collect();
        outcomes.resize_with(count, || {
            Err(PublishError::Ambiguous {
                reason: "the answer of EventBridge does not name the event".to_owned(),
            })
        });
        Sent {
            outcomes,
            stop: false,
        }
    }
}
