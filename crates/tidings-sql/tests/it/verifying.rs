//! What an application is told of its outbox when it starts.

use crate::place::{Counting, KINDS, Place, clock, open};
use tidings_core::store::StoreError;
use tidings_sql::schema::{self, Part};
use tidings_sql::{
    Alerts, Database, DatabaseOptions, Failures, Inbox, Kind, Outbox, OutboxConfig, OutboxOptions,
    Pool, Schedules, Shape,
};
use tidings_testkit::database::{Server, TestDatabase};

fn outbox(config: OutboxConfig) -> Outbox {
    Outbox::new(config, clock(), Counting::new()).unwrap()
}

async fn verify(database: &Database) -> Result<(), StoreError> {
    outbox(OutboxConfig::default()).verify(database).await
}

#[tokio::test]
async fn a_table_that_is_as_it_should_be_is_verified_and_nothing_is_written() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "verified").await else {
            continue;
        };
        schema::migrate(&place.database, &[Part::Outbox])
            .await
            .unwrap();
        let limited = outbox(OutboxConfig {
            unsent_max: Some(10),
            ..OutboxConfig::default()
        });

        verify(&place.database).await.unwrap();
        limited.verify(&place.database).await.unwrap();

        assert_eq!(place.number("SELECT COUNT(*) FROM outbox").await, 0);
    }
}

#[tokio::test]
async fn a_missing_table_one_of_somebody_else_and_a_newer_one_are_told_before_the_first_event() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "verified_shape").await else {
            continue;
        };
        let missing = verify(&place.database).await.unwrap_err();
        assert_eq!(missing.code().as_str(), "TD0073", "{missing}");
        assert!(
            missing.to_string().contains("tidings outbox migrate"),
            "{missing}"
        );

        place.run(schema::foreign_ddl(kind, Shape::Seed)).await;
        let foreign = verify(&place.database).await.unwrap_err();
        assert_eq!(foreign.code().as_str(), "TD0074", "{foreign}");
        assert!(
            foreign.to_string().contains("somebody else"),
            "{kind:?}: {foreign}"
        );

        place.run("DROP TABLE outbox").await;
        place
            .run("CREATE TABLE outbox (id INTEGER PRIMARY KEY, total INTEGER)")
            .await;
        let other = verify(&place.database).await.unwrap_err();
        assert_eq!(other.code().as_str(), "TD0074", "{other}");
        assert!(other.to_string().contains("id, total"), "{other}");

        place.run("DROP TABLE outbox").await;
        schema::migrate(&place.database, &[Part::Outbox])
            .await
            .unwrap();
        place.run("UPDATE tidings_schema SET version = 99").await;
        let newer = verify(&place.database).await.unwrap_err();
        assert_eq!(newer.code().as_str(), "TD0075", "{newer}");
    }
}

/// A function of that name that stands before the server's own makes it an older one for whoever asks.
#[tokio::test]
async fn a_server_that_is_too_old_is_told_to_who_opened_the_connections_itself() {
    let Some(place) = Place::fresh(Kind::Postgres, "verified_server").await else {
        return;
    };
    schema::migrate(&place.database, &Part::ALL).await.unwrap();
    place.run("CREATE FUNCTION public.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT '12.22'::text $$").await;
    place.run("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$").await;
    let pool = sqlx::PgPool::connect(place.url()).await.unwrap();
    let database = Database::from_pool(Pool::Postgres(pool), "the shop");

    let refused = [
        open(&database, OutboxOptions::default()).await.err(),
        verify(&database).await.err(),
        Inbox::open(&database).await.err(),
        Inbox::open_to_look(&database).await.err(),
        Failures::open(&database).await.err(),
        Schedules::open(&database).await.err(),
        Alerts::open(&database).await.err(),
        schema::migrate(&database, &Part::ALL).await.err(),
    ];

    for (place, error) in refused.into_iter().enumerate() {
        let error = error.unwrap_or_else(|| panic!("number {place} opens it"));
        assert_eq!(error.code().as_str(), "TD0074", "{place}: {error}");
        let text = error.to_string();
        for said in ["the shop", "PostgreSQL 12.22", "PostgreSQL 13.0.0 or newer"] {
            assert!(text.contains(said), "{place}: {text}");
        }
    }
    place
        .run("DROP FUNCTION public.current_setting(text)")
        .await;
    Inbox::open(&database).await.unwrap();
}

#[tokio::test]
async fn ids_in_blocks_are_told_unless_order_is_not_promised() {
    let Some(place) = Place::fresh(Kind::Postgres, "verified_cache").await else {
        return;
    };
    schema::migrate(&place.database, &[Part::Outbox])
        .await
        .unwrap();
    place
        .run("ALTER TABLE outbox ALTER COLUMN id SET CACHE 20")
        .await;

    let refused = verify(&place.database).await.unwrap_err();

    assert!(
        refused.to_string().contains("20 numbers at a time"),
        "{refused}"
    );
    let unordered = outbox(OutboxConfig {
        unordered: true,
        ..OutboxConfig::default()
    });
    unordered.verify(&place.database).await.unwrap();
}

/// What producers do on MariaDB by default is no fault of theirs: only a relay needs READ COMMITTED.
#[tokio::test]
async fn a_producer_may_work_under_repeatable_read_and_is_told_of_ids_of_several_nodes() {
    let Some(made) = TestDatabase::fresh(Server::MariaDb, "verified_session").await else {
        return;
    };
    let options = sqlx::mysql::MySqlPoolOptions::new().max_connections(1);
    let pool = options.connect(made.url()).await.unwrap();
    let database = Database::from_pool(Pool::MySql(pool.clone()), "mysql://test");
    schema::migrate(&database, &[Part::Outbox]).await.unwrap();
    verify(&database).await.unwrap();

    sqlx::raw_sql("SET SESSION auto_increment_increment = 3")
        .execute(&pool)
        .await
        .unwrap();

    let refused = verify(&database).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("auto_increment_increment is 3"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_missing_privilege_is_told_with_the_statement_that_grants_it() {
    for server in [Server::Postgres, Server::MariaDb] {
        let Some(made) = TestDatabase::fresh(server, "verified_privilege").await else {
            continue;
        };
        let options = DatabaseOptions::default();
        let owner = Database::open(made.url(), &options).await.unwrap();
        schema::migrate(&owner, &[Part::Outbox]).await.unwrap();
        let user = "tidings_verifier";
        let run = async |sql: String| {
            let script = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
            match owner.pool() {
                Pool::Postgres(pool) => script.execute(pool).await.map(drop),
                Pool::MySql(pool) => script.execute(pool).await.map(drop),
                _ => unreachable!("the tests know two servers"),
            }
            .unwrap();
        };
        match server {
            Server::Postgres => run(format!("DO $$ BEGIN CREATE ROLE {user} LOGIN PASSWORD 'secret'; EXCEPTION WHEN duplicate_object THEN NULL; END $$")).await,
            Server::MariaDb => {
                run(format!("DROP USER IF EXISTS {user}")).await;
                run(format!("CREATE USER {user} IDENTIFIED BY 'secret'")).await;
                run(format!("GRANT SELECT ON tidings_schema TO {user}")).await;
            }
        }
        let limited = Database::open(&made.url_as(user, "secret"), &options)
            .await
            .unwrap();

        let refused = verify(&limited).await.unwrap_err();

        assert_eq!(refused.code().as_str(), "TD0076", "{refused}");
        assert!(refused.to_string().contains("GRANT INSERT"), "{refused}");
        run(format!("GRANT INSERT ON outbox TO {user}")).await;
        verify(&limited).await.unwrap();
        let counting = outbox(OutboxConfig {
            unsent_max: Some(10),
            ..OutboxConfig::default()
        });
        let refused = counting.verify(&limited).await.unwrap_err();
        assert!(refused.to_string().contains("GRANT SELECT"), "{refused}");
    }
}
