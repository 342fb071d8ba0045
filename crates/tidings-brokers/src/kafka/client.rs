//! What the client of Kafka's library needs around it: an ear for its troubles, a first connection that fails fast, and questions about a topic.

use super::config::KafkaConfig;
use super::mapping::{NAME, broker_error, is_refusal};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidings_core::broker::{BrokerError, StartAt};
use tidings_core::limits::{
    KAFKA_CONNECT_TIMEOUT, KAFKA_MESSAGE_BYTES_DEFAULT, KAFKA_MESSAGE_BYTES_MAX,
    KAFKA_REQUEST_TIMEOUT,
};
use tidings_core::seam::Clock;
use tidings_core::{ErrorClass, Timestamp};

/// A question of the first connection waits so long before the troubles heard of are looked at.
const PROBE: Duration = Duration::from_millis(500);
/// Events of the client that are served at once.
const EVENTS_SERVED_MAX: usize = 32;
/// How long to wait before a coordinator that moves is asked again.
const COORDINATOR_PAUSE: Duration = Duration::from_millis(100);

/// Remembers what the library last complained of; the clones share it.
#[derive(Clone, Default)]
pub(super) struct Troubles {
    /// Guards the last complaint; held for a look or a change.
    last: Arc<Mutex<Option<(RDKafkaErrorCode, String)>>>,
}

impl Troubles {
    /// The last complaint, which is forgotten thereby.
    pub(super) fn take(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl ClientContext for Troubles {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        // What matters is told as an error too, so this is for whoever looks for a cause.
        tracing::debug!(target: "tidings_brokers::kafka", ?level, facility = fac, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "tidings_brokers::kafka", "{error}: {reason}");
        let Some(code) = error.rdkafka_error_code() else {
            return;
        };
        if code == RDKafkaErrorCode::PartitionEOF {
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if code != RDKafkaErrorCode::AllBrokersDown || last.is_none() {
            *last = Some((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Troubles {}

/// A topic as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TopicFacts {
    pub(super) partitions: u32,
    /// The largest message that it takes.
    pub(super) message_bytes_max: u32,
    /// Whether what it accepted survives that a machine loses power.
    pub(super) synced: bool,
}

/// Asks the cluster; each method blocks and belongs on a thread that may.
pub(super) struct Client {
    pub(super) config: Arc<KafkaConfig>,
    clock: Arc<dyn Clock>,
    consumer: BaseConsumer<Troubles>,
    troubles: Troubles,
}

impl Client {
    /// Connects, or says why not within [`KAFKA_CONNECT_TIMEOUT`].
    pub(super) fn connect(
        config: Arc<KafkaConfig>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BrokerError> {
        let troubles = Troubles::default();
        let consumer: BaseConsumer<Troubles> = create(&config, &config.client(), troubles.clone())?;
        let client = Self {
            config,
            clock,
            consumer,
            troubles,
        };
        client.probe()?;
        Ok(client)
    }

    fn probe(&self) -> Result<(), BrokerError> {
        let began = self.clock.elapsed();
        let mut heard = None;
        loop {
            let answer = self
                .consumer
                .fetch_metadata(Some(&self.config.topic), PROBE);
            let Err(error) = answer else {
                return Ok(());
            };
            self.serve_events();
            match self.troubles.take() {
                // That all brokers are down says less than why one of them is.
                Some((RDKafkaErrorCode::AllBrokersDown, _)) if heard.is_some() => {}
                Some(trouble) => heard = Some(trouble),
                None => {}
            }
            let reason = heard
                .as_ref()
                .map_or_else(|| error.to_string(), |(_, reason)| reason.clone());
            let address = self.config.address.clone();
            if heard.as_ref().is_some_and(|(code, _)| is_refusal(*code)) {
                return Err(BrokerError::Unauthorised {
                    broker: NAME,
                    address,
                    reason,
                });
            }
            if self.clock.elapsed().saturating_sub(began) >= KAFKA_CONNECT_TIMEOUT {
                return Err(BrokerError::Unreachable {
                    broker: NAME,
                    address,
                    reason,
                });
            }
        }
    }

    /// Lets the library tell what it has to tell.
    fn serve_events(&self) {
        for _ in 0..EVENTS_SERVED_MAX {
            // A line of its log counts as nothing, so nothing is no end; and there is nothing else to receive.
            let _ = self.consumer.poll(Duration::ZERO);
        }
    }

    /// Turns an error into ours, with the cause that was heard of.
    pub(super) fn failed(&self, action: &'static str, error: &KafkaError) -> BrokerError {
        self.serve_events();
        let error = broker_error(&self.config.address, action, error);
        match (error, self.troubles.take()) {
            (
                BrokerError::Unreachable {
                    broker,
                    address,
                    reason,
                },
                Some((_, cause)),
            ) => BrokerError::Unreachable {
                broker,
                address,
                reason: format!("{reason}: {cause}"),
            },
            (error, _) => error,
        }
    }

    /// How many partitions the topic has; `None` without it.
    pub(super) fn partitions(&self) -> Result<Option<u32>, BrokerError> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(&self.config.topic), KAFKA_REQUEST_TIMEOUT)
            .map_err(|error| self.failed("look at a topic", &error))?;
        let found = metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == &*self.config.topic);
        let Some(topic) = found else {
            return Ok(None);
        };
        match topic.error().map(RDKafkaErrorCode::from) {
            None => Ok(u32::try_from(topic.partitions().len()).ok()),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Ok(None)
            }
            Some(code) => Err(self.failed("look at a topic", &KafkaError::MetadataFetch(code))),
        }
    }

    /// The first and the next offset of each partition.
    pub(super) fn ends(&self, partitions: u32) -> Result<Ends, BrokerError> {
        let first = self.offsets(partitions, Offset::Beginning)?;
        let next = self.offsets(partitions, Offset::End)?;
        Ok(Ends { first, next })
    }

    /// Where reading begins in each partition.
    pub(super) fn starts(
        &self,
        partitions: u32,
        start: StartAt,
    ) -> Result<BTreeMap<i32, u64>, BrokerError> {
        match start {
            StartAt::Earliest => self.offsets(partitions, Offset::Beginning),
            StartAt::Latest => self.offsets(partitions, Offset::End),
            StartAt::Time(time) => self.offsets_at(partitions, time),
            StartAt::Position(position) => Err(BrokerError::Unsupported {
                broker: NAME,
                what: format!(
                    "begin at position {position}: it counts in each partition; begin at earliest, latest or a time"
                ),
            }),
        }
    }

    fn offsets_at(
        &self,
        partitions: u32,
        time: Timestamp,
    ) -> Result<BTreeMap<i32, u64>, BrokerError> {
        let millis = time.as_micros().max(0).saturating_add(999) / 1_000;
        let mut starts = self.offsets(partitions, Offset::Offset(millis))?;
        if starts.len() < usize::try_from(partitions).unwrap_or(usize::MAX) {
            // Nothing that young is there yet.
            for (partition, end) in self.offsets(partitions, Offset::End)? {
                starts.entry(partition).or_insert(end);
            }
        }
        Ok(starts)
    }

    /// What the brokers answer for a time, or for one of the two ends in its place.
    fn offsets(&self, partitions: u32, asked: Offset) -> Result<BTreeMap<i32, u64>, BrokerError> {
        let action = "look up offsets";
        let list = self.list(partitions, asked)?;
        let answered = self
            .consumer
            .offsets_for_times(list, KAFKA_REQUEST_TIMEOUT)
            .map_err(|error| self.failed(action, &error))?;
        let mut offsets = BTreeMap::new();
        for element in answered.elements() {
            element
                .error()
                .map_err(|error| self.failed(action, &error))?;
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert(element.partition(), u64::try_from(offset).unwrap_or(0));
            }
        }
        Ok(offsets)
    }

    /// All partitions of the topic, each at an offset.
    pub(super) fn list(
        &self,
        partitions: u32,
        offset: Offset,
    ) -> Result<TopicPartitionList, BrokerError> {
        let mut list = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
            list.add_partition_offset(&self.config.topic, partition, offset)
                .map_err(|error| self.failed("name a partition", &error))?;
        }
        Ok(list)
    }

    /// The groups of the cluster, or one of them.
    pub(super) fn group_list(
        &self,
        group_id: Option<&str>,
    ) -> Result<rdkafka::groups::GroupList, BrokerError> {
        self.consumer
            .fetch_group_list(group_id, KAFKA_REQUEST_TIMEOUT)
            .map_err(|error| self.failed("list groups", &error))
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Repeats a request, which blocks, until another coordinator than the one that was asked has taken over; for as long as a request may take.
pub(super) fn while_coordinator_moves<T>(
    request: impl Fn() -> Result<T, KafkaError>,
) -> Result<T, KafkaError> {
    let mut waited = Duration::ZERO;
    loop {
        let answer = request();
        let moves = answer.as_ref().is_err_and(|error| {
            matches!(
                error.rdkafka_error_code(),
                Some(
                    RDKafkaErrorCode::NotCoordinator
                        | RDKafkaErrorCode::CoordinatorNotAvailable
                        | RDKafkaErrorCode::CoordinatorLoadInProgress
                )
            )
        });
        if !moves || waited >= KAFKA_REQUEST_TIMEOUT {
            return answer;
        }
        std::thread::sleep(COORDINATOR_PAUSE);
        waited += COORDINATOR_PAUSE;
    }
}

/// First and next offsets by partition.
pub(super) struct Ends {
    pub(super) first: BTreeMap<i32, u64>,
    pub(super) next: BTreeMap<i32, u64>,
}

/// Makes a client of the library.
pub(super) fn create<C, T>(
    config: &KafkaConfig,
    settings: &ClientConfig,
    context: C,
) -> Result<T, BrokerError>
where
    C: ClientContext,
    T: rdkafka::config::FromClientConfigAndContext<C>,
{
    settings.create_with_context(context).map_err(|error| {
        // The value of a setting may be a password.
        let reason = match error {
            KafkaError::ClientConfig(_, reason, setting, _) => format!("{setting}: {reason}"),
            error => error.to_string(),
        };
        BrokerError::UrlInvalid {
            url: format!("kafka://{}", config.address),
            reason,
        }
    })
}

/// Makes topics and asks for their settings.
pub(super) struct Topics {
    config: Arc<KafkaConfig>,
    admin: AdminClient<Troubles>,
}

impl Topics {
    pub(super) fn new(config: &Arc<KafkaConfig>) -> Result<Self, BrokerError> {
        Ok(Self {
            config: Arc::clone(config),
            admin: create(config, &config.client(), Troubles::default())?,
        })
    }

    /// Makes the topic; no error if somebody else just did.
    pub(super) async fn make(&self) -> Result<(), BrokerError> {
        let partitions = i32::try_from(self.config.partitions()).unwrap_or(i32::MAX);
        // Less than one means what the broker does on its own.
        let replicas = self
            .config
            .replicas
            .and_then(|replicas| i32::try_from(replicas).ok())
            .unwrap_or(-1);
        let bytes = KAFKA_MESSAGE_BYTES_MAX.to_string();
        let topic = NewTopic::new(
            &self.config.topic,
            partitions,
            TopicReplication::Fixed(replicas),
        )
        .set("max.message.bytes", &bytes);
        let answers = self
            .admin
            .create_topics([&topic], &options())
            .await
            .map_err(|error| self.failed("make a topic", &error))?;
        for answer in answers {
            match answer {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(self.failed_with("make a topic", code)),
            }
        }
        Ok(())
    }

    /// Limits of the topic; the broker's defaults where we may not look.
    pub(super) async fn facts(&self, partitions: u32) -> TopicFacts {
        let asked = [ResourceSpecifier::Topic(&self.config.topic)];
        let answers = self.admin.describe_configs(&asked, &options()).await;
        let described = answers.ok().and_then(|mut answers| answers.pop()?.ok());
        let number = |name| {
            let entry = described.as_ref()?.get(name)?;
            entry.value.as_ref()?.parse::<u64>().ok()
        };
        let message_bytes_max = number("max.message.bytes")
            .and_then(|bytes| u32::try_from(bytes).ok())
            .unwrap_or(KAFKA_MESSAGE_BYTES_DEFAULT)
            // The client takes no larger one and no smaller one.
            .clamp(1_000, 1_000_000_000);
        TopicFacts {
            partitions,
            message_bytes_max,
            synced: number("min.insync.replicas").is_some_and(|replicas| replicas >= 2)
                || number("flush.messages") == Some(1),
        }
    }

    /// Forgets a group of the cluster.
    pub(super) async fn remove_group(&self, group_id: &str) -> Result<(), RemoveGroupError> {
        let failed = |error| RemoveGroupError::Other(self.failed("remove a group", &error));
        let answers = self
            .admin
            .delete_groups(&[group_id], &options())
            .await
            .map_err(failed)?;
        for answer in answers {
            match answer {
                Ok(_) => {}
                Err((_, RDKafkaErrorCode::NonEmptyGroup)) => return Err(RemoveGroupError::InUse),
                Err((_, RDKafkaErrorCode::GroupIdNotFound)) => {
                    return Err(RemoveGroupError::Unknown);
                }
                Err((_, code)) => {
                    let error = self.failed_with("remove a group", code);
                    return Err(RemoveGroupError::Other(error));
                }
            }
        }
        Ok(())
    }

    fn failed(&self, action: &'static str, error: &KafkaError) -> BrokerError {
        match error {
            KafkaError::AdminOp(code) => self.failed_with(action, *code),
            error => broker_error(&self.config.address, action, error),
        }
    }

    fn failed_with(&self, action: &'static str, code: RDKafkaErrorCode) -> BrokerError {
        use RDKafkaErrorCode as E;
        let class = match code {
            E::InvalidReplicationFactor
            | E::InvalidPartitions
            | E::InvalidConfig
            | E::InvalidTopic
            | E::PolicyViolation => ErrorClass::Permanent,
            code => {
                let error = KafkaError::Global(code);
                return broker_error(&self.config.address, action, &error);
            }
        };
        BrokerError::Remote {
            broker: NAME,
            action,
            reason: code.to_string(),
            class,
        }
    }
}

/// Why a group was not removed.
pub(super) enum RemoveGroupError {
    /// Somebody works for it.
    InUse,
    /// There is none.
    Unknown,
    /// Something else.
    Other(BrokerError),
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(KAFKA_REQUEST_TIMEOUT))
        .operation_timeout(Some(KAFKA_REQUEST_TIMEOUT))
}
