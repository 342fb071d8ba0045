//! Hints of other processes.

use crate::place::{Place, clock, open};
use sqlx::postgres::PgListener;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::Timestamp;
use tidings_core::limits::OUTBOX_NOTIFY_INTERVAL;
use tidings_core::store::OutboxStore;
use tidings_sql::schema::{self, Part};
use tidings_sql::{Database, Kind, Notifier, OutboxOptions, Pool, SqlOutbox};
use tidings_testkit::ManualClock;

const LONG: Duration = Duration::from_secs(30);

async fn made(kind: Kind, test: &str) -> Option<(Place, SqlOutbox)> {
    let place = Place::fresh(kind, test).await?;
    schema::migrate(&place.database, &Part::ALL).await.unwrap();
    let options = OutboxOptions {
        listen: true,
        ..OutboxOptions::default()
    };
    let store = open(&place.database, options).await.unwrap();
    Some((place, store))
}

/// Runs until the watch has told of something.
async fn told(store: &SqlOutbox, again: impl AsyncFn()) {
    let watch = store.watch().expect("the database gives hints");
    let acting = async {
        loop {
            again().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let either = async {
        tokio::select! {
            () = watch => {}
            () = acting => {}
        }
    };
    tokio::time::timeout(LONG, either)
        .await
        .expect("no hint came");
}

#[tokio::test]
async fn sqlite_tells_of_commits_of_other_connections() {
    let (place, store) = made(Kind::Sqlite, "watch").await.unwrap();

    told(&store, async || {
        place
            .run("INSERT INTO outbox (event_type, payload) VALUES ('order.placed', '1')")
            .await;
    })
    .await;
}

#[tokio::test]
async fn postgres_tells_of_commits_that_another_process_notifies() {
    let Some((place, store)) = made(Kind::Postgres, "watch").await else {
        return;
    };
    let database: Database = place.database.clone();
    let notifier = Notifier::new(database, clock());
    // The first hint is that it listens now.
    store.watch().expect("it listens").await;

    tokio::select! {
        () = notifier.run() => {}
        () = told(&store, async || notifier.wake().notify()) => {}
    }
}

/// Nobody knows what was notified while nobody listened.
#[tokio::test]
async fn a_listener_that_is_ended_is_a_hint_and_the_next_one_hears_again() {
    let Some((place, store)) = made(Kind::Postgres, "listener_ended").await else {
        return;
    };
    let ended = "SELECT COUNT(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %') AS ended";
    store.watch().expect("it listens").await;

    let mut watch = store.watch().expect("it listens");
    let early = futures_util::poll!(&mut watch);
    assert!(early.is_pending(), "nothing has happened");
    assert_eq!(place.number(ended).await, 1);
    let hint = tokio::time::timeout(LONG, watch).await;
    hint.expect("the loss is a hint");

    let mut watch = store.watch().expect("it listens");
    let early = futures_util::poll!(&mut watch);
    assert!(early.is_pending(), "nothing has happened");
    place.run("NOTIFY tidings_outbox").await;
    let hint = tokio::time::timeout(LONG, watch).await;
    hint.expect("it listens again");
}

/// However many commit within its interval, other processes are told once at its beginning and once at its end.
#[tokio::test]
async fn a_thousand_commits_within_the_interval_are_two_notifications() {
    let Some((place, _store)) = made(Kind::Postgres, "debounced").await else {
        return;
    };
    let Pool::Postgres(pool) = place.database.pool() else {
        unreachable!("it was asked for");
    };
    let mut listener = PgListener::connect_with(pool).await.unwrap();
    listener
        .listen_all(["tidings_outbox", "the_end"])
        .await
        .unwrap();
    let clock = ManualClock::at(Timestamp::from_micros(1_705_314_600_000_000));
    let notifier = Notifier::new(place.database.clone(), Arc::new(clock.clone()));
    let wake = notifier.wake();
    let commits = async {
        for _ in 0..1_000 {
            wake.notify();
            tokio::task::yield_now().await;
        }
        let mut heard = vec![listener.recv().await.unwrap()];
        wake.notify();
        while clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        clock.advance(OUTBOX_NOTIFY_INTERVAL);
        heard.push(listener.recv().await.unwrap());
        place.run("NOTIFY the_end").await;
        heard.push(listener.recv().await.unwrap());
        heard
    };

    let heard = tokio::select! {
        () = notifier.run() => unreachable!("it runs for ever"),
        heard = tokio::time::timeout(LONG, commits) => heard.expect("all are heard"),
    };

    let channels: Vec<&str> = heard.iter().map(|one| one.channel()).collect();
    assert_eq!(channels, ["tidings_outbox", "tidings_outbox", "the_end"]);
}

#[tokio::test]
async fn mariadb_gives_no_hint_and_is_polled() {
    let Some((_place, store)) = made(Kind::MySql, "watch").await else {
        return;
    };

    assert!(store.watch().is_none());
}
