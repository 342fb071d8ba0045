//! How long an event takes from its commit until its destination has accepted it.

use crate::engine::{Engine, Place};
use crate::measure::{Goal, Outcome, Report, Request, per_second, percentile, progress};
use crate::orders::order;
use crate::stage::{Stage, StampingSink};
use sqlx::{Connection as _, Transaction};
use std::time::Duration;
use tidings_core::seam::Clock as _;
use tidings_core::store::Wake;
use tidings_flow::outbox::RunningRelay;
use tidings_sql::Kind;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Events a second that are committed, each in a transaction of its own.
const RATE: usize = 2_000;
/// Between two events of which each finds the relay asleep.
const PAUSE: Duration = Duration::from_millis(7);
/// How long the last events may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// An event that was committed, and when the writer knew it.
struct Committed {
    event_id: String,
    at: Duration,
}

/// Writers at 2,000 events a second and a relay that nobody tells of a commit.
pub(crate) fn lag<E: Engine>(
    request: &Request,
    report: &mut Report,
    runtime: &Runtime,
) -> Outcome<()> {
    progress(&format!("relay.lag{}", E::SUFFIX));
    let seconds = request.full_or_quick(10.0, 0.2);
    let (mut p50, mut p99, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    runtime.block_on(async {
        let stage = Stage::new();
        let place = Place::fresh::<E>("lag").await?;
        let sink = StampingSink::new(stage);
        let relay = stage.relay(&place, sink.clone(), false).await?;
        for _ in 0..request.full_or_quick(5, 1) {
            let (committed, rate) = write::<E>(stage, &place, seconds).await?;
            let mut lags = lags(stage, &sink, &committed).await?;
            p50.push(percentile(&mut lags, 50));
            p99.push(percentile(&mut lags, 99));
            rates.push(rate);
        }
        relay.drain(DEADLINE).await?;
        place.close().await
    })?;
    let goal = |most| match E::KIND {
        Kind::Postgres => Goal::ValueMax(most),
        _ => Goal::None,
    };
    let name = |part: &str| format!("relay.{part}{}", E::SUFFIX);
    report.valued(&name("lag_p50"), "ms", &p50, goal(3.0));
    report.valued(&name("lag_p99"), "ms", &p99, goal(15.0));
    report.alone(&name("lag_rate"), "events/s", &rates);
    Ok(())
}

/// Writes for so many seconds and answers what was committed, and how much that was in a second.
async fn write<E: Engine>(
    stage: Stage,
    place: &Place,
    seconds: f64,
) -> Outcome<(Vec<Committed>, f64)> {
    let began = stage.clock.elapsed();
    let each = (RATE as f64 * seconds / E::WRITERS as f64) as usize;
    let gap = Duration::from_secs_f64(E::WRITERS as f64 / RATE as f64);
    let mut tasks = JoinSet::new();
    for writer in 0..E::WRITERS {
        let outbox = stage.outbox(Vec::new())?;
        let mut connection = E::connect(&place.url).await?;
        tasks.spawn(async move {
            let mut committed = Vec::with_capacity(each);
            // Not all of them at the same instant.
            let first = stage.clock.elapsed() + gap * writer as u32 / E::WRITERS as u32;
            for number in 0..each {
                let due = first + gap * number as u32;
                let wait = due.saturating_sub(stage.clock.elapsed());
                if !wait.is_zero() {
                    stage.clock.sleep(wait).await;
                }
                let mut tx: Transaction<'_, E> = connection.begin_with(E::BEGIN).await?;
                let event_id = E::publish(&outbox, &mut tx, &order(number)).await?;
                tx.commit().await?;
                let at = stage.clock.elapsed();
                committed.push(Committed { event_id, at });
            }
            Outcome::Ok(committed)
        });
    }
    let mut committed = Vec::new();
    while let Some(done) = tasks.join_next().await {
        committed.append(&mut done??);
    }
    let rate = per_second(committed.len(), stage.clock.elapsed() - began);
    Ok((committed, rate))
}

/// Milliseconds of each event, once all have arrived. One that the relay saw before its writer knew that it was committed took none.
async fn lags(stage: Stage, sink: &StampingSink, committed: &[Committed]) -> Outcome<Vec<f64>> {
    let end = stage.clock.elapsed() + DEADLINE;
    let mut lags = Vec::with_capacity(committed.len());
    for event in committed {
        let arrival = loop {
            if let Some(arrival) = sink.arrival(&event.event_id) {
                break arrival;
            }
            if stage.clock.elapsed() > end {
                let missing = format!("{} did not arrive within {DEADLINE:?}", event.event_id);
                return Err(missing.into());
            }
            stage.clock.sleep(Duration::from_millis(1)).await;
        };
        lags.push(arrival.saturating_sub(event.at).as_secs_f64() * 1e3);
    }
    Ok(lags)
}

/// One event at a time, each of which finds the relay asleep and wakes it.
pub(crate) fn wake<E: Engine>(
    request: &Request,
    report: &mut Report,
    runtime: &Runtime,
) -> Outcome<()> {
    progress("relay.wake_p50");
    let samples = request.full_or_quick(300, 10);
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    runtime.block_on(async {
        let stage = Stage::new();
        let place = Place::fresh::<E>("wake").await?;
        let sink = StampingSink::new(stage);
        let relay = stage.relay(&place, sink.clone(), false).await?;
        for _ in 0..request.full_or_quick(5, 1) {
            let committed = write_apart::<E>(stage, &place, &relay, samples).await?;
            let mut lags = lags(stage, &sink, &committed).await?;
            p50.push(percentile(&mut lags, 50));
            p99.push(percentile(&mut lags, 99));
        }
        relay.drain(DEADLINE).await?;
        place.close().await
    })?;
    report.valued("relay.wake_p50", "ms", &p50, Goal::ValueMax(1.0));
    report.alone("relay.wake_p99", "ms", &p99);
    Ok(())
}

async fn write_apart<E: Engine>(
    stage: Stage,
    place: &Place,
    relay: &RunningRelay,
    samples: usize,
) -> Outcome<Vec<Committed>> {
    let wake: Wake = relay.wake();
    let outbox = stage.outbox(vec![wake])?;
    let mut connection = E::connect(&place.url).await?;
    let mut committed = Vec::with_capacity(samples);
    for number in 0..samples {
        stage.clock.sleep(PAUSE).await;
        let mut tx: Transaction<'_, E> = connection.begin_with(E::BEGIN).await?;
        let event_id = E::publish(&outbox, &mut tx, &order(number)).await?;
        outbox.commit(tx).await?;
        let at = stage.clock.elapsed();
        committed.push(Committed { event_id, at });
    }
    connection.close().await?;
    Ok(committed)
}
