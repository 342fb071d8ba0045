//! Whether a snapshot that somebody holds open slows a relay down: the rows that it deleted stay in the table as long.

use crate::engine::{Engine, Place};
use crate::measure::{Goal, Outcome, Report, Request, Rounds, per_second, percentile, progress};
use crate::orders::order;
use crate::stage::{Stage, StampingSink};
use sqlx::{Connection as _, Executor as _, PgConnection, Postgres, Transaction};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::seam::Clock as _;
use tidings_flow::outbox::RunningRelay;
use tokio::runtime::Runtime;

/// Events a second that are committed meanwhile.
const RATE: f64 = 800.0;
/// Events of one transaction of the writer.
const TOGETHER: usize = 8;
/// Rows of each block that is relayed as fast as it can be.
const BLOCK: usize = 20_000;
const DEADLINE: Duration = Duration::from_secs(120);

/// A database with a relay and a writer; in one of them somebody holds a snapshot.
struct Side {
    place: Place,
    sink: Arc<StampingSink>,
    relay: RunningRelay,
    sent: usize,
}

/// Two databases on one server at the same time, each with a writer at 800 events a second and a relay. In one of them a snapshot is held for the whole length.
/// Then blocks of events are relayed, in turn here and there, while it is still held: as fast as the relay can. Bare: where nobody holds one.
pub(crate) fn pinned(request: &Request, report: &mut Report, runtime: &Runtime) -> Outcome<()> {
    let length = Duration::from_secs(request.pinned_secs.unwrap_or(request.full_or_quick(60, 1)));
    progress(&format!("relay.pinned, for {length:?}"));
    let stage = Stage::new();
    let (mut held, mut free) = runtime.block_on(async {
        let held = Side::new(stage, "pinned").await?;
        let free = Side::new(stage, "free").await?;
        Outcome::Ok((held, free))
    })?;
    let mut holder = runtime.block_on(hold(&held.place))?;
    let lags = runtime.block_on(async {
        tokio::try_join!(held.write(stage, length), free.write(stage, length))
    })?;
    let block = request.full_or_quick(BLOCK, 1_000);
    let rounds = Rounds::measure(
        request.full_or_quick(15, 1),
        || runtime.block_on(held.block(stage, block)),
        || runtime.block_on(free.block(stage, block)),
    )?;
    let dead = runtime.block_on(async {
        holder.execute("COMMIT").await?;
        let dead = held.dead_rows().await?;
        held.close().await?;
        free.close().await?;
        Outcome::Ok(dead)
    })?;
    report.compared("relay.pinned", "events/s", &rounds, Goal::RatioMin(0.95));
    let lags = Rounds {
        ours: vec![lags.0],
        bare: vec![lags.1],
        ..Rounds::default()
    };
    report.compared("relay.pinned.lag_p50", "ms", &lags, Goal::None);
    report.alone("relay.pinned.dead_rows", "rows", &[dead as f64]);
    Ok(())
}

/// A reader that looks once and does not end.
async fn hold(place: &Place) -> Outcome<PgConnection> {
    let mut holder = Postgres::connect(&place.url).await?;
    holder
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await?;
    holder.execute("SELECT COUNT(*) FROM outbox").await?;
    Ok(holder)
}

impl Side {
    async fn new(stage: Stage, name: &str) -> Outcome<Self> {
        let place = Place::fresh::<Postgres>(name).await?;
        let sink = StampingSink::new(stage);
        let relay = stage.relay(&place, sink.clone(), false).await?;
        Ok(Self {
            place,
            sink,
            relay,
            sent: 0,
        })
    }

    /// Writes at the rate for so long; answers the median milliseconds from commit to arrival.
    async fn write(&mut self, stage: Stage, length: Duration) -> Outcome<f64> {
        let outbox = stage.outbox(Vec::new())?;
        let mut connection = Postgres::connect(&self.place.url).await?;
        let gap = Duration::from_secs_f64(TOGETHER as f64 / RATE);
        let mut committed = Vec::new();
        let began = stage.clock.elapsed();
        let mut due = began;
        while stage.clock.elapsed() - began < length {
            let wait = due.saturating_sub(stage.clock.elapsed());
            if !wait.is_zero() {
                stage.clock.sleep(wait).await;
            }
            due += gap;
            let orders: Vec<_> = (0..TOGETHER).map(|part| order(self.sent + part)).collect();
            let mut tx: Transaction<'_, Postgres> = connection.begin().await?;
            let mut ids = outbox.publish_all(&mut tx, &orders).await?;
            tx.commit().await?;
            self.sent += TOGETHER;
            committed.extend(ids.pop().map(|id| (id, stage.clock.elapsed())));
        }
        connection.close().await?;
        self.all_arrived(stage).await?;
        let lags = committed.iter().filter_map(|(id, at)| {
            let arrival = self.sink.arrival(id)?;
            Some(arrival.saturating_sub(*at).as_secs_f64() * 1e3)
        });
        Ok(percentile(&mut lags.collect::<Vec<f64>>(), 50))
    }

    /// Relays a block that was committed at once; events a second.
    async fn block(&mut self, stage: Stage, rows: usize) -> Outcome<f64> {
        let outbox = stage.outbox(vec![self.relay.wake()])?;
        let mut connection = Postgres::connect(&self.place.url).await?;
        let mut tx: Transaction<'_, Postgres> = connection.begin().await?;
        let orders: Vec<_> = (0..rows).map(|part| order(self.sent + part)).collect();
        outbox.publish_all(&mut tx, &orders).await?;
        self.sent += rows;
        outbox.commit(tx).await?;
        let began = stage.clock.elapsed();
        connection.close().await?;
        self.all_arrived(stage).await?;
        Ok(per_second(rows, stage.clock.elapsed() - began))
    }

    async fn all_arrived(&self, stage: Stage) -> Outcome<()> {
        let end = stage.clock.elapsed() + DEADLINE;
        while self.sink.count() < self.sent {
            if stage.clock.elapsed() > end {
                let missing = self.sent - self.sink.count();
                return Err(format!("{missing} events did not arrive in {DEADLINE:?}").into());
            }
            stage.clock.sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Rows that are deleted and cannot be removed yet.
    async fn dead_rows(&self) -> Outcome<i64> {
        let mut connection = Postgres::connect(&self.place.url).await?;
        let sql = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'outbox'";
        Ok(sqlx::query_scalar(sql).fetch_one(&mut connection).await?)
    }

    async fn close(self) -> Outcome<()> {
        self.relay.drain(DEADLINE).await?;
        self.place.close().await
    }
}
