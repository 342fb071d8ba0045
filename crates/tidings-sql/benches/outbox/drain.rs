//! How fast a relay empties an outbox whose destination costs nothing.

use crate::engine::{Engine, Place};
use crate::measure::{Goal, Outcome, Report, Request, Rounds, per_second, progress};
use crate::orders::BATCH_ROWS;
use crate::pgbench;
use crate::stage::{NullSink, Stage};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::seam::Clock as _;
use tidings_sql::Kind;
use tokio::runtime::Runtime;

/// A relay to a null sink. Bare: what an owner does at the least, read a batch and delete it, one after the other; by pgbench on PostgreSQL, elsewhere, and there
/// for comparison, through the same driver.
pub(crate) fn drain<E: Engine>(
    request: &Request,
    report: &mut Report,
    runtime: &Runtime,
) -> Outcome<()> {
    let name = format!("relay.drain{}", E::SUFFIX);
    progress(&name);
    let stage = Stage::new();
    let place = runtime.block_on(Place::fresh::<E>("drain"))?;
    let rows = request.full_or_quick(100_000, 1_000);
    let count = request.full_or_quick(9, 1);
    let ours = || runtime.block_on(relay::<E>(stage, &place, rows));
    if E::KIND == Kind::Postgres {
        let rounds = Rounds::measure(count, ours, || {
            runtime.block_on(place.fill::<E>(rows))?;
            pgbench::owner_delete(&place.url, rows)
        })?;
        report.compared(&name, "events/s", &rounds, Goal::RatioMin(0.6));
    }
    let through_driver = Rounds::measure(count, ours, || {
        runtime.block_on(bare::<E>(stage, &place, rows))
    })?;
    let name = match E::KIND {
        Kind::Postgres => "relay.drain.driver",
        _ => &name,
    };
    report.compared(name, "events/s", &through_driver, Goal::None);
    report.processor(name, (rows, rows), &through_driver);
    runtime.block_on(place.close())
}

/// How long a relay may take for what a figure gives it.
const DEADLINE: Duration = Duration::from_secs(120);

async fn relay<E: Engine>(stage: Stage, place: &Place, rows: usize) -> Outcome<f64> {
    place.fill::<E>(rows).await?;
    let began = stage.clock.elapsed();
    let relay = stage.relay(place, Arc::new(NullSink), true).await?;
    let metrics = tokio::time::timeout(DEADLINE, relay.finished()).await??;
    let took = stage.clock.elapsed() - began;
    assert_eq!(metrics.relayed(), rows as u64, "every event is sent once");
    Ok(per_second(rows, took))
}

async fn bare<E: Engine>(stage: Stage, place: &Place, rows: usize) -> Outcome<f64> {
    place.fill::<E>(rows).await?;
    let mut connection = E::connect(&place.url).await?;
    let began = stage.clock.elapsed();
    let mut deleted = 0;
    loop {
        match E::read_and_delete(&mut connection).await? {
            0 => break,
            count => deleted += count,
        }
    }
    let took = stage.clock.elapsed() - began;
    assert_eq!(deleted, rows, "{BATCH_ROWS} at a time");
    Ok(per_second(rows, took))
}
