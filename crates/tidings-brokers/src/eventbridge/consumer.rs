//! A group: its rule, its queue, and the reading of it until it is left.

use super::Inner;
use super::mapping;
use super::topology::Way;
use crate::aws::group::Found;
use crate::aws::subscription::{Parts, Read, Rejoin, subscribe as read_queue};
use std::sync::Arc;
use tidings_core::Pattern;
use tidings_core::broker::{BrokerError, SubscribeRequest, Subscription};

pub(super) async fn subscribe(
    inner: &Arc<Inner>,
    request: &SubscribeRequest,
) -> Result<Subscription, BrokerError> {
    inner.session.check_start(request.start)?;
    let bus = inner.bus_arn().await?;
    let way = inner.way_of(request, Some(&bus));
    let found = inner.join(&way, &request.patterns).await?;
    let rejoin: Rejoin = {
        let (inner, patterns) = (inner.clone(), request.patterns.clone());
        Arc::new(move || {
            let (inner, way, patterns) = (inner.clone(), way.clone(), patterns.clone());
            Box::pin(async move {
                inner.session.know(None);
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
        self.session.all_good(items, found)
    }

    pub(super) fn parts(self: &Arc<Self>, found: Found, rejoin: Option<Rejoin>) -> Parts {
        let bus = self.config.bus.clone();
        let read: Read = Arc::new(move |message| mapping::read(message, &bus));
        self.session.parts(found, self.config.reading, read, rejoin)
    }
}
