//! One queue of SQS: receiving, deleting, keeping messages from others; ten at a time, with an outcome for each.

use super::error::{Failure, Fault};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Builder;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry,
    DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName, QueueAttributeName,
};
use futures_util::stream::{self, StreamExt as _};
use std::time::Duration;
use tidings_core::BoxFuture;
use tidings_core::limits::{
    AWS_BATCH_ENTRIES_MAX, AWS_CONNECT_TIMEOUT, AWS_REQUEST_TIMEOUT, AWS_REQUESTS_IN_FLIGHT_MAX,
};

/// A queue.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    pub(crate) client: Client,
    pub(crate) url: String,
    pub(crate) name: String,
    pub(crate) fifo: bool,
}

/// How long to wait for messages, how many to take, and for how long they are ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Poll {
    pub(crate) wait: Duration,
    pub(crate) messages_max: usize,
    pub(crate) visibility: Duration,
}

impl Queue {
    /// Takes messages.
    pub(crate) async fn receive(&self, poll: Poll) -> Result<Vec<Message>, Failure> {
        let messages_max = poll.messages_max.clamp(1, AWS_BATCH_ENTRIES_MAX);
        let answer = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(i32::try_from(messages_max).unwrap_or(1))
            .wait_time_seconds(seconds(poll.wait))
            .visibility_timeout(seconds(poll.visibility))
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .customize()
            .config_override(within(AWS_REQUEST_TIMEOUT + poll.wait))
            .send()
            .await?;
        Ok(answer.messages.unwrap_or_default())
    }

    /// Deletes messages by their receipts.
    pub(crate) async fn delete(&self, receipts: &[String]) -> Vec<Result<(), Failure>> {
        let mut requests: Vec<Request<'_>> = Vec::new();
        for some in receipts.chunks(AWS_BATCH_ENTRIES_MAX) {
            requests.push(Box::pin(self.delete_some(some)));
        }
        all_of(requests).await
    }

    async fn delete_some(&self, receipts: &[String]) -> Vec<Result<(), Failure>> {
        let entries = receipts.iter().enumerate().map(|(place, receipt)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(place.to_string())
                .receipt_handle(receipt)
                .build()
                .expect("id and receipt are given")
        });
        let request = self.client.delete_message_batch().queue_url(&self.url);
        let answer = request.set_entries(Some(entries.collect())).send().await;
        match answer {
            Ok(answer) => outcomes(receipts.len(), answer.failed()),
            Err(error) => repeated(receipts.len(), &Failure::from(error)),
        }
    }

    /// Keeps messages from others for so long from now on; for no time gives them back.
    pub(crate) async fn hide(&self, receipts: &[(String, Duration)]) -> Vec<Result<(), Failure>> {
        self.hide_within(receipts, AWS_REQUEST_TIMEOUT).await
    }

    /// The same, where an answer that comes later than that is of no use.
    pub(crate) async fn hide_within(
        &self,
        receipts: &[(String, Duration)],
        limit: Duration,
    ) -> Vec<Result<(), Failure>> {
        let mut requests: Vec<Request<'_>> = Vec::new();
        for some in receipts.chunks(AWS_BATCH_ENTRIES_MAX) {
            requests.push(Box::pin(self.hide_some(some, limit)));
        }
        all_of(requests).await
    }

    async fn hide_some(
        &self,
        receipts: &[(String, Duration)],
        limit: Duration,
    ) -> Vec<Result<(), Failure>> {
        let entries = receipts.iter().enumerate().map(|(place, (receipt, time))| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(place.to_string())
                .receipt_handle(receipt)
                .visibility_timeout(seconds(*time))
                .build()
                .expect("id and receipt are given")
        });
        let request = self.client.change_message_visibility_batch();
        let request = request.queue_url(&self.url);
        let request = request.set_entries(Some(entries.collect())).customize();
        let answer = request.config_override(within(limit)).send().await;
        match answer {
            Ok(answer) => outcomes(receipts.len(), answer.failed()),
            Err(error) => repeated(receipts.len(), &Failure::from(error)),
        }
    }
}

/// About how many messages a queue has, those that somebody holds included.
pub(crate) async fn count(client: &Client, url: &str) -> Result<u64, Failure> {
    let counts = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    ];
    let request = client.get_queue_attributes().queue_url(url);
    let request = request.set_attribute_names(Some(counts.to_vec()));
    let attributes = request.send().await?.attributes.unwrap_or_default();
    let count = |name| attributes.get(name)?.parse::<u64>().ok();
    Ok(counts.iter().filter_map(count).sum())
}

/// A request for some entries, with an outcome for each.
type Request<'a> = BoxFuture<'a, Vec<Result<(), Failure>>>;

/// Several requests at once; the outcomes in their order.
async fn all_of(requests: Vec<Request<'_>>) -> Vec<Result<(), Failure>> {
    let answers = stream::iter(requests).buffered(AWS_REQUESTS_IN_FLIGHT_MAX);
    answers.collect::<Vec<_>>().await.concat()
}

/// The configuration of a request that has so long for its answer.
fn within(limit: Duration) -> Builder {
    let limits = TimeoutConfig::builder()
        .connect_timeout(AWS_CONNECT_TIMEOUT)
        .operation_attempt_timeout(limit);
    Builder::new().timeout_config(limits.build())
}

/// Whole seconds, upwards, so that a time asked for is not cut short.
fn seconds(time: Duration) -> i32 {
    let up = u64::from(time.subsec_nanos() > 0);
    i32::try_from(time.as_secs() + up).unwrap_or(i32::MAX)
}

fn outcomes(entries: usize, failed: &[BatchResultErrorEntry]) -> Vec<Result<(), Failure>> {
    let mut outcomes: Vec<Result<(), Failure>> = (0..entries).map(|_| Ok(())).collect();
    for entry in failed {
        let place = entry.id().parse::<usize>().ok();
        if let Some(outcome) = place.and_then(|place| outcomes.get_mut(place)) {
            *outcome = Err(Failure {
                fault: Fault::of_code(entry.code(), entry.sender_fault()),
                reason: format!("{}: {}", entry.code(), entry.message().unwrap_or_default()),
            });
        }
    }
    outcomes
}

fn repeated(entries: usize, failure: &Failure) -> Vec<Result<(), Failure>> {
    (0..entries).map(|_| Err(failure.clone())).collect()
}
