//! Coming to an end: wait until nothing is left to do, stop the consumers, close the broker.

use crate::Error;
use crate::tidings::Inner;
use std::time::Duration;
use tidings_flow::consumer::ConsumerHandle;

/// How long the end waits for what consumers have stated in `state.db` to reach the log.
#[cfg(feature = "sqlite")]
const LAST_FACTS_WAIT: Duration = Duration::from_secs(1);

/// The same of a database of their own and a broker, which are both elsewhere.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
const LAST_SHARED_FACTS_WAIT: Duration = Duration::from_secs(3);

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
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    for facts in inner.take_facts() {
        let left = limit.saturating_sub(inner.clock.elapsed().saturating_sub(started));
        facts
            .stop(&*inner.clock, left.min(LAST_SHARED_FACTS_WAIT), left)
            .await;
    }
    #[cfg(feature = "sqlite")]
    if let Some(state) = &inner.state {
        // What consumers stated there last is carried into the log, unless that takes long; the rest is at the next start.
        let carried = async { while !nothing_waits_beside(inner).await {} };
        let left = limit.saturating_sub(inner.clock.elapsed().saturating_sub(started));
        tokio::select! {
            biased;
            () = carried => {}
            () = inner.clock.sleep(left.min(LAST_FACTS_WAIT)) => {}
        }
        let left = limit.saturating_sub(inner.clock.elapsed().saturating_sub(started));
        state.stop(left).await;
    }
    outcome.and(inner.broker.close().await.map_err(Error::from))
}

/// Waits until no consumer has anything left to do but one that is paused or whose circuit is open. What one emits is work for another, so that all must have been idle in a round in which none did anything.
async fn come_to_rest(inner: &Inner) -> Result<(), Error> {
    loop {
        let consumers = inner.each(|consumer| consumer.handle());
        let before = work_done(&consumers);
        // Looked at before the consumers are: what leaves the outbox is in the log, where they find it.
        let nothing_waits = nothing_waits_beside(inner).await;
        for consumer in &consumers {
            let stats = consumer.stats();
            if stats.paused || stats.circuit.is_some() {
                continue;
            }
            // What waits for a provider that is down is left to the next start, as what is paused.
            tokio::select! {
                biased;
                idle = consumer.wait_idle() => idle?,
                opened = consumer.circuit_opened() => opened?,
            }
        }
        if work_done(&consumers) == before && nothing_waits {
            return Ok(());
        }
    }
}

/// Whether everything that was published through `state.db`, here or beside, is in the log; if not, waits a moment.
async fn nothing_waits_beside(inner: &Inner) -> bool {
    #[cfg(feature = "sqlite")]
    if let Some(state) = &inner.state
        && !state.is_empty().await
    {
        inner.clock.sleep(crate::state::EMPTY_POLL_INTERVAL).await;
        return false;
    }
    #[cfg(not(feature = "sqlite"))]
    let _ = inner;
    true
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
            let busy = stats.in_flight > 0 && !stats.paused && stats.circuit.is_none();
            busy.then(|| format!("{} ({} events)", consumer.group(), stats.in_flight))
        })
        .into_iter()
        .flatten()
        .collect();
    Error::DrainTimeout { limit, busy }
}
