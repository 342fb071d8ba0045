//! Reading along: a rule and a queue of its own, from now on.

use super::Inner;
use crate::aws::group::OF_TAG;
use crate::aws::tail::Remove;
use std::sync::Arc;
use tidings_core::broker::{BrokerError, StartAt, Tail, TailRequest};

pub(super) async fn tail<'a>(
    inner: &'a Arc<Inner>,
    request: &TailRequest,
) -> Result<Box<dyn Tail + 'a>, BrokerError> {
    if request.start != StartAt::Latest {
        return Err(inner.session.unsupported(
            "read what was published before; without an archive it keeps no history, so that tail shows what is published from now on",
        ));
    }
    let bus = inner.bus_arn().await?;
    let tags = vec![
        (OF_TAG, inner.config.bus.clone()),
        ("tidings-tail", "true".to_owned()),
    ];
    let name = inner.session.tail_name();
    let way = inner.way(&name, tags, Some(&bus));
    let (items, found) = inner.bring_way(&way, &request.patterns, true, true).await?;
    let found = inner.session.all_good(items, found)?;
    let remove: Remove = {
        let (inner, url) = (inner.clone(), found.queue.url.clone());
        Box::new(move || {
            Box::pin(async move {
                inner.remove_rule(&way.rule).await?;
                inner.session.queues.delete(&url).await
            })
        })
    };
    let tail = inner.session.tail(inner.parts(found, None), remove);
    Ok(Box::new(tail))
}
