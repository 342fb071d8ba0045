//! The C++ compiler that libFuzzer is built with: found, or installed where that needs nobody's consent, or asked for.

use std::path::Path;
use std::process::{Command, Stdio};

/// Makes sure that there is one. The error ends the sentence that begins with what is skipped.
pub(super) fn ensure() -> Result<(), String> {
    if answers("c++") {
        return Ok(());
    }
    let wanted = "libFuzzer needs a C++ compiler named c++: install g++ or clang";
    if !Path::new("/etc/debian_version").exists() || !is_root() {
        return Err(wanted.to_owned());
    }
    println!("there is no C++ compiler: installing g++ with apt-get");
    let installed = Command::new("apt-get")
        .args([
            "install",
            "--yes",
            "--quiet",
            "--no-install-recommends",
            "g++",
        ])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null())
        .status();
    if installed.is_ok_and(|status| status.success()) && answers("c++") {
        Ok(())
    } else {
        Err(format!("{wanted} (apt-get could not)"))
    }
}

fn answers(compiler: &str) -> bool {
    Command::new(compiler)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
