//! Destinations and databases in trouble.

use super::*;
use crate::fakes::Fault;
use crate::outbox::{KeyPolicy, RelayPhase};
use store::StoreFault;
use tidings_core::codes;
use tidings_core::store::{OutboxStore, RowId, StoreError};

#[tokio::test]
async fn a_broker_that_is_down_for_minutes_costs_no_attempt_and_nothing_is_lost() {
    let shop = Shop::new();
    for number in 0..40 {
        shop.store.insert(Some(&format!("key-{}", number % 5)), "");
    }
    shop.broker.fail_always(Some(Fault::Full));
    let relay = shop.start();
    for _ in 0..3_000 {
        shop.pass(Duration::from_millis(100)).await;
    }
    let publishes = shop.broker.lock().publishes;
    assert_eq!(relay.metrics().breakers_open.len(), 1);

    shop.broker.fail_always(None);
    shop.within(Duration::from_secs(31), "sent", || shop.store.is_settled())
        .await;

    let log = shop.log();
    assert_eq!(log.len(), 40);
    assert!(publishes < 100, "{publishes} tries in five minutes");
    assert!(
        shop.store
            .lock()
            .rows
            .values()
            .all(|row| row.row.attempts == 0)
    );
    assert_eq!(relay.metrics().dead, 0);
    assert_eq!(relay.metrics().breakers_open.len(), 0);
}

/// It stayed down in the figures for ever, and a relay that ends when nothing is left never ended.
#[tokio::test]
async fn a_destination_that_was_down_is_up_again_when_it_refuses_the_last_event_for_good() {
    let shop = Shop::new();
    let row = shop.store.insert(Some("a"), "");
    let down = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let seen = Arc::clone(&down);
    let destination = Scripted::new(move |_| {
        if seen.swap(false, std::sync::atomic::Ordering::Relaxed) {
            Err(PublishError::NotAttempted)
        } else {
            refused(ErrorClass::Permanent, codes::LIMIT_EXCEEDED)
        }
    });
    let options = RelayOptions {
        until_empty: true,
        ..RelayOptions::default()
    };

    let relay = shop.relay_to(destination, options).start();
    shop.until("ended", || relay.phase() == RelayPhase::Ended)
        .await;

    assert!(shop.store.lock().rows[&row].dead.is_some());
    assert_eq!(relay.metrics().breakers_open.len(), 0);
    let downs = |notice: &RelayNotice| matches!(notice, RelayNotice::DestinationDown { .. });
    let ups = |notice: &RelayNotice| matches!(notice, RelayNotice::DestinationUp { .. });
    assert_eq!((shop.told(downs), shop.told(ups)), (1, 1));
}

#[tokio::test]
async fn a_poison_event_is_given_up_at_once_and_only_its_key_waits() {
    let shop = Shop::new();
    let (poison, behind) = (
        shop.store.insert(Some("a"), ""),
        shop.store.insert(Some("a"), ""),
    );
    shop.store.insert(Some("b"), "");
    let destination = Scripted::new(|envelope| match envelope.event_id() {
        "evt-1" => refused(ErrorClass::Permanent, codes::LIMIT_EXCEEDED),
        _ => accepted(),
    });
    let relay = shop
        .relay_to(destination.clone(), RelayOptions::default())
        .start();

    shop.until("the other key is sent", || {
        destination.accepted() == ["evt-3"]
    })
    .await;
    for _ in 0..200 {
        shop.pass(Duration::from_millis(100)).await;
    }

    assert_eq!(destination.accepted(), ["evt-3"]);
    let reason = shop.store.lock().rows[&poison].dead.clone().unwrap().reason;
    assert!(reason.starts_with("TD0012"), "{reason}");
    assert!(!shop.store.lock().rows[&behind].sent);
    assert_eq!(relay.metrics().dead, 1);

    shop.store.discard(&[poison]).await.unwrap();
    shop.until("the key goes on", || {
        destination.accepted() == ["evt-3", "evt-2"]
    })
    .await;
}

#[tokio::test]
async fn a_key_goes_on_without_what_was_given_up_if_told_to() {
    let shop = Shop::new();
    shop.store.insert_faulty("a");
    shop.store.insert(Some("a"), "");
    let options = RelayOptions {
        policy: KeyPolicy::Skip,
        ..RelayOptions::default()
    };

    let _relay = shop.relay(options).start();

    shop.until("sent", || shop.store.is_settled()).await;
    assert_eq!(shop.log(), ["evt-2"]);
}

#[tokio::test]
async fn a_row_that_holds_no_event_is_given_up_after_what_stands_before_it() {
    let shop = Shop::new();
    shop.store.insert(Some("a"), "");
    let faulty = shop.store.insert_faulty("a");
    let behind = shop.store.insert(Some("a"), "");

    let _relay = shop.start();
    shop.until("given up", || {
        shop.store.lock().rows[&faulty].dead.is_some()
    })
    .await;

    assert_eq!(shop.log(), ["evt-1"]);
    assert!(!shop.store.lock().rows[&behind].sent);
    shop.store.lock().rows.get_mut(&faulty).unwrap().row.content =
        Ok(crate::fakes::event("a.b", Some("a"), 2));
    shop.store.revive(&[faulty]).await.unwrap();
    shop.until("in order", || shop.log() == ["evt-1", "evt-2", "evt-3"])
        .await;
}

#[tokio::test]
async fn an_event_that_is_refused_for_now_has_ten_attempts_and_blocks_nobody() {
    let shop = Shop::new();
    let refused_row = shop.store.insert(Some("a"), "");
    let destination = Scripted::new(|envelope| match envelope.event_id() {
        "evt-1" => refused(ErrorClass::Transient, codes::PUBLISH_REFUSED),
        _ => accepted(),
    });
    let relay = shop
        .relay_to(destination.clone(), RelayOptions::default())
        .start();
    let started = shop.clock.elapsed();
    let mut longest = Duration::ZERO;
    let dead = || shop.store.lock().rows[&refused_row].dead.clone();
    while dead().is_none() {
        let (before, id) = (shop.clock.elapsed(), shop.store.insert(Some("b"), ""));
        shop.within(Duration::from_secs(2), "the other key", || {
            shop.store.lock().rows[&id].sent
        })
        .await;
        longest = longest.max(shop.clock.elapsed() - before);
        shop.pass(Duration::from_millis(40)).await;
    }

    assert_eq!(dead().unwrap().attempts, 10);
    assert!(shop.clock.elapsed() - started < Duration::from_secs(90));
    assert!(longest <= Duration::from_millis(150), "{longest:?}");
    assert_eq!(
        relay.metrics().retries[&crate::outbox::RetryClass::Event],
        9
    );
}

#[tokio::test]
async fn an_event_whose_outcome_is_never_known_is_given_up_only_while_others_are_accepted() {
    let shop = Shop::new();
    let hangs = shop.store.insert(Some("a"), "");
    let destination = Scripted::new(|envelope| match envelope.event_id() {
        "evt-1" => Err(PublishError::Ambiguous {
            reason: "x".to_owned(),
        }),
        _ => accepted(),
    });
    let relay = shop
        .relay_to(destination.clone(), RelayOptions::default())
        .start();
    for _ in 0..3_000 {
        shop.pass(Duration::from_millis(100)).await;
    }
    assert_eq!(
        shop.store.lock().rows[&hangs].row.attempts,
        0,
        "nobody else was accepted meanwhile"
    );

    let mut step = 0;
    while shop.store.lock().rows[&hangs].dead.is_none() {
        shop.store.insert(Some("b"), "");
        shop.pass(Duration::from_millis(500)).await;
        step += 1;
        assert!(step < 2_000);
    }

    assert!(relay.metrics().duplicates_suspected >= 9);
    assert!(relay.metrics().breakers_open.is_empty());
}

#[tokio::test]
async fn a_destination_that_is_down_or_slow_does_not_hold_up_another() {
    let shop = Shop::new();
    let slow = Scripted::slow(&shop.clock, Duration::from_secs(25));
    let down = Scripted::new(|_| refused(ErrorClass::Transient, codes::DISK_FULL));
    let relay = shop
        .relay(RelayOptions {
            batch_rows: 10,
            ..RelayOptions::default()
        })
        .to("slow", slow.clone())
        .to("down", down)
        .start();
    for number in 0..400 {
        shop.store
            .insert(Some(&format!("key-{number}")), ["slow", "down"][number % 2]);
    }
    shop.pass(Duration::from_secs(1)).await;

    let mut longest = Duration::ZERO;
    for number in 0..100 {
        let before = shop.clock.elapsed();
        let id = shop.store.insert(Some(&format!("key-{number}")), "");
        shop.within(Duration::from_secs(2), "sent beside them", || {
            shop.store.lock().rows[&id].sent
        })
        .await;
        longest = longest.max(shop.clock.elapsed() - before);
    }

    assert!(longest <= Duration::from_millis(150), "{longest:?}");
    assert_eq!(relay.metrics().breakers_open.len(), 1);
    shop.until("the slow one got its events in the end", || {
        slow.accepted().len() == 200
    })
    .await;
}

#[tokio::test]
async fn a_database_that_is_down_for_minutes_is_waited_for() {
    let shop = Shop::new();
    let relay = shop.start();
    relay.reached(RelayPhase::Relaying).await;
    shop.store.lock().down = true;
    shop.store.insert(Some("a"), "");
    for _ in 0..3_000 {
        shop.pass(Duration::from_millis(100)).await;
    }
    assert_eq!(
        relay.phase(),
        RelayPhase::Waiting,
        "it cannot renew its lease"
    );
    let failures = relay.metrics().store_failures;

    shop.store.lock().down = false;
    shop.within(Duration::from_secs(6), "sent", || shop.store.is_settled())
        .await;

    assert!(failures < 400, "{failures} tries in five minutes");
    assert_eq!(shop.log(), ["evt-1"]);
    assert_eq!(relay.metrics().lease_lost, 1);
    assert!(shop.told(|notice| matches!(notice, RelayNotice::StoreHealed { .. })) > 0);
}

#[tokio::test]
async fn what_was_accepted_is_settled_when_the_answer_of_the_settle_was_lost() {
    let shop = Shop::new();
    shop.store
        .lock()
        .settle_faults
        .extend([StoreFault::Down, StoreFault::AnswerLost]);
    for _ in 0..5 {
        shop.store.insert(Some("a"), "");
    }

    let relay = shop.start();
    shop.until("settled", || shop.store.is_settled()).await;
    let metrics = relay.drain(Duration::from_secs(60));
    let (metrics, ()) = tokio::join!(metrics, async { shop.pass(Duration::from_secs(1)).await });

    assert_eq!(metrics.unwrap().relayed(), 5);
    assert_eq!(shop.log().len(), 5, "nothing is sent again meanwhile");
}

#[tokio::test]
async fn a_batch_without_an_outcome_in_time_is_sent_again_with_the_same_ids() {
    let shop = Shop::new();
    shop.store.insert(Some("a"), "");
    shop.broker.fail_next([Fault::Hangs]);

    let relay = shop.start();
    shop.until("sent", || shop.store.is_settled()).await;

    assert!(shop.clock.elapsed() >= Duration::from_secs(30));
    assert_eq!(shop.log(), ["evt-1"]);
    assert_eq!(relay.metrics().duplicates_suspected, 1);
    assert_eq!(
        relay.metrics().lease_lost,
        0,
        "the lease was renewed meanwhile"
    );
}

#[tokio::test]
async fn large_events_are_read_and_sent_in_small_batches() {
    let shop = Shop::new();
    for number in 0..40 {
        let id = shop.store.insert(Some("a"), "");
        let mut parts = tidings_core::EnvelopeParts::new(format!("evt-{number}"), "a.b");
        parts.aggregate_id = Some("a".to_owned());
        parts.payload = tidings_core::Payload::json(format!("\"{}\"", "x".repeat(1_000_000))).ok();
        let envelope = Envelope::trusted(parts);
        shop.store.lock().rows.get_mut(&id).unwrap().row.content = Ok(envelope);
    }

    let relay = shop.start();
    shop.until("sent", || shop.store.is_settled()).await;

    assert_eq!(relay.metrics().batch_rows, 4);
    let limits: Vec<u32> = shop
        .store
        .lock()
        .queries
        .iter()
        .map(|query| query.limit)
        .collect();
    assert_eq!(limits[0], 128);
    assert!(limits[1..].iter().all(|limit| *limit == 4), "{limits:?}");
    assert_eq!(shop.broker.doubles(), [] as [String; 0]);
}

/// Two events of a key that are committed in the other order are sent in that; answers how many races were counted.
async fn races_of_the_other_order(shop: &Shop) -> u64 {
    let hidden = shop.store.insert(Some("a"), "");
    shop.store.lock().rows.get_mut(&hidden).unwrap().visible = false;
    shop.store.insert(Some("a"), "");
    let relay = shop.start();
    shop.until("sent", || shop.log() == ["evt-2"]).await;

    shop.store.lock().rows.get_mut(&hidden).unwrap().visible = true;
    shop.until("settled", || shop.store.is_settled()).await;

    assert_eq!(shop.log(), ["evt-2", "evt-1"]);
    relay.metrics().order_races
}

#[tokio::test]
async fn an_event_that_was_committed_in_the_other_order_is_sent_and_counted() {
    let shop = Shop::new();
    assert_eq!(races_of_the_other_order(&shop).await, 1);
}

/// A smaller id says nothing there: a UUID, or a number in a table that is ordered by another column.
#[tokio::test]
async fn where_ids_do_not_tell_the_order_of_rows_no_race_is_counted() {
    let shop = Shop::new();
    shop.store.lock().ids_without_order = true;
    assert_eq!(races_of_the_other_order(&shop).await, 0);
}

#[tokio::test]
async fn reads_begin_at_the_floor_once_it_is_proven_and_a_sweep_finds_what_came_below() {
    let shop = Shop::new();
    let horizon = |oldest_open, first_future| {
        Some(tidings_core::store::Horizon {
            oldest_open,
            first_future,
        })
    };
    shop.store.lock().horizon = horizon(10, 20);
    for _ in 0..5 {
        shop.store.insert(Some("a"), "");
    }
    let hidden = RowId(3);
    shop.store.lock().rows.get_mut(&hidden).unwrap().visible = false;
    let relay = shop.start();
    let floor = || {
        shop.store
            .lock()
            .queries
            .iter()
            .filter_map(|query| query.floor)
            .max()
    };
    for _ in 0..20 {
        shop.pass(Duration::from_millis(100)).await;
    }
    assert_eq!(floor(), None, "transaction 10 is still open");

    shop.store.lock().horizon = horizon(25, 30);
    for _ in 0..20 {
        shop.pass(Duration::from_millis(100)).await;
    }
    assert_eq!(floor(), Some(RowId(5)));

    shop.store.lock().rows.get_mut(&hidden).unwrap().visible = true;
    shop.within(Duration::from_secs(12), "found by the sweep", || {
        shop.store.is_settled()
    })
    .await;
    assert_eq!(relay.metrics().late_rows, 1);
}

/// It tried again for ever, and whoever waited for its end waited with it.
#[tokio::test]
async fn a_relay_that_is_to_end_does_so_when_its_rows_cannot_be_read_and_one_that_stays_tries_again()
 {
    for until_empty in [true, false] {
        let shop = Shop::new();
        shop.store.insert(Some("a"), "");
        shop.store.lock().read_fault = Some(StoreError::ShapeWrong {
            subject: "the row x".to_owned(),
            fault: "its id is no number".to_owned(),
            remedy: "give it one".to_owned(),
        });
        let options = RelayOptions {
            until_empty,
            ..RelayOptions::default()
        };
        let destination = Scripted::new(|_| accepted());

        let relay = shop.relay_to(destination, options).start();
        shop.pass(Duration::from_secs(5)).await;

        if until_empty {
            assert_eq!(relay.phase(), RelayPhase::Ended);
            let error = relay.finished().await.unwrap_err();
            assert_eq!(error.code(), codes::STORE_SHAPE_WRONG, "{error}");
            assert!(!error.may_have_happened());
            assert_eq!(shop.store.lock().releases, 1, "the lease is given back");
        } else {
            assert_eq!(relay.phase(), RelayPhase::Relaying);
            shop.store.lock().read_fault = None;
            shop.within(Duration::from_secs(60), "sent", || shop.store.is_settled())
                .await;
        }
    }
}
