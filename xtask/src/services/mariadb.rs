//! MariaDB, as Debian packages it; it stands for the MySQL dialect too.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::child;
use crate::failure::Failure;
use crate::services::connection;
use crate::services::install;
use crate::services::process;
use crate::services::server::{Secured, Server};
use crate::services::site::Site;
use crate::services::tls;

pub(super) const SERVER: Server = Server {
    name: "mariadb",
    variable: "TIDINGS_TEST_MYSQL_URL",
    port: 13306,
    user: None,
    needed_by_tests: true,
    version: None,
    is_installed: |_| {
        ["mariadbd", "mariadb-install-db", "openssl"]
            .iter()
            .all(|name| install::program(name).is_some())
    },
    // The server without the parts that start one of the system's own.
    install: |_| {
        tls::install()?;
        install::packages(&["mariadb-server-core", "mariadb-client-core"])
    },
    create,
    mend: |site| process::wait_for_leftovers(&site.data(), "mariadbd"),
    start,
    // A client would take TLS where it is offered.
    url: |site| {
        format!(
            "mysql://root:tidings@127.0.0.1:{}/tidings?ssl-mode=disabled",
            site.port
        )
    },
    answer,
    is_secure: false,
    // The same port: a client asks for TLS.
    secured: Some(Secured {
        name: "mariadb-tls",
        variable: "TIDINGS_TEST_MYSQL_TLS_URL",
        url: |site| format!("mysql://root:tidings@127.0.0.1:{}/tidings", site.port),
        begins_as: Some("mysql"),
    }),
    stop: Signal::TERM,
};

/// Run at every start, before anybody can connect; one statement a line.
const FIRST_STATEMENTS: &str = "\
CREATE DATABASE IF NOT EXISTS tidings CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS root@'127.0.0.1';
ALTER USER root@'127.0.0.1' IDENTIFIED BY 'tidings';
GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
";

fn create(site: &Site, data: &Path) -> Result<(), Failure> {
    let mut install_db = site.command(install::required("mariadb-install-db")?);
    install_db
        .args(["--no-defaults", "--auth-root-authentication-method=normal"])
        .args(["--skip-test-db", "--cross-bootstrap"])
        .args(as_root())
        .arg(format!("--datadir={}", data.display()));
    child::quietly(&mut install_db).map(drop)
}

/// It refuses root unless told so.
fn as_root() -> Option<&'static str> {
    rustix::process::geteuid()
        .is_root()
        .then_some("--user=root")
}

fn start(site: &Site) -> Result<Command, Failure> {
    let made = tls::certificates(site)?;
    let statements = site.folder.join("first.sql");
    fs::write(&statements, FIRST_STATEMENTS)
        .map_err(|cause| Failure::file("write", &statements, &cause))?;
    let mut mariadbd = Command::new(install::required("mariadbd")?);
    mariadbd
        .arg("--no-defaults")
        .args(as_root())
        .arg(format!("--datadir={}", site.data().display()))
        .arg(format!("--pid-file={}", site.data().join("pid").display()))
        .arg(format!("--init-file={}", statements.display()))
        .arg(format!("--port={}", site.port))
        // No socket file: its path may be at most 107 bytes long, and nobody needs it.
        .args(["--bind-address=127.0.0.1", "--socket="])
        .arg(format!("--ssl-cert={}", made.certificate.display()))
        .arg(format!("--ssl-key={}", made.key.display()))
        .args(["--skip-name-resolve", "--character-set-server=utf8mb4"])
        .arg("--max-connections=200");
    Ok(mariadbd)
}

/// The server speaks first, with its version.
fn answer(url: &str) -> Result<Option<String>, String> {
    let mut stream = connection::open(url, 3306)?;
    let mut packet = [0; 256];
    let length = stream
        .read(&mut packet)
        .map_err(|cause| cause.to_string())?;
    greeting(&packet[..length]).map(Some)
}

/// A length of three bytes, a number, the version of the protocol, then the server's.
fn greeting(packet: &[u8]) -> Result<String, String> {
    const HANDSHAKE: u8 = 10;
    let refused = || connection::readable(packet);
    let body = packet.get(4..).ok_or_else(refused)?;
    if body.first() != Some(&HANDSHAKE) {
        return Err(refused());
    }
    let version = body[1..]
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    let version = connection::readable(version);
    // Old clients expect a small number in front.
    let version = version.strip_prefix("5.5.5-").unwrap_or(&version);
    Ok(version
        .split_once("-MariaDB")
        .map_or(version, |(number, _)| number)
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_greeting() {
        let packet = b"\x64\0\0\0\x0a5.5.5-10.11.19-MariaDB-0+deb12u1\0\x05\0\0\0";
        let mysql = b"\x64\0\0\0\x0a8.4.3\0\x05\0\0\0";

        assert_eq!(greeting(packet).as_deref(), Ok("10.11.19"));
        assert_eq!(greeting(mysql).as_deref(), Ok("8.4.3"));
    }

    #[test]
    fn too_many_connections_is_no_greeting() {
        let packet = b"\x17\0\0\0\xff\x10\x04Too many connections";

        let refused = greeting(packet).expect_err("an error packet");

        assert!(refused.contains("Too many connections"), "{refused}");
    }
}
