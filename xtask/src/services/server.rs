//! `Server`: what is particular to each server that tests need, one constant in one file each.

use std::process::Command;

use rustix::process::Signal;

use crate::failure::Failure;
use crate::services::site::Site;
use crate::services::{kafka, mariadb, moto, nats, postgres, rabbitmq, redis};

/// All servers, in the order in which they are started.
pub(super) const ALL: &[&Server] = &[
    &postgres::SERVER,
    &mariadb::SERVER,
    &rabbitmq::SERVER,
    &nats::SERVER,
    &nats::SECURE_SERVER,
    &kafka::SERVER,
    &moto::SERVER,
    &nats::SYNCED_SERVER,
    &redis::SERVER,
];

/// A server that tests talk to.
#[derive(Debug)]
pub(super) struct Server {
    /// As on the command line.
    pub(super) name: &'static str,
    /// Names a server to use instead of one of ours.
    pub(super) variable: &'static str,
    /// Of 127.0.0.1; none that anybody uses by default. The few behind it are the server's too.
    pub(super) port: u16,
    /// The user that it runs as when we are root and it refuses root.
    pub(super) user: Option<&'static str>,
    /// Whether `cargo xtask test` starts it.
    pub(super) needed_by_tests: bool,
    /// The one that we install, where the server does not tell it itself.
    pub(super) version: Option<&'static str>,
    /// Whether everything that it needs is on this machine.
    pub(super) is_installed: fn(&Site) -> bool,
    pub(super) install: fn(&Site) -> Result<(), Failure>,
    /// Makes a data folder from nothing; called with a folder that is empty.
    pub(super) create: fn(&Site, &std::path::Path) -> Result<(), Failure>,
    /// Looks after what a killed server left in its data folder.
    pub(super) mend: fn(&Site) -> Result<(), Failure>,
    /// The server in the foreground, made by `Site::command`.
    pub(super) start: fn(&Site) -> Result<Command, Failure>,
    /// Usable as it is, credentials in it.
    pub(super) url: fn(&Site) -> String,
    /// Talks to it; answers with its version, if it tells.
    pub(super) answer: fn(&str) -> Result<Option<String>, String>,
    /// Whether a client needs the authority's certificate.
    pub(super) is_secure: bool,
    /// A further listener with TLS and passwords, or the same one where TLS is the client's choice.
    pub(super) secured: Option<Secured>,
    /// Asks it to end: everything written, nobody waited for.
    pub(super) stop: Signal,
}

/// A listener of a server with certificates of ours and passwords.
#[derive(Debug)]
pub(super) struct Secured {
    /// In the output of `status`; it starts and ends with its server.
    pub(super) name: &'static str,
    pub(super) variable: &'static str,
    pub(super) url: fn(&Site) -> String,
    /// Where a client begins in clear and asks for TLS then: the protocol, as openssl calls it.
    pub(super) begins_as: Option<&'static str>,
}

/// The server of that name.
pub(super) fn named(name: &str) -> Result<&'static Server, Failure> {
    ALL.iter()
        .copied()
        .find(|server| server.name == name)
        .ok_or_else(|| {
            Failure::new(format!(
                "no server is named {name}; there are: {}",
                names().join(", ")
            ))
        })
}

pub(super) fn names() -> Vec<&'static str> {
    ALL.iter().map(|server| server.name).collect()
}
