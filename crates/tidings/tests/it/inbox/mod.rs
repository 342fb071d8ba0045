//! Handlers that take a transaction, on the three databases: the effect is there once, whatever happens.

mod chain;
mod killed;
mod ledger;

use crate::shop::{OrderPlaced, Seen, Shop, order};
use ledger::{Behaviour, InvoiceSent, KINDS, Ledger};
use std::sync::Arc;
use std::time::Duration;
use tidings::core::correlation::Inherited;
use tidings::core::limits::INBOX_UPKEEP_INTERVAL;
use tidings::core::seam::Clock as _;
use tidings::extract::DeliveryGuarantee;
use tidings::flow::runtime::{SystemChance, SystemClock};
use tidings::handler::HandlerResult;
use tidings::inbox::{InboxRetention, look_after};
use tidings::prelude::*;
use tidings::sql::{Inbox, Kind, Outbox, OutboxConfig, context};
use tidings::{ConsumerHandle, Envelope, Tidings};
use tidings_testkit::ManualClock;

/// Orders with ids of their own and, every third, without a key, so that the same one may be handled at the same time.
fn orders(count: usize) -> Vec<Envelope> {
    let envelope = |number: usize| {
        let mut parts =
            tidings::core::EnvelopeParts::new(format!("evt-{number:03}"), "order.placed");
        parts.aggregate_id = (!number.is_multiple_of(3)).then(|| format!("k-{number}"));
        parts.source = Some("order-service".to_owned());
        let payload = format!(r#"{{"order_id":"o-{number:03}","quantity":1}}"#);
        parts.payload = tidings::Payload::json(payload).ok();
        Envelope::new(parts).unwrap()
    };
    (1..=count).map(envelope).collect()
}

fn ids(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("o-{number:03}")).collect()
}

async fn publish(tidings: &Tidings, envelopes: &[Envelope]) {
    for outcome in tidings.publish_envelopes(envelopes).await {
        outcome.unwrap();
    }
}

async fn start(ledger: &Ledger, tidings: &Tidings, behaviour: Behaviour) -> ConsumerHandle {
    let consumer = tidings
        .consumer("billing")
        .backoff(Duration::ZERO, Duration::ZERO);
    ledger.bill(consumer, behaviour).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_storm_of_duplicates_over_four_consumers_every_effect_is_there_once() {
    const ORDERS: usize = 40;
    for kind in KINDS {
        let Some(ledger) = Ledger::fresh(kind, "storm").await else {
            continue;
        };
        let shops: Vec<Shop> = (0..4).map(|_| Shop::new()).collect();
        let mut consumers = Vec::new();
        for (number, shop) in shops.iter().enumerate() {
            let tidings = shop.open().await;
            // Each event one to five times over all, most of them in several logs and some twice in one.
            let mut delivered = Vec::new();
            for (at, envelope) in orders(ORDERS).into_iter().enumerate() {
                let times = 1 + at % 5;
                let mine = times / 4 + usize::from(number < times % 4);
                delivered.extend(std::iter::repeat_n(envelope, mine));
            }
            publish(&tidings, &delivered).await;
            consumers.push((tidings, delivered.len()));
        }

        let mut handles = Vec::new();
        for (tidings, _) in &consumers {
            handles.push(start(&ledger, tidings, Behaviour::default()).await);
        }
        let (mut handled, mut deduplicated) = (0, 0);
        for ((tidings, delivered), handle) in consumers.iter().zip(handles) {
            handle.wait_idle().await.unwrap();
            let stats = handle.stats();
            assert_eq!(
                stats.handled + stats.deduplicated,
                *delivered as u64,
                "{kind:?} {stats:?}"
            );
            assert_eq!((stats.retried, stats.dead_lettered), (0, 0), "{kind:?}");
            handled += stats.handled;
            deduplicated += stats.deduplicated;
            tidings.drain().await.unwrap();
        }

        assert_eq!(ledger.effects().await, ids(ORDERS), "{kind:?}");
        assert_eq!(ledger.outbox().await, ids(ORDERS), "{kind:?}");
        assert_eq!(handled, ORDERS as u64, "{kind:?}");
        assert_eq!(
            deduplicated,
            ORDERS as u64 / 5 * (1 + 2 + 3 + 4),
            "{kind:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_attempt_wrote_is_rolled_back_with_its_inbox_row() {
    for kind in KINDS {
        let Some(ledger) = Ledger::fresh(kind, "rollback").await else {
            continue;
        };
        let shop = Shop::new();
        let tidings = shop.open().await;
        let behaviour = Behaviour {
            failing_attempts: 2,
            ..Behaviour::default()
        };
        let consumer = start(&ledger, &tidings, behaviour).await;
        publish(&tidings, &orders(3)).await;
        consumer.wait_idle().await.unwrap();

        let stats = consumer.stats();
        assert_eq!((stats.handled, stats.retried), (3, 6), "{kind:?}");
        assert_eq!(ledger.effects().await, ids(3), "{kind:?}");
        assert_eq!(ledger.outbox().await, ids(3), "{kind:?}");
        assert_eq!(ledger.known().await, ["evt-001", "evt-002", "evt-003"]);
        assert_eq!(consumer.delivery(), DeliveryGuarantee::EffectOnce);
        tidings.drain().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_ignores_the_error_of_a_statement_loses_nothing_in_silence() {
    for kind in KINDS {
        let Some(ledger) = Ledger::fresh(kind, "ignored").await else {
            continue;
        };
        let shop = Shop::new();
        let tidings = shop.open().await;
        let behaviour = Behaviour {
            ignores_an_error: true,
            ..Behaviour::default()
        };
        let consumer = start(&ledger, &tidings, behaviour).await;
        publish(&tidings, &orders(1)).await;
        consumer.wait_idle().await.unwrap();

        let stats = consumer.stats();
        if kind == Kind::Postgres {
            // The statement has ended the transaction, and a commit would be a rollback without an error.
            assert_eq!((stats.handled, stats.dead_lettered), (0, 1));
            assert_eq!(ledger.effects().await.len() + ledger.known().await.len(), 0);
        } else {
            assert_eq!((stats.handled, stats.dead_lettered), (1, 0), "{kind:?}");
            assert_eq!(ledger.effects().await, ids(1), "{kind:?}");
        }
        tidings.drain().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_a_poison_event_counts_the_others_once() {
    for kind in KINDS {
        let Some(ledger) = Ledger::fresh(kind, "batch").await else {
            continue;
        };
        let shop = Shop::new();
        let tidings = shop.open().await;
        let mut delivered = orders(30);
        // Without a key two of one event may come in one batch.
        delivered.extend(orders(30));
        publish(&tidings, &delivered).await;
        tidings.publish(order("o-bad")).await.unwrap();
        let consumer = ledger.bill_batches(tidings.consumer("billing"));
        let consumer = consumer.start().await.unwrap();
        consumer.wait_idle().await.unwrap();

        let stats = consumer.stats();
        assert_eq!(
            (stats.handled, stats.deduplicated),
            (30, 30),
            "{kind:?} {stats:?}"
        );
        assert_eq!((stats.dead_lettered, stats.emitted), (1, 30), "{kind:?}");
        assert_eq!(ledger.effects().await, ids(30), "{kind:?}");
        assert_eq!(ledger.outbox().await, ids(30), "{kind:?}");
        tidings.drain().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_table_a_group_waits_and_gives_no_event_up() {
    for kind in KINDS {
        let Some(ledger) = Ledger::fresh(kind, "tableless").await else {
            continue;
        };
        let shop = Shop::new();
        let tidings = shop.open().await;
        ledger.run("ALTER TABLE inbox RENAME TO hidden").await;
        let consumer = start(&ledger, &tidings, Behaviour::default()).await;
        publish(&tidings, &orders(2)).await;
        let reason = crate::shop::until(|| consumer.stats().trouble).await;
        assert!(
            reason.contains("inbox") && reason.contains("migrate"),
            "{kind:?} {reason}"
        );

        ledger.run("ALTER TABLE hidden RENAME TO inbox").await;
        consumer.wait_idle().await.unwrap();

        let stats = consumer.stats();
        assert_eq!((stats.handled, stats.retried), (2, 0), "{kind:?}");
        assert_eq!(ledger.effects().await, ids(2), "{kind:?}");
        tidings.drain().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_after_the_inbox_has_forgotten_is_handled_again_and_was_warned_of() {
    for kind in KINDS {
        let Some(ledger) = Ledger::fresh(kind, "boundary").await else {
            continue;
        };
        let shop = Shop::new();
        let tidings = shop.open().await;
        let consumer = start(&ledger, &tidings, Behaviour::default()).await;
        publish(&tidings, &orders(3)).await;
        consumer.wait_idle().await.unwrap();
        let later = SystemClock::new().now().plus(Duration::from_secs(60));

        // A setting shorter than what can be delivered again is not believed, and said to be wrong.
        let mut retention = InboxRetention {
            keep: Duration::ZERO,
            ..InboxRetention::default()
        };
        let upkeep = look_after(&ledger.inbox, &retention, later).await.unwrap();
        assert_eq!(
            (upkeep.forgotten, upkeep.warnings.len()),
            (0, 1),
            "{kind:?}"
        );
        publish(&tidings, &orders(3)).await;
        consumer.wait_idle().await.unwrap();
        assert_eq!(ledger.effects().await, ids(3), "{kind:?}");

        // Who insists is warned, and a late duplicate is handled again. Rows of the newest instant, one or seldom two, are the progress of the group, so they stay.
        retention.forget_early = true;
        let upkeep = look_after(&ledger.inbox, &retention, later).await.unwrap();
        let warning = upkeep.warnings[0].to_string();
        assert!(warning.contains("handled a second time"), "{warning}");
        assert!((1..=2).contains(&upkeep.forgotten), "{kind:?}: {upkeep:?}");
        publish(&tidings, &orders(3)).await;
        consumer.wait_idle().await.unwrap();
        let effects = ledger.effects().await.len() as u64;
        assert_eq!(effects, 3 + upkeep.forgotten, "{kind:?}");
        tidings.drain().await.unwrap();
    }
}

/// An outbox of the handler's own, in which it once was a flow of its own.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_publishes_into_its_transaction_belongs_to_the_flow_of_its_event() {
    async fn ship(
        order: OrderPlaced,
        mut tx: Tx<Sqlite>,
        State(outbox): State<Outbox>,
    ) -> Result<(), HandlerError> {
        let sent = InvoiceSent {
            order_id: order.order_id,
        };
        tx.publish(&sent)?;
        outbox.publish(&mut tx, &sent).await?;
        let request = Inherited {
            correlation_id: "request-1".to_owned(),
            causation_id: None,
            trace: Vec::new(),
        };
        context::inheriting(request, outbox.publish(&mut tx, &sent)).await?;
        Ok(())
    }
    async fn ship_batch(
        items: Vec<BatchItem<OrderPlaced>>,
        mut tx: Tx<Sqlite>,
        State(outbox): State<Outbox>,
    ) -> Vec<HandlerResult> {
        let sent = InvoiceSent {
            order_id: "of a batch".to_owned(),
        };
        let published = outbox.publish(&mut tx, &sent).await;
        let first = published.map(drop).map_err(HandlerError::from);
        let rest = items.iter().skip(1).map(|_| Ok(()));
        std::iter::once(first).chain(rest).collect()
    }
    let ledger = Ledger::fresh(Kind::Sqlite, "flow").await.unwrap();
    let shop = Shop::new();
    let tidings = shop.open().await;
    let clock = Arc::new(SystemClock::new());
    let outbox = Outbox::new(OutboxConfig::default(), clock, Arc::new(SystemChance)).unwrap();
    let mut parts = orders(1).remove(0).into_parts();
    parts.correlation_id = Some("flow-1".to_owned());
    publish(&tidings, &[Envelope::new(parts).unwrap()]).await;

    for (group, is_batch) in [("shipping", false), ("archive", true)] {
        let consumer = tidings.consumer(group).inbox(ledger.inbox.clone());
        let consumer = consumer.state(outbox.clone());
        let consumer = if is_batch {
            consumer.on_batch(ship_batch)
        } else {
            consumer.on(ship)
        };
        consumer.start().await.unwrap().wait_idle().await.unwrap();
    }
    tidings.drain().await.unwrap();

    let headers = ledger
        .texts("SELECT headers ->> 'correlation_id' || ' ' || COALESCE(headers ->> 'causation_id', '-') FROM outbox ORDER BY 1")
        .await;
    assert_eq!(
        headers,
        [
            "flow-1 evt-001",
            "flow-1 evt-001",
            "flow-1 evt-001",
            "request-1 -"
        ]
    );
}

/// The first consumer's setting once counted for all groups of its inbox.
#[tokio::test(flavor = "multi_thread")]
async fn each_group_of_an_inbox_remembers_for_as_long_as_it_was_told() {
    const DAY: Duration = Duration::from_secs(86_400);
    let ledger = Ledger::fresh(Kind::Sqlite, "retention").await.unwrap();
    let now = SystemClock::new().now();
    let note = async |group: &str, name: &str, age: Duration| {
        let handled = now.minus(age).as_micros();
        ledger
            .run(&format!("INSERT INTO inbox (consumer, event_key, event_id, processed_at) VALUES ('{group}', randomblob(16), '{group} {name}', {handled})"))
            .await;
    };
    for group in ["shipping", "billing", "elsewhere"] {
        note(group, "new", Duration::ZERO).await;
        note(group, "old", 20 * DAY).await;
    }
    let clock = ManualClock::at(now);
    let shop = Shop::new();
    let builder = Tidings::builder().clock(Arc::new(clock.clone()));
    let tidings = builder.open(shop.path()).await.unwrap();

    for (group, days) in [("shipping", 10), ("billing", 30)] {
        let consumer = tidings.consumer(group).inbox_retention(InboxRetention {
            keep: days * DAY,
            ..InboxRetention::default()
        });
        let consumer = ledger.bill(consumer, Behaviour::default());
        consumer.start().await.unwrap();
    }
    let looks = async {
        // Once the second look has come to this group, the first one was at all of them.
        for _ in 0..2 {
            while ledger.known().await.contains(&"shipping old".to_owned()) {
                clock.advance(INBOX_UPKEEP_INTERVAL);
                tokio::task::yield_now().await;
            }
            note("shipping", "old", 20 * DAY).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), looks)
        .await
        .expect("the inbox is looked after");
    drop(tidings);

    let known = ledger.known().await;
    let billing = known.iter().filter(|id| id.starts_with("billing")).count();
    let elsewhere = known
        .iter()
        .filter(|id| id.starts_with("elsewhere"))
        .count();
    assert_eq!((billing, elsewhere), (2, 2), "{known:?}");
}

#[tokio::test]
async fn what_is_missing_for_a_transaction_is_said_when_the_consumer_starts() {
    async fn on_sqlite(_: OrderPlaced, _: Tx<Sqlite>) {}
    async fn on_postgres(_: OrderPlaced, _: Tx<Postgres>) {}
    let ledger = Ledger::fresh(Kind::Sqlite, "missing").await.unwrap();
    let shop = Shop::new();
    let tidings = shop.open().await;

    let without = tidings.consumer("billing").on(on_sqlite).start().await;
    let text = without.unwrap_err().to_string();
    assert!(
        text.contains("Tx<Sqlite>") && text.contains(".inbox("),
        "{text}"
    );

    let consumer = tidings.consumer("billing").inbox(ledger.inbox.clone());
    let text = consumer
        .on(on_postgres)
        .start()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("Tx<Postgres>") && text.contains("sqlite"),
        "{text}"
    );

    ledger.run("DROP TABLE inbox").await;
    let text = Inbox::open(&ledger.database).await.unwrap_err().to_string();
    assert!(text.contains("inbox") && text.contains("migrate"), "{text}");
}

#[tokio::test]
async fn a_handler_without_a_transaction_is_at_least_once() {
    let shop = Shop::new();
    let tidings = shop.open().await;
    let consumer = tidings
        .consumer("inventory")
        .state(Seen::default())
        .on(crate::shop::see)
        .start()
        .await
        .unwrap();

    assert_eq!(consumer.delivery(), DeliveryGuarantee::AtLeastOnce);
    assert_eq!(consumer.delivery().to_string(), "at least once");
}
