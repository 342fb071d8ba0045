//! Publishing, synced: in large batches, from many publishers at once, and alone.

use crate::bare::{BareFile, stored_bytes};
use crate::events::{envelopes, fresh_folder, open, remove};
use crate::hand_over::hand_over;
use crate::measure::{Goal, Outcome, Report, Request, Rounds, per_second, progress, timed};
use futures_util::{StreamExt as _, TryStreamExt as _};
use std::sync::Arc;
use tidings_core::Envelope;
use tidings_core::broker::Broker;
use tidings_log::{Codec, LogBroker};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const BATCH_EVENTS: usize = 1_000;
const PUBLISHERS: usize = 64;
/// One batch is being written while the next one is made ready and waits.
const BATCHES_ON_THEIR_WAY: usize = 2;
/// A thousand events are published over and over. A producer hands over what it has just made, so that it lies near the processor; with a hundred thousand made in advance most of what is measured is fetching them from main memory.
const FRESH_EVENTS: usize = 1_000;

/// One producer that hands over batches of 1,000 events while the one before is being written: two on their way, each acknowledged after its own flush. Bare: each batch's bytes, as the log stored them, in one write and one flush.
pub(crate) fn batches(request: &Request, report: &mut Report) -> Outcome<()> {
    measure_batches(
        "log.batches",
        BATCHES_ON_THEIR_WAY,
        Goal::RatioMin(0.85),
        request,
        report,
    )
}

/// The same by a producer that waits for each batch before it makes the next one ready: told for comparison.
pub(crate) fn one_at_a_time(request: &Request, report: &mut Report) -> Outcome<()> {
    measure_batches("log.batches.one_at_a_time", 1, Goal::None, request, report)
}

fn measure_batches(
    name: &str,
    on_their_way: usize,
    goal: Goal,
    request: &Request,
    report: &mut Report,
) -> Outcome<()> {
    progress(name);
    let events = envelopes(FRESH_EVENTS)?;
    let runtime = Runtime::new()?;
    let count = request.full_or_quick(100, 10);
    let publish = |broker: &LogBroker| {
        let batches = events.chunks_exact(BATCH_EVENTS).cycle().take(count);
        let publishing = futures_util::stream::iter(batches)
            .map(|batch| publish_all(broker, batch))
            .buffered(on_their_way)
            .try_collect::<()>();
        runtime.block_on(publishing)
    };
    let sample = stored_by(publish)?;
    let chunk = sample.len() / count;
    let published = count * BATCH_EVENTS;
    let rounds = Rounds::measure(
        request.full_or_quick(15, 1),
        || on_a_fresh_log(published, publish),
        || on_a_fresh_file(published, |file| write_chunks(file, &sample, chunk)),
    )?;
    report.compared(name, "events/s", &rounds, goal);
    report.processor(name, (published, published), &rounds);
    Ok(())
}

/// 64 publishers, each with one event at a time; bare: the bytes of 64 events, as the log stored them, in one write and one flush.
pub(crate) fn publishers(request: &Request, report: &mut Report) -> Outcome<()> {
    progress("log.publishers");
    let events = Arc::new(envelopes(FRESH_EVENTS)?);
    let each = request.full_or_quick(1_000, 100);
    let published = each * PUBLISHERS;
    let runtime = Runtime::new()?;
    let sample = stored_by(|broker| {
        runtime.block_on(async {
            for batch in events.chunks_exact(PUBLISHERS).cycle().take(each) {
                publish_all(broker, batch).await?;
            }
            Ok(())
        })
    })?;
    let chunk = sample.len() / each;
    let rounds = Rounds::measure(
        request.full_or_quick(15, 1),
        || {
            let folder = fresh_folder("publishers")?;
            let broker = Arc::new(open(&folder, Codec::None)?);
            let (_, took) = timed(|| {
                runtime.block_on(async {
                    let mut publishing = JoinSet::new();
                    for publisher in 0..PUBLISHERS {
                        let (broker, events) = (Arc::clone(&broker), Arc::clone(&events));
                        publishing.spawn(publish_own(broker, events, publisher, each));
                    }
                    while let Some(published) = publishing.join_next().await {
                        published??;
                    }
                    Ok(())
                })
            })?;
            drop(broker);
            remove(&folder)?;
            Ok(per_second(published, took))
        },
        || on_a_fresh_file(published, |file| write_chunks(file, &sample, chunk)),
    )?;
    report.compared("log.publishers", "events/s", &rounds, Goal::RatioMin(0.8));
    report.processor("log.publishers", (published, published), &rounds);
    // What is left of the bare loop's speed once 64 tasks are woken after each flush, and nothing else is done.
    let woken = Rounds::measure(
        request.full_or_quick(15, 1),
        || {
            on_a_fresh_file(published, |file| {
                hand_over(&runtime, file, &sample, chunk, PUBLISHERS)
            })
        },
        || on_a_fresh_file(published, |file| write_chunks(file, &sample, chunk)),
    )?;
    report.compared("log.publishers.hand_over", "events/s", &woken, Goal::None);
    Ok(())
}

/// One publisher with one event at a time; bare: the bytes of each event, as the log stored them, in one write and one flush.
pub(crate) fn single(request: &Request, report: &mut Report) -> Outcome<()> {
    progress("log.single");
    let events = envelopes(request.full_or_quick(2_000, 200))?;
    let runtime = Runtime::new()?;
    let publish = |broker: &LogBroker| {
        runtime.block_on(async {
            for event in &events {
                publish_all(broker, std::slice::from_ref(event)).await?;
            }
            Ok(())
        })
    };
    let sample = stored_by(publish)?;
    let chunk = sample.len() / events.len();
    let rounds = Rounds::measure(
        request.full_or_quick(15, 1),
        || on_a_fresh_log(events.len(), publish),
        || on_a_fresh_file(events.len(), |file| write_chunks(file, &sample, chunk)),
    )?;
    report.compared("log.single", "events/s", &rounds, Goal::RatioMin(0.8));
    report.processor("log.single", (events.len(), events.len()), &rounds);
    // What is left of it once the task is woken by another thread after each flush, and nothing else is done.
    let woken = Rounds::measure(
        request.full_or_quick(15, 1),
        || {
            on_a_fresh_file(events.len(), |file| {
                hand_over(&runtime, file, &sample, chunk, 1)
            })
        },
        || on_a_fresh_file(events.len(), |file| write_chunks(file, &sample, chunk)),
    )?;
    report.compared("log.single.hand_over", "events/s", &woken, Goal::None);
    Ok(())
}

/// Publishes a batch; an event that is refused ends the benchmark.
pub(crate) async fn publish_all(broker: &LogBroker, batch: &[Envelope]) -> Outcome<()> {
    for outcome in broker.publish(batch).await {
        outcome?;
    }
    Ok(())
}

/// Publishes every 64th event, over and over, one at a time.
async fn publish_own(
    broker: Arc<LogBroker>,
    events: Arc<Vec<Envelope>>,
    publisher: usize,
    count: usize,
) -> Outcome<()> {
    let own = events.iter().skip(publisher).step_by(PUBLISHERS);
    for event in own.cycle().take(count) {
        publish_all(&broker, std::slice::from_ref(event)).await?;
    }
    Ok(())
}

/// The bytes that the log stores for what is published.
fn stored_by(publish: impl Fn(&LogBroker) -> Outcome<()>) -> Outcome<Vec<u8>> {
    let folder = fresh_folder("sample")?;
    publish(&open(&folder, Codec::None)?)?;
    let stored = stored_bytes(&folder)?;
    remove(&folder)?;
    Ok(stored)
}

/// Events a second of publishing into a new log, its opening left out.
fn on_a_fresh_log(events: usize, publish: impl Fn(&LogBroker) -> Outcome<()>) -> Outcome<f64> {
    let folder = fresh_folder("log")?;
    let broker = open(&folder, Codec::None)?;
    let ((), took) = timed(|| publish(&broker))?;
    drop(broker);
    remove(&folder)?;
    Ok(per_second(events, took))
}

/// Events a second of a bare loop on a new file, its making left out.
fn on_a_fresh_file(events: usize, write: impl Fn(&mut BareFile) -> Outcome<()>) -> Outcome<f64> {
    let folder = fresh_folder("bare")?;
    let mut file = BareFile::create(&folder)?;
    let ((), took) = timed(|| write(&mut file))?;
    remove(&folder)?;
    Ok(per_second(events, took))
}

/// The same bytes, so many at once, each flushed.
fn write_chunks(file: &mut BareFile, bytes: &[u8], chunk: usize) -> Outcome<()> {
    bytes
        .chunks_exact(chunk)
        .try_for_each(|chunk| file.append_synced(chunk))
}
