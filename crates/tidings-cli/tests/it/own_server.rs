//! A server of one test, which it may kill: on ports and in a folder of its own, started by `cargo xtask services`.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A server that is stopped when it is dropped.
pub(crate) struct OwnServer {
    name: &'static str,
    folder: tempfile::TempDir,
    port_shift: u16,
}

impl OwnServer {
    /// Starts a server of that name; `port_shift` is added to the ports that the run's own servers have, so that tests at the same time do not meet.
    pub(crate) fn start(name: &'static str, port_shift: u16) -> Self {
        let server = Self {
            name,
            folder: tempfile::tempdir().unwrap(),
            port_shift,
        };
        share_tools(server.folder.path());
        server.up();
        server
    }

    /// Starts it again.
    pub(crate) fn up(&self) {
        self.services(&["up", self.name]);
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        self.services(&["kill", "-9", self.name]);
    }

    /// Stops it in good order and starts it again.
    pub(crate) fn restart(&self) {
        self.services(&["restart", self.name]);
    }

    pub(crate) fn url(&self) -> String {
        let status = self.services(&["status", "-o", "json", self.name]);
        let status: Value = serde_json::from_str(&status).unwrap();
        status[0]["url"].as_str().unwrap().to_owned()
    }

    /// `cargo xtask services` at a place of its own.
    fn services(&self, arguments: &[&str]) -> String {
        let shift = std::env::var("TIDINGS_SERVICES_PORT_SHIFT").unwrap_or_default();
        let shift = shift.parse().unwrap_or(0) + self.port_shift;
        let mut command = xtask();
        for variable in ["POSTGRES", "MYSQL", "RABBITMQ", "NATS", "KAFKA", "AWS"] {
            // These name the servers of the other tests.
            command.env_remove(format!("TIDINGS_TEST_{variable}_URL"));
        }
        let output = command
            .arg("services")
            .args(arguments)
            .env("TIDINGS_SERVICES_DIR", self.folder.path())
            .env("TIDINGS_SERVICES_PORT_SHIFT", u16::to_string(&shift))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.services(&["down", self.name]);
    }
}

/// The program itself where it is named: cargo waits for other builds.
fn xtask() -> Command {
    if let Some(program) = std::env::var_os("TIDINGS_XTASK") {
        return Command::new(program);
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--package", "xtask", "--"]);
    cargo
}

/// What is installed for the other servers need not be installed again.
fn share_tools(own: &Path) {
    let usual = std::env::var_os("TIDINGS_SERVICES_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/services"),
        PathBuf::from,
    );
    for entry in std::fs::read_dir(usual).into_iter().flatten().flatten() {
        if entry.path().join(".whole").exists() {
            let link = own.join(entry.file_name());
            std::os::unix::fs::symlink(entry.path(), link).unwrap();
        }
    }
}
