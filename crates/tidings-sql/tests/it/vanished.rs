//! Somebody is gone in the middle of a change of ours, with rows locked, and nobody is told: a process stands still, or its network is parted.

use crate::failures::fresh;
use std::time::Duration;
use tidings_core::store::FailureStore as _;
use tidings_sql::{Database, DatabaseOptions, Failures, Kind, Pool};
use tidings_testkit::proxy::FaultProxy;

const LEASE: Duration = Duration::from_secs(10);
/// Longer than the server lets an unused change be open, shorter than anything else ends it.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than an answer is waited for.
const ANSWERS: Duration = Duration::from_secs(60);

#[tokio::test]
async fn who_vanishes_inside_a_change_holds_nobody_back_on_postgres() {
    let Some((place, failures)) = fresh(Kind::Postgres, "vanished").await else {
        return;
    };
    let line = FaultProxy::start(place.address()).unwrap();
    let options = DatabaseOptions::default();
    let url = line.in_place_of(place.url());
    let parted = Database::open(&url, &options).await.unwrap();
    let parted = Failures::open(&parted).await.unwrap();
    assert!(parted.lead("g", "first", LEASE).await.unwrap());
    let Pool::Postgres(pool) = place.database.pool() else {
        unreachable!("that is the kind");
    };
    // Held up at the row, the change is under way when the network is parted; then it locks the row, and nobody hears of it.
    let mut holding = pool.begin().await.unwrap();
    let hold = sqlx::query("SELECT owner FROM tidings_parker WHERE consumer = 'g' FOR UPDATE");
    hold.fetch_one(&mut *holding).await.unwrap();
    let mut vanished = tokio::task::JoinSet::new();
    vanished.spawn(async move { parted.lead("g", "first", LEASE).await });
    let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while place.number(waiting).await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    line.freeze();
    holding.rollback().await.unwrap();
    let inside = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'";
    while place.number(inside).await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let beside = tokio::time::timeout(PATIENCE, failures.lead("g", "first", LEASE));
    let leads = beside.await.expect("the row is free in time").unwrap();
    assert!(leads, "it is the same owner");
    let left = tokio::time::timeout(ANSWERS, vanished.join_next());
    let left = left.await.expect("it does not wait for ever");
    let left = left.expect("there is one").unwrap();
    let error = left.expect_err("no answer came");
    assert!(error.class().is_transient(), "{error}");
    assert!(!error.may_have_happened(), "{error}");
}
