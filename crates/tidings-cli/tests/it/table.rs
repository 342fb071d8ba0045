//! A database of a test with a table in it that somebody made by hand, on every database that the command was built with.

use crate::command::{Tidings, tidings};
use std::hash::{DefaultHasher, Hash, Hasher};
use tidings::sql::schema::{Part, migrate};
use tidings::sql::{Database, DatabaseOptions, Pool};

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
    MariaDb,
}

/// Those that are built in: SQLite always, the others in a test run with all features.
pub(crate) fn kinds() -> Vec<Kind> {
    let mut kinds = vec![Kind::Sqlite];
    if cfg!(feature = "postgres") {
        kinds.push(Kind::Postgres);
    }
    if cfg!(feature = "mysql") {
        kinds.push(Kind::MariaDb);
    }
    kinds
}

/// A fresh database that one test owns.
pub(crate) struct Table {
    pub(crate) kind: Kind,
    url: String,
    database: Database,
    runtime: tokio::runtime::Runtime,
    _folder: Option<tempfile::TempDir>,
}

impl Table {
    /// A database without tables; `None`, and a line that says so, where the tests were told to do without its server.
    pub(crate) fn fresh(kind: Kind, test: &str) -> Option<Self> {
        let runtime = runtime();
        let (url, folder) = match kind {
            Kind::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite://{}/shop.db", folder.path().display());
                (url, Some(folder))
            }
            Kind::Postgres => (
                on_server(&runtime, "postgres", "TIDINGS_TEST_POSTGRES_URL", test)?,
                None,
            ),
            Kind::MariaDb => (
                on_server(&runtime, "mariadb", "TIDINGS_TEST_MYSQL_URL", test)?,
                None,
            ),
        };
        Some(Self {
            kind,
            database: runtime.block_on(open(&url)),
            url,
            runtime,
            _folder: folder,
        })
    }

    /// With the seed's table, as a team that knows nothing of tidings makes it.
    pub(crate) fn seed(kind: Kind, test: &str) -> Option<Self> {
        let table = Self::fresh(kind, test)?;
        table.make_seed();
        Some(table)
    }

    /// The same in an empty database of a server that the test started itself.
    pub(crate) fn seed_at(kind: Kind, url: String) -> Self {
        let table = Self::at(kind, url);
        table.make_seed();
        table
    }

    /// A database that is there already.
    pub(crate) fn at(kind: Kind, url: String) -> Self {
        let runtime = runtime();
        Self {
            kind,
            database: runtime.block_on(open(&url)),
            url,
            runtime,
            _folder: None,
        }
    }

    fn make_seed(&self) {
        self.run(match self.kind {
            Kind::Sqlite => {
                "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, event_type VARCHAR(255) NOT NULL, payload TEXT NOT NULL, created_at TIMESTAMP NOT NULL, sent BOOLEAN NOT NULL, aggregate_id VARCHAR(255))"
            }
            Kind::Postgres => {
                "CREATE TABLE outbox (id BIGSERIAL PRIMARY KEY, event_type VARCHAR(255) NOT NULL, payload JSONB NOT NULL, created_at TIMESTAMP NOT NULL, sent BOOLEAN NOT NULL, aggregate_id VARCHAR(255))"
            }
            Kind::MariaDb => {
                "CREATE TABLE outbox (id BIGINT AUTO_INCREMENT PRIMARY KEY, event_type VARCHAR(255) NOT NULL, payload JSON NOT NULL, created_at TIMESTAMP(6) NOT NULL, sent BOOLEAN NOT NULL, aggregate_id VARCHAR(255) COLLATE utf8mb4_bin)"
            }
        });
    }

    /// The URL, credentials included.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The dialect's name, as flags take it.
    pub(crate) fn dialect(&self) -> &'static str {
        match self.kind {
            Kind::Sqlite => "sqlite",
            Kind::Postgres => "postgres",
            Kind::MariaDb => "mysql",
        }
    }

    /// What the database calls the time now.
    pub(crate) fn now(&self) -> &'static str {
        match self.kind {
            Kind::Sqlite => "CURRENT_TIMESTAMP",
            Kind::Postgres | Kind::MariaDb => "NOW()",
        }
    }

    /// The seed's statement, with a key beside it.
    pub(crate) fn place_order(&self, key: &str, n: u64) {
        self.run(&format!(
            "INSERT INTO outbox (event_type, payload, created_at, sent, aggregate_id) VALUES ('order.placed', '{{\"n\": {n}}}', {}, false, '{key}')",
            self.now()
        ));
    }

    /// Many orders in one statement, their keys taking turns; `n` counts within a key.
    pub(crate) fn place_orders(&self, keys: u64, each: u64) {
        let now = self.now();
        let rows: Vec<String> = (0..each)
            .flat_map(|n| (0..keys).map(move |key| (key, n)))
            .map(|(key, n)| {
                format!("('order.placed', '{{\"n\": {n}}}', {now}, false, 'order-{key}')")
            })
            .collect();
        for some in rows.chunks(500) {
            self.run(&format!(
                "INSERT INTO outbox (event_type, payload, created_at, sent, aggregate_id) VALUES {}",
                some.join(", ")
            ));
        }
    }

    /// The tables of outbox, relay and inbox, as a program makes them.
    pub(crate) fn migrate(&self) {
        let migrating = migrate(&self.database, &Part::ALL);
        self.runtime.block_on(migrating).unwrap();
    }

    /// Host and port of the server.
    pub(crate) fn address(&self) -> &str {
        let host = self.url.rsplit_once('@').map_or("", |(_, host)| host);
        host.split_once('/').map_or(host, |(address, _)| address)
    }

    /// Rows that are marked as sent.
    pub(crate) fn sent(&self) -> i64 {
        self.number("SELECT COUNT(*) FROM outbox WHERE sent = true")
    }

    /// The same; `None` while the server does not answer.
    pub(crate) fn sent_if_known(&self) -> Option<i64> {
        let sent = "SELECT COUNT(*) FROM outbox WHERE sent = true";
        self.runtime.block_on(async {
            match self.database.pool() {
                #[cfg(feature = "sqlite")]
                Pool::Sqlite(pool) => sqlx::query_scalar(sent).fetch_one(pool).await,
                #[cfg(feature = "postgres")]
                Pool::Postgres(pool) => sqlx::query_scalar(sent).fetch_one(pool).await,
                #[cfg(feature = "mysql")]
                Pool::MySql(pool) => sqlx::query_scalar(sent).fetch_one(pool).await,
                _ => unreachable!("the tests know three databases"),
            }
            .ok()
        })
    }

    /// A command on this database.
    pub(crate) fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Tidings {
        tidings(arguments).variable("TIDINGS_RELAY_FROM", &self.url)
    }

    /// Runs statements.
    pub(crate) fn run(&self, sql: &str) {
        self.runtime.block_on(run(&self.database, sql));
    }

    /// The whole number that a statement answers.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        let query = sqlx::AssertSqlSafe(sql);
        let found = self.runtime.block_on(async {
            match self.database.pool() {
                #[cfg(feature = "sqlite")]
                Pool::Sqlite(pool) => sqlx::query_scalar(query).fetch_one(pool).await,
                #[cfg(feature = "postgres")]
                Pool::Postgres(pool) => sqlx::query_scalar(query).fetch_one(pool).await,
                #[cfg(feature = "mysql")]
                Pool::MySql(pool) => sqlx::query_scalar(query).fetch_one(pool).await,
                _ => unreachable!("the tests know three databases"),
            }
        });
        found.unwrap_or_else(|error| panic!("{error}: {sql}"))
    }
}

impl Table {
    /// The texts that a statement answers.
    pub(crate) fn texts(&self, sql: &str) -> Vec<String> {
        let query = sqlx::AssertSqlSafe(sql);
        let found = self.runtime.block_on(async {
            match self.database.pool() {
                #[cfg(feature = "sqlite")]
                Pool::Sqlite(pool) => sqlx::query_scalar(query).fetch_all(pool).await,
                #[cfg(feature = "postgres")]
                Pool::Postgres(pool) => sqlx::query_scalar(query).fetch_all(pool).await,
                #[cfg(feature = "mysql")]
                Pool::MySql(pool) => sqlx::query_scalar(query).fetch_all(pool).await,
                _ => unreachable!("the tests know three databases"),
            }
        });
        found.unwrap_or_else(|error| panic!("{error}: {sql}"))
    }
}

/// The URL as another user.
pub(crate) fn url_as(url: &str, user: &str, password: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{user}:{password}@{host}")
}

async fn run(database: &Database, sql: &str) {
    let script = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
    let done = match database.pool() {
        #[cfg(feature = "sqlite")]
        Pool::Sqlite(pool) => script.execute(pool).await.map(drop),
        #[cfg(feature = "postgres")]
        Pool::Postgres(pool) => script.execute(pool).await.map(drop),
        #[cfg(feature = "mysql")]
        Pool::MySql(pool) => script.execute(pool).await.map(drop),
        _ => unreachable!("the tests know three databases"),
    };
    done.unwrap_or_else(|error| panic!("{error}: {sql}"));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// Whether the tests were told to do without the server.
pub(crate) fn is_left_out(kind: Kind) -> bool {
    let server = match kind {
        Kind::Sqlite => return false,
        Kind::Postgres => "postgres",
        Kind::MariaDb => "mariadb",
    };
    let without = std::env::var("TIDINGS_TEST_WITHOUT").unwrap_or_default();
    without.split(',').any(|name| name.trim() == server)
}

async fn open(url: &str) -> Database {
    let options = DatabaseOptions {
        create: true,
        connections_max: 2,
        ..DatabaseOptions::default()
    };
    Database::open(url, &options).await.unwrap()
}

/// An empty database on a server that the environment names. A test that cannot run must not look like one that passed.
fn on_server(
    runtime: &tokio::runtime::Runtime,
    server: &str,
    variable: &str,
    test: &str,
) -> Option<String> {
    let without = std::env::var("TIDINGS_TEST_WITHOUT").unwrap_or_default();
    if without.split(',').any(|name| name.trim() == server) {
        eprintln!("SKIPPED: {test} needs {server}, which TIDINGS_TEST_WITHOUT leaves out");
        return None;
    }
    let url = std::env::var(variable).unwrap_or_else(|_| {
        panic!("{test} needs {server}; start it: cargo xtask services up {server}, and put the URL that it prints into {variable}; or set TIDINGS_TEST_WITHOUT={server}")
    });
    let mut hasher = DefaultHasher::new();
    (env!("CARGO_MANIFEST_DIR"), test).hash(&mut hasher);
    let name = format!("t_cli_{:016x}", hasher.finish());
    let force = if server == "postgres" {
        " WITH (FORCE)"
    } else {
        ""
    };
    runtime.block_on(async {
        let database = open(&url).await;
        run(&database, &format!("DROP DATABASE IF EXISTS {name}{force}")).await;
        run(&database, &format!("CREATE DATABASE {name}")).await;
        database.close().await;
    });
    let (before, options) = url
        .split_once('?')
        .map_or((url.as_str(), String::new()), |(before, options)| {
            (before, format!("?{options}"))
        });
    let host = before.rfind('/').unwrap();
    Some(format!("{}/{name}{options}", &before[..host]))
}
