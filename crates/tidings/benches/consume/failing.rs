//! Events a second through a group of which every tenth event fails at each of its three attempts, beside the same group without failures; and the most memory that takes.

use crate::measure::{Goal, Outcome, Report, Request, Rounds, per_second, progress};
use crate::memory::mebibytes_of;
use crate::stage::{fresh_folder, open, publish_lines, remove};
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;
use tidings::core::seam::Clock;
use tidings::core::store::{DeathCause, DeathRecord, FailureChange, FailureStore, LaneId};
use tidings::core::store::{FailedAttempt, ParkedDelivery, ParkedId};
use tidings::core::{DedupeKey, Timestamp};
use tidings::extract::HandlerError;
use tidings::flow::runtime::SystemClock;
use tidings::sql::schema::{self, Part};
use tidings::sql::{Database, DatabaseOptions, Failures};
use tidings::{Envelope, OnFailure, Tidings};
use tokio::runtime::Runtime;

/// One of so many events fails.
const FAILING_OF: usize = 10;
const ATTEMPTS: u32 = 3;
const WIDE_EVENTS: usize = 65_536;
/// Dead letters that the store alone is told at once.
const STORE_BATCH: usize = 1_000;

/// How long a failed event waits for its next attempt in place.
#[derive(Debug, Clone, Copy)]
enum Waits {
    /// Not at all, so that the way of a failure is measured and not its waits.
    None,
    /// As it comes: 50 and 100 ms, less what chance takes away.
    Default,
    /// The same, with sixteen times as many events in flight.
    Wide,
}

/// A backlog of the loan data. Every tenth event fails at three attempts in place, each noted in the store before the next one, and becomes a dead letter there; its group goes on behind it. Bare: the same backlog,
/// the same store, and no failure. `consume.failing.waits` is the same with the waits between attempts that a consumer has unless told otherwise, `consume.failing.wide` with those waits and more events in flight.
pub(crate) fn failing(request: &Request, report: &mut Report, runtime: &Runtime) -> Outcome<()> {
    let count = request.full_or_quick(1_000_000, 20_000);
    let rounds = throughput(request, runtime, "consume.failing", count, Waits::None)?;
    report.compared("consume.failing", "events/s", &rounds, Goal::RatioMin(0.5));
    report.processor("consume.failing", (count, count), &rounds);
    // They take long, and say the same of fewer events.
    let count = request.full_or_quick(300_000, 20_000);
    for (name, waits) in [
        ("consume.failing.waits", Waits::Default),
        ("consume.failing.wide", Waits::Wide),
    ] {
        let rounds = throughput(request, runtime, name, count, waits)?;
        report.compared(name, "events/s", &rounds, Goal::None);
    }
    Ok(())
}

fn throughput(
    request: &Request,
    runtime: &Runtime,
    name: &str,
    count: usize,
    waits: Waits,
) -> Outcome<Rounds> {
    progress(name);
    let (mut failing, mut well) = (0, 0);
    Rounds::measure(
        request.full_or_quick(3, 1),
        || {
            failing += 1;
            let folder = fresh_folder("failing")?;
            consume(runtime, &folder, count, Some(waits))
        },
        || {
            well += 1;
            let folder = fresh_folder("well")?;
            consume(runtime, &folder, count, None)
        },
    )
}

/// A folder of its own for each round, so that no round finds the rows of another one.
fn consume(runtime: &Runtime, folder: &Path, count: usize, fails: Option<Waits>) -> Outcome<f64> {
    let rate = runtime.block_on(async {
        let tidings = open(folder).await?;
        publish_lines(&tidings, count).await?;
        let took = handle(&tidings, count, fails).await?;
        tidings.shutdown().await?;
        Outcome::Ok(per_second(count, took))
    })?;
    remove(folder)?;
    Ok(rate)
}

/// Handles everything, and answers how long that took.
async fn handle(tidings: &Tidings, count: usize, fails: Option<Waits>) -> Outcome<Duration> {
    let mut consumer = tidings
        .consumer("failing")
        .attempts(ATTEMPTS)
        .on_failure(OnFailure::Continue)
        .until_end();
    consumer = match fails {
        Some(Waits::None) => consumer.backoff(Duration::ZERO, Duration::ZERO),
        Some(Waits::Wide) => consumer.in_flight_max(WIDE_EVENTS),
        Some(Waits::Default) | None => consumer,
    };
    let began = SystemClock::new();
    let consumer = if fails.is_some() {
        consumer.on_raw("**", fail_some).start().await?
    } else {
        consumer.on_raw("**", ignore).start().await?
    };
    consumer.finished().await?;
    let took = began.elapsed();
    let stats = consumer.stats();
    assert_eq!(
        stats.handled + stats.dead_lettered,
        count as u64,
        "every event is handled or given up"
    );
    assert_eq!(stats.dead_lettered > 0, fails.is_some());
    consumer.drain().await?;
    Ok(took)
}

async fn ignore(envelope: Envelope) {
    black_box(envelope);
}

async fn fail_some(envelope: Envelope) -> Result<(), HandlerError> {
    if is_failing(&envelope) {
        return Err(HandlerError::transient_message("the bank does not answer"));
    }
    black_box(envelope);
    Ok(())
}

/// The ids of the data are spread evenly.
fn is_failing(envelope: &Envelope) -> bool {
    let sum: usize = envelope.event_id().bytes().map(usize::from).sum();
    sum.is_multiple_of(FAILING_OF)
}

/// Dead letters a second that the store alone records, a thousand at once: two attempts noted, then the letter with its fact. It bounds `consume.failing`: no consumer gives more events up.
pub(crate) fn store(request: &Request, report: &mut Report, runtime: &Runtime) -> Outcome<()> {
    progress("consume.failing.store");
    let count = request.full_or_quick(100_000, 2_000);
    let mut rates = Vec::new();
    for _ in 0..request.full_or_quick(3, 1) {
        let folder = fresh_folder("failing-store")?;
        std::fs::create_dir_all(&folder)?;
        rates.push(runtime.block_on(record(&folder, count))?);
        remove(&folder)?;
    }
    report.alone("consume.failing.store", "dead letters/s", &rates);
    Ok(())
}

async fn record(folder: &Path, count: usize) -> Outcome<f64> {
    let options = DatabaseOptions {
        create: true,
        ..DatabaseOptions::default()
    };
    let url = format!("sqlite://{}/state.db", folder.display());
    let database = Database::open(&url, &options).await?;
    schema::migrate(&database, &[Part::Outbox, Part::Failure]).await?;
    let store = Failures::open(&database).await?;
    let mut events = crate::stage::lines(count);
    let mut took = Duration::ZERO;
    let clock = SystemClock::new();
    loop {
        let batch = events.by_ref().take(STORE_BATCH);
        let batch = batch.collect::<Outcome<Vec<Envelope>>>()?;
        if batch.is_empty() {
            break;
        }
        let attempts = |attempts| {
            let noted = batch.iter().map(move |event| FailureChange::Attempted {
                event: DedupeKey::of(event),
                attempts,
            });
            noted.collect::<Vec<_>>()
        };
        let steps = [
            attempts(1),
            attempts(2),
            // The fact is about as long as the event.
            batch
                .iter()
                .map(|event| death(event, event.clone()))
                .collect::<Vec<_>>(),
        ];
        let before = clock.elapsed();
        for changes in &steps {
            store.apply("failing", changes).await?;
        }
        took += clock.elapsed().saturating_sub(before);
    }
    database.close().await;
    Ok(per_second(count, took))
}

/// A death as a consumer records it, with the fact about it.
pub(crate) fn death(event: &Envelope, fact: Envelope) -> FailureChange {
    let failed = |attempt| FailedAttempt {
        attempt,
        at: Timestamp::from_micros(1_700_000_000_000_000),
        error: "the bank does not answer".to_owned(),
    };
    let delivery = ParkedDelivery {
        id: ParkedId(0),
        lead: 0,
        lane: LaneId::of(event),
        envelope: event.clone(),
        problem: None,
        position: Some(1),
        attempts: ATTEMPTS,
        rounds: 0,
        deaths: 0,
        history: (1..=ATTEMPTS).map(failed).collect(),
        due: None,
        letter: None,
    };
    FailureChange::Bury(Box::new(DeathRecord {
        id: format!("dead-{}", event.event_id()),
        handler: "fail_some".to_owned(),
        reasons: vec!["the bank does not answer".to_owned()],
        fingerprint: "dlq-0123456789abcdef".to_owned(),
        cause: DeathCause::Attempts,
        holds: false,
        code_version: String::new(),
        fact,
        delivery,
    }))
}

/// The most memory of a process that works off the backlog of `consume.failing`, beside one that has no failure.
pub(crate) fn memory(request: &Request, report: &mut Report) -> Outcome<()> {
    progress("consume.failing.memory");
    let events = request.full_or_quick(1_000_000, 20_000).to_string();
    let mut rounds = Rounds::default();
    for (kind, peaks) in [("failing", &mut rounds.ours), ("well", &mut rounds.bare)] {
        let folder = fresh_folder("failing-memory")?;
        let name = folder
            .to_str()
            .ok_or("the folder of the build is not UTF-8")?;
        peaks.push(mebibytes_of(&[kind, name, &events])?);
        remove(&folder)?;
    }
    report.compared(
        "consume.failing.memory",
        "MiB",
        &rounds,
        Goal::ValueMax(150.0),
    );
    Ok(())
}

/// The child of the figure about memory.
pub(crate) async fn child(folder: &Path, events: usize, fails: bool) -> Outcome<()> {
    let tidings = Tidings::open(folder).await?;
    publish_lines(&tidings, events).await?;
    handle(&tidings, events, fails.then_some(Waits::None)).await?;
    tidings.shutdown().await?;
    Ok(())
}
