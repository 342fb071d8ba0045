//! Child processes: cargo and what it built, run from the root with one target directory.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::Failure;
use crate::house::House;

/// Cargo in the root of the house, the same cargo that runs xtask.
pub(crate) fn cargo(house: &House) -> Command {
    let mut command = Command::new(cargo_binary());
    command
        .current_dir(&house.root)
        .env("CARGO_TARGET_DIR", &house.target)
        .envs(house.variables.iter().map(|(name, value)| (name, value)))
        // A snapshot that differs is a failed test, never a rewritten file.
        .env("INSTA_UPDATE", "no");
    command
}

#[expect(
    clippy::disallowed_methods,
    reason = "cargo names itself in this variable; it is no configuration of ours"
)]
fn cargo_binary() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// The place of this program. A build of the workspace may have put a new one there meanwhile, which Linux tells by a suffix.
fn as_it_is_now(path: &Path) -> PathBuf {
    let text = path.to_string_lossy();
    text.strip_suffix(" (deleted)")
        .map_or_else(|| path.to_path_buf(), PathBuf::from)
}

/// Where this program is, to be started again.
pub(crate) fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map(|path| as_it_is_now(&path))
        .map_err(|cause| Failure::new(format!("cannot find this program: {cause}")))
}

/// Runs to the end; the child speaks on our terminal.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let status = command
        .status()
        .map_err(|cause| cannot_start(command, &cause))?;
    if status.success() {
        Ok(())
    } else {
        Err(ended_badly(command, &status.to_string()))
    }
}

/// Runs to the end without a word and returns what it wrote to stdout; all that it said is told if it fails.
pub(crate) fn quietly(command: &mut Command) -> Result<String, Failure> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|cause| cannot_start(command, &cause))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Failure::new(format!(
        "{}:\n{}",
        ended_badly(command, &output.status.to_string()),
        String::from_utf8_lossy(&said).trim_end()
    )))
}

/// Runs to the end and returns what it wrote to stdout; stderr goes to our terminal.
pub(crate) fn capture(command: &mut Command) -> Result<String, Failure> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|cause| cannot_start(command, &cause))?;
    if !output.status.success() {
        print!("{}", String::from_utf8_lossy(&output.stdout));
        return Err(ended_badly(command, &output.status.to_string()));
    }
    String::from_utf8(output.stdout).map_err(|_| {
        Failure::new(format!(
            "{} printed bytes that are not UTF-8",
            line_of(command)
        ))
    })
}

/// Runs to the end and hands over each line of stdout as it comes. `true` means success.
pub(crate) fn each_line(
    command: &mut Command,
    mut on_line: impl FnMut(&str),
) -> Result<bool, Failure> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|cause| cannot_start(command, &cause))?;
    if let Some(stdout) = child.stdout.take() {
        // Tests may print any bytes: split at line feeds, then read what can be read.
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.map_err(|cause| cannot_start(command, &cause))?;
            on_line(String::from_utf8_lossy(&line).trim_end_matches('\r'));
        }
    }
    let status = child
        .wait()
        .map_err(|cause| cannot_start(command, &cause))?;
    Ok(status.success())
}

/// The command as a person would type it.
pub(crate) fn line_of(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(OsStr::new("?"));
    std::iter::once(name)
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

fn cannot_start(command: &Command, cause: &std::io::Error) -> Failure {
    Failure::new(format!("cannot run `{}`: {cause}", line_of(command)))
}

fn ended_badly(command: &Command, status: &str) -> Failure {
    Failure::new(format!("`{}` failed ({status})", line_of(command)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_built_anew_is_found_where_it_was() {
        let here = Path::new("/target/debug/xtask");

        assert_eq!(as_it_is_now(here), here);
        assert_eq!(
            as_it_is_now(Path::new("/target/debug/xtask (deleted)")),
            here
        );
    }

    #[test]
    fn a_failing_child_is_named_with_its_arguments() {
        let failure = run(Command::new("false").arg("--now")).expect_err("false fails");

        assert!(
            failure.to_string().contains("`false --now` failed"),
            "{failure}"
        );
    }

    #[test]
    fn a_missing_program_is_named() {
        let failure = run(&mut Command::new("/nowhere/tool")).expect_err("cannot start");

        assert!(
            failure.to_string().contains("cannot run `tool`"),
            "{failure}"
        );
    }

    #[test]
    fn lines_arrive_one_by_one_even_when_they_are_not_utf8() {
        let mut lines = Vec::new();

        let ok = each_line(Command::new("printf").arg("one\\n\\377\\nthree"), |line| {
            lines.push(line.to_owned());
        });

        assert!(ok.expect("runs"));
        assert_eq!(lines, ["one", "\u{fffd}", "three"]);
    }
}
