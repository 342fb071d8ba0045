//! Connections over TLS: whom a client trusts, and what it is told where it does not or where the login is refused.

use std::time::Duration;
use tidings_core::store::StoreError;
use tidings_sql::{Database, DatabaseOptions, Pool};
use tidings_testkit::database::{SecuredServer, Server};

/// A refusal comes at once; this is for a machine that is busy.
const DEADLINE: Duration = Duration::from_secs(120);

/// A server with TLS, and how its URL asks for what.
struct Secured {
    url: String,
    authority: String,
    /// Certificate and host name have to hold.
    strict: &'static str,
    /// Encrypted, to whomever.
    loose: &'static str,
    /// The parameter that names the authority's certificate.
    trust: &'static str,
}

impl Secured {
    fn named(server: Server, test: &str) -> Option<Self> {
        let named = SecuredServer::named(server, test)?;
        let (strict, loose, trust) = match server {
            Server::Postgres => ("sslmode=verify-full", "sslmode=require", "sslrootcert"),
            Server::MariaDb => ("ssl-mode=VERIFY_IDENTITY", "ssl-mode=REQUIRED", "ssl-ca"),
        };
        Some(Self {
            url: named.url,
            authority: named.authority,
            strict,
            loose,
            trust,
        })
    }

    /// Trusts the authority in the file.
    fn trusting(&self, file: &str) -> String {
        let (url, strict, trust) = (&self.url, self.strict, self.trust);
        format!("{url}?{strict}&{trust}={file}")
    }

    /// A refusal for good that has these words, and no password.
    async fn refuses(&self, url: &str, words: &[&str]) {
        let Err(error) = open(url).await else {
            panic!("it was opened, where {words:?} was expected");
        };

        let text = error.to_string();
        assert_eq!(error.code().as_str(), "TD0077", "{text}");
        for word in words {
            assert!(text.contains(word), "{word:?} is not in: {text}");
        }
        assert!(
            !text.contains("tidings@") && !text.contains("wrong"),
            "{text}"
        );
    }
}

async fn open(url: &str) -> Result<Database, StoreError> {
    let options = DatabaseOptions::default();
    let opened = tokio::time::timeout(DEADLINE, Database::open(url, &options)).await;
    opened.expect("an answer in time")
}

/// Whether the server says of the connection that it is encrypted.
async fn is_encrypted(database: &Database) -> bool {
    match database.pool() {
        Pool::Postgres(pool) => {
            let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
        }
        Pool::MySql(pool) => {
            let sql = "SHOW SESSION STATUS LIKE 'Ssl_cipher'";
            let (_, cipher): (String, String) = sqlx::query_as(sql).fetch_one(pool).await.unwrap();
            !cipher.is_empty()
        }
        _ => unreachable!("TLS is for servers"),
    }
}

async fn trusts_whom_the_url_names(server: Server, test: &str) {
    let Some(secured) = Secured::named(server, test) else {
        return;
    };
    let good = secured.trusting(&secured.authority);
    let loose = format!("{}?{}", secured.url, secured.loose);

    for url in [&good, &good.replace("127.0.0.1", "localhost"), &loose] {
        let database = open(url).await.unwrap();
        assert!(is_encrypted(&database).await, "{}", database.name());
        database.close().await;
    }

    let nobody = format!("{}?{}", secured.url, secured.strict);
    secured
        .refuses(&nobody, &["certificate", secured.trust])
        .await;
    let wrong = good.replace(":tidings@", ":wrong@");
    secured.refuses(&wrong, &["user and password"]).await;
    let missing = secured.trusting("/nowhere/ca.pem");
    secured
        .refuses(&missing, &["/nowhere/ca.pem", secured.trust])
        .await;
}

#[tokio::test]
async fn postgres_is_trusted_by_the_authority_that_the_url_names() {
    trusts_whom_the_url_names(Server::Postgres, "tls").await;
}

#[tokio::test]
async fn mariadb_is_trusted_by_the_authority_that_the_url_names() {
    trusts_whom_the_url_names(Server::MariaDb, "tls").await;
}

/// Each server has an authority of its own: what another one signed proves nothing.
#[tokio::test]
async fn the_authority_of_another_server_is_not_enough() {
    let test = "tls";
    let (Some(postgres), Some(mariadb)) = (
        Secured::named(Server::Postgres, test),
        Secured::named(Server::MariaDb, test),
    ) else {
        return;
    };

    for (server, other) in [(&postgres, &mariadb), (&mariadb, &postgres)] {
        let url = server.trusting(&other.authority);
        server.refuses(&url, &["certificate", server.trust]).await;
    }
}

/// Who answers at another address is not believed, though the certificate is the right one.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_host_that_the_certificate_does_not_name_is_refused() {
    for server in [Server::Postgres, Server::MariaDb] {
        let Some(secured) = Secured::named(server, "tls") else {
            continue;
        };
        let address = address_of(&secured.url).to_owned();
        // All of 127.0.0.0/8 is this machine; the certificate names one address of it.
        let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
        let other = listener.local_addr().unwrap().to_string();
        let url = secured
            .trusting(&secured.authority)
            .replace(&address, &other);
        let forwarding = async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = tokio::net::TcpStream::connect(address).await.unwrap();
            // It ends when the client hangs up.
            let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        };

        let words = ["certificate", "host name"];
        tokio::join!(secured.refuses(&url, &words), forwarding);
    }
}

#[cfg(target_os = "linux")]
fn address_of(url: &str) -> &str {
    let rest = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or(rest)
}
