//! The gate of cargo-deny: licences, sources, doubled and banned crates, all without a network.
//!
//! If the machine has no cargo-deny, it is built once into the target directory.

use std::path::PathBuf;
use std::process::Command;

use crate::child;
use crate::failure::Failure;
use crate::house::House;
use crate::test::tally::Tally;
use crate::test::{Options, Verdict};

const VERSION: &str = "0.20.2";

/// Built for a short build, not for speed: it looks at our tree in a second either way.
const BUILD_PROFILE: [(&str, &str); 4] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
];

pub(super) fn check(house: &House, _: &Options) -> Verdict {
    let mut command = Command::new(tool(house)?);
    command
        .current_dir(&house.root)
        .args([
            "--offline",
            "--workspace",
            "check",
            "--hide-inclusion-graph",
        ])
        .args(["bans", "licenses", "sources"]);
    child::run(&mut command)?;
    Ok(Tally::default())
}

/// cargo-deny of the machine, or ours; builds ours if there is neither.
fn tool(house: &House) -> Result<PathBuf, Failure> {
    let on_the_path = PathBuf::from("cargo-deny");
    if answers(&on_the_path) {
        return Ok(on_the_path);
    }
    let tools = house.target.join("tools");
    let ours = tools.join("bin").join("cargo-deny");
    if answers(&ours) {
        return Ok(ours);
    }
    println!(
        "cargo-deny is not installed: building {VERSION} once into {} (about a minute on two cores)",
        tools.display()
    );
    let mut install = child::cargo(house);
    install
        .args([
            "install",
            "--locked",
            "--quiet",
            "--version",
            VERSION,
            "--root",
        ])
        .arg(&tools)
        .arg("cargo-deny")
        .env("CARGO_TARGET_DIR", tools.join("build"))
        .envs(BUILD_PROFILE);
    child::run(&mut install)?;
    // Only the binary is needed again; what is left of its build is a third of a gigabyte.
    std::fs::remove_dir_all(tools.join("build"))
        .map_err(|cause| Failure::file("remove", &tools.join("build"), &cause))?;
    Ok(ours)
}

fn answers(tool: &PathBuf) -> bool {
    Command::new(tool)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}
