//! SNS with SQS: a topic takes events, and each group has a queue that is subscribed to it.

mod admin;
mod config;
mod consumer;
mod mapping;
mod producer;
mod tail;
mod topology;

use crate::BrokerUrl;
use crate::aws::client::AwsClient;
use crate::aws::session::{Session, refused};
use config::SnsSqsConfig;
use std::fmt;
use std::sync::Arc;
use tidings_core::broker::{
    Admin, Broker, BrokerError, Capabilities, KeyOrder, PublishOutcome, Reader, SubscribeRequest,
    Subscription, Tail, TailRequest, TopologyItem, TopologyRequest,
};
use tidings_core::limits::AWS_PAYLOAD_BYTES_MAX;
use tidings_core::seam::Clock;
use tidings_core::{BoxFuture, Envelope};

const NAME: &str = "SNS+SQS";
const NAME_FIFO: &str = "SNS+SQS FIFO";

/// Events over an SNS topic and a queue of SQS for each group.
///
/// With a FIFO topic (`fifo=true`) the events of a key keep their order over all instances of a group; with a standard topic there is no order.
pub struct SnsSqsBroker(Arc<Inner>);

struct Inner {
    config: SnsSqsConfig,
    sns: aws_sdk_sns::Client,
    session: Session,
}

impl fmt::Debug for SnsSqsBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnsSqsBroker")
            .field("config", &self.0.config)
            .field("address", &self.0.session.speaker.address)
            .finish_non_exhaustive()
    }
}

impl SnsSqsBroker {
    /// Connects to AWS, or to the host of the URL, and looks for the topic; makes it where it is missing and `ensure` allows it.
    ///
    /// **Errors**: [`BrokerError::UrlInvalid`], [`BrokerError::Unreachable`] within a few seconds, [`BrokerError::Unauthorised`]. A topic that is missing and not to
    /// be made is told by [`topology`](Broker::topology), and when something is published or subscribed to.
    pub async fn connect(url: &BrokerUrl, clock: Arc<dyn Clock>) -> Result<Self, BrokerError> {
        let config = SnsSqsConfig::of(url)?;
        let aws = AwsClient::new(url).await?;
        let broker = if config.fifo { NAME_FIFO } else { NAME };
        let inner = Inner {
            config,
            sns: aws_sdk_sns::Client::new(&aws.config),
            session: Session::new(broker, aws, clock),
        };
        match inner.topic_arn().await {
            Ok(_) | Err(BrokerError::TopologyMissing { .. }) => Ok(Self(Arc::new(inner))),
            Err(error) => Err(error),
        }
    }
}

impl Inner {
    fn key_order(&self) -> KeyOrder {
        if self.config.fifo {
            KeyOrder::AcrossInstances
        } else {
            KeyOrder::None
        }
    }
}

impl Broker for SnsSqsBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: self.0.session.speaker.broker,
            key_order: self.0.key_order(),
            group_leased: false,
            // A message group of a FIFO queue goes to whoever asks next.
            tells_assignment: false,
            replay: false,
            old_events_for_late_groups: false,
            payload_bytes_max: AWS_PAYLOAD_BYTES_MAX,
            // AWS keeps a message in several places before it answers.
            synced: true,
        }
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        Box::pin(async move {
            match self.0.session.check_open() {
                Ok(()) => self.0.publish_batch(batch).await,
                Err(error) => refused(batch, &error),
            }
        })
    }

    fn subscribe<'a>(
        &'a self,
        request: &'a SubscribeRequest,
    ) -> BoxFuture<'a, Result<Subscription, BrokerError>> {
        Box::pin(async move {
            self.0.session.check_open()?;
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
            self.0.session.check_open()?;
            tail::tail(&self.0, &request).await
        })
    }

    fn topology<'a>(
        &'a self,
        request: TopologyRequest<'a>,
    ) -> BoxFuture<'a, Result<Vec<TopologyItem>, BrokerError>> {
        Box::pin(async move {
            self.0.session.check_open()?;
            self.0.topology(request).await
        })
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }

    fn close(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move {
            self.0.session.close().await;
            Ok(())
        })
    }
}
