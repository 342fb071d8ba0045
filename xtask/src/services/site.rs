//! `Site`: where one server lives: its folder, its data, its port, its user.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::failure::Failure;
use crate::house::House;
use crate::services::server::Server;

/// How many ports behind its own a server may have.
const PORTS_BEHIND: u16 = 3;

/// Where the servers of one checkout live.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Place {
    /// Keep the servers' data here instead of in target/services of this checkout
    #[arg(
        long = "services-dir",
        value_name = "DIR",
        env = "TIDINGS_SERVICES_DIR"
    )]
    folder: Option<PathBuf>,
    /// Add this to every port, so that two checkouts can have their servers at the same time
    #[arg(
        long,
        value_name = "N",
        env = "TIDINGS_SERVICES_PORT_SHIFT",
        default_value_t = 0
    )]
    port_shift: u16,
}

/// Where one server lives.
#[derive(Debug)]
pub(super) struct Site {
    /// Log, record of the process, tools.
    pub(super) folder: PathBuf,
    pub(super) port: u16,
    /// Whom the server runs as when we are root, if not as us.
    pub(super) user: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct User {
    uid: u32,
    gid: u32,
}

impl Place {
    /// The target directory of the checkout holds the servers' data wherever cargo builds: a server is one
    /// for all processes of a checkout.
    pub(super) fn site(&self, house: &House, server: &Server) -> Result<Site, Failure> {
        let all = match &self.folder {
            Some(folder) => std::path::absolute(folder)
                .map_err(|cause| Failure::file("find", folder, &cause))?,
            None => house.path("target/services"),
        };
        let folder = all.join(server.name);
        let port = server
            .port
            .checked_add(self.port_shift)
            .filter(|port| port.checked_add(PORTS_BEHIND).is_some())
            .ok_or_else(|| {
                Failure::new(format!(
                    "--port-shift {} makes {}'s ports larger than 65535",
                    self.port_shift, server.name
                ))
            })?;
        Ok(Site {
            folder,
            port,
            user: server.user,
        })
    }
}

impl Site {
    /// What `--fresh` removes; in the server's folder if its user can reach that.
    pub(super) fn data(&self) -> PathBuf {
        match self.user() {
            Some(_) if !is_open_to_all(&self.folder) => {
                beside_the_checkout(&self.folder).join("data")
            }
            _ => self.folder.join("data"),
        }
    }

    /// Asked each time: the server's installation may have just made it.
    fn user(&self) -> Option<User> {
        let name = self.user?;
        rustix::process::geteuid().is_root().then_some(())?;
        user_named(name)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Which process is the server.
    pub(super) fn record(&self) -> PathBuf {
        self.folder.join("process")
    }

    /// A program of the server, run in its folder as its user.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.data().parent().unwrap_or(&self.folder));
        if let Some(user) = self.user() {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    /// An empty folder beside the data, which the server may write to.
    pub(super) fn create_owned(&self, folder: &Path) -> Result<(), Failure> {
        create_folder(folder)?;
        require_ours(folder.parent().unwrap_or(folder))?;
        self.hand_over(folder, 0o700)
    }

    /// Makes a file or folder the server's own, with these permissions.
    pub(super) fn hand_over(&self, path: &Path, mode: u32) -> Result<(), Failure> {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(|cause| Failure::file("close", path, &cause))?;
        let Some(user) = self.user() else {
            return Ok(());
        };
        std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid))
            .map_err(|cause| Failure::file("hand over", path, &cause))
    }
}

pub(super) fn create_folder(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|cause| Failure::file("create", folder, &cause))
}

/// Removes a folder with everything in it; fine if there is none.
pub(super) fn remove_folder(folder: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(folder) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::file("remove", folder, &cause))
        }
        _ => Ok(()),
    }
}

fn user_named(name: &str) -> Option<User> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some(name);
        let uid = fields.nth(1).and_then(|field| field.parse().ok());
        let gid = fields.next().and_then(|field| field.parse().ok());
        is_it.then_some(User {
            uid: uid?,
            gid: gid?,
        })
    })
}

/// Whether another user can reach what is in it: a checkout below a closed home is not reachable.
fn is_open_to_all(folder: &Path) -> bool {
    folder.ancestors().all(|ancestor| {
        fs::metadata(ancestor).is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
    })
}

/// A folder below the system's temporary one, named after the one that is closed.
fn beside_the_checkout(folder: &Path) -> PathBuf {
    let name = folder.to_string_lossy().replace('/', "-");
    std::env::temp_dir().join(format!("tidings-services{name}"))
}

/// Anybody may make a folder of any name below the system's temporary one; only ours will do.
fn require_ours(folder: &Path) -> Result<(), Failure> {
    let found =
        fs::symlink_metadata(folder).map_err(|cause| Failure::file("read", folder, &cause))?;
    if found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{} belongs to somebody else: remove it, or name another folder with TIDINGS_SERVICES_DIR",
        folder.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_below_a_closed_one_is_not_open_to_all() {
        let closed = tempfile::tempdir().expect("a folder");
        let below = closed.path().join("checkout");
        create_folder(&below).expect("created");

        fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).expect("closed");

        assert!(!is_open_to_all(&below));
        assert!(is_open_to_all(Path::new("/")));
    }

    #[test]
    fn root_is_a_user_of_every_unix() {
        assert_eq!(user_named("root"), Some(User { uid: 0, gid: 0 }));
        assert_eq!(user_named("nobody of this name"), None);
    }
}
