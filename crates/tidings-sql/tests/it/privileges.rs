//! What a producer and a consumer are told that lack a privilege: the statement that gives it to them, also where somebody else runs it.

use crate::place::{Counting, clock};
use tidings_core::envelope_json;
use tidings_core::extract::Draft;
use tidings_core::store::{InboxStore as _, StoreError};
use tidings_sql::schema::{self, Part};
use tidings_sql::{Database, DatabaseOptions, Inbox, Outbox, OutboxConfig, Pool};
use tidings_testkit::database::{Server, TestDatabase};

const SERVERS: [Server; 2] = [Server::Postgres, Server::MariaDb];

/// A database with our tables, and the same as a user who may do nothing with them.
struct Limited {
    owner: Database,
    limited: Database,
}

impl Limited {
    async fn fresh(server: Server, test: &str, user: &str) -> Option<Self> {
        let made = TestDatabase::fresh(server, test).await?;
        let options = DatabaseOptions::default();
        let owner = Database::open(made.url(), &options).await.unwrap();
        schema::migrate(&owner, &Part::ALL).await.unwrap();
        let place = Self {
            limited: owner.clone(),
            owner,
        };
        match server {
            Server::Postgres => {
                place.run(&format!("DO $$ BEGIN CREATE ROLE {user} LOGIN PASSWORD 'secret'; EXCEPTION WHEN duplicate_object THEN NULL; END $$")).await;
            }
            Server::MariaDb => {
                place.run(&format!("DROP USER IF EXISTS {user}")).await;
                place
                    .run(&format!("CREATE USER {user} IDENTIFIED BY 'secret'"))
                    .await;
                // Who has no privilege at all is not let into the database.
                place
                    .run(&format!("GRANT SELECT ON tidings_schema TO {user}"))
                    .await;
            }
        }
        let url = made.url_as(user, "secret");
        let limited = Database::open(&url, &options).await.unwrap();
        Some(Self { limited, ..place })
    }

    /// Runs a statement as the owner of the tables.
    async fn run(&self, sql: &str) {
        // A user of MariaDB is admitted from everywhere here, and its messages name where it came from.
        let sql = sql.split_once('@').map_or(sql, |(before, _)| before);
        let script = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
        match self.owner.pool() {
            Pool::Postgres(pool) => script.execute(pool).await.map(drop),
            Pool::MySql(pool) => script.execute(pool).await.map(drop),
            _ => unreachable!("the tests know two servers"),
        }
        .unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    async fn publish(&self, outbox: &Outbox) -> Result<(), StoreError> {
        let drafts = || vec![draft()];
        match self.limited.pool() {
            Pool::Postgres(pool) => {
                let mut tx = pool.begin().await.unwrap();
                outbox.publish_drafts(&mut tx, drafts()).await?;
                outbox.commit(tx).await
            }
            Pool::MySql(pool) => {
                let mut tx = pool.begin().await.unwrap();
                outbox.publish_drafts(&mut tx, drafts()).await?;
                outbox.commit(tx).await
            }
            _ => unreachable!("the tests know two servers"),
        }
    }
}

fn draft() -> Draft {
    envelope_json::draft_from_json(br#"{"event_type":"order.placed","payload":{}}"#).unwrap()
}

fn grant_of(error: &StoreError) -> String {
    assert_eq!(error.code().as_str(), "TD0076", "{error}");
    let text = error.to_string();
    text.split("run: ").last().unwrap().to_owned()
}

/// `CURRENT_USER` would be whoever runs the statement.
#[tokio::test]
async fn a_producer_that_may_not_insert_is_told_the_grant_for_its_own_user() {
    for server in SERVERS {
        let Some(place) = Limited::fresh(server, "grant_insert", "t_producer").await else {
            continue;
        };
        let outbox = Outbox::new(OutboxConfig::default(), clock(), Counting::new()).unwrap();

        let grant = grant_of(&place.publish(&outbox).await.unwrap_err());

        let wanted = match server {
            // Whose transaction it is, no connection tells.
            Server::Postgres => "GRANT INSERT ON outbox TO <the application's user>;",
            Server::MariaDb => ".outbox TO 't_producer'@",
        };
        assert!(grant.starts_with("GRANT INSERT ON "), "{grant}");
        assert!(grant.contains(wanted), "{grant}");
        place
            .run(&grant.replace("<the application's user>", "t_producer"))
            .await;
        place.publish(&outbox).await.unwrap();
    }
}

#[tokio::test]
async fn who_opened_the_connections_itself_is_told_its_user_as_well() {
    let Some(place) = Limited::fresh(Server::Postgres, "grant_pool", "t_pool").await else {
        return;
    };
    let Pool::Postgres(pool) = place.limited.pool() else {
        unreachable!("it was asked for");
    };
    let database = Database::from_pool(Pool::Postgres(pool.clone()), "shop");

    let error = Inbox::open(&database).await.unwrap_err();

    let grant = grant_of(&error);
    assert!(grant.ends_with(" ON inbox TO t_pool;"), "{grant}");
}

#[tokio::test]
async fn a_consumer_that_may_not_use_its_inbox_is_told_the_grant_for_its_own_user() {
    for server in SERVERS {
        let Some(place) = Limited::fresh(server, "grant_inbox", "t_consumer").await else {
            continue;
        };

        let grant = grant_of(&Inbox::open(&place.limited).await.unwrap_err());

        let wanted = match server {
            Server::Postgres => "GRANT SELECT, INSERT, DELETE ON inbox TO t_consumer;",
            Server::MariaDb => ".inbox TO 't_consumer'@",
        };
        assert!(grant.contains(wanted), "{grant}");
        place.run(&grant).await;
        // MariaDB tells of one privilege at a time.
        let mut grants = 1;
        while let Err(error) = Inbox::open(&place.limited).await {
            place.run(&grant_of(&error)).await;
            grants += 1;
            assert!(grants <= 3, "the grants do not help: {error}");
        }
    }
}

/// It would learn it with its first event otherwise, or when the first rows are to be forgotten.
#[tokio::test]
async fn a_consumer_that_may_only_read_its_inbox_is_told_when_it_opens_it_and_who_looks_is_not() {
    for server in SERVERS {
        let Some(place) = Limited::fresh(server, "grant_inbox_more", "t_reader").await else {
            continue;
        };
        for (granted, missing) in [("SELECT", "INSERT"), ("SELECT, INSERT", "DELETE")] {
            place
                .run(&format!("GRANT {granted} ON inbox TO t_reader"))
                .await;

            let grant = grant_of(&Inbox::open(&place.limited).await.unwrap_err());

            let wanted = match server {
                Server::Postgres => "GRANT SELECT, INSERT, DELETE ON inbox TO t_reader;".to_owned(),
                Server::MariaDb => format!("GRANT {missing} ON "),
            };
            assert!(grant.starts_with(&wanted), "{grant}");
            let looking = Inbox::open_to_look(&place.limited).await.unwrap();
            assert!(looking.status().await.unwrap().is_empty());
        }
        place.run("GRANT DELETE ON inbox TO t_reader").await;
        let inbox = Inbox::open(&place.limited).await.unwrap();
        assert!(inbox.status().await.unwrap().is_empty());
    }
}
