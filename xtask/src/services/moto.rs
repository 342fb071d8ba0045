//! moto, from the Python package index: SNS, SQS and EventBridge in memory. It is not AWS, and keeps nothing over a restart.
//!
//! It is started behind a door of ours, without which it would lose messages and hand some out twice.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use crate::failure::Failure;
use crate::services::connection;
use crate::services::install;
use crate::services::server::Server;
use crate::services::site::Site;

pub(super) const SERVER: Server = Server {
    name: "moto",
    variable: "TIDINGS_TEST_AWS_URL",
    port: 15555,
    user: None,
    needed_by_tests: true,
    version: Some(VERSION),
    is_installed: |site| install::is_whole(&tools(site)),
    install: |site| {
        let moto = format!("moto[events,sns,sqs]=={VERSION}");
        install::python(&tools(site), &[&moto, "flask", "flask-cors"])
    },
    create: |_, _| Ok(()),
    mend: |_| Ok(()),
    start,
    url: |site| format!("http://127.0.0.1:{}", site.port),
    answer,
    is_secure: false,
    secured: None,
    stop: Signal::TERM,
};

const VERSION: &str = "5.2.5";
const DOOR: &str = include_str!("moto_door.py");

fn tools(site: &Site) -> PathBuf {
    site.folder.with_file_name(format!("moto-{VERSION}"))
}

fn start(site: &Site) -> Result<Command, Failure> {
    let door = site.folder.join("moto_door.py");
    fs::write(&door, DOOR).map_err(|cause| Failure::file("write", &door, &cause))?;
    let mut moto = Command::new(tools(site).join("bin").join("python"));
    moto.arg(door).args(["127.0.0.1", &site.port.to_string()]);
    Ok(moto)
}

/// Any answer will do: AWS itself answers this request with a refusal.
fn answer(url: &str) -> Result<Option<String>, String> {
    let mut stream = connection::open(url, 80)?;
    let io = |cause: std::io::Error| cause.to_string();
    stream
        .write_all(b"GET /moto-api/ HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .map_err(io)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).map_err(io)?;
    if line.starts_with("HTTP/1.") {
        Ok(None)
    } else {
        Err(format!(
            "no HTTP: {}",
            connection::readable(line.as_bytes())
        ))
    }
}
