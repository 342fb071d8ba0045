//! EventBridge: a bus takes events, and each group has a rule that sends them to its queue of SQS.

mod admin;
mod config;
mod consumer;
mod exact;
mod mapping;
mod producer;
mod tail;
mod topology;

use crate::BrokerUrl;
use crate::aws::client::AwsClient;
use crate::aws::error::Speaker;
use crate::aws::group::Queues;
use crate::aws::tail::{Removals, finish};
use config::EventBridgeConfig;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use tidings_core::broker::{
    Admin, Broker, BrokerError, Capabilities, KeyOrder, PublishError, PublishOutcome, Reader,
    SubscribeRequest, Subscription, Tail, TailRequest, TopologyItem, TopologyRequest,
};
use tidings_core::limits::AWS_PAYLOAD_BYTES_MAX;
use tidings_core::seam::Clock;
use tidings_core::{BoxFuture, Envelope};
use tokio::sync::watch;

const NAME: &str = "EventBridge";

/// Events over a bus of EventBridge, with a rule and a queue of SQS for each group. It keeps no order.
pub struct EventBridgeBroker(Arc<Inner>);

struct Inner {
    config: EventBridgeConfig,
    speaker: Speaker,
    events: aws_sdk_eventbridge::Client,
    queues: Queues,
    clock: Arc<dyn Clock>,
    /// Guards the full name of the bus once it is known.
    bus: Mutex<Option<Arc<str>>>,
    removals: Removals,
    tails: AtomicU64,
    closed: watch::Sender<bool>,
}

impl fmt::Debug for EventBridgeBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBridgeBroker")
            .field("config", &self.0.config)
            .field("address", &self.0.speaker.address)
            .finish_non_exhaustive()
    }
}

impl EventBridgeBroker {
    /// Connects to AWS, or to the host of the URL, and looks for the bus; makes it where it is missing and `ensure` allows it.
    ///
    /// **Errors**: [`BrokerError::UrlInvalid`], [`BrokerError::Unreachable`] within a few seconds, [`BrokerError::Unauthorised`]. A bus that is missing and not to
    /// be made is told by [`topology`](Broker::topology), and when something is published or subscribed to.
    pub async fn connect(url: &BrokerUrl, clock: Arc<dyn Clock>) -> Result<Self, BrokerError> {
        let config = EventBridgeConfig::of(url)?;
        let aws = AwsClient::new(url).await?;
        let speaker = Speaker {
            broker: NAME,
            address: aws.address.clone(),
        };
        let inner = Inner {
            config,
            events: aws_sdk_eventbridge::Client::new(&aws.config),
            queues: Queues {
                client: aws_sdk_sqs::Client::new(&aws.config),
                speaker: speaker.clone(),
                aws,
            },
            speaker,
            clock,
            bus: Mutex::new(None),
            removals: Removals::default(),
            tails: AtomicU64::new(0),
            closed: watch::Sender::new(false),
        };
        match inner.bus_arn().await {
            Ok(_) | Err(BrokerError::TopologyMissing { .. }) => Ok(Self(Arc::new(inner))),
            Err(error) => Err(error),
        }
    }
}

impl Inner {
    fn known_bus(&self) -> Option<Arc<str>> {
        let bus = self.bus.lock().unwrap_or_else(PoisonError::into_inner);
        bus.clone()
    }

    fn know_bus(&self, arn: Option<Arc<str>>) {
        let mut bus = self.bus.lock().unwrap_or_else(PoisonError::into_inner);
        *bus = arn;
    }

    fn check_open(&self) -> Result<(), BrokerError> {
        if *self.closed.borrow() {
            return Err(BrokerError::Closed);
        }
        Ok(())
    }
}

impl Broker for EventBridgeBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: NAME,
            key_order: KeyOrder::None,
            group_leased: false,
            replay: false,
            old_events_for_late_groups: false,
            payload_bytes_max: AWS_PAYLOAD_BYTES_MAX,
            // AWS keeps an event in several places before it answers.
            synced: true,
        }
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        Box::pin(async move {
            match self.0.check_open() {
                Ok(()) => self.0.publish_batch(batch).await,
                Err(error) => {
                    let refused = || Err(PublishError::refused(&error));
                    batch.iter().map(|_| refused()).collect()
                }
            }
        })
    }

    fn subscribe<'a>(
        &'a self,
        request: &'a SubscribeRequest,
    ) -> BoxFuture<'a, Result<Subscription, BrokerError>> {
        Box::pin(async move {
            self.0.check_open()?;
            consumer::subscribe(&self.0, request).await
        })
    }

    fn reader(&self) -> Option<&dyn Reader> {
        None
    }

    fn tail<'a>(
        &'a self,
        request: TailRequest,
    ) -> BoxFuture<'a, Result<Box<dyn Tail + 'a>, BrokerError>> {
        Box::pin(async move {
            self.0.check_open()?;
            tail::tail(&self.0, &request).await
        })
    }

    fn topology<'a>(
        &'a self,
        request: TopologyRequest<'a>,
    ) -> BoxFuture<'a, Result<Vec<TopologyItem>, BrokerError>> {
        Box::pin(async move {
            self.0.check_open()?;
            self.0.topology(request).await
        })
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }

    fn close(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move {
            self.0.closed.send_replace(true);
            finish(&self.0.removals).await;
            Ok(())
        })
    }
}
