//! Reading along: a queue of its own, from now on.

use super::Inner;
use crate::aws::group::OF_TAG;
use crate::aws::names::FIFO;
use crate::aws::subscription::subscribe as read_queue;
use crate::aws::tail::{QueueTail, Remove};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tidings_core::broker::{BrokerError, StartAt, Tail, TailRequest};

pub(super) async fn tail<'a>(
    inner: &'a Arc<Inner>,
    request: &TailRequest,
) -> Result<Box<dyn Tail + 'a>, BrokerError> {
    if request.start != StartAt::Latest {
        return Err(BrokerError::Unsupported {
            broker: inner.speaker.broker,
            what: "read what was published before; it keeps no history, so that tail shows what is published from now on".to_owned(),
        });
    }
    let topic = inner.topic_arn().await?;
    let tags = vec![
        (OF_TAG, inner.config.topic.clone()),
        ("tidings-tail", "true".to_owned()),
    ];
    let wanted = inner.queue(inner.tail_name(), tags, Some(&topic));
    let (items, found) = inner
        .bring_group(&wanted, &request.patterns, Some(&topic), true)
        .await?;
    let wrong = items.into_iter().find(|item| !item.state.is_good());
    if let Some(item) = wrong {
        return Err(inner.not_good(&item.what, item.state));
    }
    let found = found.ok_or(BrokerError::Bug {
        what: "a look at the topology",
    })?;
    let remove: Remove = {
        let (inner, found) = (inner.clone(), found.clone());
        Box::new(move || {
            Box::pin(async move {
                inner.unsubscribe(&topic, &found.arn).await?;
                inner.queues.delete(&found.queue.url).await
            })
        })
    };
    let name = found.queue.name.clone();
    let subscription = read_queue(inner.parts(found, None));
    let removals = inner.removals.clone();
    Ok(Box::new(QueueTail::new(
        subscription,
        &name,
        remove,
        removals,
    )))
}

impl Inner {
    /// A name that tells a person who finds the queue what it was for, and which process left it behind.
    fn tail_name(&self) -> String {
        let number = self.tails.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let micros = self.clock.now().as_micros();
        let ending = if self.config.fifo { FIFO } else { "" };
        let prefix = &self.config.queue_prefix;
        format!("{prefix}tail-{process}-{micros}-{number}{ending}")
    }

    pub(super) async fn unsubscribe(&self, topic: &str, queue: &str) -> Result<(), BrokerError> {
        let Some(subscription) = self.find_subscription(topic, queue).await? else {
            return Ok(());
        };
        let request = self.sns.unsubscribe().subscription_arn(subscription);
        let answer = request.send().await;
        answer.map_err(|error| self.error(error.into(), "unsubscribe a queue"))?;
        Ok(())
    }
}
