//! The suite of stores of what groups could not handle, on each database.

use crate::place::{self, Place};
use std::sync::Arc;
use tidings_core::store::OutboxStore;
use tidings_sql::schema::{self, Part};
use tidings_sql::{Failures, Kind, OutboxOptions};
use tidings_testkit::conformance::store::stories::{
    KILLS_OF_A_STORY, Open, Opened, failure_stories,
};
use tidings_testkit::conformance::store::{everything, failures};

const TABLES: [&str; 14] = [
    "tidings_parked",
    "tidings_attempt",
    "tidings_dead_letter",
    "tidings_group",
    "tidings_circuit",
    "tidings_operator_action",
    "tidings_taken_over",
    "outbox",
    "inbox",
    "inbox_watermark",
    "tidings_schema",
    "tidings_relay_outbox",
    "tidings_relay_lease",
    "tidings_relay_note",
];

async fn fresh(place: Arc<Place>) -> failures::Place {
    for table in TABLES {
        place.run(&format!("DROP TABLE IF EXISTS {table}")).await;
    }
    schema::migrate(&place.database, &[Part::Outbox, Part::Relay, Part::Failure])
        .await
        .unwrap();
    let store = Failures::open(&place.database).await.unwrap();
    let beside = Failures::open(&place.another().await).await.unwrap();
    let outbox = place::open(&place.database, OutboxOptions::default());
    let outbox = Arc::new(outbox.await.unwrap());
    failures::Place {
        failures: Arc::new(store.clone()),
        letters: Arc::new(store),
        beside: Arc::new(beside),
        facts: Arc::new(move || {
            let outbox = Arc::clone(&outbox);
            Box::pin(async move {
                let unsent = outbox.unsent(&everything()).await.unwrap();
                let events = unsent.rows.into_iter().map(|row| row.content.unwrap());
                let named = events.map(|event| {
                    let event_type = event.event_type().to_string();
                    (event_type, event.event_id().to_owned())
                });
                named.collect()
            })
        }),
    }
}

async fn run(kind: Kind) {
    let Some(place) = Place::fresh(kind, "failures_conformance").await else {
        return;
    };
    let place = Arc::new(place);
    failures::failure_store(&|_| Box::pin(fresh(Arc::clone(&place)))).await;
}

#[tokio::test]
async fn what_groups_could_not_handle_in_sqlite() {
    run(Kind::Sqlite).await;
}

#[tokio::test]
async fn what_groups_could_not_handle_in_postgres() {
    run(Kind::Postgres).await;
}

#[tokio::test]
async fn what_groups_could_not_handle_in_mariadb() {
    run(Kind::MySql).await;
}

/// Stories that are told at the same time.
const STORIES_AT_ONCE: u64 = 8;

#[expect(
    clippy::disallowed_methods,
    reason = "the run of the tests says how much is asked of them"
)]
fn number(variable: &str) -> Option<u64> {
    let given = std::env::var(variable).ok()?;
    let parsed = given.parse();
    Some(parsed.unwrap_or_else(|_| panic!("{variable} is a whole number, not {given:?}")))
}

/// Tells so many stories, or more with `TIDINGS_TEST_KILLS`; `TIDINGS_TEST_SEED` begins with the one that failed.
async fn stories(kind: Kind, usually: u64) {
    let Some(place) = Place::fresh(kind, "failure_stories").await else {
        return;
    };
    schema::migrate(&place.database, &Part::ALL).await.unwrap();
    let place = Arc::new(place);
    let open: Open = Arc::new(move || {
        let place = Arc::clone(&place);
        Box::pin(async move {
            let store = Failures::open(&place.another().await).await.unwrap();
            Opened {
                failures: Arc::new(store.clone()),
                letters: Arc::new(store),
            }
        })
    });
    let asked = number("TIDINGS_TEST_KILLS").map(|kills| kills.div_ceil(KILLS_OF_A_STORY));
    let first = number("TIDINGS_TEST_SEED").unwrap_or(0);
    let end = first + asked.unwrap_or(usually);
    for seed in (first..end).step_by(STORIES_AT_ONCE as usize) {
        let last = end.min(seed + STORIES_AT_ONCE);
        failure_stories(Arc::clone(&open), seed..last).await;
    }
}

#[tokio::test]
async fn whatever_fails_and_is_killed_each_key_keeps_its_order_in_sqlite() {
    stories(Kind::Sqlite, 16).await;
}

#[tokio::test]
async fn whatever_fails_and_is_killed_each_key_keeps_its_order_in_postgres() {
    stories(Kind::Postgres, 8).await;
}

#[tokio::test]
async fn whatever_fails_and_is_killed_each_key_keeps_its_order_in_mariadb() {
    stories(Kind::MySql, 8).await;
}
