//! A group: its queue, subscribed to the topic, and read until it is left.

use super::Inner;
use super::mapping;
use crate::aws::group::{Found, Wanted};
use crate::aws::subscription::{Parts, Read, Rejoin, subscribe as read_queue};
use std::sync::Arc;
use tidings_core::Pattern;
use tidings_core::broker::{BrokerError, SubscribeRequest, Subscription};

pub(super) async fn subscribe(
    inner: &Arc<Inner>,
    request: &SubscribeRequest,
) -> Result<Subscription, BrokerError> {
    inner.session.check_start(request.start)?;
    let topic = inner.topic_arn().await?;
    let wanted = inner.wanted(request, Some(&topic));
    let found = inner.join(&wanted, &request.patterns, &topic).await?;
    let rejoin: Rejoin = {
        let (inner, patterns) = (inner.clone(), request.patterns.clone());
        Arc::new(move || {
            let (inner, wanted, patterns) = (inner.clone(), wanted.clone(), patterns.clone());
            Box::pin(async move {
                inner.session.know(None);
                let topic = inner.topic_arn().await?;
                inner.join(&wanted, &patterns, &topic).await.map(drop)
            })
        })
    };
    Ok(read_queue(inner.parts(found, Some(rejoin))))
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
        self.session.all_good(items, found)
    }

    pub(super) fn parts(self: &Arc<Self>, found: Found, rejoin: Option<Rejoin>) -> Parts {
        let topic = self.config.topic.clone();
        let read: Read = Arc::new(move |message| mapping::read(message, &topic));
        self.session.parts(found, self.config.reading, read, rejoin)
    }
}
