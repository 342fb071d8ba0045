//! What the figures share: where the servers are, names that nobody used before, events, and the two loops that are measured, publishing and consuming.

use crate::measure::{Outcome, per_second, processor_time};
use futures_util::{StreamExt as _, TryStreamExt as _};
use std::hash::{BuildHasher as _, RandomState};
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidings_brokers::BrokerUrl;
use tidings_core::broker::{Broker, Destination, KeyOrder};
use tidings_core::extract::HandlerContext;
use tidings_core::seam::Clock as _;
use tidings_core::{BoxFuture, Envelope, Pattern, envelope_json};
use tidings_flow::consumer::{Consumer, ConsumerConfig};
use tidings_flow::handler::{DeliveryHandler, HandlerResult};
use tidings_flow::runtime::SystemClock;
use tidings_testkit::loan_data;
use tokio::sync::Notify;

/// Events on their way at the same time, on either side.
pub(crate) const IN_FLIGHT: usize = 1_000;
/// While one batch is being acknowledged the next one is sent.
const BATCHES_ON_THEIR_WAY: usize = 2;
/// Events that are published before the clock runs: a client connects and learns about its topic with the first ones.
const WARM_UP: usize = 200;
/// How long a server may take for what a figure gives it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(300);

/// Events of the loan data's shape.
pub(crate) fn envelopes(count: usize) -> Outcome<Arc<Vec<Envelope>>> {
    let keys = (count as u64).div_ceil(loan_data::EVENTS_PER_KEY);
    let events: Outcome<Vec<Envelope>> = loan_data::lines(keys)
        .take(count)
        .map(|line| Ok(envelope_json::from_json(line.as_bytes())?))
        .collect();
    Ok(Arc::new(events?))
}

/// The server that a variable names; `cargo xtask bench` sets it.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark is told here where its servers are"
)]
pub(crate) fn server(variable: &str) -> Outcome<String> {
    let url = std::env::var(variable).unwrap_or_default();
    if url.is_empty() {
        return Err(format!(
            "{variable} names no server; `cargo xtask bench brokers` starts them all"
        )
        .into());
    }
    Ok(url)
}

/// Host and port of a URL.
pub(crate) fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    rest.split(['/', '?']).next().unwrap_or(rest)
}

/// A name that no run before this one used.
pub(crate) fn fresh(kind: &str) -> String {
    format!(
        "bench-{kind}-{:08x}",
        RandomState::new().hash_one(kind) as u32
    )
}

/// A URL with a parameter more.
pub(crate) fn with(url: &str, parameter: &str) -> Outcome<BrokerUrl> {
    let joint = if url.contains('?') { '&' } else { '?' };
    Ok(format!("{url}{joint}{parameter}").parse()?)
}

/// Ours or a bare client: hands over the events at these places and waits until the server has acknowledged all of them.
pub(crate) trait Publisher: Send + Sync {
    fn publish(&self, places: Range<usize>) -> BoxFuture<'_, Outcome<()>>;
}

/// One of our brokers, with the events that it publishes.
pub(crate) struct Ours<B> {
    pub(crate) broker: B,
    pub(crate) events: Arc<Vec<Envelope>>,
}

impl<B: Destination> Publisher for Ours<B> {
    fn publish(&self, places: Range<usize>) -> BoxFuture<'_, Outcome<()>> {
        Box::pin(async move {
            let batch = self.events.get(places).unwrap_or_default();
            for outcome in self.broker.publish(batch).await {
                outcome?;
            }
            Ok(())
        })
    }
}

/// Events a second of one publisher with so many on their way, in two batches; the first ones are not counted.
pub(crate) async fn publish(
    publisher: &dyn Publisher,
    events: usize,
    in_flight: usize,
) -> Outcome<f64> {
    let size = in_flight / BATCHES_ON_THEIR_WAY;
    publisher.publish(0..WARM_UP.min(events)).await?;
    let clock = SystemClock::new();
    let first = WARM_UP.min(events);
    let batches = (first..events).step_by(size);
    let publishing = futures_util::stream::iter(batches)
        .map(|begin| publisher.publish(begin..(begin + size).min(events)))
        .buffered(BATCHES_ON_THEIR_WAY)
        .try_collect::<()>();
    tokio::time::timeout(DEADLINE, publishing).await??;
    Ok(per_second(events - first, clock.elapsed()))
}

/// Fills whatever a broker publishes to, as fast as it takes.
pub(crate) async fn fill(broker: &dyn Broker, events: &[Envelope]) -> Outcome<()> {
    for batch in events.chunks(IN_FLIGHT) {
        for outcome in broker.publish(batch).await {
            outcome?;
        }
    }
    Ok(())
}

/// Looks at the envelope and counts it.
struct Counting {
    patterns: Vec<Pattern>,
    left: Arc<AtomicUsize>,
    all_seen: Arc<Notify>,
}

impl DeliveryHandler for Counting {
    fn name(&self) -> &str {
        "counting"
    }

    fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    fn handle(&self, context: HandlerContext) -> BoxFuture<'static, HandlerResult> {
        black_box(context.envelope.event_id());
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.all_seen.notify_one();
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Microseconds of processor time of this process for each event that a group handles, from its join until everything is acknowledged and the group is left. The
/// handler looks at an envelope; lanes are on, nothing is set but what a broker asks for.
pub(crate) async fn consume(broker: Arc<dyn Broker>, group: &str, events: usize) -> Outcome<f64> {
    let left = Arc::new(AtomicUsize::new(events));
    let all_seen = Arc::new(Notify::new());
    let handler = Counting {
        patterns: vec![Pattern::everything()],
        left: Arc::clone(&left),
        all_seen: Arc::clone(&all_seen),
    };
    let unordered = broker.capabilities().key_order == KeyOrder::None;
    let before = processor_time()?;
    let consumer = Consumer::builder(broker, group.parse()?)
        .handler(Arc::new(handler))
        .config(ConsumerConfig {
            unordered,
            single_instance: true,
            ..ConsumerConfig::default()
        })
        .start()
        .await?;
    tokio::time::timeout(DEADLINE, all_seen.notified()).await?;
    let handled = consumer.drain(DEADLINE).await;
    let took = processor_time()? - before;
    handled?;
    Ok(micros_each(took, events))
}

/// Processor time for each event, in microseconds.
pub(crate) fn micros_each(took: Duration, events: usize) -> f64 {
    took.as_secs_f64() * 1e6 / events as f64
}
