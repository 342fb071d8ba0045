//! A server that can be neither found nor installed runs in a container: Docker is a stand-in here that only notes what it is told.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::own_port::own_port;

const PORT: u16 = 14222;

/// Notes its arguments; `up` returns once the server listens.
const DOCKER: &str = r#"#!/bin/sh
echo "$*" >> "$FOLDER/told"
case "$*" in
  *"config --services") echo nats ;;
  *"up --detach nats") read bound < "$FOLDER/gate" ;;
esac
"#;

/// What a NATS server says first, to everyone who comes.
fn serve(gate: &Path, port: u16) {
    // Opening the gate waits until the stand-in waits at it.
    let mut gate = fs::OpenOptions::new()
        .write(true)
        .open(gate)
        .expect("the gate");
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port");
    gate.write_all(b"bound\n").expect("told");
    for stream in listener.incoming() {
        let greeting = b"INFO {\"version\":\"2.15.1\",\"jetstream\":true}\r\n";
        // Who only looks whether the port is taken may be gone already.
        let _ = stream.and_then(|mut stream| stream.write_all(greeting));
    }
}

#[test]
fn a_server_that_cannot_be_installed_runs_in_a_container() {
    let folder = tempfile::tempdir().expect("a folder");
    let docker = folder.path().join("docker");
    fs::write(&docker, DOCKER).expect("written");
    fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).expect("runnable");
    let gate = folder.path().join("gate");
    let made = Command::new("mkfifo").arg(&gate).status().expect("runs");
    assert!(made.success());
    let port = own_port();
    std::thread::spawn(move || serve(&gate, port));
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .arg("services")
            .args(arguments)
            // Nothing but the stand-in can be found: no Python, no apt-get.
            .env("PATH", folder.path())
            .env("FOLDER", folder.path())
            .env("TIDINGS_SERVICES_DIR", folder.path().join("services"))
            .env("TIDINGS_SERVICES_PORT_SHIFT", (port - PORT).to_string())
            .env_remove("TIDINGS_TEST_NATS_URL")
            .output()
            .expect("runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    };

    let up = run(&["up", "nats"]);
    let status = run(&["status", "nats"]);
    run(&["kill", "-9", "nats"]);
    run(&["down", "nats"]);

    assert!(up.contains("up after"), "{up}");
    assert!(status.contains("2.15.1"), "{status}");
    let told = fs::read_to_string(folder.path().join("told")).expect("noted");
    let compose = concat!(env!("CARGO_MANIFEST_DIR"), "/../compose.yaml");
    let compose = fs::canonicalize(compose).expect("it is there");
    let commands: Vec<String> = ["up --detach", "kill", "stop"]
        .iter()
        .map(|command| format!("compose --file {} {command} nats", compose.display()))
        .collect();
    let noted: Vec<&str> = told
        .lines()
        .filter(|line| line.ends_with(" nats"))
        .collect();
    assert_eq!(noted, commands);
}
