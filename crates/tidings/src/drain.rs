//! Coming to an end: wait until nothing is left to do, stop the consumers, close the broker.

use crate::Error;
use crate::tidings::Inner;
use std::time::Duration;
use tidings_flow::consumer::ConsumerHandle;

/// Waits until every consumer has finished what has happened, then stops.
pub(crate) async fn drain(inner: &Inner, limit: Duration) -> Result<(), Error> {
    let started = inner.clock.elapsed();
    let rested = tokio::select! {
        biased;
        rested = come_to_rest(inner) => rested,
        () = inner.clock.sleep(limit) => Err(timed_out(inner, limit)),
    };
    let left = limit.saturating_sub(inner.clock.elapsed().saturating_sub(started));
    let stopped = stop(inner, left).await;
    // What kept consumers from finishing says more than that they were cut off.
    rested.and(stopped)
}

/// Stops every consumer once the handlers in flight are done, and closes the broker. All consumers share the time.
pub(crate) async fn stop(inner: &Inner, limit: Duration) -> Result<(), Error> {
    let started = inner.clock.elapsed();
    let mut outcome = Ok(());
    for consumer in inner.take_consumers() {
        let left = limit.saturating_sub(inner.clock.elapsed().saturating_sub(started));
        let stopped = consumer.drain(left).await.map_err(Error::from);
        outcome = outcome.and(stopped);
    }
    outcome.and(inner.broker.close().await.map_err(Error::from))
}

/// Waits until no consumer has anything left to do. What one emits is work for another, so that all must have been idle in a round in which none did anything.
async fn come_to_rest(inner: &Inner) -> Result<(), Error> {
    loop {
        let consumers = inner.each(|consumer| consumer.handle());
        let before = work_done(&consumers);
        for consumer in &consumers {
            if !consumer.stats().paused {
                consumer.wait_idle().await?;
            }
        }
        if work_done(&consumers) == before {
            return Ok(());
        }
    }
}

/// Grows whenever a consumer finishes an event.
fn work_done(consumers: &[ConsumerHandle]) -> Vec<u64> {
    consumers
        .iter()
        .map(|consumer| {
            let stats = consumer.stats();
            stats.handled + stats.dead_lettered
        })
        .collect()
}

fn timed_out(inner: &Inner, limit: Duration) -> Error {
    let busy = inner
        .each(|consumer| {
            let stats = consumer.stats();
            let busy = stats.in_flight > 0 && !stats.paused;
            busy.then(|| format!("{} ({} events)", consumer.group(), stats.in_flight))
        })
        .into_iter()
        .flatten()
        .collect();
    Error::DrainTimeout { limit, busy }
}
