//! The relay on the real databases: killed in the middle, two at a time, with events that are refused and a destination that is down.

use crate::place::{self, Counting, KINDS, Place};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidings_core::broker::{Destination, PublishError, PublishOutcome, Receipt};
use tidings_core::seam::Clock;
use tidings_core::store::{OutboxStore, RowId};
use tidings_core::{BoxFuture, Envelope, ErrorClass, codes};
use tidings_flow::outbox::{Relay, RelayOptions, RunningRelay};
use tidings_sql::OutboxOptions;
use tidings_sql::schema::{self, Part};

/// Everything here is over long before.
const DEADLINE: Duration = Duration::from_secs(60);

/// Keeps the ids and payloads of what it accepts.
#[derive(Default)]
struct Recorder {
    accepted: Mutex<Vec<(String, String, String)>>,
    down: AtomicBool,
    /// The payload that it refuses for ever.
    refused: Mutex<Option<String>>,
}

impl Recorder {
    fn payloads(&self) -> Vec<String> {
        let accepted = self.accepted.lock().unwrap();
        accepted
            .iter()
            .map(|(_, _, payload)| payload.clone())
            .collect()
    }

    fn outcome(&self, envelope: &Envelope) -> PublishOutcome {
        let payload = String::from_utf8(envelope.payload_bytes().to_vec()).unwrap();
        let refuse = |class, code| {
            let reason = "as the test wants it".to_owned();
            Err(PublishError::Refused {
                reason,
                class,
                code,
            })
        };
        if self.down.load(Ordering::Acquire) {
            return refuse(ErrorClass::Transient, codes::DISK_FULL);
        }
        if self.refused.lock().unwrap().as_ref() == Some(&payload) {
            return refuse(ErrorClass::Permanent, codes::PUBLISH_REFUSED);
        }
        let key = envelope.aggregate_id().unwrap_or_default().to_owned();
        let event = (envelope.event_id().to_owned(), key, payload);
        self.accepted.lock().unwrap().push(event);
        Ok(Receipt { position: None })
    }
}

impl Destination for Recorder {
    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        Box::pin(async move {
            let mut failed = Vec::new();
            let mut outcomes = Vec::new();
            for envelope in batch {
                let key = envelope.aggregate_id();
                let outcome = if failed.contains(&key) {
                    Err(PublishError::NotAttempted)
                } else {
                    self.outcome(envelope)
                };
                if outcome.is_err() && key.is_some() {
                    failed.push(key);
                }
                outcomes.push(outcome);
            }
            outcomes
        })
    }
}

/// An outbox of a real database and what relays it.
struct Shop {
    place: Place,
    store: Arc<dyn OutboxStore>,
    recorder: Arc<Recorder>,
    clock: Arc<dyn Clock>,
    chance: Arc<Counting>,
}

impl Shop {
    async fn new(kind: tidings_sql::Kind, test: &str) -> Option<Self> {
        Self::with(kind, test, OutboxOptions::default()).await
    }

    async fn with(kind: tidings_sql::Kind, test: &str, options: OutboxOptions) -> Option<Self> {
        let place = Place::fresh(kind, test).await?;
        schema::migrate(&place.database, &Part::ALL).await.unwrap();
        let store = place::open(&place.database, options).await;
        Some(Self {
            place,
            store: Arc::new(store.unwrap()),
            recorder: Arc::default(),
            clock: place::clock(),
            chance: Counting::new(),
        })
    }

    /// Commits events in one statement: the payload is a number, the key its remainder.
    async fn insert(&self, numbers: std::ops::Range<usize>, keys: usize) {
        let rows =
            numbers.map(|number| format!("('order.placed', 'key-{}', '{number}')", number % keys));
        let rows: Vec<String> = rows.collect();
        let columns = "INSERT INTO outbox (event_type, aggregate_id, payload) VALUES";
        self.place
            .run(&format!("{columns} {}", rows.join(", ")))
            .await;
    }

    fn start(&self, until_empty: bool) -> RunningRelay {
        let options = RelayOptions {
            batch_rows: 20,
            time_to_live: Duration::from_secs(1),
            until_empty,
            ..RelayOptions::default()
        };
        let (store, recorder) = (Arc::clone(&self.store), Arc::clone(&self.recorder));
        let (clock, chance) = (Arc::clone(&self.clock), Arc::clone(&self.chance));
        Relay::new(store, recorder, clock, chance, options).start()
    }

    async fn until(&self, what: &str, reached: impl Fn() -> bool) {
        let end = self.clock.elapsed() + DEADLINE;
        while !reached() {
            self.clock.sleep(Duration::from_millis(2)).await;
            assert!(self.clock.elapsed() < end, "not in time: {what}");
        }
    }

    /// Everything was sent, first in the order of its key, doubles with the same id, and nothing is left.
    async fn assert_all_in_order(&self, events: usize) {
        let mut newest: HashMap<String, usize> = HashMap::new();
        let mut ids: BTreeMap<usize, String> = BTreeMap::new();
        let accepted = self.recorder.accepted.lock().unwrap().clone();
        for (id, key, payload) in accepted {
            let number: usize = payload.parse().unwrap();
            if let Some(before) = ids.insert(number, id.clone()) {
                assert_eq!(before, id, "a duplicate has another id");
                continue;
            }
            let newest = newest.entry(key).or_default();
            assert!(number >= *newest, "{number} stands behind {newest}");
            *newest = number;
        }
        assert_eq!(ids.len(), events);
        let left = self.place.number("SELECT COUNT(*) FROM outbox").await;
        assert_eq!(left, 0);
    }

    async fn finished(&self, relay: &RunningRelay) {
        tokio::select! {
            ended = relay.finished() => drop(ended.unwrap()),
            () = self.clock.sleep(DEADLINE) => panic!("the relay does not end: {:?}", relay.metrics()),
        }
    }
}

#[tokio::test]
async fn a_relay_that_is_killed_in_the_middle_is_followed_within_its_lease_and_no_key_is_out_of_order()
 {
    for kind in KINDS {
        let Some(shop) = Shop::new(kind, "relay_killed").await else {
            continue;
        };
        shop.insert(0..600, 7).await;
        let (first, second) = (shop.start(false), shop.start(false));
        shop.until("some are sent", || shop.recorder.payloads().len() >= 100)
            .await;

        drop(first);
        shop.insert(600..700, 7).await;
        drop(second);
        let third = shop.start(true);
        shop.finished(&third).await;

        shop.assert_all_in_order(700).await;
    }
}

#[tokio::test]
async fn two_relays_at_once_keep_the_order_of_twenty_keys_in_three_thousand_events() {
    for kind in KINDS {
        let Some(shop) = Shop::new(kind, "relay_two").await else {
            continue;
        };
        shop.insert(0..3_000, 20).await;

        let (first, second) = (shop.start(true), shop.start(true));
        shop.finished(&first).await;
        shop.finished(&second).await;

        shop.assert_all_in_order(3_000).await;
    }
}

#[tokio::test]
async fn connections_that_are_cut_again_and_again_lose_nothing_and_keep_the_order() {
    let Some(shop) = Shop::new(tidings_sql::Kind::Postgres, "relay_cut").await else {
        return;
    };
    let relay = shop.start(false);
    for round in 0..10 {
        shop.insert(round * 100..(round + 1) * 100, 7).await;
        let reached = round * 100 + 30;
        shop.until("some are sent", || {
            shop.recorder.payloads().len() >= reached
        })
        .await;
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        shop.place.run(cut).await;
    }
    drop(relay);

    let relay = shop.start(true);
    shop.finished(&relay).await;

    shop.assert_all_in_order(1_000).await;
}

/// What was notified while nobody listened is lost, and polling makes it good.
#[tokio::test]
async fn a_relay_whose_listener_is_ended_polls_on_and_listens_again() {
    let listening = OutboxOptions {
        listen: true,
        ..OutboxOptions::default()
    };
    let kind = tidings_sql::Kind::Postgres;
    let Some(shop) = Shop::with(kind, "relay_listener", listening).await else {
        return;
    };
    let listener = async || {
        let end = shop.clock.elapsed() + DEADLINE;
        loop {
            let pid = "SELECT CAST(COALESCE(MAX(pid), 0) AS bigint) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'";
            let pid = shop.place.number(pid).await;
            if pid > 0 {
                return pid;
            }
            assert!(shop.clock.elapsed() < end, "nobody listens");
        }
    };
    let sent = async |payload: &str| {
        shop.until(payload, || {
            shop.recorder.payloads().iter().any(|sent| sent == payload)
        })
        .await;
    };
    let relay = shop.start(false);
    let first = listener().await;

    let ended = format!("SELECT pg_terminate_backend({first}, 30000)");
    shop.place.run(&ended).await;
    shop.insert(0..1, 1).await;
    sent("0").await;
    let second = listener().await;
    shop.insert(1..2, 1).await;
    shop.place.run("NOTIFY tidings_outbox").await;
    sent("1").await;
    let metrics = relay.drain(DEADLINE).await.unwrap();

    assert_ne!(first, second);
    assert_eq!((metrics.relayed(), metrics.store_failures), (2, 0));
}

#[tokio::test]
async fn an_event_that_is_refused_waits_for_a_person_and_only_its_key_with_it() {
    for kind in KINDS {
        let Some(shop) = Shop::new(kind, "relay_poison").await else {
            continue;
        };
        *shop.recorder.refused.lock().unwrap() = Some("1".to_owned());
        shop.insert(0..6, 2).await;

        let relay = shop.start(true);
        shop.finished(&relay).await;

        assert_eq!(shop.recorder.payloads(), ["0", "2", "4"], "{kind:?}");
        let dead = shop.store.dead(10).await.unwrap();
        let ids: Vec<RowId> = dead.iter().map(|row| row.id).collect();
        assert_eq!(dead.len(), 1, "{kind:?}");
        assert!(dead[0].reason.contains("TD0024"), "{:?}", dead[0].reason);

        *shop.recorder.refused.lock().unwrap() = None;
        assert_eq!(shop.store.revive(&ids).await.unwrap(), 1);
        let relay = shop.start(true);
        shop.finished(&relay).await;
        let payloads = shop.recorder.payloads();
        assert_eq!(payloads, ["0", "2", "4", "1", "3", "5"], "{kind:?}");
    }
}

#[tokio::test]
async fn a_destination_that_is_down_costs_no_attempt_and_gets_everything_once_it_is_up() {
    for kind in KINDS {
        let Some(shop) = Shop::new(kind, "relay_down").await else {
            continue;
        };
        shop.recorder.down.store(true, Ordering::Release);
        shop.insert(0..50, 5).await;
        let relay = shop.start(false);
        let tries = || relay.metrics().retries.values().sum::<u64>();
        shop.until("it was tried", || tries() >= 4).await;

        shop.recorder.down.store(false, Ordering::Release);
        shop.until("all are sent", || shop.recorder.payloads().len() == 50)
            .await;
        let metrics = relay.drain(DEADLINE).await.unwrap();

        assert_eq!((metrics.relayed(), metrics.dead), (50, 0), "{kind:?}");
        assert_eq!(
            shop.place.number("SELECT COUNT(*) FROM outbox").await,
            0,
            "{kind:?}"
        );
    }
}
