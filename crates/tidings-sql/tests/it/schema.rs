//! Migrations and the first look at a database.

use crate::place::{KINDS, Place};
use tidings_sql::schema::{self, Part};
use tidings_sql::{
    Connection, Database, DatabaseOptions, Failures, Kind, Pool, assume_in_transaction,
};

#[tokio::test]
async fn the_tables_are_made_once_and_by_two_processes_at_the_same_time() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "tables_are_made_once").await else {
            continue;
        };

        let (first, second) = tokio::join!(
            schema::migrate(&place.database, &Part::ALL),
            schema::migrate(&place.database, &Part::ALL)
        );
        first.unwrap();
        second.unwrap();
        schema::migrate(&place.database, &Part::ALL).await.unwrap();

        assert_eq!(place.number("SELECT COUNT(*) FROM outbox").await, 0);
        assert_eq!(place.number("SELECT COUNT(*) FROM inbox").await, 0);
        let versions = "SELECT COUNT(*) FROM tidings_schema";
        let parts = i64::try_from(Part::ALL.len()).unwrap();
        assert_eq!(place.number(versions).await, parts, "{kind:?}");
        let newest = "SELECT version FROM tidings_schema WHERE part = 'failure'";
        assert_eq!(place.number(newest).await, 4, "{kind:?}");
    }
}

#[tokio::test]
async fn tables_of_the_first_version_get_what_came_later_and_keep_what_they_hold() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "first_version").await else {
            continue;
        };
        let parts = [Part::Outbox, Part::Failure];
        schema::migrate(&place.database, &parts).await.unwrap();
        // As the first version left it.
        place.run("DROP TABLE tidings_circuit").await;
        place.run("DROP TABLE tidings_leader").await;
        if kind != Kind::Sqlite {
            let refused = Failures::open(&place.database).await.unwrap_err();
            let refused = refused.to_string();
            let tells = |words| refused.contains(words);
            assert!(
                tells("tidings_leader") && tells("tidings dlq migrate"),
                "{refused}"
            );
        }
        let set_back = "UPDATE tidings_schema SET version = 1 WHERE part = 'failure'";
        place.run(set_back).await;
        let group =
            "INSERT INTO tidings_group (consumer, paused_why, changed_us) VALUES ('a', 'b', 1)";
        place.run(group).await;

        schema::migrate(&place.database, &parts).await.unwrap();

        let circuits = "SELECT COUNT(*) FROM tidings_circuit";
        assert_eq!(place.number(circuits).await, 0, "{kind:?}");
        let groups = "SELECT COUNT(*) FROM tidings_group";
        assert_eq!(place.number(groups).await, 1, "{kind:?}");
        Failures::open(&place.database).await.unwrap();
    }
}

#[tokio::test]
async fn the_statements_for_own_migrations_run_twice_and_make_the_same_tables() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "own_migrations").await else {
            continue;
        };
        for part in Part::ALL {
            let text = schema::ddl(kind, part).unwrap();
            place.run(&text).await;
            place.run(&text).await;
        }

        schema::migrate(&place.database, &Part::ALL).await.unwrap();

        assert_eq!(place.number("SELECT COUNT(*) FROM outbox").await, 0);
    }
}

#[tokio::test]
async fn tables_of_a_newer_program_are_refused_and_left_alone() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "newer_tables").await else {
            continue;
        };
        schema::migrate(&place.database, &[Part::Relay])
            .await
            .unwrap();
        place.run("UPDATE tidings_schema SET version = 99").await;

        let error = schema::migrate(&place.database, &Part::ALL)
            .await
            .unwrap_err();

        assert_eq!(error.code().as_str(), "TD0075", "{error}");
        assert!(error.to_string().contains("version 99"), "{error}");
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_told_from_a_server_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/none.db", folder.path().display());
    let error = Database::open(&url, &DatabaseOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.code().as_str(), "TD0077", "{error}");

    let url = "postgres://nobody:secret@127.0.0.1:1/none";
    let error = Database::open(url, &DatabaseOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.code().as_str(), "TD0070", "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn a_connection_outside_of_a_transaction_is_not_taken_for_one_inside() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "assumed_transaction").await else {
            continue;
        };
        match place.database.pool() {
            Pool::Sqlite(pool) => {
                let mut bare = pool.acquire().await.unwrap();
                let outside = assume_in_transaction(Connection::Sqlite(&mut bare)).await;
                assert_eq!(outside.unwrap_err().code().as_str(), "TD0078");
                sqlx::raw_sql("BEGIN IMMEDIATE")
                    .execute(&mut *bare)
                    .await
                    .unwrap();
                assume_in_transaction(Connection::Sqlite(&mut bare))
                    .await
                    .unwrap();
            }
            Pool::Postgres(pool) => {
                let mut bare = pool.acquire().await.unwrap();
                let outside = assume_in_transaction(Connection::Postgres(&mut bare)).await;
                assert_eq!(outside.unwrap_err().code().as_str(), "TD0078");
                sqlx::raw_sql("BEGIN").execute(&mut *bare).await.unwrap();
                assume_in_transaction(Connection::Postgres(&mut bare))
                    .await
                    .unwrap();
            }
            Pool::MySql(pool) => {
                let mut bare = pool.acquire().await.unwrap();
                let outside = assume_in_transaction(Connection::MySql(&mut bare)).await;
                assert_eq!(outside.unwrap_err().code().as_str(), "TD0078");
                sqlx::raw_sql("BEGIN; SELECT 1 FROM information_schema.tables LIMIT 1")
                    .execute(&mut *bare)
                    .await
                    .unwrap();
                assume_in_transaction(Connection::MySql(&mut bare))
                    .await
                    .unwrap();
            }
            _ => unreachable!("the tests know three databases"),
        }
    }
}

/// The driver gives the connection of a cancelled `begin` back while a transaction is open on it.
#[tokio::test]
async fn a_begin_that_was_cancelled_leaves_no_transaction_for_the_next_borrower() {
    let Some(place) = Place::fresh(Kind::Postgres, "cancelled_begin").await else {
        return;
    };
    let Pool::Postgres(pool) = place.database.pool() else {
        unreachable!("it was asked for");
    };
    for polls in 0..40 {
        let mut begin = Box::pin(pool.begin());
        for _ in 0..polls {
            let done = futures_util::poll!(&mut begin).is_ready();
            if done {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(begin);

        let mut next = pool.acquire().await.unwrap();
        let outside = assume_in_transaction(Connection::Postgres(&mut next)).await;
        assert!(
            outside.is_err(),
            "a transaction was left after {polls} polls"
        );
    }
}
