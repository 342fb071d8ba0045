//! Somebody stands still in the middle of a change of ours, with rows locked, and nobody is told: a process is stopped, or its network is parted.

use crate::failures::fresh;
use crate::other_ways::{StockCounted, outbox};
use crate::place::Place;
use crate::schedules::scheduled;
use std::time::Duration;
use tidings_core::Timestamp;
use tidings_core::store::{FailureStore as _, ScheduleStore as _, StoreError};
use tidings_sql::{Database, DatabaseOptions, Failures, Kind, OutboxConfig, Pool, Schedules};
use tidings_testkit::proxy::FaultProxy;
use tokio::task::JoinSet;

const LEASE: Duration = Duration::from_secs(10);
/// Longer than the server lets an unused change be open, shorter than anything else ends it.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than an answer is waited for.
const ANSWERS: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);

const WAITING: &str = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
const INSIDE: &str = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'";

/// What a change comes to that stood still with its row locked, while another one of the same row was made; the network may be whole again then.
async fn stood_still(test: &str, heals: bool) -> Option<Result<Option<u64>, StoreError>> {
    let (place, failures) = fresh(Kind::Postgres, test).await?;
    let line = FaultProxy::start(place.address()).unwrap();
    let options = DatabaseOptions::default();
    let url = line.in_place_of(place.url());
    let parted = Database::open(&url, &options).await.unwrap();
    let parted = Failures::open(&parted).await.unwrap();
    assert!(parted.lead("g", "first", LEASE).await.unwrap().is_some());
    let Pool::Postgres(pool) = place.database.pool() else {
        unreachable!("that is the kind");
    };
    // Held up at the row, the change is under way when the network is parted; then it locks the row, and nobody hears of it.
    let mut holding = pool.begin().await.unwrap();
    let hold = sqlx::query("SELECT owner FROM tidings_leader WHERE consumer = 'g' FOR UPDATE");
    hold.fetch_one(&mut *holding).await.unwrap();
    let mut changing = JoinSet::new();
    changing.spawn(async move { parted.lead("g", "first", LEASE).await });
    while place.number(WAITING).await == 0 {
        tokio::time::sleep(LOOK).await;
    }
    line.freeze();
    holding.rollback().await.unwrap();
    while place.number(INSIDE).await == 0 {
        tokio::time::sleep(LOOK).await;
    }

    let beside = tokio::time::timeout(PATIENCE, failures.lead("g", "first", LEASE));
    let leads = beside.await.expect("the row is free in time").unwrap();
    assert_eq!(leads, Some(1), "it is the same owner");
    if heals {
        line.heal();
    }
    let left = tokio::time::timeout(ANSWERS, changing.join_next());
    let left = left.await.expect("it does not wait for ever");
    Some(left.expect("there is one").unwrap())
}

#[tokio::test]
async fn who_vanishes_inside_a_change_holds_nobody_back_on_postgres() {
    let Some(came_to) = stood_still("vanished", false).await else {
        return;
    };
    let error = came_to.expect_err("no answer came");
    assert!(error.class().is_transient(), "{error}");
    assert!(!error.may_have_happened(), "{error}");
}

/// The server ended its transaction: that says nothing against what was to be changed.
#[tokio::test]
async fn who_goes_on_inside_a_change_that_was_ended_may_make_it_again_on_postgres() {
    let Some(came_to) = stood_still("stood_still", true).await else {
        return;
    };
    let error = came_to.expect_err("its transaction was ended");
    assert!(error.class().is_transient(), "{error}");
}

/// Who writes a single event and takes a scheduled one, each by itself.
struct Alone {
    database: Database,
    schedules: Schedules,
}

impl Alone {
    async fn open(url: &str) -> Self {
        let options = DatabaseOptions::default();
        let database = Database::open(url, &options).await.unwrap();
        let schedules = Schedules::open(&database).await.unwrap();
        Self {
            database,
            schedules,
        }
    }

    async fn write(&self) -> [StoreError; 2] {
        let outbox = outbox(OutboxConfig::default());
        let counted = StockCounted {
            shelf: "a-1".to_owned(),
        };
        let later = scheduled("a", Timestamp::from_micros(0), None);
        let (published, added) = tokio::join!(
            outbox.publish_autocommit(&self.database, &counted),
            self.schedules.add(&later)
        );
        [published.unwrap_err(), added.unwrap_err()]
    }
}

/// Two tables are locked by somebody else, and the network is parted once both are waited for. Sessions that nobody waits for must end before the lock does.
#[tokio::test]
async fn a_server_that_is_gone_without_a_word_is_not_waited_for_without_an_end() {
    let Some((place, _)) = fresh(Kind::Postgres, "unanswered").await else {
        return;
    };
    let line = FaultProxy::start(place.address()).unwrap();
    let alone = Alone::open(&line.in_place_of(place.url())).await;

    let answers = while_locked(&place, async {
        let mut asking = JoinSet::new();
        asking.spawn(async move { alone.write().await });
        while place.number(WAITING).await < 2 {
            tokio::time::sleep(LOOK).await;
        }
        line.freeze();
        let answers = tokio::time::timeout(ANSWERS, asking.join_next()).await;
        assert_eq!(place.number(WAITING).await, 0, "their sessions wait on");
        answers.expect("they end").expect("there is one").unwrap()
    })
    .await;

    for error in answers {
        assert!(error.may_have_happened(), "nobody can know: {error}");
    }
}

/// It was told after 30 seconds that the server does not answer, and that the change may have been made.
#[tokio::test]
async fn a_lock_that_somebody_keeps_is_told_as_such_and_nothing_was_changed() {
    for kind in [Kind::Postgres, Kind::MySql] {
        let Some((place, _)) = fresh(kind, "kept").await else {
            continue;
        };
        let alone = Alone::open(place.url()).await;

        let answers = tokio::time::timeout(ANSWERS, alone.write());
        let answers = while_locked(&place, answers).await.expect("they end");

        for error in answers {
            assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
            assert!(!error.may_have_happened(), "{error}");
        }
    }
}

/// Keeps the tables of the outbox and of schedules from everybody as long as something takes.
async fn while_locked<T>(place: &Place, work: impl Future<Output = T>) -> T {
    match place.database.pool() {
        Pool::Postgres(pool) => {
            let mut holding = pool.begin().await.unwrap();
            let lock = "LOCK TABLE outbox, tidings_schedule IN EXCLUSIVE MODE";
            sqlx::raw_sql(lock).execute(&mut *holding).await.unwrap();
            let done = work.await;
            holding.rollback().await.unwrap();
            done
        }
        Pool::MySql(pool) => {
            let mut holding = pool.acquire().await.unwrap();
            let lock = "LOCK TABLES outbox WRITE, tidings_schedule WRITE";
            sqlx::raw_sql(lock).execute(&mut *holding).await.unwrap();
            let done = work.await;
            let unlock = sqlx::raw_sql("UNLOCK TABLES");
            unlock.execute(&mut *holding).await.unwrap();
            done
        }
        _ => unreachable!("it has no tables that can be locked"),
    }
}
