//! A chore that runs beside the tests, as a process of its own: tests mostly wait, and leave the processors to compilers. What it says is told at its turn.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::child;
use crate::failure::Failure;
use crate::house::House;

/// A chore that is running.
#[derive(Debug)]
pub(super) struct Beside {
    chore: &'static str,
    child: Child,
    said: PathBuf,
}

impl Beside {
    /// Starts a chore of this program.
    pub(super) fn start(house: &House, chore: &'static str) -> Result<Beside, Failure> {
        let said = house.target.join(format!("{chore}.log"));
        let output = File::create(&said).map_err(|cause| Failure::file("write", &said, &cause))?;
        let errors = output
            .try_clone()
            .map_err(|cause| Failure::file("write", &said, &cause))?;
        let child = Command::new(child::this_program()?)
            .current_dir(&house.root)
            .env("CARGO_TARGET_DIR", &house.target)
            .arg(chore)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|cause| Failure::new(format!("cannot run `cargo xtask {chore}`: {cause}")))?;
        Ok(Beside { chore, child, said })
    }

    /// Waits for its end and answers what it said, which is printed as well; how it ended is told there.
    pub(super) fn end(mut self) -> Result<String, Failure> {
        let ended = self.child.wait();
        ended.map_err(|cause| {
            Failure::new(format!(
                "cannot wait for `cargo xtask {}`: {cause}",
                self.chore
            ))
        })?;
        let said = fs::read(&self.said);
        let said = said.map_err(|cause| Failure::file("read", &self.said, &cause))?;
        let said = String::from_utf8_lossy(&said).into_owned();
        print!("{said}");
        Ok(said)
    }
}
