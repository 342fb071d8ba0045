//! Reading along: a queue of its own, from now on.

use super::Inner;
use crate::aws::group::OF_TAG;
use crate::aws::names::FIFO;
use crate::aws::tail::Remove;
use std::sync::Arc;
use tidings_core::broker::{BrokerError, StartAt, Tail, TailRequest};

pub(super) async fn tail<'a>(
    inner: &'a Arc<Inner>,
    request: &TailRequest,
) -> Result<Box<dyn Tail + 'a>, BrokerError> {
    if request.start != StartAt::Latest {
        return Err(inner.session.unsupported(
            "read what was published before; it keeps no history, so that tail shows what is published from now on",
        ));
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
    let found = inner.session.all_good(items, found)?;
    let remove: Remove = {
        let (inner, found) = (inner.clone(), found.clone());
        Box::new(move || {
            Box::pin(async move {
                inner.unsubscribe(&topic, &found.arn).await?;
                inner.session.queues.delete(&found.queue.url).await
            })
        })
    };
    let tail = inner.session.tail(inner.parts(found, None), remove);
    Ok(Box::new(tail))
}

impl Inner {
    fn tail_name(&self) -> String {
        let ending = if self.config.fifo { FIFO } else { "" };
        let (prefix, name) = (&self.config.queue_prefix, self.session.tail_name());
        format!("{prefix}{name}{ending}")
    }

    pub(super) async fn unsubscribe(&self, topic: &str, queue: &str) -> Result<(), BrokerError> {
        let Some(subscription) = self.find_subscription(topic, queue).await? else {
            return Ok(());
        };
        let request = self.sns.unsubscribe().subscription_arn(subscription);
        let answer = request.send().await;
        answer.map_err(|error| self.session.error(error.into(), "unsubscribe a queue"))?;
        Ok(())
    }
}
