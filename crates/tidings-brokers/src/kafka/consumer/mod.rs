//! Consuming: a member of a consumer group whose thread takes events, and the two halves that hand them out and settle them.

mod member;
mod rebalance;
mod state;

use super::client::{Client, while_coordinator_moves};
use super::mapping::NAME;
use member::{Command, Member};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use state::Shared;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::time::Duration;
use tidings_core::broker::{
    BrokerError, GroupName, Receive, Received, Settle, SettleAction, SettleError, StartAt,
    SubscribeRequest, Subscription, Token,
};
use tidings_core::limits::{KAFKA_LEAVE_TIMEOUT, KAFKA_REQUEST_TIMEOUT};
use tidings_core::seam::Clock;
use tidings_core::{BoxFuture, Timestamp};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Joins a group; blocks.
pub(super) fn subscribe(
    client: &Arc<Client>,
    clock: &Arc<dyn Clock>,
    request: &SubscribeRequest,
    partitions: u32,
    members: &Members,
) -> Result<Subscription, BrokerError> {
    let starts = begin(client, &request.group, request.start, partitions)?;
    let shared = Arc::new(Shared::default());
    let (commands, inbox) = mpsc::channel();
    let member = Member::join(client, clock, request, starts, &shared, inbox)?;
    std::thread::Builder::new()
        .name("tidings-kafka".to_owned())
        .spawn(move || member.run())
        .map_err(|error| BrokerError::Remote {
            broker: NAME,
            action: "start the thread of a consumer",
            reason: error.to_string(),
            class: tidings_core::ErrorClass::Transient,
        })?;
    members.add(&shared);
    let halves = Arc::new(Halves { shared, commands });
    Ok(Subscription {
        receive: Box::new(KafkaReceive {
            halves: Arc::clone(&halves),
            client: Arc::clone(client),
        }),
        settle: halves,
        resumed: None,
    })
}

/// Where the partitions begin that the group has no offset for. They are committed at once where nobody works for the group, so that it stands where it was made.
fn begin(
    client: &Client,
    group: &GroupName,
    start: StartAt,
    partitions: u32,
) -> Result<BTreeMap<i32, u64>, BrokerError> {
    let cursor = Cursor::open(client, group)?;
    let committed = cursor.committed(partitions)?;
    // A partition that was added to a topic is read from its beginning by a group that was there before.
    let start = if committed.is_empty() {
        start
    } else {
        StartAt::Earliest
    };
    let count = usize::try_from(partitions).unwrap_or(usize::MAX);
    if committed.len() >= count {
        return Ok(BTreeMap::new());
    }
    let mut starts = client.starts(partitions, start)?;
    starts.retain(|partition, _| !committed.contains_key(partition));
    match cursor.commit(&starts) {
        Ok(()) | Err(CommitError::InUse) => Ok(starts),
        Err(CommitError::Other(error)) => Err(error),
    }
}

/// The committed offsets of a group, from outside of it.
pub(super) struct Cursor<'a> {
    client: &'a Client,
    consumer: BaseConsumer<super::client::Troubles>,
}

/// Why offsets were not committed.
pub(super) enum CommitError {
    /// Members of the group are at work.
    InUse,
    /// Something else.
    Other(BrokerError),
}

impl<'a> Cursor<'a> {
    pub(super) fn open(client: &'a Client, group: &GroupName) -> Result<Self, BrokerError> {
        let config = &client.config;
        let troubles = super::client::Troubles::default();
        let consumer = super::client::create(config, &config.consumer(group), troubles)?;
        Ok(Self { client, consumer })
    }

    /// Asks again while the coordinator of the group moves, which a server says for a moment after a start, and after the first or the last member of a group.
    pub(super) fn committed(&self, partitions: u32) -> Result<BTreeMap<i32, u64>, BrokerError> {
        let action = "ask for the offsets of a group";
        let list = self.client.list(partitions, Offset::Invalid)?;
        let answer = while_coordinator_moves(|| {
            let answer = self
                .consumer
                .committed_offsets(list.clone(), KAFKA_REQUEST_TIMEOUT)?;
            for element in answer.elements() {
                element.error()?;
            }
            Ok(answer)
        })
        .map_err(|error| self.client.failed(action, &error))?;
        let mut committed = BTreeMap::new();
        for element in answer.elements() {
            if let Offset::Offset(offset) = element.offset() {
                committed.insert(element.partition(), u64::try_from(offset).unwrap_or(0));
            }
        }
        Ok(committed)
    }

    /// Commits as nobody's member, which Kafka allows while the group has none.
    pub(super) fn commit(&self, offsets: &BTreeMap<i32, u64>) -> Result<(), CommitError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let failed =
            |error: KafkaError| CommitError::Other(self.client.failed("commit offsets", &error));
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            let offset = Offset::Offset(i64::try_from(*offset).unwrap_or(i64::MAX));
            list.add_partition_offset(&self.client.config.topic, *partition, offset)
                .map_err(failed)?;
        }
        while_coordinator_moves(|| self.consumer.commit(&list, CommitMode::Sync)).map_err(|error| {
            match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::UnknownMemberId
                    | RDKafkaErrorCode::IllegalGeneration
                    | RDKafkaErrorCode::RebalanceInProgress,
                ) => CommitError::InUse,
                _ => failed(error),
            }
        })
    }

    /// When the event at an offset was appended, if it comes within the time.
    pub(super) fn append_time(
        &self,
        partition: i32,
        offset: u64,
        wait: Duration,
    ) -> Option<Timestamp> {
        let mut list = TopicPartitionList::new();
        let offset = Offset::Offset(i64::try_from(offset).ok()?);
        list.add_partition_offset(&self.client.config.topic, partition, offset)
            .ok()?;
        self.consumer.assign(&list).ok()?;
        let step = Duration::from_millis(100);
        let mut waited = Duration::ZERO;
        let mut found = None;
        while found.is_none() && waited < wait {
            match self.consumer.poll(step) {
                Some(Ok(message)) => {
                    use rdkafka::Message as _;
                    let millis = message.timestamp().to_millis().unwrap_or(0);
                    found = Some(Timestamp::from_micros(millis.saturating_mul(1_000)));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(_)) | None => waited += step,
            }
        }
        // What it fetched ahead is of no use.
        let _ = self.consumer.unassign();
        found
    }
}

/// The members of groups that a broker has made, so that closing it reaches them.
#[derive(Default)]
pub(super) struct Members {
    /// Guards the list; held to add or to look. Those that have left are dropped when another comes.
    list: Mutex<Vec<Weak<Shared>>>,
}

impl Members {
    fn add(&self, shared: &Arc<Shared>) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|member| member.strong_count() > 0);
        list.push(Arc::downgrade(shared));
    }

    /// Tells all of them that the broker is closed. What they settled is committed by their threads.
    pub(super) fn close(&self) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        for shared in list.drain(..).filter_map(|member| member.upgrade()) {
            shared.lock().close();
            shared.tell_changed();
            shared.arrived.notify_one();
        }
    }
}

/// What both halves hold: the thread ends once both are gone.
struct Halves {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

impl Halves {
    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), BrokerError>>) -> Command,
    ) -> Option<Result<(), BrokerError>> {
        let (done, answer) = oneshot::channel();
        // A thread that has ended has committed all it could.
        self.commands.send(command(done)).ok()?;
        self.shared.tell_changed();
        match timeout(KAFKA_LEAVE_TIMEOUT, answer).await {
            Ok(answer) => answer.ok(),
            Err(_) => Some(Err(BrokerError::Remote {
                broker: NAME,
                action: "commit offsets",
                reason: format!("no answer after {KAFKA_LEAVE_TIMEOUT:?}"),
                class: tidings_core::ErrorClass::Transient,
            })),
        }
    }
}

impl Drop for Halves {
    fn drop(&mut self) {
        self.shared.lock().stop();
        self.shared.tell_changed();
    }
}

impl Settle for Halves {
    fn settle<'a>(
        &'a self,
        outcomes: &'a [(Token, SettleAction)],
    ) -> BoxFuture<'a, Vec<Result<(), SettleError>>> {
        Box::pin(async move {
            let mut came_back = false;
            let mut state = self.shared.lock();
            let answers = outcomes
                .iter()
                .map(|(token, action)| {
                    let answer = state.settle(*token, *action)?;
                    came_back |= answer;
                    Ok(())
                })
                .collect();
            drop(state);
            self.shared.tell_changed();
            if came_back {
                self.shared.arrived.notify_one();
            }
            answers
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move { self.ask(Command::Flush).await.unwrap_or(Ok(())) })
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move {
            self.shared.lock().stop();
            self.ask(Command::Leave).await.unwrap_or(Ok(()))
        })
    }
}

struct KafkaReceive {
    halves: Arc<Halves>,
    client: Arc<Client>,
}

impl Receive for KafkaReceive {
    fn receive(&mut self, events_max: usize) -> BoxFuture<'_, Result<Received, BrokerError>> {
        Box::pin(async move {
            let shared = &self.halves.shared;
            loop {
                let received = shared.lock().receive(events_max);
                if let Some(received) = received {
                    shared.tell_changed();
                    return received;
                }
                shared.arrived.notified().await;
            }
        })
    }

    fn is_caught_up(&self) -> bool {
        if !self.halves.shared.lock().seems_caught_up() {
            return false;
        }
        // What was published just now is not fetched yet, so only the broker knows. Without its answer there may be more.
        let ends = self.client.partitions().ok().flatten().and_then(|count| {
            let start = StartAt::Latest;
            self.client.starts(count, start).ok()
        });
        let now = self.client.elapsed();
        ends.is_some_and(|ends| self.halves.shared.lock().has_reached(&ends, now))
    }

    fn behind(&self, now: Timestamp) -> Option<Duration> {
        let oldest = self.halves.shared.lock().oldest_pending()?;
        Some(now.since(oldest))
    }
}
