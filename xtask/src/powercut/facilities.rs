//! What the rig needs of the machine, looked for before the run; qemu is installed where that is allowed.

use std::path::Path;
use std::process::Command;

use crate::child;

const PROGRAMS: [&str; 6] = [
    "unshare",
    "mount",
    "umount",
    "losetup",
    "mkfs.ext4",
    "e2fsck",
];
const DEVICES: [&str; 2] = ["/dev/fuse", "/dev/loop-control"];
const DAEMON: &str = "qemu-storage-daemon";
/// Since Debian 13 the daemon is in another package.
const PACKAGES: [&str; 2] = ["qemu-system-common", "qemu-utils"];

/// Why there can be no power cuts here; nothing if there can.
pub(super) fn missing() -> Option<String> {
    if cfg!(not(target_os = "linux")) {
        return Some("it needs Linux".to_owned());
    }
    if !is_root() {
        return Some("it needs root, for mounts and loop devices".to_owned());
    }
    if let Some(device) = DEVICES.iter().find(|device| !Path::new(device).exists()) {
        return Some(format!("{device} does not exist"));
    }
    if let Some(program) = PROGRAMS.iter().find(|program| !answers(program)) {
        return Some(format!("{program} is not installed"));
    }
    if !answers(DAEMON) {
        install();
    }
    (!answers(DAEMON)).then(|| format!("{DAEMON} is not installed"))
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    user.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

/// Whether it can be started; what it answers does not matter.
fn answers(program: &str) -> bool {
    Command::new(program).arg("-V").output().is_ok()
}

fn install() {
    if !Path::new("/etc/debian_version").exists() {
        return;
    }
    for package in PACKAGES {
        println!("{DAEMON} is not installed: installing Debian's {package}");
        let mut command = Command::new("apt-get");
        command
            .args(["install", "--yes", "--quiet", "--no-install-recommends"])
            .arg(package)
            .env("DEBIAN_FRONTEND", "noninteractive");
        if let Err(failure) = child::quietly(&mut command) {
            println!("{failure}");
        }
        if answers(DAEMON) {
            return;
        }
    }
}
