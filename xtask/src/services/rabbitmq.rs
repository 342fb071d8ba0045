//! RabbitMQ, as Debian packages it: one node, AMQP in clear and over TLS, ended with the epmd that it leaves behind.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::failure::Failure;
use crate::services::connection;
use crate::services::install;
use crate::services::server::{Secured, Server};
use crate::services::site::Site;
use crate::services::tls;

pub(super) const SERVER: Server = Server {
    name: "rabbitmq",
    variable: "TIDINGS_TEST_RABBITMQ_URL",
    port: 16672,
    user: None,
    needed_by_tests: true,
    version: None,
    is_installed: |_| Path::new(SCRIPT).is_file() && install::program("openssl").is_some(),
    install: |_| {
        tls::install()?;
        install::packages(&["rabbitmq-server"])
    },
    create: |_, _| Ok(()),
    mend: |_| Ok(()),
    start,
    url: |site| format!("amqp://tidings:tidings@127.0.0.1:{}", site.port),
    answer,
    is_secure: false,
    secured: Some(Secured {
        name: "rabbitmq-tls",
        variable: "TIDINGS_TEST_RABBITMQ_TLS_URL",
        url: |site| format!("amqps://tidings:tidings@127.0.0.1:{}", secure_port(site)),
        begins_as: None,
    }),
    stop: Signal::TERM,
};

/// The one of the search path changes to another user.
const SCRIPT: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// Each password is the name. `reader` may neither declare nor publish.
const DEFINITIONS: &str = r#"{
  "vhosts": [{"name": "/"}],
  "users": [
    {"name": "tidings", "tags": "administrator", "hashing_algorithm": "rabbit_password_hashing_sha256",
     "password_hash": "dGlkaUG7n/kaQ89kvyXjVhKA+onIm5bImUnO8H1HSuCoDRVV"},
    {"name": "reader", "tags": "", "hashing_algorithm": "rabbit_password_hashing_sha256",
     "password_hash": "cmVhZG4/9K0HrCe1E7JRe9L5ZzqU8xVoJAveVWU3oYQ1/KV5"}
  ],
  "permissions": [
    {"user": "tidings", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
    {"user": "reader", "vhost": "/", "configure": "", "write": "", "read": ".*"}
  ]
}
"#;

fn secure_port(site: &Site) -> u16 {
    site.port + 1
}

fn start(site: &Site) -> Result<Command, Failure> {
    let made = tls::certificates(site)?;
    let definitions = site.folder.join("definitions.json");
    let configuration = site.folder.join("rabbitmq.conf");
    let plugins = site.folder.join("enabled_plugins");
    let settings = [
        format!("listeners.tcp.1 = 127.0.0.1:{}", site.port),
        format!("listeners.ssl.1 = 127.0.0.1:{}", secure_port(site)),
        format!("ssl_options.cacertfile = {}", made.authority.display()),
        format!("ssl_options.certfile = {}", made.certificate.display()),
        format!("ssl_options.keyfile = {}", made.key.display()),
        "ssl_options.verify = verify_none".to_owned(),
        format!("load_definitions = {}\n", definitions.display()),
    ];
    for (path, text) in [
        (&definitions, DEFINITIONS),
        (&configuration, &settings.join("\n")),
        (&plugins, "[].\n"),
    ] {
        fs::write(path, text).map_err(|cause| Failure::file("write", path, &cause))?;
    }
    let mut rabbitmq = Command::new(SCRIPT);
    rabbitmq
        .env("HOME", site.data())
        .env("RABBITMQ_NODENAME", "tidings@localhost")
        .env("RABBITMQ_CONFIG_FILE", configuration)
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
        .env("RABBITMQ_MNESIA_BASE", site.data())
        .env("RABBITMQ_LOG_BASE", &site.folder)
        .env("RABBITMQ_LOGS", "-")
        // What nodes of a cluster would talk through stays on loopback too.
        .env("RABBITMQ_DIST_PORT", (site.port + 2).to_string())
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1}",
        )
        .env("ERL_EPMD_PORT", (site.port + 3).to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1");
    Ok(rabbitmq)
}

/// The client names the protocol, the server answers with what it is; it listens only when all else has started.
fn answer(url: &str) -> Result<Option<String>, String> {
    let mut stream = connection::open(url, 5672)?;
    let io = |cause: std::io::Error| cause.to_string();
    stream.write_all(b"AMQP\x00\x00\x09\x01").map_err(io)?;
    let mut header = [0; 7];
    stream.read_exact(&mut header).map_err(io)?;
    let length = u32::from_be_bytes([header[3], header[4], header[5], header[6]]);
    let mut method = Vec::new();
    stream
        .take(length.into())
        .read_to_end(&mut method)
        .map_err(io)?;
    const CONNECTION_START: [u8; 4] = [0, 10, 0, 10];
    if header[0] != 1 || !method.starts_with(&CONNECTION_START) {
        return Err(format!("no AMQP 0-9-1: {}", connection::readable(&method)));
    }
    Ok(version(&method))
}

/// A short string names the property, a long string is its value.
fn version(properties: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"\x07versionS";
    let at = properties
        .windows(NAME.len())
        .position(|window| window == NAME)?;
    let (length, rest) = properties.get(at + NAME.len()..)?.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    Some(connection::readable(rest.get(..length)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_among_the_properties() {
        let properties = b"\x07productS\0\0\0\x08RabbitMQ\x07versionS\0\0\0\x063.10.8\x04rest";

        assert_eq!(version(properties).as_deref(), Some("3.10.8"));
        assert_eq!(version(b"\x07versionS\0\0\0\x50cut"), None);
    }
}
