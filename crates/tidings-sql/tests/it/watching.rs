//! Hints of other processes.

use crate::place::{Place, clock, open};
use std::time::Duration;
use tidings_core::store::OutboxStore;
use tidings_sql::schema::{self, Part};
use tidings_sql::{Database, Kind, Notifier, OutboxOptions, SqlOutbox};

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

#[tokio::test]
async fn mariadb_gives_no_hint_and_is_polled() {
    let Some((_place, store)) = made(Kind::MySql, "watch").await else {
        return;
    };

    assert!(store.watch().is_none());
}
