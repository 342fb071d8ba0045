//! The thread of a group member: it polls without a pause, so that Kafka never takes us for dead because a handler is slow.

use super::super::client::{Client, create};
use super::super::config::KafkaConfig;
use super::super::mapping::{Incomer, NAME, RecordReader, broker_error, is_unreadable, is_wanted};
use super::rebalance::{Rebalance, commit, is_in_flux};
use super::state::Shared;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tidings_core::Pattern;
use tidings_core::broker::{BrokerError, Position, SubscribeRequest};
use tidings_core::limits::{
    KAFKA_COMMIT_INTERVAL, KAFKA_POLL_EVENTS_MAX, KAFKA_POLL_WAIT, KAFKA_REVOKE_WAIT,
    KAFKA_ROOM_WAIT,
};
use tidings_core::seam::Clock;
use tokio::sync::oneshot;

/// What the settle half asks of the thread.
pub(super) enum Command {
    /// Commit what is settled and say when that is done.
    Flush(oneshot::Sender<Result<(), BrokerError>>),
    /// Leave the group, and say when that is done.
    Leave(oneshot::Sender<Result<(), BrokerError>>),
}

/// A member of a group.
pub(super) struct Member {
    consumer: BaseConsumer<Rebalance>,
    config: Arc<KafkaConfig>,
    client: Arc<Client>,
    group: String,
    patterns: Vec<Pattern>,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    reader: RecordReader,
    paused: bool,
    committed_at: Duration,
}

impl Member {
    /// Joins a group; its partitions come later.
    pub(super) fn join(
        client: &Arc<Client>,
        clock: &Arc<dyn Clock>,
        request: &SubscribeRequest,
        starts: BTreeMap<i32, u64>,
        shared: &Arc<Shared>,
        commands: mpsc::Receiver<Command>,
    ) -> Result<Self, BrokerError> {
        let config = &client.config;
        let group = config.group_id(&request.group);
        let context = Rebalance {
            config: Arc::clone(config),
            group: group.clone(),
            clock: Arc::clone(clock),
            shared: Arc::clone(shared),
            starts,
            troubles: super::super::client::Troubles::default(),
            rejoin: AtomicBool::new(false),
        };
        let settings = config.consumer(&request.group);
        let consumer: BaseConsumer<Rebalance> = create(config, &settings, context)?;
        consumer
            .subscribe(&[&config.topic])
            .map_err(|error| broker_error(&config.address, "join a group", &error))?;
        Ok(Self {
            consumer,
            config: Arc::clone(config),
            client: Arc::clone(client),
            group,
            patterns: request.patterns.clone(),
            clock: Arc::clone(clock),
            shared: Arc::clone(shared),
            commands,
            reader: RecordReader::new(&config.topic),
            paused: false,
            committed_at: clock.elapsed(),
        })
    }

    /// Works until the group is left or nobody is there to receive.
    pub(super) fn run(mut self) {
        let left = loop {
            match self.commands.try_recv() {
                Ok(Command::Flush(done)) => {
                    // Nobody may wait any more.
                    let _ = done.send(self.commit_all());
                }
                Ok(Command::Leave(done)) => break Some(done),
                Err(mpsc::TryRecvError::Disconnected) => break None,
                Err(mpsc::TryRecvError::Empty) => {}
            }
            if self.shared.lock().is_closed() {
                break None;
            }
            let took = self.poll();
            self.wait_for_room(took);
            let now = self.clock.elapsed();
            if now.saturating_sub(self.committed_at) >= KAFKA_COMMIT_INTERVAL {
                self.committed_at = now;
                if let Err(error) = self.commit(CommitMode::Async) {
                    tracing::debug!(group = self.group, "a commit was not begun: {error}");
                }
            }
            self.rejoin_if_asked();
        };
        self.shared.lock().stop();
        let committed = self.commit_all();
        let shared = Arc::clone(&self.shared);
        // This leaves the group, so that others get the partitions at once.
        drop(self);
        shared.lock().end();
        shared.arrived.notify_one();
        if let Some(left) = left {
            // Nobody may wait any more.
            let _ = left.send(committed);
        }
    }

    /// Takes what is there, waiting a moment for the first of it; whether there was something.
    fn poll(&mut self) -> bool {
        let mut records: Vec<(Incomer, bool)> = Vec::new();
        let mut ends = Vec::new();
        let mut failure = None;
        let mut wait = KAFKA_POLL_WAIT;
        while records.len() < KAFKA_POLL_EVENTS_MAX {
            match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    let record = self.reader.read(&message);
                    let wanted = is_wanted(&self.patterns, &record.carried);
                    records.push((record, wanted));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    // An end counts for what was taken before it.
                    if !records.is_empty() {
                        self.shared.lock().take_in(std::mem::take(&mut records));
                        self.shared.arrived.notify_one();
                    }
                    ends.push(partition);
                    self.shared.lock().reach_end(partition);
                }
                Some(Err(error)) => {
                    failure = Some(error);
                    break;
                }
            }
            wait = Duration::ZERO;
        }
        let took = !records.is_empty();
        self.shared.lock().take_in(records);
        let raised = self.raise();
        if took || !ends.is_empty() || raised {
            self.shared.arrived.notify_one();
        }
        if let Some(error) = failure {
            self.failed(&error);
        }
        took
    }

    /// Errors that heal by themselves are not worth telling; the others are.
    fn failed(&self, error: &KafkaError) {
        use RDKafkaErrorCode as E;
        let told = match error.rdkafka_error_code() {
            Some(E::AutoOffsetReset | E::OffsetOutOfRange) => self.passed(),
            Some(
                E::AllBrokersDown
                | E::BrokerTransportFailure
                | E::Resolve
                | E::OperationTimedOut
                | E::Authentication
                | E::SSL
                | E::TopicAuthorizationFailed
                | E::GroupAuthorizationFailed
                | E::UnknownTopicOrPartition
                | E::UnknownTopic
                | E::PollExceeded
                | E::Fatal,
            ) => Some(broker_error(&self.config.address, "receive", error)),
            Some(code) if is_unreadable(code) => {
                Some(broker_error(&self.config.address, "receive", error))
            }
            _ => None,
        };
        tracing::debug!(group = self.group, "{error}");
        if let Some(error) = told {
            self.shared.lock().fail(error);
            self.shared.arrived.notify_one();
        }
    }

    /// Retention has removed what the group has not settled: which partition, and how far.
    fn passed(&self) -> Option<BrokerError> {
        let partitions = self.client.partitions().ok()??;
        let ends = self.client.ends(partitions).ok()?;
        let state = self.shared.lock();
        for partition in state.partitions() {
            let (next, first) = (state.next(partition)?, *ends.first.get(&partition)?);
            if next < first {
                return Some(BrokerError::GroupPassed {
                    group: self.group.clone(),
                    position: Position(next),
                    oldest: Position(first),
                });
            }
        }
        Some(BrokerError::Remote {
            broker: NAME,
            action: "go on where the group stood",
            reason: format!(
                "the topic {} ends before it; move the group: tidings consumer reset {} --to earliest",
                self.config.topic, self.group
            ),
            class: tidings_core::ErrorClass::Permanent,
        })
    }

    /// Stops Kafka from sending more while too much waits, without ever ceasing to poll.
    fn wait_for_room(&mut self, took: bool) {
        let mut state = self.shared.lock();
        if !self.paused && state.is_full() {
            state = self.shared.wait_changed(state, KAFKA_ROOM_WAIT);
        }
        let pause = if self.paused {
            // Something that came all the same is of a partition that is new.
            took && !state.has_room()
        } else {
            state.is_full()
        };
        let resume = self.paused && state.has_room();
        drop(state);
        if !pause && !resume {
            return;
        }
        let changed = self.consumer.assignment().and_then(|assignment| {
            if resume {
                self.consumer.resume(&assignment)
            } else {
                self.consumer.pause(&assignment)
            }
        });
        match changed {
            Ok(()) => self.paused = pause,
            Err(error) => tracing::debug!(group = self.group, "{error}"),
        }
    }

    /// Commits what is settled and waits for it. While the group is dealt out anew it polls, because only then a commit is taken.
    fn commit_all(&mut self) -> Result<(), BrokerError> {
        let began = self.clock.elapsed();
        loop {
            match self.commit(CommitMode::Sync) {
                Ok(()) => return Ok(()),
                Err(error)
                    if is_in_flux(&error)
                        && self.clock.elapsed().saturating_sub(began) < KAFKA_REVOKE_WAIT =>
                {
                    self.poll();
                }
                Err(error) => {
                    return Err(broker_error(&self.config.address, "commit offsets", &error));
                }
            }
        }
    }

    fn commit(&self, mode: CommitMode) -> KafkaResult<()> {
        let mut state = self.shared.lock();
        let stands = if state.is_stopping() {
            state.take_last(None)
        } else {
            state.take_moved()
        };
        drop(state);
        let committed = commit(&self.config, &self.consumer, &stands, mode);
        if committed.is_err() {
            let partitions = stands.iter().map(|stand| stand.partition);
            self.shared.lock().commit_failed(partitions);
        }
        committed
    }

    /// Commits that more may have been handed out than is so far, before it is, and answers whether more may be now. Where that fails it is tried again with the
    /// next look for events.
    fn raise(&self) -> bool {
        let stands = self.shared.lock().to_raise();
        if stands.is_empty() {
            return false;
        }
        match commit(&self.config, &self.consumer, &stands, CommitMode::Sync) {
            Ok(()) => self.shared.lock().raised(&stands),
            Err(error) => {
                tracing::debug!(
                    group = self.group,
                    "what is handed out is not noted: {error}"
                );
                return false;
            }
        }
        true
    }

    fn rejoin_if_asked(&self) {
        let context = self.consumer.context();
        if !context.rejoin.swap(false, Ordering::AcqRel) {
            return;
        }
        self.consumer.unsubscribe();
        if let Err(error) = self.consumer.subscribe(&[&self.config.topic]) {
            context.rejoin.store(true, Ordering::Release);
            tracing::debug!(group = self.group, "{error}");
        }
    }
}
