//! What an adapter of AWS is besides its clients and its topology: who is spoken to, where it publishes to, its groups, and what ends with it.

use super::client::AwsClient;
use super::error::{Failure, Speaker};
use super::group::{Found, Queues};
use super::groups::GroupQueue;
use super::reading::Reading;
use super::subscription::{Parts, Read, Rejoin, subscribe};
use super::tail::{QueueTail, Removals, Remove, finish};
use aws_sdk_sqs::Client;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tidings_core::Envelope;
use tidings_core::broker::{
    BrokerError, GroupLag, GroupName, PublishError, PublishOutcome, StartAt, TopologyItem,
    TopologyState,
};
use tidings_core::seam::Clock;
use tokio::sync::watch;

/// Stands in a command for the number of the account, where nothing tells it yet.
const ACCOUNT: &str = "$(aws sts get-caller-identity --query Account --output text)";

/// The state of an adapter.
pub(crate) struct Session {
    pub(crate) speaker: Speaker,
    pub(crate) queues: Queues,
    pub(crate) clock: Arc<dyn Clock>,
    /// Guards the full name of the topic or the bus once it is known.
    target: Mutex<Option<Arc<str>>>,
    removals: Removals,
    tails: AtomicU64,
    closed: watch::Sender<bool>,
}

impl Session {
    pub(crate) fn new(broker: &'static str, aws: AwsClient, clock: Arc<dyn Clock>) -> Self {
        let speaker = Speaker {
            broker,
            address: aws.address.clone(),
        };
        Self {
            queues: Queues {
                client: Client::new(&aws.config),
                speaker: speaker.clone(),
                aws,
            },
            speaker,
            clock,
            target: Mutex::new(None),
            removals: Removals::default(),
            tails: AtomicU64::new(0),
            closed: watch::Sender::new(false),
        }
    }

    /// The full name of the topic or the bus, where it was found before.
    pub(crate) fn known(&self) -> Option<Arc<str>> {
        let target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        target.clone()
    }

    pub(crate) fn know(&self, arn: Option<Arc<str>>) {
        let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        *target = arn;
    }

    pub(crate) fn check_open(&self) -> Result<(), BrokerError> {
        if *self.closed.borrow() {
            return Err(BrokerError::Closed);
        }
        Ok(())
    }

    pub(crate) async fn close(&self) {
        self.closed.send_replace(true);
        finish(&self.removals).await;
    }

    pub(crate) fn error(&self, failure: Failure, action: &'static str) -> BrokerError {
        failure.into_error(&self.speaker, action)
    }

    pub(crate) fn unsupported(&self, what: &str) -> BrokerError {
        BrokerError::Unsupported {
            broker: self.speaker.broker,
            what: what.to_owned(),
        }
    }

    /// The start of a group is of no use beyond the first time, and then everything is from now on.
    pub(crate) fn check_start(&self, start: StartAt) -> Result<(), BrokerError> {
        match start {
            StartAt::Earliest | StartAt::Latest => Ok(()),
            StartAt::Position(_) | StartAt::Time(_) => Err(self.unsupported(
                "begin a group at a position or a time; it keeps no history, a new group begins with what is published from now on",
            )),
        }
    }

    pub(crate) fn cannot_seek(&self) -> BrokerError {
        self.unsupported("move a group to another place: a queue keeps nothing that was settled")
    }

    /// The account in a full name, or what stands for it in a command.
    pub(crate) fn account(arn: Option<&str>) -> String {
        let account = arn.and_then(|arn| arn.split(':').nth(4));
        account.unwrap_or(ACCOUNT).to_owned()
    }

    /// What is wrong with something that must be there.
    pub(crate) fn not_good(&self, what: &str, state: TopologyState) -> BrokerError {
        let (broker, what) = (self.speaker.broker, what.to_owned());
        match state {
            TopologyState::Wrong { reason, way_out } => BrokerError::TopologyWrong {
                broker,
                what,
                reason,
                way_out,
            },
            TopologyState::Missing { command } => BrokerError::TopologyMissing {
                broker,
                what,
                command,
            },
            TopologyState::Present | TopologyState::Created => BrokerError::Bug {
                what: "a look at the topology",
            },
        }
    }

    /// The queue, if everything that it needs is as it must be.
    pub(crate) fn all_good(
        &self,
        items: Vec<TopologyItem>,
        found: Option<Found>,
    ) -> Result<Found, BrokerError> {
        match items.into_iter().find(|item| !item.state.is_good()) {
            Some(item) => Err(self.not_good(&item.what, item.state)),
            None => found.ok_or(BrokerError::Bug {
                what: "a look at the topology",
            }),
        }
    }

    /// What a subscription to a queue consists of.
    pub(crate) fn parts(
        &self,
        found: Found,
        reading: Reading,
        read: Read,
        rejoin: Option<Rejoin>,
    ) -> Parts {
        Parts {
            queue: found.queue,
            reading,
            speaker: self.speaker.clone(),
            clock: self.clock.clone(),
            read,
            rejoin,
            closed: self.closed.subscribe(),
        }
    }

    /// A name that tells a person who finds the queue what it was for, and which process left it behind.
    pub(crate) fn tail_name(&self) -> String {
        let number = self.tails.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let micros = self.clock.now().as_micros();
        format!("tail-{process}-{micros}-{number}")
    }

    /// Reads a queue that goes with its reader.
    pub(crate) fn tail(&self, parts: Parts, remove: Remove) -> QueueTail {
        let name = parts.queue.name.clone();
        QueueTail::new(subscribe(parts), &name, remove, self.removals.clone())
    }

    /// The queue of a group.
    pub(crate) async fn group(
        &self,
        prefix: &str,
        of: &str,
        group: &GroupName,
    ) -> Result<GroupQueue, BrokerError> {
        let groups = self.queues.groups(prefix, of).await?;
        let found = groups.into_iter().find(|found| found.group == *group);
        found.ok_or_else(|| unknown(group))
    }

    /// What a group has not settled.
    pub(crate) async fn lag(&self, queue: &GroupQueue) -> Result<GroupLag, BrokerError> {
        let lag = self.queues.lag(&queue.url).await?;
        lag.ok_or_else(|| unknown(&queue.group))
    }
}

/// The outcomes of a batch of which nothing was sent.
pub(crate) fn refused(batch: &[Envelope], error: &BrokerError) -> Vec<PublishOutcome> {
    let refused = || Err(PublishError::refused(error));
    batch.iter().map(|_| refused()).collect()
}

fn unknown(group: &GroupName) -> BrokerError {
    BrokerError::GroupUnknown {
        group: group.to_string(),
        similar: None,
    }
}
