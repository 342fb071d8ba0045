//! Reading along: a rule and a queue of its own, from now on.

use super::Inner;
use crate::aws::group::OF_TAG;
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
            what: "read what was published before; without an archive it keeps no history, so that tail shows what is published from now on".to_owned(),
        });
    }
    let bus = inner.bus_arn().await?;
    let tags = vec![
        (OF_TAG, inner.config.bus.clone()),
        ("tidings-tail", "true".to_owned()),
    ];
    let number = inner.tails.fetch_add(1, Ordering::Relaxed);
    let micros = inner.clock.now().as_micros();
    // It tells a person who finds the queue what it was for, and which process left it behind.
    let name = format!("tail-{}-{micros}-{number}", std::process::id());
    let way = inner.way(&name, tags, Some(&bus));
    let (items, found) = inner.bring_way(&way, &request.patterns, true, true).await?;
    if let Some(item) = items.into_iter().find(|item| !item.state.is_good()) {
        return Err(inner.not_good(&item.what, item.state));
    }
    let found = found.ok_or(BrokerError::Bug {
        what: "a look at the topology",
    })?;
    let remove: Remove = {
        let (inner, url) = (inner.clone(), found.queue.url.clone());
        Box::new(move || {
            Box::pin(async move {
                inner.remove_rule(&way.rule).await?;
                inner.queues.delete(&url).await
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
