//! A server in a container of compose.yaml, where it can be neither found nor installed and Docker Compose runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::child;
use crate::failure::Failure;
use crate::services::site::Site;

/// One service of the file.
#[derive(Debug)]
pub(super) struct Container<'a> {
    /// compose.yaml.
    pub(super) file: &'a Path,
    pub(super) name: &'static str,
    pub(super) site: &'a Site,
}

impl Container<'_> {
    /// Whether the server was started in one; it then stays in one until it is begun afresh.
    pub(super) fn is_chosen(&self) -> bool {
        self.mark().exists()
    }

    fn mark(&self) -> PathBuf {
        self.site.folder.join("container")
    }

    /// Whether Docker Compose is there and knows the server.
    pub(super) fn is_possible(&self) -> bool {
        self.compose(&["config", "--services"])
            .is_ok_and(|services| services.lines().any(|line| line == self.name))
            && child::quietly(Command::new("docker").arg("info")).is_ok()
    }

    pub(super) fn up(&self) -> Result<(), Failure> {
        self.compose(&["up", "--detach", self.name])?;
        let mark = self.mark();
        fs::write(&mark, "").map_err(|cause| Failure::file("write", &mark, &cause))
    }

    pub(super) fn stop(&self) -> Result<(), Failure> {
        self.compose(&["stop", self.name]).map(drop)
    }

    pub(super) fn kill(&self) -> Result<(), Failure> {
        self.compose(&["kill", self.name]).map(drop)
    }

    /// Removes it with its data.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        self.compose(&["rm", "--stop", "--force", "--volumes", self.name])?;
        let mark = self.mark();
        fs::remove_file(&mark).map_err(|cause| Failure::file("remove", &mark, &cause))
    }

    fn compose(&self, arguments: &[&str]) -> Result<String, Failure> {
        let port = format!("TIDINGS_{}_PORT", self.name.to_uppercase());
        let mut docker = Command::new("docker");
        docker
            .args(["compose", "--file"])
            .arg(self.file)
            .args(arguments)
            .env(port, self.site.port.to_string());
        child::quietly(&mut docker)
    }
}
