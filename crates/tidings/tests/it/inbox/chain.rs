//! Two services in a chain, each with a database of its own: an order is placed in one, billed in the next, announced by the third. Every effect is there once, and every
//! event tells which flow it belongs to and what caused it.

use super::ledger::{Behaviour, InvoiceSent, Ledger};
use super::{ids, publish};
use crate::shop::{OrderPlaced, Shop};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tidings::flow::runtime::{SystemChance, SystemClock};
use tidings::outbox::{Relay, RelayOptions, RunningRelay};
use tidings::prelude::*;
use tidings::sql::sqlx;
use tidings::sql::{Kind, Outbox, OutboxConfig, OutboxOptions, Pool, SqlOutbox};
use tidings::{ConsumerBuilder, Envelope, Tidings};

const ORDERS: usize = 12;

/// Announces an invoice: the last of the chain.
macro_rules! announce {
    ($name:ident, $database:ident, $insert:literal) => {
        async fn $name(sent: InvoiceSent, mut tx: Tx<$database>) -> Result<(), HandlerError> {
            let insert = sqlx::query($insert).bind(&sent.order_id);
            insert.execute(&mut *tx).await?;
            Ok(())
        }
    };
}

announce!(
    announce_in_sqlite,
    Sqlite,
    "INSERT INTO effects (order_id) VALUES (?)"
);
announce!(
    announce_in_postgres,
    Postgres,
    "INSERT INTO effects (order_id) VALUES ($1)"
);

fn announcing(ledger: &Ledger, consumer: ConsumerBuilder) -> ConsumerBuilder {
    let consumer = consumer.inbox(ledger.inbox.clone());
    match ledger.database.kind() {
        Kind::Postgres => consumer.on(announce_in_postgres),
        _ => consumer.on(announce_in_sqlite),
    }
}

/// Places an order: its row and its fact, in one transaction.
async fn place(ledger: &Ledger, outbox: &Outbox, order_id: String) {
    let placed = OrderPlaced {
        order_id,
        quantity: 1,
    };
    match ledger.database.pool() {
        Pool::Sqlite(pool) => {
            let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
            let insert = sqlx::query("INSERT INTO effects (order_id) VALUES (?)");
            let insert = insert.bind(&placed.order_id);
            insert.execute(&mut *tx).await.unwrap();
            outbox.publish(&mut tx, &placed).await.unwrap();
            outbox.commit(tx).await.unwrap();
        }
        Pool::Postgres(pool) => {
            let mut tx = pool.begin().await.unwrap();
            let insert = sqlx::query("INSERT INTO effects (order_id) VALUES ($1)");
            let insert = insert.bind(&placed.order_id);
            insert.execute(&mut *tx).await.unwrap();
            outbox.publish(&mut tx, &placed).await.unwrap();
            outbox.commit(tx).await.unwrap();
        }
        _ => unreachable!("the chain is on SQLite and PostgreSQL"),
    }
}

async fn relay(ledger: &Ledger, tidings: &Tidings) -> RunningRelay {
    let (clock, chance) = (Arc::new(SystemClock::new()), Arc::new(SystemChance));
    let (database, options) = (ledger.database.clone(), OutboxOptions::default());
    let outbox = SqlOutbox::open(database, options, clock.clone(), &SystemChance).await;
    let log = Arc::new(Arc::clone(tidings.broker()));
    let outbox = Arc::new(outbox.unwrap());
    Relay::new(outbox, log, clock, chance, RelayOptions::default()).start()
}

/// The events of a type by the key of each, every double among them.
async fn events(tidings: &Tidings, pattern: &str) -> BTreeMap<String, Vec<Envelope>> {
    let mut events = BTreeMap::<_, Vec<_>>::new();
    let mut history = tidings.history(pattern).await.unwrap();
    while let Some(recorded) = history.next().await.unwrap() {
        let key = recorded.envelope.aggregate_id().unwrap().to_owned();
        events.entry(key).or_default().push(recorded.envelope);
    }
    events
}

async fn until_announced(ledger: &Ledger) {
    let announced = async {
        while ledger.effects().await.len() < ORDERS {
            tokio::task::yield_now().await;
        }
    };
    let limit = Duration::from_secs(60);
    let announced = tokio::time::timeout(limit, announced).await;
    announced.expect("the last service has announced every order");
}

#[tokio::test(flavor = "multi_thread")]
async fn through_two_services_every_effect_is_there_once_and_the_flow_can_be_told() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let Some(orders) = Ledger::fresh(kind, "chain_orders").await else {
            continue;
        };
        let invoices = Ledger::fresh(kind, "chain_invoices").await.unwrap();
        let announced = Ledger::fresh(kind, "chain_announced").await.unwrap();
        let shop = Shop::new();
        let tidings = shop.open().await;
        let relays = [
            relay(&orders, &tidings).await,
            relay(&invoices, &tidings).await,
        ];
        let billing = tidings
            .consumer("billing")
            .backoff(Duration::ZERO, Duration::ZERO);
        // Each order is billed at the second attempt: the first is rolled back with what it emitted.
        let failing = Behaviour {
            failing_attempts: 1,
            ..Behaviour::default()
        };
        let billing = invoices.bill(billing, failing).start().await.unwrap();
        let mailing = announcing(&announced, tidings.consumer("mailing"));
        let mailing = mailing.start().await.unwrap();
        let config = OutboxConfig {
            wakes: vec![relays[0].wake()],
            ..OutboxConfig::default()
        };
        let (clock, chance) = (Arc::new(SystemClock::new()), Arc::new(SystemChance));
        let outbox = Outbox::new(config, clock, chance).unwrap();

        for order_id in ids(ORDERS) {
            place(&orders, &outbox, order_id).await;
        }
        until_announced(&announced).await;
        // Every event a second time, as a relay sends them that was killed before it settled.
        let (placed, sent) = (
            events(&tidings, "order.placed").await,
            events(&tidings, "invoice.sent").await,
        );
        for envelopes in placed.values().chain(sent.values()) {
            publish(&tidings, envelopes).await;
        }
        billing.wait_idle().await.unwrap();
        mailing.wait_idle().await.unwrap();

        for ledger in [&orders, &invoices, &announced] {
            assert_eq!(ledger.effects().await, ids(ORDERS), "{kind:?}");
        }
        let stats = (billing.stats(), mailing.stats());
        let each = ORDERS as u64;
        let billed = (stats.0.handled, stats.0.retried, stats.0.deduplicated);
        assert_eq!(billed, (each, each, each), "{kind:?}");
        assert_eq!(
            (stats.1.handled, stats.1.deduplicated),
            (each, each),
            "{kind:?}"
        );
        assert_eq!((placed.len(), sent.len()), (ORDERS, ORDERS));
        for (key, envelopes) in &sent {
            let [invoice] = &envelopes[..] else {
                panic!("{kind:?} {key}: {envelopes:?}");
            };
            let order = &placed[key][0];
            assert_eq!(order.causation_id(), None, "an order begins a flow");
            assert_eq!(invoice.correlation_id(), order.correlation_id(), "{kind:?}");
            assert_eq!(invoice.causation_id(), Some(order.event_id()), "{kind:?}");
            assert_ne!(invoice.event_id(), order.event_id());
        }
        for relay in relays {
            let done = relay.drain(Duration::from_secs(10)).await.unwrap();
            assert_eq!(done.relayed(), ORDERS as u64, "{kind:?}");
        }
        tidings.drain().await.unwrap();
    }
}
