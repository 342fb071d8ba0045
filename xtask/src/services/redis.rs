//! Redis, as Debian packages it: a peer that benchmarks put next to the embedded broker. No test needs it.

use std::io::{Read, Write};
use std::process::Command;

use rustix::process::Signal;

use crate::failure::Failure;
use crate::services::connection;
use crate::services::install;
use crate::services::server::Server;
use crate::services::site::Site;

pub(super) const SERVER: Server = Server {
    name: "redis",
    variable: "TIDINGS_TEST_REDIS_URL",
    port: 16379,
    user: None,
    needed_by_tests: false,
    version: None,
    is_installed: |_| install::program(PROGRAM).is_some(),
    install: |_| install::packages(&[PROGRAM]),
    create: |_, _| Ok(()),
    mend: |_| Ok(()),
    start,
    url: |site| format!("redis://127.0.0.1:{}", site.port),
    answer,
    is_secure: false,
    secured: None,
    stop: Signal::TERM,
};

/// Debian's package is named like it.
const PROGRAM: &str = "redis-server";

/// An append-only file and no snapshots beside it; when it is flushed a benchmark sets itself.
fn start(site: &Site) -> Result<Command, Failure> {
    let mut redis = Command::new(install::required(PROGRAM)?);
    redis
        .args(["--bind", "127.0.0.1", "--port", &site.port.to_string()])
        .arg("--dir")
        .arg(site.data())
        .args(["--appendonly", "yes", "--save", "", "--daemonize", "no"]);
    Ok(redis)
}

/// It answers with its version once it has read its file.
fn answer(url: &str) -> Result<Option<String>, String> {
    let mut stream = connection::open(url, 6379)?;
    let io = |cause: std::io::Error| cause.to_string();
    stream
        .write_all(b"PING\r\nINFO server\r\nQUIT\r\n")
        .map_err(io)?;
    let mut said = String::new();
    stream.read_to_string(&mut said).map_err(io)?;
    match said.strip_prefix("+PONG") {
        Some(information) => Ok(version(information)),
        None => Err(format!(
            "no Redis: {}",
            connection::readable(said.as_bytes())
        )),
    }
}

fn version(information: &str) -> Option<String> {
    let lines = information.lines();
    let mut found = lines.filter_map(|line| line.strip_prefix("redis_version:"));
    found.next().map(|version| version.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_among_what_the_server_says_of_itself() {
        let said = "$99\r\n# Server\r\nredis_version:7.0.15\r\nredis_git_sha1:0\r\n+OK\r\n";

        assert_eq!(version(said).as_deref(), Some("7.0.15"));
        assert_eq!(version("+OK\r\n"), None);
    }
}
