//! A group: its queue, subscribed to the topic, and read until it is left.

use super::Inner;
use super::mapping;
use crate::aws::group::{Found, Wanted};
use crate::aws::subscription::{Parts, Rejoin, subscribe as read_queue};
use std::sync::Arc;
use tidings_core::Pattern;
use tidings_core::broker::{BrokerError, StartAt, SubscribeRequest, Subscription};

pub(super) async fn subscribe(
    inner: &Arc<Inner>,
    request: &SubscribeRequest,
) -> Result<Subscription, BrokerError> {
    check_start(inner, request.start)?;
    let topic = inner.topic_arn().await?;
    let wanted = inner.wanted(request, Some(&topic));
    let found = inner.join(&wanted, &request.patterns, &topic).await?;
    let rejoin: Rejoin = {
        let (inner, patterns) = (inner.clone(), request.patterns.clone());
        Arc::new(move || {
            let (inner, wanted, patterns) = (inner.clone(), wanted.clone(), patterns.clone());
            Box::pin(async move {
                inner.know_topic(None);
                let topic = inner.topic_arn().await?;
                inner.join(&wanted, &patterns, &topic).await.map(drop)
            })
        })
    };
    Ok(read_queue(inner.parts(found, Some(rejoin))))
}

/// The start of a group is of no use beyond the first time, and then everything is from now on.
fn check_start(inner: &Inner, start: StartAt) -> Result<(), BrokerError> {
    match start {
        StartAt::Earliest | StartAt::Latest => Ok(()),
        StartAt::Position(_) | StartAt::Time(_) => Err(BrokerError::Unsupported {
            broker: inner.speaker.broker,
            what: "begin a group at a position or a time; it keeps no history, a new group begins with what is published from now on".to_owned(),
        }),
    }
}

impl Inner {
    /// Queue and subscription as they must be.
    pub(super) async fn join(
        &self,
        wanted: &Wanted,
        patterns: &[Pattern],
        topic: &str,
    ) -> Result<Found, BrokerError> {
        let ensure = self.config.ensure;
        let (items, found) = self
            .bring_group(wanted, patterns, Some(topic), ensure)
            .await?;
        for item in items {
            if !item.state.is_good() {
                return Err(self.not_good(&item.what, item.state));
            }
        }
        found.ok_or(BrokerError::Bug {
            what: "a look at the topology",
        })
    }

    pub(super) fn parts(self: &Arc<Self>, found: Found, rejoin: Option<Rejoin>) -> Parts {
        let topic = self.config.topic.clone();
        Parts {
            queue: found.queue,
            reading: self.config.reading,
            speaker: self.speaker.clone(),
            clock: self.clock.clone(),
            read: Arc::new(move |message| mapping::read(message, &topic)),
            rejoin,
            closed: self.closed.subscribe(),
        }
    }
}
