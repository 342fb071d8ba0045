//! PostgreSQL, as Debian packages it: refuses root, logical decoding on, a password as in production.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
    name: "postgres",
    variable: "TIDINGS_TEST_POSTGRES_URL",
    port: 15432,
    user: Some("postgres"),
    needed_by_tests: true,
    version: None,
    is_installed: |_| programs().is_some() && install::program("openssl").is_some(),
    install: |_| {
        tls::install()?;
        match programs() {
            Some(_) => Ok(()),
            None => install::packages(&["postgresql"]),
        }
    },
    create,
    mend,
    start,
    url: |site| {
        format!(
            "postgres://postgres:tidings@127.0.0.1:{}/tidings?sslmode=disable",
            site.port
        )
    },
    answer,
    is_secure: false,
    // The same port: a client asks for TLS.
    secured: Some(Secured {
        name: "postgres-tls",
        variable: "TIDINGS_TEST_POSTGRES_TLS_URL",
        url: |site| {
            format!(
                "postgres://postgres:tidings@127.0.0.1:{}/tidings",
                site.port
            )
        },
        begins_as: Some("postgres"),
    }),
    // A fast shutdown: clients are cut off, everything is written.
    stop: Signal::INT,
};

/// Where Debian keeps the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Passwords are asked for, so that a test of a wrong one can be one.
const ACCESS: &str = "\
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
";

/// For a server that is not yet reachable by anybody.
const FIRST_STATEMENTS: &str = "\
ALTER USER postgres PASSWORD 'tidings';
CREATE DATABASE tidings;
";

/// Everything else is as installed; above all, `fsync` stays on.
const SETTINGS: [&str; 6] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "wal_level=logical",
    "max_connections=200",
    "log_min_messages=warning",
    "ssl=on",
];

/// The folder with the programs of the newest version.
fn programs() -> Option<PathBuf> {
    let newest = fs::read_dir(VERSIONS)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let folder = entry.path().join("bin");
            folder.join("initdb").is_file().then_some((version, folder))
        })
        .max();
    match newest {
        Some((_, folder)) => Some(folder),
        None => Some(install::program("initdb")?.parent()?.to_path_buf()),
    }
}

fn required(name: &str) -> Result<PathBuf, Failure> {
    let programs = programs().ok_or_else(|| Failure::new("PostgreSQL is not installed"))?;
    Ok(programs.join(name))
}

fn create(site: &Site, data: &Path) -> Result<(), Failure> {
    let mut initdb = site.command(required("initdb")?);
    initdb
        .args(["--username=postgres", "--auth=trust", "--encoding=UTF8"])
        .args(["--locale=C.UTF-8", "--no-sync", "--pgdata"])
        .arg(data);
    child::quietly(&mut initdb)?;
    let access = data.join("pg_hba.conf");
    fs::write(&access, ACCESS).map_err(|cause| Failure::file("write", &access, &cause))?;
    prepare(site, data)
}

/// The server without a network takes statements from its input.
fn prepare(site: &Site, data: &Path) -> Result<(), Failure> {
    let failed = |cause: &std::io::Error| Failure::file("prepare", data, cause);
    let mut single = site
        .command(required("postgres")?)
        .args(["--single", "-D"])
        .arg(data)
        .arg("postgres")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|cause| failed(&cause))?;
    if let Some(mut input) = single.stdin.take() {
        input
            .write_all(FIRST_STATEMENTS.as_bytes())
            .map_err(|cause| failed(&cause))?;
    }
    let output = single.wait_with_output().map_err(|cause| failed(&cause))?;
    let said = String::from_utf8_lossy(&output.stderr);
    // A statement that fails does not end it.
    if output.status.success() && !said.contains("ERROR:") {
        return Ok(());
    }
    Err(Failure::new(format!(
        "`postgres --single` failed ({}):\n{said}",
        output.status
    )))
}

/// After a crash its pid file names a process that may be anybody's by now; nobody works in the folder any more.
fn mend(site: &Site) -> Result<(), Failure> {
    process::wait_for_leftovers(&site.data(), "postgres")?;
    let stale = site.data().join("postmaster.pid");
    match fs::remove_file(&stale) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::file("remove", &stale, &cause))
        }
        _ => Ok(()),
    }
}

/// Certificate and key in the data folder, under the names that the server looks for; it takes no key that anybody else owns.
fn present_certificate(site: &Site) -> Result<(), Failure> {
    let made = tls::certificates(site)?;
    for (from, name) in [(&made.certificate, "server.crt"), (&made.key, "server.key")] {
        let path = site.data().join(name);
        fs::copy(from, &path).map_err(|cause| Failure::file("write", &path, &cause))?;
        site.hand_over(&path, 0o600)?;
    }
    Ok(())
}

fn start(site: &Site) -> Result<Command, Failure> {
    present_certificate(site)?;
    let mut postgres = Command::new(required("postgres")?);
    postgres
        .arg("-D")
        .arg(site.data())
        .args(["-p", &site.port.to_string()]);
    for setting in SETTINGS {
        postgres.args(["-c", setting]);
    }
    Ok(postgres)
}

/// The server asks for a password, or lets in, once it is ready; before that it answers with an error.
fn answer(url: &str) -> Result<Option<String>, String> {
    let mut stream = connection::open(url, 5432)?;
    let io = |cause: std::io::Error| cause.to_string();
    stream.write_all(&startup_message()).map_err(io)?;
    let mut kind = [0];
    stream.read_exact(&mut kind).map_err(io)?;
    if kind != *b"R" {
        let mut message = [0; 512];
        let length = stream.read(&mut message).map_err(io)?;
        return Err(connection::readable(&message[..length]));
    }
    Ok(version(url))
}

/// Protocol 3.0 and whom we claim to be.
fn startup_message() -> Vec<u8> {
    let words = b"user\0postgres\0database\0postgres\0\0";
    let length = u32::try_from(words.len() + 8).unwrap_or(u32::MAX);
    let mut message = length.to_be_bytes().to_vec();
    message.extend([0, 3, 0, 0]);
    message.extend(words);
    message
}

/// Told only to who knows the password, so its own client asks; nothing if there is none on this machine.
fn version(url: &str) -> Option<String> {
    let output = Command::new(required("psql").ok()?)
        .args([url, "-AtXc", "SHOW server_version"])
        .env("PGCONNECT_TIMEOUT", "5")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    Some(said.split_whitespace().next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_startup_message_counts_itself() {
        let message = startup_message();

        assert_eq!(
            message[..4],
            u32::try_from(message.len()).expect("short").to_be_bytes()
        );
        assert_eq!(message.last(), Some(&0));
    }
}
