//! Somebody stands still in the middle of a change of ours, with rows locked, and nobody is told: a process is stopped, or its network is parted.

use crate::failures::fresh;
use std::time::Duration;
use tidings_core::store::{FailureStore as _, StoreError};
use tidings_sql::{Database, DatabaseOptions, Failures, Kind, Pool};
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
async fn stood_still(test: &str, heals: bool) -> Option<Result<bool, StoreError>> {
    let (place, failures) = fresh(Kind::Postgres, test).await?;
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
    assert!(leads, "it is the same owner");
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
