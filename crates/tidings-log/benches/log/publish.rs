//! Publishing, synced: in large batches, from many publishers at once, and alone.

use crate::bare::{BareFile, stored_bytes};
use crate::events::{envelopes, fresh_folder, open, remove};
use crate::measure::{Goal, Outcome, Report, Request, Rounds, per_second, progress, timed};
use std::sync::Arc;
use tidings_core::Envelope;
use tidings_core::broker::Broker;
use tidings_log::{Codec, LogBroker};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const BATCH_EVENTS: usize = 1_000;
const PUBLISHERS: usize = 64;

/// One producer that hands over 1,000 events and waits for them before the next; bare: each batch's bytes, as the log stored them, in one write and one flush.
pub(crate) fn batches(request: &Request, report: &mut Report) -> Outcome<()> {
    progress("log.batches");
    let events = envelopes(request.full_or_quick(100_000, 10_000))?;
    let runtime = Runtime::new()?;
    let count = events.len() / BATCH_EVENTS;
    let publish = |broker: &LogBroker| {
        runtime.block_on(async {
            for batch in events.chunks_exact(BATCH_EVENTS) {
                publish_all(broker, batch).await?;
            }
            Ok(())
        })
    };
    let sample = stored_by(publish)?;
    let chunk = sample.len() / count;
    let rounds = Rounds::measure(
        request.full_or_quick(15, 1),
        || on_a_fresh_log(events.len(), publish),
        || on_a_fresh_file(events.len(), |file| write_chunks(file, &sample, chunk)),
    )?;
    report.compared("log.batches", "events/s", &rounds, Goal::RatioMin(0.85));
    report.processor("log.batches", events.len(), &rounds);
    Ok(())
}

/// 64 publishers, each with one event at a time; bare: the bytes of 64 events, as the log stored them, in one write and one flush.
pub(crate) fn publishers(request: &Request, report: &mut Report) -> Outcome<()> {
    progress("log.publishers");
    let events = Arc::new(envelopes(request.full_or_quick(64_000, 6_400))?);
    let runtime = Runtime::new()?;
    let sample = stored_by(|broker| {
        runtime.block_on(async {
            for batch in events.chunks_exact(PUBLISHERS) {
                publish_all(broker, batch).await?;
            }
            Ok(())
        })
    })?;
    let chunk = sample.len() / (events.len() / PUBLISHERS);
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
                        publishing.spawn(publish_own(broker, events, publisher));
                    }
                    while let Some(published) = publishing.join_next().await {
                        published??;
                    }
                    Ok(())
                })
            })?;
            drop(broker);
            remove(&folder)?;
            Ok(per_second(events.len(), took))
        },
        || on_a_fresh_file(events.len(), |file| write_chunks(file, &sample, chunk)),
    )?;
    report.compared("log.publishers", "events/s", &rounds, Goal::RatioMin(0.8));
    report.processor("log.publishers", events.len(), &rounds);
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
    report.processor("log.single", events.len(), &rounds);
    Ok(())
}

/// Publishes a batch; an event that is refused ends the benchmark.
pub(crate) async fn publish_all(broker: &LogBroker, batch: &[Envelope]) -> Outcome<()> {
    for outcome in broker.publish(batch).await {
        outcome?;
    }
    Ok(())
}

/// Publishes every 64th event, one at a time.
async fn publish_own(
    broker: Arc<LogBroker>,
    events: Arc<Vec<Envelope>>,
    publisher: usize,
) -> Outcome<()> {
    for event in events.iter().skip(publisher).step_by(PUBLISHERS) {
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
