//! A group: its rule, its queue, and the reading of it until it is left.

use super::Inner;
use super::mapping;
use super::topology::Way;
use crate::aws::group::Found;
use crate::aws::subscription::{Parts, Rejoin, subscribe as read_queue};
use std::sync::Arc;
use tidings_core::Pattern;
use tidings_core::broker::{BrokerError, StartAt, SubscribeRequest, Subscription};

pub(super) async fn subscribe(
    inner: &Arc<Inner>,
    request: &SubscribeRequest,
) -> Result<Subscription, BrokerError> {
    if matches!(request.start, StartAt::Position(_) | StartAt::Time(_)) {
        return Err(BrokerError::Unsupported {
            broker: inner.speaker.broker,
            what: "begin a group at a position or a time; a new group begins with what is published from now on".to_owned(),
        });
    }
    let bus = inner.bus_arn().await?;
    let way = inner.way_of(request, Some(&bus));
    let found = inner.join(&way, &request.patterns).await?;
    let rejoin: Rejoin = {
        let (inner, patterns) = (inner.clone(), request.patterns.clone());
        Arc::new(move || {
            let (inner, way, patterns) = (inner.clone(), way.clone(), patterns.clone());
            Box::pin(async move {
                inner.know_bus(None);
                inner.bus_arn().await?;
                inner.join(&way, &patterns).await.map(drop)
            })
        })
    };
    Ok(read_queue(inner.parts(found, Some(rejoin))))
}

impl Inner {
    /// Rule and queue as they must be.
    pub(super) async fn join(&self, way: &Way, patterns: &[Pattern]) -> Result<Found, BrokerError> {
        let ensure = self.config.ensure;
        let (items, found) = self.bring_way(way, patterns, true, ensure).await?;
        let wrong = items.into_iter().find(|item| !item.state.is_good());
        if let Some(item) = wrong {
            return Err(self.not_good(&item.what, item.state));
        }
        found.ok_or(BrokerError::Bug {
            what: "a look at the topology",
        })
    }

    pub(super) fn parts(self: &Arc<Self>, found: Found, rejoin: Option<Rejoin>) -> Parts {
        let bus = self.config.bus.clone();
        Parts {
            queue: found.queue,
            reading: self.config.reading,
            speaker: self.speaker.clone(),
            clock: self.clock.clone(),
            read: Arc::new(move |message| mapping::read(message, &bus)),
            rejoin,
            closed: self.closed.subscribe(),
        }
    }
}
