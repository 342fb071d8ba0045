//! Kafka: one topic for all events, the record's key is the event's, a consumer group is a group.
//!
//! | file | what |
//! |---|---|
//! | `config` | the URL, and the settings of the client |
//! | `client` | first connection, questions about topic and offsets |
//! | `producer` | publishing |
//! | `consumer/` | members of groups: thread, partitions, rebalancing |
//! | `tail` | reading along without a group |
//! | `admin` | topology, groups, lag |
//! | `mapping` | envelope and record, errors |

mod admin;
mod client;
mod config;
mod consumer;
mod mapping;
mod producer;
mod tail;

pub use config::KafkaConfig;

use crate::BrokerUrl;
use client::{Client, TopicFacts, Topics};
use consumer::Members;
use mapping::NAME;
use producer::Producer;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tidings_core::broker::{
    Admin, Broker, BrokerError, Capabilities, KeyOrder, PublishOutcome, Reader, SubscribeRequest,
    Subscription, Tail, TailRequest, TopologyItem, TopologyRequest,
};
use tidings_core::limits::{KAFKA_ATTRIBUTES_BYTES, KAFKA_MESSAGE_BYTES_MAX, PAYLOAD_BYTES_MAX};
use tidings_core::seam::Clock;
use tidings_core::{BoxFuture, Envelope};
use tokio::sync::OnceCell;

/// A Kafka cluster, used through one topic.
///
/// **Guarantee**: an event that was accepted is on all replicas in sync. Events of one key stay in order, whoever publishes them one after the other and however
/// often instances of a group come and go, as long as the topic keeps its number of partitions. A group begins where it was first subscribed, and what its
/// members settled is committed every half second, when they leave and when partitions move.
pub struct KafkaBroker {
    config: Arc<KafkaConfig>,
    clock: Arc<dyn Clock>,
    client: Arc<Client>,
    /// The topic as it was found or made; asked once.
    facts: OnceCell<TopicFacts>,
    producer: OnceCell<Producer>,
    members: Arc<Members>,
    /// Guards whether it was closed; held for a look.
    closed: Mutex<bool>,
}

impl fmt::Debug for KafkaBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaBroker")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl KafkaBroker {
    /// Connects to the cluster that a URL names. The topic is looked at, or made, when it is first used.
    ///
    /// **Units**: at most [`KAFKA_CONNECT_TIMEOUT`](tidings_core::limits::KAFKA_CONNECT_TIMEOUT).
    ///
    /// **Errors**: [`BrokerError::UrlInvalid`], [`BrokerError::Unreachable`], [`BrokerError::Unauthorised`] for a wrong password or a certificate that is not trusted.
    ///
    /// **Cancel**: the attempt goes on in the background and has no effect.
    pub async fn connect(url: &BrokerUrl, clock: Arc<dyn Clock>) -> Result<Self, BrokerError> {
        let config = Arc::new(KafkaConfig::from_url(url)?);
        let (asked, time) = (Arc::clone(&config), Arc::clone(&clock));
        let client = blocking(move || Client::connect(asked, time)).await?;
        let broker = Self {
            config,
            clock,
            client: Arc::new(client),
            facts: OnceCell::new(),
            producer: OnceCell::new(),
            members: Arc::default(),
            closed: Mutex::new(false),
        };
        // So that the capabilities are the topic's own. One that is missing may be made later.
        if let Ok(Some(partitions)) = broker.ask(Client::partitions).await {
            let facts = Topics::new(&broker.config)?.facts(partitions).await;
            if broker
                .config
                .partitions_wanted
                .is_none_or(|wanted| wanted <= partitions)
            {
                // It was empty until now.
                let _ = broker.facts.set(facts);
            }
        }
        Ok(broker)
    }

    /// Asks the cluster on a thread that may block.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Client) -> Result<T, BrokerError> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let client = Arc::clone(&self.client);
        blocking(move || question(&client)).await
    }

    /// The topic, made if it is missing and that is allowed.
    async fn facts(&self) -> Result<TopicFacts, BrokerError> {
        if *self.closed.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(BrokerError::Closed);
        }
        let facts = self.facts.get_or_try_init(|| async {
            for item in admin::topology(self, self.config.ensure).await? {
                if let Some(error) = admin::topology_error(item) {
                    return Err(error);
                }
            }
            let partitions = self.await_topic().await?;
            Ok(Topics::new(&self.config)?.facts(partitions).await)
        });
        facts.await.copied()
    }

    /// Waits until a topic that was made can be seen.
    async fn await_topic(&self) -> Result<u32, BrokerError> {
        let began = self.clock.elapsed();
        loop {
            match self.ask(Client::partitions).await {
                Ok(Some(partitions)) if partitions > 0 => return Ok(partitions),
                answer => {
                    if self.clock.elapsed().saturating_sub(began) >= admin::TOPIC_WAIT {
                        answer?;
                        return Err(BrokerError::TopologyMissing {
                            broker: NAME,
                            what: format!("topic {}", self.config.topic),
                            command: admin::create_command(&self.config),
                        });
                    }
                }
            }
            self.clock.sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    async fn producer(&self) -> Result<&Producer, BrokerError> {
        let facts = self.facts().await?;
        self.producer
            .get_or_try_init(|| async { Producer::new(&self.config, facts.message_bytes_max) })
            .await
    }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BrokerError> + Send + 'static,
) -> Result<T, BrokerError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(BrokerError::Bug {
            what: "a question to Kafka",
        }))
}

impl Broker for KafkaBroker {
    fn capabilities(&self) -> Capabilities {
        let facts = self.facts.get();
        let message = facts.map_or(KAFKA_MESSAGE_BYTES_MAX, |facts| facts.message_bytes_max);
        let payload = message.saturating_sub(KAFKA_ATTRIBUTES_BYTES);
        Capabilities {
            name: NAME,
            key_order: KeyOrder::AcrossInstances,
            group_leased: false,
            tells_assignment: true,
            replay: true,
            old_events_for_late_groups: true,
            payload_bytes_max: usize::try_from(payload)
                .unwrap_or(usize::MAX)
                .min(PAYLOAD_BYTES_MAX),
            synced: facts.is_some_and(|facts| facts.synced),
        }
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        Box::pin(async move {
            match self.producer().await {
                Ok(producer) => producer.publish(batch).await,
                Err(error) => producer::refused(batch, &error),
            }
        })
    }

    fn subscribe<'a>(
        &'a self,
        request: &'a SubscribeRequest,
    ) -> BoxFuture<'a, Result<Subscription, BrokerError>> {
        Box::pin(async move {
            let partitions = self.facts().await?.partitions;
            let (client, clock) = (Arc::clone(&self.client), Arc::clone(&self.clock));
            let (request, members) = (request.clone(), Arc::clone(&self.members));
            blocking(move || consumer::subscribe(&client, &clock, &request, partitions, &members))
                .await
        })
    }

    fn reader(&self) -> Option<&dyn Reader> {
        // There is no one order of all events to read by.
        None
    }

    fn tail<'a>(
        &'a self,
        request: TailRequest,
    ) -> BoxFuture<'a, Result<Box<dyn Tail + 'a>, BrokerError>> {
        Box::pin(async move {
            self.facts().await?;
            let client = Arc::clone(&self.client);
            let tail = blocking(move || {
                let partitions = client.partitions()?.unwrap_or(0);
                tail::tail(&client, request, partitions)
            });
            let tail: Box<dyn Tail> = Box::new(tail.await?);
            Ok(tail)
        })
    }

    fn topology<'a>(
        &'a self,
        request: TopologyRequest<'a>,
    ) -> BoxFuture<'a, Result<Vec<TopologyItem>, BrokerError>> {
        Box::pin(async move { admin::topology(self, request.ensure && self.config.ensure).await })
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }

    fn close(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move {
            *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.members.close();
            match self.producer.get() {
                Some(producer) => producer.close().await,
                None => Ok(()),
            }
        })
    }
}
