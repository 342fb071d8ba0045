//! Publishing to the topic in batches of at most ten, with an outcome for each event.

use super::Inner;
use super::mapping::{self, Outgoing};
use crate::aws::error::Failure;
use crate::aws::names::{deduplication, message_group};
use crate::aws::publishing::{Sent, entry_failed, failed, publish};
use crate::aws::session::refused;
use aws_sdk_sns::operation::publish_batch::PublishBatchOutput;
use aws_sdk_sns::types::{MessageAttributeValue, PublishBatchRequestEntry};
use tidings_core::Envelope;
use tidings_core::broker::{PublishError, PublishOutcome};
use tidings_core::event_id::DedupeKey;

impl Inner {
    pub(super) async fn publish_batch(&self, batch: &[Envelope]) -> Vec<PublishOutcome> {
        let topic = match self.topic_arn().await {
            Ok(topic) => topic,
            Err(error) => {
                return refused(batch, &error);
            }
        };
        let (sizes, messages): (Vec<_>, Vec<_>) = batch
            .iter()
            .map(|envelope| match mapping::write(envelope) {
                Ok(outgoing) => (Ok(outgoing.bytes), Some(outgoing)),
                Err(error) => (Err(error), None),
            })
            .unzip();
        let (topic, messages) = (&*topic, &messages);
        publish(
            batch,
            sizes,
            self.key_order(),
            &*self.session.clock,
            |places| {
                Box::pin(async move {
                    let entries = places.iter().enumerate().filter_map(|(place, at)| {
                        let outgoing = messages.get(*at)?.as_ref()?;
                        Some(self.entry(place, batch.get(*at)?, outgoing))
                    });
                    self.send(topic, entries.collect()).await
                })
            },
        )
        .await
    }

    fn entry(
        &self,
        place: usize,
        envelope: &Envelope,
        outgoing: &Outgoing,
    ) -> PublishBatchRequestEntry {
        let mut entry = PublishBatchRequestEntry::builder()
            .id(place.to_string())
            .message(&outgoing.body);
        for (name, value) in &outgoing.attributes {
            let value = MessageAttributeValue::builder()
                .data_type("String")
                .string_value(value);
            entry = entry.message_attributes(*name, value.build().expect("the data type is given"));
        }
        if self.config.fifo {
            let key = envelope.key();
            // Without a key an event has no order, so that each is a group of its own.
            let group = key.as_deref().unwrap_or(envelope.event_id());
            entry = entry
                .message_group_id(message_group(group))
                .message_deduplication_id(deduplication(&DedupeKey::of(envelope)));
        }
        entry.build().expect("id and message are given")
    }

    async fn send(&self, topic: &str, entries: Vec<PublishBatchRequestEntry>) -> Sent {
        let count = entries.len();
        let request = self.sns.publish_batch().topic_arn(topic);
        let answer = request
            .set_publish_batch_request_entries(Some(entries))
            .send()
            .await;
        match answer.map_err(Failure::from) {
            Ok(answer) => Sent {
                outcomes: self.outcomes(count, &answer),
                stop: false,
            },
            Err(failure) => failed(failure, count, &self.session.speaker, || {
                // It is looked for, and made where that is allowed, with the next batch.
                self.session.know(None);
                self.topic_missing()
            }),
        }
    }

    fn outcomes(&self, count: usize, answer: &PublishBatchOutput) -> Vec<Result<(), PublishError>> {
        let mut outcomes: Vec<_> = (0..count)
            .map(|_| {
                Err(PublishError::Ambiguous {
                    reason: "the answer of SNS does not name the event".to_owned(),
                })
            })
            .collect();
        let place = |id: &str| id.parse::<usize>().ok();
        for entry in answer.successful() {
            let slot = entry.id().and_then(place);
            if let Some(slot) = slot.and_then(|place| outcomes.get_mut(place)) {
                *slot = Ok(());
            }
        }
        for entry in answer.failed() {
            let slot = place(entry.id());
            if let Some(slot) = slot.and_then(|place| outcomes.get_mut(place)) {
                let message = entry.message().unwrap_or_default();
                *slot = Err(entry_failed(
                    entry.code(),
                    message,
                    entry.sender_fault(),
                    &self.session.speaker,
                ));
            }
        }
        outcomes
    }
}
