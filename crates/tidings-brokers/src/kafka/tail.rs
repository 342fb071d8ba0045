//! Reading along without a group: all partitions, from some point on. A thread of its own reads ahead a little.

use super::client::{Client, Troubles, create};
use super::mapping::{NAME, RecordReader, broker_error, is_unreadable, is_wanted};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::sync::Arc;
use tidings_core::BoxFuture;
use tidings_core::broker::{BrokerError, StartAt, Tail, TailPage, TailRequest, Tailed};
use tidings_core::limits::{KAFKA_POLL_EVENTS_MAX, KAFKA_POLL_WAIT};
use tokio::sync::mpsc;

/// Pages that wait to be taken.
const PAGES_MAX: usize = 4;

/// Begins to read along; blocks.
pub(super) fn tail(
    client: &Arc<Client>,
    request: TailRequest,
    partitions: u32,
) -> Result<KafkaTail, BrokerError> {
    let config = &client.config;
    let ends = client.ends(partitions)?;
    let starts = client.starts(partitions, request.start)?;
    let mut list = TopicPartitionList::new();
    let mut behind = BTreeSet::new();
    for (partition, start) in &starts {
        let offset = Offset::Offset(i64::try_from(*start).unwrap_or(i64::MAX));
        list.add_partition_offset(&config.topic, *partition, offset)
            .map_err(|error| broker_error(&config.address, "name a partition", &error))?;
        if ends.next.get(partition).is_some_and(|end| start < end) {
            behind.insert(*partition);
        }
    }
    let consumer: BaseConsumer<Troubles> = create(config, &config.reader(), Troubles::default())?;
    consumer
        .assign(&list)
        .map_err(|error| broker_error(&config.address, "read partitions", &error))?;
    let (pages, inbox) = mpsc::channel(PAGES_MAX);
    let follower = Follower {
        client: Arc::clone(client),
        consumer,
        request,
        ends: ends.next,
        behind,
        told_end: false,
        reader: RecordReader::new(&config.topic),
        pages,
    };
    std::thread::Builder::new()
        .name("tidings-kafka-tail".to_owned())
        .spawn(move || follower.run())
        .map_err(|error| BrokerError::Remote {
            broker: NAME,
            action: "start the thread of a reader",
            reason: error.to_string(),
            class: tidings_core::ErrorClass::Transient,
        })?;
    Ok(KafkaTail {
        inbox,
        left: Vec::new(),
        at_end: false,
    })
}

/// The reader's side.
pub(super) struct KafkaTail {
    inbox: mpsc::Receiver<Result<TailPage, BrokerError>>,
    /// Of the last page, what was more than asked for.
    left: Vec<Tailed>,
    /// The last page said that the end is reached.
    at_end: bool,
}

impl Tail for KafkaTail {
    fn next(&mut self, events_max: usize) -> BoxFuture<'_, Result<TailPage, BrokerError>> {
        Box::pin(async move {
            if self.left.is_empty() && !self.at_end {
                let page = self.inbox.recv().await.ok_or(BrokerError::Closed)??;
                self.left = page.events;
                self.at_end = page.at_end;
            }
            let count = self.left.len().min(events_max.max(1));
            let events = self.left.drain(..count).collect();
            let at_end = self.left.is_empty() && std::mem::take(&mut self.at_end);
            Ok(TailPage { events, at_end })
        })
    }
}

/// The thread's side.
struct Follower {
    client: Arc<Client>,
    consumer: BaseConsumer<Troubles>,
    request: TailRequest,
    /// Where each partition ended when reading began.
    ends: std::collections::BTreeMap<i32, u64>,
    /// Partitions whose end as it was is not reached.
    behind: BTreeSet<i32>,
    told_end: bool,
    reader: RecordReader,
    pages: mpsc::Sender<Result<TailPage, BrokerError>>,
}

impl Follower {
    /// Ends once nobody reads.
    fn run(mut self) {
        loop {
            let page = self.page();
            let at_end = !self.told_end && self.behind.is_empty();
            let answer = match page {
                Ok(events) if events.is_empty() && !at_end => {
                    if self.pages.is_closed() {
                        return;
                    }
                    continue;
                }
                Ok(events) => {
                    self.told_end |= at_end;
                    Ok(TailPage { events, at_end })
                }
                Err(error) => Err(error),
            };
            if self.pages.blocking_send(answer).is_err() {
                return;
            }
        }
    }

    fn page(&mut self) -> Result<Vec<Tailed>, BrokerError> {
        let mut events = Vec::new();
        let mut wait = KAFKA_POLL_WAIT;
        while events.len() < KAFKA_POLL_EVENTS_MAX {
            match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    let record = self.reader.read(&message);
                    let end = self.ends.get(&record.partition).copied().unwrap_or(0);
                    if record.offset + 1 >= end {
                        self.behind.remove(&record.partition);
                    }
                    if is_wanted(&self.request.patterns, &record.carried) {
                        let place = format!(
                            "{}/{}/{}",
                            self.client.config.topic, record.partition, record.offset
                        );
                        events.push(Tailed {
                            place: place.into(),
                            position: None,
                            append_time: record.append_time,
                            envelope: record.carried.envelope,
                            problem: record.carried.problem,
                        });
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.behind.remove(&partition);
                    // Soon enough to be told.
                    if self.behind.is_empty() && !self.told_end {
                        break;
                    }
                }
                Some(Err(error)) if events.is_empty() => {
                    if let Some(told) = self.told(&error) {
                        return Err(told);
                    }
                }
                Some(Err(_)) => break,
            }
            wait = std::time::Duration::ZERO;
        }
        Ok(events)
    }

    /// Errors that heal by themselves are not worth telling, except that the brokers are away.
    fn told(&mut self, error: &KafkaError) -> Option<BrokerError> {
        use RDKafkaErrorCode as E;
        match error.rdkafka_error_code()? {
            E::AutoOffsetReset | E::OffsetOutOfRange => Some(self.skip_removed()),
            E::AllBrokersDown
            | E::Authentication
            | E::SSL
            | E::TopicAuthorizationFailed
            | E::UnknownTopicOrPartition
            | E::UnknownTopic
            | E::Fatal => Some(broker_error(&self.client.config.address, "read", error)),
            code if is_unreadable(code) => {
                Some(broker_error(&self.client.config.address, "read", error))
            }
            _ => None,
        }
    }

    /// Retention was faster than the reader: goes on at the oldest events kept, and says so.
    fn skip_removed(&mut self) -> BrokerError {
        let action = "go on reading";
        let failed = |error| broker_error(&self.client.config.address, action, &error);
        let positions = match self.consumer.position() {
            Ok(positions) => positions,
            Err(error) => return failed(error),
        };
        let Ok(partitions) = u32::try_from(positions.count()) else {
            return failed(KafkaError::NoMessageReceived);
        };
        let first = match self.client.starts(partitions, StartAt::Earliest) {
            Ok(first) => first,
            Err(error) => return error,
        };
        for element in positions.elements() {
            let at = match element.offset() {
                Offset::Offset(offset) => u64::try_from(offset).unwrap_or(0),
                _ => 0,
            };
            let oldest = first.get(&element.partition()).copied().unwrap_or(0);
            if at < oldest {
                let offset = Offset::Offset(i64::try_from(oldest).unwrap_or(i64::MAX));
                let sought = self.consumer.seek(
                    element.topic(),
                    element.partition(),
                    offset,
                    tidings_core::limits::KAFKA_REQUEST_TIMEOUT,
                );
                if let Err(error) = sought {
                    return failed(error);
                }
            }
        }
        BrokerError::Remote {
            broker: NAME,
            action,
            reason:
                "events were removed by retention before they were read; it goes on behind them"
                    .to_owned(),
            class: tidings_core::ErrorClass::Transient,
        }
    }
}
