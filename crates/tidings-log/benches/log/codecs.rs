//! What each codec costs and saves: appending in large and in small batches, size on the disk, reading.

use crate::bare::stored_bytes;
use crate::events::{envelopes, fresh_folder, open, remove};
use crate::measure::{
    Goal, Outcome, Report, Request, Rounds, per_second, processor_time, progress, timed,
};
use crate::publish::publish_all;
use std::hint::black_box;
use std::time::Duration;
use tidings_core::Envelope;
use tidings_core::broker::{Position, ReadRequest, Reader as _};
use tidings_log::Codec;
use tokio::runtime::Runtime;

/// Each codec by its name.
const CODECS: [(&str, Codec); 3] = [
    ("none", Codec::None),
    ("lz4", Codec::Lz4),
    ("zstd", Codec::Zstd),
];
/// Events of a batch, and how the figure calls it.
const BATCHES: [(&str, usize); 2] = [("batch-1000", 1_000), ("batch-64", 64)];
const PAGE_EVENTS: usize = 1_024;

/// The baseline of every figure is codec `none` in the same round.
pub(crate) fn codecs(request: &Request, report: &mut Report) -> Outcome<()> {
    let events = envelopes(request.full_or_quick(200_000, 10_000))?;
    let runtime = Runtime::new()?;
    for (batch, batch_events) in BATCHES {
        progress(batch);
        let mut measured: Vec<Measured> = CODECS.iter().map(|_| Measured::default()).collect();
        for _ in 0..request.full_or_quick(9, 1) {
            for ((_, codec), measured) in CODECS.iter().zip(&mut measured) {
                measured.take_round(&runtime, &events, batch_events, *codec)?;
            }
        }
        let none = measured.first().cloned().unwrap_or_default();
        for ((codec, _), measured) in CODECS.iter().zip(measured) {
            let mut tell = |what: &str, unit, ours: Vec<f64>, bare: &[f64]| {
                let rounds = Rounds {
                    ours,
                    bare: bare.to_vec(),
                    ..Rounds::default()
                };
                report.compared(
                    &format!("codec.{codec}.{batch}.{what}"),
                    unit,
                    &rounds,
                    Goal::None,
                );
            };
            tell("append", "events/s", measured.appends, &none.appends);
            tell(
                "append.processor",
                "ns/event",
                measured.append_nanos,
                &none.append_nanos,
            );
            tell("size", "bytes/event", measured.sizes, &none.sizes);
            tell("read", "events/s", measured.reads, &none.reads);
            tell(
                "read.processor",
                "ns/event",
                measured.read_nanos,
                &none.read_nanos,
            );
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Default)]
struct Measured {
    appends: Vec<f64>,
    append_nanos: Vec<f64>,
    sizes: Vec<f64>,
    reads: Vec<f64>,
    read_nanos: Vec<f64>,
}

impl Measured {
    fn take_round(
        &mut self,
        runtime: &Runtime,
        events: &[Envelope],
        batch_events: usize,
        codec: Codec,
    ) -> Outcome<()> {
        let folder = fresh_folder("codec")?;
        let broker = open(&folder, codec)?;
        let nanos = |before: Duration| -> Outcome<f64> {
            let took = processor_time()? - before;
            Ok(took.as_nanos() as f64 / events.len() as f64)
        };
        let before = processor_time()?;
        let ((), appended) = timed(|| {
            runtime.block_on(async {
                for batch in events.chunks(batch_events) {
                    publish_all(&broker, batch).await?;
                }
                Ok(())
            })
        })?;
        self.append_nanos.push(nanos(before)?);
        let before = processor_time()?;
        let (read, took) = timed(|| {
            runtime.block_on(async {
                let (mut from, mut read) = (Position(0), 0);
                loop {
                    let request = ReadRequest {
                        from,
                        patterns: &[],
                        events_max: PAGE_EVENTS,
                    };
                    let page = broker.read(request).await?;
                    read += black_box(page.events).len();
                    if page.at_end {
                        return Ok(read);
                    }
                    from = page.next;
                }
            })
        })?;
        self.read_nanos.push(nanos(before)?);
        assert_eq!(read, events.len(), "every event is read");
        drop(broker);
        self.appends.push(per_second(events.len(), appended));
        self.sizes
            .push(stored_bytes(&folder)?.len() as f64 / events.len() as f64);
        self.reads.push(per_second(events.len(), took));
        remove(&folder)
    }
}
