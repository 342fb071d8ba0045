//! Groups and their lag, by their queues.

use super::SnsSqsBroker;
use crate::aws::groups::GroupQueue;
use crate::aws::names::patterns;
use tidings_core::BoxFuture;
use tidings_core::broker::{
    Admin, BrokerError, GroupLag, GroupName, GroupStatus, Position, StartAt,
};

impl SnsSqsBroker {
    async fn group_queues(&self) -> Result<Vec<GroupQueue>, BrokerError> {
        let config = &self.0.config;
        self.0
            .session
            .queues
            .groups(&config.queue_prefix, &config.topic)
            .await
    }

    async fn group(&self, group: &GroupName) -> Result<GroupQueue, BrokerError> {
        let config = &self.0.config;
        let (prefix, of) = (&config.queue_prefix, &config.topic);
        self.0.session.group(prefix, of, group).await
    }
}

impl Admin for SnsSqsBroker {
    fn groups(&self) -> BoxFuture<'_, Result<Vec<GroupStatus>, BrokerError>> {
        Box::pin(async move {
            let topic = self.0.topic_arn().await?;
            let mut groups = Vec::new();
            for queue in self.group_queues().await? {
                let name = queue.url.rsplit('/').next().unwrap_or_default();
                let Some(found) = self.0.session.queues.look(name).await? else {
                    continue;
                };
                let subscription = self.0.find_subscription(&topic, &found.arn).await?;
                let matchers = match subscription {
                    Some(subscription) => self.0.filtered_by(&subscription).await?,
                    None => Vec::new(),
                };
                groups.push(GroupStatus {
                    name: queue.group,
                    patterns: patterns(&matchers),
                    position: None,
                    moved_at: None,
                    owner: None,
                    abandoned: false,
                });
            }
            Ok(groups)
        })
    }

    fn lag<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<GroupLag, BrokerError>> {
        Box::pin(async move {
            let queue = self.group(group).await?;
            self.0.session.lag(&queue).await
        })
    }

    fn seek<'a>(
        &'a self,
        _group: &'a GroupName,
        _start: StartAt,
    ) -> BoxFuture<'a, Result<Option<Position>, BrokerError>> {
        Box::pin(std::future::ready(Err(self.0.session.cannot_seek())))
    }

    fn remove<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(async move {
            let queue = self.group(group).await?;
            let topic = self.0.topic_arn().await?;
            let name = queue.url.rsplit('/').next().unwrap_or_default();
            if let Some(found) = self.0.session.queues.look(name).await? {
                self.0.unsubscribe(&topic, &found.arn).await?;
            }
            self.0.session.queues.delete(&queue.url).await
        })
    }
}
