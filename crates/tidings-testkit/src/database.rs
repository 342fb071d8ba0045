//! A fresh, empty database for each test, on the server that the environment names.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A database server of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Server {
    /// PostgreSQL: `TIDINGS_TEST_POSTGRES_URL`.
    Postgres,
    /// MariaDB: `TIDINGS_TEST_MYSQL_URL`.
    MariaDb,
}

impl Server {
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MariaDb => "mariadb",
        }
    }

    /// Where it is reached over TLS, as the tests call it.
    fn secured_name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres-tls",
            Self::MariaDb => "mariadb-tls",
        }
    }

    /// Its URL for TLS, and the certificate of its authority.
    fn secured_variables(self) -> [&'static str; 2] {
        match self {
            Self::Postgres => [
                "TIDINGS_TEST_POSTGRES_TLS_URL",
                "TIDINGS_TEST_POSTGRES_TLS_CA",
            ],
            Self::MariaDb => ["TIDINGS_TEST_MYSQL_TLS_URL", "TIDINGS_TEST_MYSQL_TLS_CA"],
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "TIDINGS_TEST_POSTGRES_URL",
            Self::MariaDb => "TIDINGS_TEST_MYSQL_URL",
        }
    }
}

/// An empty database that only one test uses.
#[derive(Debug, Clone)]
pub struct TestDatabase {
    url: String,
}

impl TestDatabase {
    /// Makes the database of a test anew. `None`, and a line that says so, where the tests were told to do without the server.
    ///
    /// # Panics
    /// If the server is neither named nor left out, or does not answer: a test that is not run must not look like one that passed.
    pub async fn fresh(server: Server, test: &str) -> Option<Self> {
        if is_left_out(server.name()) {
            eprintln!(
                "SKIPPED: {test} needs {}, which TIDINGS_TEST_WITHOUT leaves out",
                server.name()
            );
            return None;
        }
        let Some(url) = variable(server.variable()) else {
            panic!(
                "{test} needs {0}; start it: cargo xtask services up {0}, and put the URL that it prints into {1}; or set TIDINGS_TEST_WITHOUT={0}",
                server.name(),
                server.variable()
            );
        };
        let name = database_name(test);
        match server {
            Server::Postgres => make_postgres(&url, &name).await,
            Server::MariaDb => make_mariadb(&url, &name).await,
        }
        .unwrap_or_else(|error| panic!("{} does not make a database: {error}", server.name()));
        Some(Self {
            url: with_database(&url, &name),
        })
    }

    /// Where it is, credentials included.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same database as another user.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        let (scheme, rest) = self.url.split_once("://").expect("a URL has a scheme");
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        format!("{scheme}://{user}:{password}@{host}")
    }
}

/// A database server that takes TLS, and whom its clients have to trust.
#[derive(Debug, Clone)]
pub struct SecuredServer {
    /// Where it is, credentials included, without parameters.
    pub url: String,
    /// The file with the certificate of its authority.
    pub authority: String,
}

impl SecuredServer {
    /// The server that the environment names. `None`, and a line that says so, where the tests were told to do without it.
    ///
    /// # Panics
    /// If the server is neither named nor left out.
    pub fn named(server: Server, test: &str) -> Option<Self> {
        if let Some(name) = [server.name(), server.secured_name()]
            .into_iter()
            .find(|name| is_left_out(name))
        {
            eprintln!("SKIPPED: {test} needs {name}, which TIDINGS_TEST_WITHOUT leaves out");
            return None;
        }
        let [url, authority] = server.secured_variables().map(|name| {
            variable(name).unwrap_or_else(|| {
                panic!(
                    "{test} needs {0}; start it: cargo xtask services up {1}, and put what `services status -o json` says of {0} into {name}; or set TIDINGS_TEST_WITHOUT={0}",
                    server.secured_name(),
                    server.name(),
                )
            })
        });
        Some(Self { url, authority })
    }
}

async fn make_postgres(url: &str, name: &str) -> Result<(), sqlx::Error> {
    let mut connection = sqlx::PgConnection::connect(url).await?;
    let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
    connection.execute(AssertSqlSafe(drop)).await?;
    let create = format!("CREATE DATABASE {name}");
    connection.execute(AssertSqlSafe(create)).await?;
    connection.close().await
}

async fn make_mariadb(url: &str, name: &str) -> Result<(), sqlx::Error> {
    let mut connection = sqlx::MySqlConnection::connect(url).await?;
    let drop = format!("DROP DATABASE IF EXISTS {name}");
    connection.execute(AssertSqlSafe(drop)).await?;
    let create = format!("CREATE DATABASE {name} CHARACTER SET utf8mb4");
    connection.execute(AssertSqlSafe(create)).await?;
    connection.close().await
}

fn is_left_out(server: &str) -> bool {
    variable("TIDINGS_TEST_WITHOUT")
        .is_some_and(|names| names.split(',').any(|name| name.trim() == server))
}

/// The name holds the package's folder, so that two checkouts may test on one server.
fn database_name(test: &str) -> String {
    let mut hasher = DefaultHasher::new();
    variable("CARGO_MANIFEST_DIR").hash(&mut hasher);
    test.hash(&mut hasher);
    let test: String = test
        .chars()
        .map(|letter| match letter {
            'a'..='z' | '0'..='9' => letter,
            _ => '_',
        })
        .take(40)
        .collect();
    format!("t_{test}_{:08x}", hasher.finish() as u32)
}

fn with_database(url: &str, name: &str) -> String {
    let (before, options) = url
        .split_once('?')
        .map_or((url, String::new()), |(before, options)| {
            (before, format!("?{options}"))
        });
    let host_from = before.find("://").map_or(0, |at| at + 3);
    let path_from = before[host_from..]
        .find('/')
        .map_or(before.len(), |at| host_from + at);
    format!("{}/{name}{options}", &before[..path_from])
}

#[expect(
    clippy::disallowed_methods,
    reason = "the environment is how a test run tells its tests where servers are"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_takes_the_place_of_the_one_in_the_url() {
        assert_eq!(
            with_database("postgres://u:p@h:1/old?sslmode=disable", "new"),
            "postgres://u:p@h:1/new?sslmode=disable"
        );
        assert_eq!(with_database("mysql://u@h", "new"), "mysql://u@h/new");
    }

    #[test]
    fn two_tests_have_two_databases_whose_names_fit() {
        let long = "a_test_with_a_name_that_is_longer_than_any_database_may_be_called";

        assert!(database_name(long).len() <= 63);
        assert_ne!(
            database_name(&format!("{long}1")),
            database_name(&format!("{long}2"))
        );
    }
}
