//! Looking events up in a large log: what the tables cost, and what they save.

use crate::events::{fresh_folder, remove};
use crate::measure::{Goal, Outcome, Report, Request, Rounds, processor_time, progress, timed};
use crate::publish::publish_all;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use tidings_core::broker::{LookUpBy, LookUpRequest, Position, Reader};
use tidings_core::{Envelope, EnvelopeParts, envelope_json};
use tidings_flow::runtime::SystemClock;
use tidings_log::{Codec, LogBroker, LogReader, OpenOptions, RealDisk};
use tidings_testkit::loan_data;
use tokio::runtime::Runtime;

const BATCH_EVENTS: u64 = 1_000;
/// Look-ups of each kind.
const LOOK_UPS: u64 = 300;

/// A log of 10 million events of the loan data's shape, packed with LZ4, in batches of 1,000; among them a key with 10 events and one with 1,000, spread evenly.
///
/// The baseline of a look-up is the same look-up without tables, which reads everything.
pub(crate) fn look_ups(request: &Request, report: &mut Report) -> Outcome<()> {
    progress("look-up");
    let folder = fresh_folder("look-up")?;
    let events = request.full_or_quick(10_000_000, 100_000);
    let runtime = Runtime::new()?;
    let (ids, write_nanos) = write(&runtime, &folder, events)?;
    let without = measure(&runtime, &folder, &ids, 1)?;
    let (tables, making_nanos) = make_tables(&runtime, &folder, events)?;
    let with = measure(&runtime, &folder, &ids, LOOK_UPS)?;
    let segments = bytes_of(&folder, "seg")?;
    report.alone(
        "look-up.size",
        "bytes/event",
        &[tables as f64 / events as f64],
    );
    report.alone(
        "look-up.size.log",
        "bytes/event",
        &[segments as f64 / events as f64],
    );
    let making = Rounds {
        ours: vec![making_nanos],
        bare: vec![write_nanos],
        ..Rounds::default()
    };
    report.compared("look-up.making.processor", "ns/event", &making, Goal::None);
    for ((name, ours), (_, bare)) in with.into_iter().zip(without) {
        let bare = vec![bare.first().copied().unwrap_or(f64::NAN); ours.len()];
        let rounds = Rounds {
            ours,
            bare,
            ..Rounds::default()
        };
        report.compared(&format!("look-up.{name}"), "ms", &rounds, Goal::None);
    }
    remove(&folder)
}

/// Writes the log without tables; answers ids scattered over it, and the processor time of an event, that of making the events left out.
fn write(runtime: &Runtime, folder: &Path, events: u64) -> Outcome<(Vec<String>, f64)> {
    let broker = open(folder)?;
    let mut lines = loan_data::lines(events / loan_data::EVENTS_PER_KEY);
    let (mut ids, mut nanos) = (Vec::new(), 0);
    for first in (0..events).step_by(BATCH_EVENTS as usize) {
        let batch = (first..first + BATCH_EVENTS)
            .zip(lines.by_ref())
            .map(|(number, line)| keyed(number, events, envelope_json::from_json(line.as_bytes())?))
            .collect::<Outcome<Vec<_>>>()?;
        let before = processor_time()?;
        runtime.block_on(publish_all(&broker, &batch))?;
        nanos += (processor_time()? - before).as_nanos();
        let number = first as usize / BATCH_EVENTS as usize;
        let one = batch.get(number * 7 % batch.len().max(1));
        ids.extend(one.map(|event| event.event_id().to_owned()));
    }
    // Neighbours in time are none in the list.
    let (ids, rest) = ids.split_at(ids.len() / 2);
    let ids = ids
        .iter()
        .zip(rest)
        .flat_map(|(one, other)| [one.clone(), other.clone()]);
    Ok((ids.collect(), nanos as f64 / events as f64))
}

/// Gives some events another key.
fn keyed(number: u64, events: u64, envelope: Envelope) -> Outcome<Envelope> {
    let key = if number % (events / 10) == 77 {
        "key-10"
    } else if number % (events / 1_000) == 33 {
        "key-1000"
    } else {
        return Ok(envelope);
    };
    let mut parts = envelope.into_parts();
    parts.aggregate_id = Some(key.to_owned());
    Ok(Envelope::new(parts)?)
}

/// Bytes of all tables, and processor time of an event to make them.
fn make_tables(runtime: &Runtime, folder: &Path, events: u64) -> Outcome<(u64, f64)> {
    let broker = open(folder)?;
    let before = processor_time()?;
    let nobody = [Envelope::new(EnvelopeParts::new("nobody", "order.placed"))?];
    runtime.block_on(broker.recorded(&nobody))?;
    let took = processor_time()? - before;
    drop(broker);
    Ok((
        bytes_of(folder, "lkp")?,
        took.as_nanos() as f64 / events as f64,
    ))
}

/// Milliseconds of each look-up, by its kind.
fn measure(
    runtime: &Runtime,
    folder: &Path,
    ids: &[String],
    count: u64,
) -> Outcome<Vec<(&'static str, Vec<f64>)>> {
    let open = || -> Outcome<LogReader> {
        let clock = Arc::new(SystemClock::new());
        Ok(LogReader::open(folder, clock, Arc::new(RealDisk))?)
    };
    let step = (ids.len() / LOOK_UPS as usize).max(1);
    let id_of = |number: u64| {
        ids.get(number as usize * step % ids.len())
            .cloned()
            .ok_or("there are no ids")
    };
    let mut all = Vec::new();
    let mut first = Vec::new();
    for number in 0..count.min(20) {
        // As the command line does: nothing is known before.
        let id = id_of(number)?;
        let (_, took) = timed(|| look_up(runtime, &open()?, LookUpBy::EventId(&id), 1))?;
        first.push(took.as_secs_f64() * 1e3);
    }
    all.push(("opened-for-it", first));
    let reader = open()?;
    // What is in memory of the newest segment is made by the first look-up.
    look_up(runtime, &reader, LookUpBy::EventId("nobody"), 0)?;
    let mut take = |name, by: &dyn Fn(u64) -> Outcome<(bool, String)>, count: u64, found: usize| {
        let mut samples = Vec::new();
        for number in 0..count {
            let (is_id, text) = by(number)?;
            let by = if is_id {
                LookUpBy::EventId(&text)
            } else {
                LookUpBy::Key(&text)
            };
            let (_, took) = timed(|| look_up(runtime, &reader, by, found))?;
            samples.push(took.as_secs_f64() * 1e3);
        }
        all.push((name, samples));
        Outcome::Ok(())
    };
    take("id", &|number| Ok((true, id_of(number)?)), count, 1)?;
    take(
        "absent-id",
        &|number| Ok((true, format!("evt-absent-{number}"))),
        count,
        0,
    )?;
    take(
        "key-10",
        &|_| Ok((false, "key-10".to_owned())),
        count.min(50),
        10,
    )?;
    take(
        "key-1000",
        &|_| Ok((false, "key-1000".to_owned())),
        count.min(20),
        1_000,
    )?;
    let mut batches = Vec::new();
    for number in 0..count.min(50) {
        let names = (0..1_000).map(|at| format!("evt-new-{number}-{at}"));
        let fresh = names
            .map(|id| Ok(Envelope::new(EnvelopeParts::new(id, "order.placed"))?))
            .collect::<Outcome<Vec<_>>>()?;
        let (found, took) = timed(|| Ok(runtime.block_on(reader.recorded(&fresh))?))?;
        assert!(found.iter().all(Option::is_none));
        batches.push(took.as_secs_f64() * 1e3);
    }
    all.push(("1000-absent-ids-at-once", batches));
    Ok(all)
}

fn look_up(runtime: &Runtime, reader: &LogReader, by: LookUpBy<'_>, found: usize) -> Outcome<()> {
    let mut from = Position(0);
    let mut count = 0;
    loop {
        let request = LookUpRequest {
            by,
            from,
            patterns: &[],
            events_max: 1_000,
        };
        let page = runtime.block_on(reader.look_up(request))?;
        count += black_box(page.events).len();
        if page.at_end {
            assert_eq!(count, found, "{by:?}");
            return Ok(());
        }
        from = page.next;
    }
}

fn open(folder: &Path) -> Outcome<LogBroker> {
    let mut options = OpenOptions::new(folder, Arc::new(SystemClock::new()), Arc::new(RealDisk));
    options.codec = Codec::Lz4;
    options.look_up_tables = false;
    Ok(LogBroker::open(options)?)
}

/// Bytes of the files with an extension.
fn bytes_of(folder: &Path, extension: &str) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder.join("log/main"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            bytes += path.metadata()?.len();
        }
    }
    Ok(bytes)
}
