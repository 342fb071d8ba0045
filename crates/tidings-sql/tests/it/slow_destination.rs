//! A destination that takes its time: what waits for it stays in the database, and nobody else waits.

use crate::place::{self, Counting, KINDS, Place};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidings_core::broker::{Destination, PublishOutcome, Receipt};
use tidings_core::seam::Clock;
use tidings_core::store::{Settlement, Shard};
use tidings_core::{BoxFuture, Envelope, Timestamp};
use tidings_flow::outbox::{Relay, RelayMetrics, RelayOptions, RunningRelay};
use tidings_sql::OutboxOptions;
use tidings_sql::schema::{self, Part};
use tokio::sync::Semaphore;

/// Everything here is over long before.
const DEADLINE: Duration = Duration::from_secs(120);
const BATCH_ROWS: usize = 20;
/// Batches that one destination may have on their way.
const BATCHES: usize = tidings_core::limits::RELAY_BATCHES_OF_DESTINATION_MAX;

/// Accepts a batch once it is let through, and keeps the payloads in their order.
struct Gate {
    open: Semaphore,
    accepted: Mutex<Vec<String>>,
    /// Events that were handed over and are not accepted yet: now, and at most so far.
    held: Mutex<(usize, usize)>,
}

impl Gate {
    fn new(is_open: bool) -> Arc<Self> {
        let permits = if is_open { Semaphore::MAX_PERMITS } else { 0 };
        Arc::new(Self {
            open: Semaphore::new(permits),
            accepted: Mutex::default(),
            held: Mutex::default(),
        })
    }

    fn open(&self) {
        self.open.add_permits(Semaphore::MAX_PERMITS);
    }

    fn accepted(&self) -> Vec<String> {
        self.accepted.lock().unwrap().clone()
    }

    fn held(&self) -> (usize, usize) {
        *self.held.lock().unwrap()
    }
}

impl Destination for Gate {
    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        Box::pin(async move {
            {
                let mut held = self.held.lock().unwrap();
                held.0 += batch.len();
                held.1 = held.1.max(held.0);
            }
            drop(self.open.acquire().await.unwrap());
            self.held.lock().unwrap().0 -= batch.len();
            let mut accepted = self.accepted.lock().unwrap();
            for envelope in batch {
                accepted.push(String::from_utf8(envelope.payload_bytes().to_vec()).unwrap());
            }
            batch
                .iter()
                .map(|_| Ok(Receipt { position: None }))
                .collect()
        })
    }
}

struct Shop {
    place: Place,
    clock: Arc<dyn Clock>,
}

impl Shop {
    async fn new(kind: tidings_sql::Kind, test: &str) -> Option<Self> {
        let place = Place::fresh(kind, test).await?;
        schema::migrate(&place.database, &Part::ALL).await.unwrap();
        let clock = place::clock();
        Some(Self { place, clock })
    }

    /// Commits events for a destination: the payload is a number, the key its remainder.
    async fn insert(&self, destination: &str, numbers: std::ops::Range<usize>, keys: usize) {
        let rows: Vec<String> = numbers
            .map(|number| {
                let key = number % keys;
                format!("('order.placed', '{destination}-{key}', '{destination}', '{number}')")
            })
            .collect();
        for some in rows.chunks(500) {
            let columns = "INSERT INTO outbox (event_type, aggregate_id, destination, payload)";
            let rows = some.join(", ");
            self.place.run(&format!("{columns} VALUES {rows}")).await;
        }
    }

    async fn relay(&self, to: Arc<Gate>, shard: Shard) -> Relay {
        let store = place::open(&self.place.database, OutboxOptions::default()).await;
        let options = RelayOptions {
            shard,
            batch_rows: BATCH_ROWS,
            // Nobody gives up waiting here, so that nothing is sent twice.
            publish_timeout: DEADLINE,
            status_interval: Duration::from_millis(100),
            ..RelayOptions::default()
        };
        let (store, clock) = (Arc::new(store.unwrap()), Arc::clone(&self.clock));
        Relay::new(store, to, clock, Counting::new(), options)
    }

    async fn until(&self, relay: &RunningRelay, what: &str, reached: impl Fn() -> bool) {
        let end = self.clock.elapsed() + DEADLINE;
        while !reached() {
            self.clock.sleep(Duration::from_millis(5)).await;
            let metrics = relay.metrics();
            assert!(
                self.clock.elapsed() < end,
                "not in time: {what}: {metrics:?}"
            );
        }
    }
}

/// How many wait, and for how long the oldest has, as the relay tells it.
fn backlog(metrics: &RelayMetrics) -> (u64, Duration) {
    let status = metrics.status.as_ref();
    status.map_or((0, Duration::ZERO), |status| {
        (status.pending, status.oldest_unsent_age)
    })
}

fn numbers(accepted: &[String], key: usize, keys: usize) -> Vec<usize> {
    let numbers = accepted.iter().map(|number| number.parse().unwrap());
    numbers
        .filter(|number: &usize| number % keys == key)
        .collect()
}

#[tokio::test]
async fn what_waits_for_a_slow_destination_stays_in_the_database_and_delays_no_other() {
    const SLOW: usize = 1_200;
    const FAST: usize = 400;
    const KEYS: usize = 7;
    for kind in KINDS {
        let Some(shop) = Shop::new(kind, "slow_destination").await else {
            continue;
        };
        let (slow, fast) = (Gate::new(false), Gate::new(true));
        shop.insert("slow", 0..SLOW, KEYS).await;
        shop.insert("fast", 0..FAST, KEYS).await;

        let relay = shop.relay(Arc::clone(&fast), Shard::WHOLE).await;
        let relay = relay.to("slow", slow.clone()).start();

        // Those behind many that stand still.
        shop.until(&relay, "the other destination has all", || {
            fast.accepted().len() == FAST
        })
        .await;
        let told = || backlog(&relay.metrics());
        shop.until(&relay, "the lag is told, and grows", || {
            told().0 == SLOW as u64 && told().1 >= Duration::from_secs(1)
        })
        .await;
        shop.insert("fast", FAST..FAST + 50, KEYS).await;
        shop.until(&relay, "a later event is not delayed either", || {
            fast.accepted().len() == FAST + 50
        })
        .await;
        assert!(slow.accepted().is_empty());
        let in_flight = relay.metrics().in_flight_rows;
        assert!(in_flight <= BATCHES * BATCH_ROWS, "{kind:?}: {in_flight}");

        slow.open();
        shop.until(&relay, "the slow one has all, too", || {
            slow.accepted().len() == SLOW
        })
        .await;
        let metrics = relay.drain(DEADLINE).await.unwrap();

        let (_, held) = slow.held();
        assert!(held <= BATCHES * BATCH_ROWS, "{kind:?}: {held} at once");
        let accepted = slow.accepted();
        for key in 0..KEYS {
            let expected: Vec<usize> = (key..SLOW).step_by(KEYS).collect();
            assert_eq!(
                numbers(&accepted, key, KEYS),
                expected,
                "{kind:?}: key {key}"
            );
        }
        assert_eq!(metrics.relayed() as usize, SLOW + FAST + 50);
        let left = shop.place.number("SELECT COUNT(*) FROM outbox").await;
        assert_eq!(left, 0, "{kind:?}");
    }
}

#[tokio::test]
async fn a_shard_that_stands_still_delays_no_other() {
    const EVENTS: usize = 400;
    const KEYS: usize = 40;
    for kind in KINDS {
        let Some(shop) = Shop::new(kind, "slow_shard").await else {
            continue;
        };
        shop.insert("", 0..EVENTS, KEYS).await;
        let shard = |index| Shard { index, count: 2 };
        let (still, moving) = (Gate::new(false), Gate::new(true));

        let first = shop.relay(still.clone(), shard(0)).await.start();
        let second = shop.relay(moving.clone(), shard(1)).await.start();
        shop.until(&first, "the first has its hands full", || {
            still.held().0 > 0
        })
        .await;
        // How the keys fall is for the database to say: what is left is the first one's.
        let unsent = "SELECT COUNT(*) FROM outbox";
        shop.until(&second, "the second has sent something", || {
            !moving.accepted().is_empty()
        })
        .await;
        still.open();
        shop.until(&first, "all is sent", || {
            still.accepted().len() + moving.accepted().len() == EVENTS
        })
        .await;
        first.drain(DEADLINE).await.unwrap();
        second.drain(DEADLINE).await.unwrap();

        let both: Vec<String> = [still.accepted(), moving.accepted()].concat();
        for key in 0..KEYS {
            let expected: Vec<usize> = (key..EVENTS).step_by(KEYS).collect();
            assert_eq!(numbers(&both, key, KEYS), expected, "{kind:?}: key {key}");
        }
        assert_eq!(shop.place.number(unsent).await, 0, "{kind:?}");
    }
}

/// Rows that were marked stay until somebody removes them, whatever relays do by then.
#[tokio::test]
async fn rows_that_were_marked_are_pruned_also_where_rows_are_deleted_by_now() {
    let future = Timestamp::from_micros(32_503_680_000_000_000);
    for kind in KINDS {
        let Some(shop) = Shop::new(kind, "prune_later").await else {
            continue;
        };
        shop.insert("", 0..5, 5).await;
        shop.place
            .run("UPDATE outbox SET sent = true, sent_at = CURRENT_TIMESTAMP WHERE aggregate_id IN ('-0', '-1')")
            .await;

        let store = place::open(&shop.place.database, OutboxOptions::default()).await;
        let store: Arc<dyn tidings_core::store::OutboxStore> = Arc::new(store.unwrap());

        assert_eq!(store.settlement(), Settlement::Delete);
        assert_eq!(store.prune(future, 10).await.unwrap(), 2, "{kind:?}");
        let left = shop.place.number("SELECT COUNT(*) FROM outbox").await;
        assert_eq!(left, 3, "{kind:?}: what is unsent stays");
    }
}
