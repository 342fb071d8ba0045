//! Installs what a server needs, where that is allowed: Debian's packages as root, what else below target/services.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use crate::child;
use crate::failure::Failure;
use crate::services::site;

/// Where programs are that are not on everybody's search path.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// The list of packages is fetched once a run.
static LISTED: Once = Once::new();

/// Debian's packages; elsewhere a sentence that names them.
pub(super) fn packages(packages: &[&str]) -> Result<(), Failure> {
    let named = packages.join(" ");
    if !Path::new("/etc/debian_version").exists() {
        return Err(Failure::new(format!(
            "it is not installed; Debian calls the packages {named}"
        )));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new(format!(
            "it is not installed; as root: apt-get install --no-install-recommends {named}"
        )));
    }
    println!("installing Debian's {named}");
    LISTED.call_once(|| {
        if let Err(failure) = child::quietly(&mut apt(&["update"])) {
            println!("{failure}; the list on this machine is used");
        }
    });
    let mut install = apt(&["install", "--yes", "--no-install-recommends"]);
    child::quietly(install.args(packages)).map(drop)
}

/// What the C parts of our dependencies are compiled against: Kafka's client wants OpenSSL.
pub(crate) fn libraries() -> Result<(), Failure> {
    let has_openssl = Command::new("pkg-config")
        .args(["--exists", "openssl"])
        .status()
        .is_ok_and(|status| status.success());
    if has_openssl {
        return Ok(());
    }
    packages(&["libssl-dev", "pkg-config"])
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["--quiet", "-o", "DPkg::Lock::Timeout=120"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Packages of the Python package index, in an environment of their own.
pub(super) fn python(folder: &Path, wanted: &[&str]) -> Result<(), Failure> {
    let has_python = Command::new("python3")
        .args(["-c", "import ensurepip, venv"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_python {
        packages(&["python3-venv"])?;
    }
    whole(folder, |folder| {
        println!("installing {} with pip", wanted.join(" "));
        child::quietly(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        let mut pip = Command::new(folder.join("bin").join("python"));
        pip.args(["-m", "pip", "install", "--quiet"]).args(wanted);
        child::quietly(&mut pip).map(drop)
    })
}

/// Says that a folder was filled to the end.
const WHOLE: &str = ".whole";

pub(super) fn is_whole(folder: &Path) -> bool {
    folder.join(WHOLE).exists()
}

/// Fills a folder unless that was done; what an interrupted run left is done anew, two at a time are one.
pub(super) fn whole(
    folder: &Path,
    fill: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let lock = folder.with_added_extension("lock");
    let held = File::create(&lock).map_err(|cause| Failure::file("create", &lock, &cause))?;
    held.lock()
        .map_err(|cause| Failure::file("lock", &lock, &cause))?;
    if is_whole(folder) {
        return Ok(());
    }
    site::remove_folder(folder)?;
    site::create_folder(folder)?;
    fill(folder)?;
    let mark = folder.join(WHOLE);
    fs::write(&mark, "").map_err(|cause| Failure::file("write", &mark, &cause))
}

/// A program of the search path or of the system's folders.
#[expect(
    clippy::disallowed_methods,
    reason = "the search path is the system's, no configuration of ours"
)]
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// The program, or the sentence that it is missing.
pub(super) fn required(name: &str) -> Result<PathBuf, Failure> {
    program(name).ok_or_else(|| Failure::new(format!("{name} is not installed")))
}
