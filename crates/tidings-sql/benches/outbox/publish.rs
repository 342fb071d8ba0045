//! What publishing costs: beside the same statement by hand, and beside the business change alone.

use crate::engine::{Engine, Place};
use crate::measure::{Goal, Outcome, Report, Request, Rounds, per_second, progress};
use crate::orders::{HandWritten, order};
use crate::stage::Stage;
use sqlx::{Connection as _, Transaction};
use tidings_core::seam::Clock as _;
use tidings_core::{Envelope, EnvelopeParts, Payload};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Events of one transaction where the statement alone is measured, so that commits do not hide what it costs.
const EVENTS_OF_TRANSACTION: usize = 100;
/// Clients at the same time of the business figure.
const CLIENTS: usize = 8;

/// `publish`, one event a transaction and many in one. Bare: the same statement with the same values bound by hand, ids, times and JSON made by hand as well.
pub(crate) fn publish<E: Engine>(
    request: &Request,
    report: &mut Report,
    runtime: &Runtime,
) -> Outcome<()> {
    let name = format!("outbox.publish{}", E::SUFFIX);
    let statement = format!("outbox.publish.statement{}", E::SUFFIX);
    let place = runtime.block_on(Place::fresh::<E>("publish"))?;
    for (name, of_one, transactions) in [
        (&name, 1, request.full_or_quick(1_000, 20)),
        (
            &statement,
            EVENTS_OF_TRANSACTION,
            request.full_or_quick(60, 2),
        ),
    ] {
        progress(name);
        let stage = Stage::new();
        let load = Load {
            of_one,
            transactions,
        };
        let sql = sql_of::<E>(stage)?;
        let rounds = Rounds::measure(
            request.full_or_quick(15, 1),
            || runtime.block_on(load.ours::<E>(stage, &place)),
            || runtime.block_on(load.by_hand::<E>(stage, &place, sql)),
        )?;
        report.compared(name, "events/s", &rounds, Goal::RatioMin(0.95));
        let events = of_one * transactions;
        report.processor(name, (events, events), &rounds);
    }
    runtime.block_on(place.close())
}

/// The statement that an outbox runs, for those who bind its values by hand. It lives as long as the process, as one in a program's text does.
fn sql_of<E: Engine>(stage: Stage) -> Outcome<&'static str> {
    let mut parts = EnvelopeParts::new("evt", "order.placed");
    parts.payload = Some(Payload::json("{}")?);
    let envelope = Envelope::new(parts)?;
    let insert = stage.outbox(Vec::new())?.statement(E::KIND, &[envelope])?;
    Ok(insert.sql.leak())
}

/// So many transactions of so many events each.
#[derive(Clone, Copy)]
struct Load {
    of_one: usize,
    transactions: usize,
}

impl Load {
    async fn ours<E: Engine>(self, stage: Stage, place: &Place) -> Outcome<f64> {
        place.fill::<E>(0).await?;
        let outbox = stage.outbox(Vec::new())?;
        let mut connection = E::connect(&place.url).await?;
        let began = stage.clock.elapsed();
        for number in 0..self.transactions {
            let mut tx: Transaction<'_, E> = connection.begin_with(E::BEGIN).await?;
            for part in 0..self.of_one {
                E::publish(&outbox, &mut tx, &order(number * self.of_one + part)).await?;
            }
            tx.commit().await?;
        }
        self.rate(stage, began, connection).await
    }

    async fn by_hand<E: Engine>(
        self,
        stage: Stage,
        place: &Place,
        sql: &'static str,
    ) -> Outcome<f64> {
        place.fill::<E>(0).await?;
        let mut connection = E::connect(&place.url).await?;
        let began = stage.clock.elapsed();
        for number in 0..self.transactions {
            let mut tx: Transaction<'_, E> = connection.begin_with(E::BEGIN).await?;
            for part in 0..self.of_one {
                let order = order(number * self.of_one + part);
                E::insert_by_hand(&mut tx, sql, HandWritten::new(&stage, &order)?).await?;
            }
            tx.commit().await?;
        }
        self.rate(stage, began, connection).await
    }

    async fn rate(
        self,
        stage: Stage,
        began: std::time::Duration,
        connection: impl sqlx::Connection,
    ) -> Outcome<f64> {
        let took = stage.clock.elapsed() - began;
        connection.close().await?;
        Ok(per_second(self.of_one * self.transactions, took))
    }
}

/// A row of an order and its event in one transaction, eight clients at a time. Bare: the row of the order alone.
pub(crate) fn business<E: Engine>(
    request: &Request,
    report: &mut Report,
    runtime: &Runtime,
) -> Outcome<()> {
    let name = format!("outbox.business{}", E::SUFFIX);
    progress(&name);
    let stage = Stage::new();
    let place = runtime.block_on(Place::fresh::<E>("business"))?;
    let transactions = request.full_or_quick(500, 5);
    let rounds = Rounds::measure(
        request.full_or_quick(11, 1),
        || runtime.block_on(clients::<E>(stage, &place, transactions, true)),
        || runtime.block_on(clients::<E>(stage, &place, transactions, false)),
    )?;
    runtime.block_on(place.close())?;
    // The goal is one of PostgreSQL; elsewhere the figure is told for comparison.
    let goal = match E::SUFFIX {
        "" => Goal::RatioMin(0.70),
        _ => Goal::None,
    };
    report.compared(&name, "tx/s", &rounds, goal);
    Ok(())
}

async fn clients<E: Engine>(
    stage: Stage,
    place: &Place,
    transactions: usize,
    with_event: bool,
) -> Outcome<f64> {
    place.fill::<E>(0).await?;
    let outbox = stage.outbox(Vec::new())?;
    let mut connections = Vec::new();
    for _ in 0..CLIENTS {
        connections.push(E::connect(&place.url).await?);
    }
    let began = stage.clock.elapsed();
    let mut tasks = JoinSet::new();
    for (client, mut connection) in connections.into_iter().enumerate() {
        let outbox = outbox.clone();
        tasks.spawn(async move {
            for number in 0..transactions {
                let number = client * transactions + number;
                let mut tx: Transaction<'_, E> = connection.begin_with(E::BEGIN).await?;
                E::insert_order(&mut tx, i64::try_from(number)?).await?;
                if with_event {
                    E::publish(&outbox, &mut tx, &order(number)).await?;
                }
                tx.commit().await?;
            }
            Outcome::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let took = stage.clock.elapsed() - began;
    Ok(per_second(CLIENTS * transactions, took))
}
