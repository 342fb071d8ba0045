//! Events a second through a consumer: a raw handler, a typed one, and ten groups at once.

use crate::measure::{Goal, Outcome, Report, Request, Rounds, per_second, progress, timed};
use crate::stage::{envelopes, fresh_folder, open, publish, reader, remove};
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use tidings::broker::{Position, ReadRequest, Reader};
use tidings::{Envelope, Event, EventType, Tidings};
use tokio::runtime::Runtime;

/// Events of a page of the bare loop: as many as a consumer fetches at once.
const PAGE_EVENTS: usize = 1_024;
const GROUPS: usize = 10;

/// A payload of the loan data.
#[derive(Debug, Event, Serialize, Deserialize)]
#[event(type = "application.submitted")]
struct ApplicationSubmitted {
    #[serde(rename = "REG_DATE")]
    registered_at: String,
    #[serde(rename = "AMOUNT_REQ")]
    amount_requested: String,
    resource: String,
}

/// A handler of envelopes that does nothing, with lanes on. Bare: one loop that reads the same log and decodes the same envelopes.
pub(crate) fn raw(request: &Request, report: &mut Report, runtime: &Runtime) -> Outcome<()> {
    progress("consume.raw");
    let count = request.full_or_quick(1_000_000, 20_000);
    let folder = fresh_folder("raw")?;
    let tidings = stage(runtime, &folder, count, |_| {})?;
    let mut number = 0;
    let rounds = Rounds::measure(
        request.full_or_quick(11, 1),
        || {
            number += 1;
            consume(
                runtime,
                &tidings,
                &[format!("raw-{number}")],
                count,
                Kind::Raw,
            )
        },
        || {
            read_bare(runtime, &folder, count, |envelope| {
                black_box(envelope);
                Ok(())
            })
        },
    )?;
    runtime.block_on(tidings.shutdown())?;
    remove(&folder)?;
    report.compared(
        "consume.raw",
        "events/s",
        &rounds,
        Goal::RatioAndValueMin(0.3, 1_000_000.0),
    );
    report.processor("consume.raw", (count, count), &rounds);
    Ok(())
}

/// A typed handler. All events are of its type, otherwise of the loan data's shape. Bare: one loop that reads, decodes and parses the same payloads into the same type.
pub(crate) fn typed(request: &Request, report: &mut Report, runtime: &Runtime) -> Outcome<()> {
    progress("consume.typed");
    let count = request.full_or_quick(1_000_000, 20_000);
    let folder = fresh_folder("typed")?;
    let tidings = stage(runtime, &folder, count, |event_type| {
        *event_type = EventType::trusted(ApplicationSubmitted::TYPE.to_owned());
    })?;
    let mut number = 0;
    let rounds = Rounds::measure(
        request.full_or_quick(11, 1),
        || {
            number += 1;
            consume(
                runtime,
                &tidings,
                &[format!("typed-{number}")],
                count,
                Kind::Typed,
            )
        },
        || {
            read_bare(runtime, &folder, count, |envelope| {
                let payload = envelope.payload_bytes();
                black_box(serde_json::from_slice::<ApplicationSubmitted>(payload)?);
                Ok(())
            })
        },
    )?;
    runtime.block_on(tidings.shutdown())?;
    remove(&folder)?;
    report.compared("consume.typed", "events/s", &rounds, Goal::RatioMin(0.6));
    report.processor("consume.typed", (count, count), &rounds);
    Ok(())
}

/// The same two handlers in a group that has a store for what fails. Bare: in one that has none. Nothing fails.
pub(crate) fn with_store(request: &Request, report: &mut Report, runtime: &Runtime) -> Outcome<()> {
    let count = request.full_or_quick(1_000_000, 20_000);
    for (name, kind) in [
        ("consume.store.raw", Kind::Raw),
        ("consume.store.typed", Kind::Typed),
    ] {
        progress(name);
        let folder = fresh_folder("store")?;
        let tidings = stage(runtime, &folder, count, |event_type| {
            *event_type = EventType::trusted(ApplicationSubmitted::TYPE.to_owned());
        })?;
        let storeless = Tidings::builder().from_broker(Arc::clone(tidings.broker()));
        let (mut with, mut without) = (0, 0);
        let rounds = Rounds::measure(
            request.full_or_quick(11, 1),
            || {
                with += 1;
                consume(runtime, &tidings, &[format!("with-{with}")], count, kind)
            },
            || {
                without += 1;
                consume(
                    runtime,
                    &storeless,
                    &[format!("without-{without}")],
                    count,
                    kind,
                )
            },
        )?;
        runtime.block_on(tidings.shutdown())?;
        remove(&folder)?;
        report.compared(name, "events/s", &rounds, Goal::RatioMin(0.95));
        report.processor(name, (count, count), &rounds);
    }
    Ok(())
}

/// Ten groups that read the same log at the same time, all their events together. Bare: one group alone.
pub(crate) fn groups(request: &Request, report: &mut Report, runtime: &Runtime) -> Outcome<()> {
    progress("consume.groups");
    let count = request.full_or_quick(300_000, 20_000);
    let folder = fresh_folder("groups")?;
    let tidings = stage(runtime, &folder, count, |_| {})?;
    let (mut ten, mut one) = (0, 0);
    let rounds = Rounds::measure(
        request.full_or_quick(9, 1),
        || {
            ten += 1;
            let names: Vec<String> = (0..GROUPS)
                .map(|group| format!("of-ten-{ten}-{group}"))
                .collect();
            consume(runtime, &tidings, &names, count, Kind::Raw)
        },
        || {
            one += 1;
            consume(
                runtime,
                &tidings,
                &[format!("alone-{one}")],
                count,
                Kind::Raw,
            )
        },
    )?;
    runtime.block_on(tidings.shutdown())?;
    remove(&folder)?;
    report.compared("consume.groups", "events/s", &rounds, Goal::RatioMin(1.2));
    report.processor("consume.groups", (GROUPS * count, count), &rounds);
    Ok(())
}

/// A folder with so many events, whose types may be changed.
fn stage(
    runtime: &Runtime,
    folder: &Path,
    count: usize,
    change: impl Fn(&mut EventType),
) -> Outcome<Tidings> {
    let events: Vec<Envelope> = envelopes(count)?
        .into_iter()
        .map(|envelope| {
            let mut parts = envelope.into_parts();
            change(&mut parts.event_type);
            Envelope::trusted(parts)
        })
        .collect();
    assert_eq!(events.len(), count, "whole applications");
    runtime.block_on(async {
        let tidings = open(folder).await?;
        publish(&tidings, &events).await?;
        Ok(tidings)
    })
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Raw,
    Typed,
}

/// Events a second of new groups that each handle the whole log, from the first join until the last is at the end.
fn consume(
    runtime: &Runtime,
    tidings: &Tidings,
    groups: &[String],
    count: usize,
    kind: Kind,
) -> Outcome<f64> {
    runtime.block_on(async {
        let mut consumers = Vec::new();
        let began = tidings::flow::runtime::SystemClock::new();
        for group in groups {
            let consumer = tidings.consumer(group.clone()).until_end();
            let consumer = match kind {
                Kind::Raw => consumer.on_raw("**", ignore),
                Kind::Typed => consumer.on(take),
            };
            consumers.push(consumer.start().await?);
        }
        for consumer in &consumers {
            consumer.finished().await?;
        }
        let took = tidings::core::seam::Clock::elapsed(&began);
        for consumer in &consumers {
            assert_eq!(
                consumer.stats().handled,
                count as u64,
                "every event is handled once"
            );
            consumer.drain().await?;
        }
        Ok(per_second(count * groups.len(), took))
    })
}

async fn ignore(envelope: Envelope) {
    black_box(envelope);
}

async fn take(event: ApplicationSubmitted) {
    black_box(event);
}

/// Events a second of a loop that reads page by page, decodes each envelope and does `each` with it.
fn read_bare(
    runtime: &Runtime,
    folder: &Path,
    count: usize,
    each: impl Fn(Envelope) -> Outcome<()>,
) -> Outcome<f64> {
    let reader = reader(folder)?;
    let (read, took) = timed(|| {
        runtime.block_on(async {
            let (mut from, mut read) = (Position(0), 0);
            loop {
                let request = ReadRequest {
                    from,
                    patterns: &[],
                    events_max: PAGE_EVENTS,
                };
                let page = reader.read(request).await?;
                read += page.events.len();
                page.events
                    .into_iter()
                    .try_for_each(|recorded| each(recorded.envelope))?;
                if page.at_end {
                    return Ok(read);
                }
                from = page.next;
            }
        })
    })?;
    assert_eq!(read, count, "every event is read");
    Ok(per_second(count, took))
}
