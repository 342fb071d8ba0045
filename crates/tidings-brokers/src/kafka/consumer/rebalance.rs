//! What happens when the group's partitions are dealt out anew: it runs on the member's thread, within the library's poll.

use super::super::client::{Troubles, while_coordinator_moves};
use super::super::config::KafkaConfig;
use super::super::mapping::{NAME, broker_error};
use super::state::{Shared, Stand};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidings_core::limits::{KAFKA_REQUEST_TIMEOUT, KAFKA_REVOKE_WAIT};
use tidings_core::seam::Clock;

/// How often the offsets of new partitions are asked for before the group is joined anew.
const COMMITTED_ATTEMPTS: usize = 3;

/// Hears of assignments, revocations and commits.
pub(super) struct Rebalance {
    pub(super) config: Arc<KafkaConfig>,
    pub(super) group: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) shared: Arc<Shared>,
    /// Where a partition begins whose offset nobody committed.
    pub(super) starts: BTreeMap<i32, u64>,
    pub(super) troubles: Troubles,
    /// The assignment could not be taken: ask for another.
    pub(super) rejoin: AtomicBool,
}

impl ClientContext for Rebalance {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        self.troubles.log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.troubles.error(error, reason);
    }
}

impl ConsumerContext for Rebalance {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        kind: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let is_cooperative = matches!(
            consumer.rebalance_protocol(),
            RebalanceProtocol::Cooperative
        );
        let done = if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            // The list given belongs to the library: it is read and never replaced.
            let assigned = self.assign(consumer, list);
            if is_cooperative {
                consumer.incremental_assign(&assigned)
            } else {
                consumer.assign(&assigned)
            }
        } else {
            self.revoke(consumer, list);
            if is_cooperative {
                consumer.incremental_unassign(list)
            } else {
                consumer.unassign()
            }
        };
        if let Err(error) = done {
            tracing::warn!(group = self.group, "an assignment was not taken: {error}");
            self.rejoin.store(true, Ordering::Release);
        }
        self.shared.arrived.notify_one();
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(group = self.group, "a commit failed: {error}");
            let elements = offsets.elements();
            let partitions = elements.iter().map(|element| element.partition());
            self.shared.lock().commit_failed(partitions);
        }
    }
}

impl Rebalance {
    /// Takes partitions in, each from where the group stands.
    fn assign(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &TopicPartitionList,
    ) -> TopicPartitionList {
        let committed = match self.committed(consumer, list) {
            Ok(committed) => committed,
            Err(error) => {
                let error = broker_error(&self.config.address, "ask for offsets", &error);
                self.shared.lock().fail(error);
                self.rejoin.store(true, Ordering::Release);
                // Nothing is ours until it is known where it begins.
                return TopicPartitionList::new();
            }
        };
        let mut begins = Vec::new();
        for element in committed.elements() {
            let partition = element.partition();
            let (position, is_committed) = match element.offset() {
                Offset::Offset(offset) => (u64::try_from(offset).unwrap_or(0), true),
                _ => (self.starts.get(&partition).copied().unwrap_or(0), false),
            };
            let handed_below = handed_below(element.metadata()).unwrap_or(0);
            let stand = Stand {
                partition,
                position,
                handed_below: handed_below.max(position),
            };
            begins.push((stand, is_committed));
        }
        let mut assigned = TopicPartitionList::new();
        let mut state = self.shared.lock();
        for (stand, is_committed) in begins {
            let (partition, from) = (stand.partition, stand.position);
            let offset = Offset::Offset(i64::try_from(from).unwrap_or(i64::MAX));
            if let Err(error) = assigned.add_partition_offset(&self.config.topic, partition, offset)
            {
                tracing::warn!("partition {partition} cannot begin at {from}: {error}");
                continue;
            }
            state.assign(&self.config.topic, stand, is_committed);
        }
        state.join();
        assigned
    }

    fn committed(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &TopicPartitionList,
    ) -> KafkaResult<TopicPartitionList> {
        if list.count() == 0 {
            return Ok(TopicPartitionList::new());
        }
        let mut attempts = 1;
        loop {
            let answer = while_coordinator_moves(|| {
                let answer = consumer.committed_offsets(list.clone(), KAFKA_REQUEST_TIMEOUT)?;
                answer
                    .elements()
                    .iter()
                    .try_for_each(|element| element.error())?;
                Ok(answer)
            });
            match answer {
                Err(error) if attempts < COMMITTED_ATTEMPTS => {
                    tracing::debug!(group = self.group, "offsets are asked for again: {error}");
                    attempts += 1;
                }
                answer => return answer,
            }
        }
    }

    /// Gives partitions up: after a last commit if they are still ours, without one if another may have them.
    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let partitions: Vec<i32> = list
            .elements()
            .iter()
            .map(|element| element.partition())
            .collect();
        if consumer.assignment_lost() {
            tracing::info!(group = self.group, ?partitions, "lost partitions");
        } else {
            self.give_up(consumer, &partitions);
        }
        let mut state = self.shared.lock();
        for partition in partitions {
            state.lose(partition);
        }
    }

    fn give_up(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) {
        let began = self.clock.elapsed();
        let mut state = self.shared.lock();
        for partition in partitions {
            state.revoke(*partition);
        }
        self.shared.arrived.notify_one();
        while state.is_at_work(partitions) && !state.is_stopping() {
            let waited = self.clock.elapsed().saturating_sub(began);
            let Some(left) = KAFKA_REVOKE_WAIT.checked_sub(waited) else {
                break;
            };
            state = self
                .shared
                .wait_changed(state, left.max(Duration::from_millis(1)));
        }
        let last = state.take_last(Some(partitions));
        drop(state);
        if let Err(error) = commit(&self.config, consumer, &last, CommitMode::Sync) {
            // Whoever has the partition next handles again what is not committed.
            tracing::warn!(group = self.group, "a last commit failed: {error}");
        }
    }
}

/// Commits offsets of partitions that are ours.
pub(super) fn commit(
    config: &KafkaConfig,
    consumer: &BaseConsumer<Rebalance>,
    stands: &[Stand],
    mode: CommitMode,
) -> KafkaResult<()> {
    if stands.is_empty() {
        return Ok(());
    }
    let mut list = TopicPartitionList::with_capacity(stands.len());
    for stand in stands {
        let offset = Offset::Offset(i64::try_from(stand.position).unwrap_or(i64::MAX));
        let mut element = list.add_partition(&config.topic, stand.partition);
        element.set_offset(offset)?;
        if stand.handed_below > stand.position {
            element.set_metadata(format!("{HANDED_BELOW}{}", stand.handed_below));
        }
    }
    tracing::trace!(broker = NAME, ?stands, "commit");
    consumer.commit(&list, mode)
}

/// What begins the metadata of a committed offset behind which more was handed out.
const HANDED_BELOW: &str = "handed-out-below=";

fn handed_below(metadata: &str) -> Option<u64> {
    metadata.strip_prefix(HANDED_BELOW)?.parse().ok()
}

/// Whether a commit was refused because the group is being dealt out anew: it may be taken once we poll.
pub(super) fn is_in_flux(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as E;
    matches!(
        error.rdkafka_error_code(),
        Some(E::IllegalGeneration | E::UnknownMemberId | E::RebalanceInProgress)
    )
}
