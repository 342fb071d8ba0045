//! Groups as an operator sees them: the queues that carry our tags.

use super::error::Fault;
use super::group::{GROUP_TAG, OF_TAG, Queues};
use super::queue::count;
use std::time::Duration;
use tidings_core::broker::{BrokerError, GroupLag, GroupName};
use tidings_core::limits::AWS_PAGES_MAX;

/// A queue of a group.
#[derive(Debug, Clone)]
pub(crate) struct GroupQueue {
    pub(crate) group: GroupName,
    pub(crate) url: String,
}

impl Queues {
    /// The groups of a topic or bus, by name.
    pub(crate) async fn groups(
        &self,
        prefix: &str,
        of: &str,
    ) -> Result<Vec<GroupQueue>, BrokerError> {
        let mut groups = Vec::new();
        let mut next = None;
        for _ in 0..AWS_PAGES_MAX {
            let request = self.client.list_queues().max_results(1_000);
            let request = if prefix.is_empty() {
                request
            } else {
                request.queue_name_prefix(prefix)
            };
            let answer = request.set_next_token(next).send().await;
            let answer = answer.map_err(|error| self.error(error.into(), "list the queues"))?;
            for url in answer.queue_urls.unwrap_or_default() {
                let tags = self.tags(&url).await?;
                let tag = |name: &str| {
                    let found = tags.iter().find(|(found, _)| found == name);
                    found.map(|(_, value)| value.as_str())
                };
                let is_ours = tag(OF_TAG) == Some(of);
                let group = tag(GROUP_TAG).and_then(|text| text.parse().ok());
                if let Some(group) = group.filter(|_| is_ours) {
                    groups.push(GroupQueue { group, url });
                }
            }
            next = answer.next_token;
            if next.is_none() {
                break;
            }
        }
        groups.sort_by(|left, right| left.group.cmp(&right.group));
        Ok(groups)
    }

    /// Messages that are in a queue, those on their way to a handler included.
    pub(crate) async fn lag(&self, url: &str) -> Result<Option<GroupLag>, BrokerError> {
        let events = match count(&self.client, url).await {
            Ok(events) => events,
            Err(failure) if failure.fault == Fault::Missing => return Ok(None),
            Err(failure) => return Err(self.error(failure, "count the messages of a queue")),
        };
        Ok(Some(GroupLag {
            events,
            // SQS tells the age of the oldest message to CloudWatch alone.
            age: Duration::ZERO,
            ..GroupLag::default()
        }))
    }
}
