//! Groups and their lag, by their queues and rules.

use super::EventBridgeBroker;
use super::topology::types_of;
use crate::aws::groups::GroupQueue;
use crate::aws::names::patterns;
use tidings_core::BoxFuture;
use tidings_core::broker::{
    Admin, BrokerError, GroupLag, GroupName, GroupStatus, Position, StartAt,
};

impl EventBridgeBroker {
    async fn group_queues(&self) -> Result<Vec<GroupQueue>, BrokerError> {
        let config = &self.0.config;
        self.0
            .session
            .queues
            .groups(&config.prefix, &config.bus)
            .await
    }

    async fn group(&self, group: &GroupName) -> Result<GroupQueue, BrokerError> {
        let config = &self.0.config;
        let (prefix, of) = (&config.prefix, &config.bus);
        self.0.session.group(prefix, of, group).await
    }
}

impl Admin for EventBridgeBroker {
    fn groups(&self) -> BoxFuture<'_, Result<Vec<GroupStatus>, BrokerError>> {
        Box::pin(async move {
            let mut groups = Vec::new();
            for queue in self.group_queues().await? {
                let rule = self.0.rule_name(queue.group.as_str());
                let pattern = self.0.filtered_by(&rule).await?.unwrap_or_default();
                groups.push(GroupStatus {
                    name: queue.group,
                    patterns: patterns(&types_of(&pattern)),
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
            self.0
                .remove_rule(&self.0.rule_name(group.as_str()))
                .await?;
            self.0.session.queues.delete(&queue.url).await
        })
    }
}
