//! The tests of one package in the copy: built by cargo, run apart from it, so that one that hangs can be stopped.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cargo_metadata::Message;

use crate::child;
use crate::failure::Failure;
use crate::house::House;
use crate::stopwatch::Stopwatch;
use crate::test::tally::Tally;

/// Whose tests have to find a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Package {
    /// The tests of `tests/it` of `tidings-log`.
    Log,
    /// The unit tests of `tidings-flow`.
    Flow,
    /// The tests of `tests/it` of `tidings-sql` that need no server.
    Sql,
}

impl Package {
    pub(super) const ALL: [Package; 3] = [Package::Log, Package::Flow, Package::Sql];

    pub(super) fn name(self) -> &'static str {
        match self {
            Package::Log => "tidings-log",
            Package::Flow => "tidings-flow",
            Package::Sql => "tidings-sql",
        }
    }

    /// The target of cargo, and how it is asked for.
    fn target(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Package::Log => ("it", &["--test", "it"]),
            Package::Flow => ("tidings_flow", &["--lib"]),
            Package::Sql => ("it", &["--test", "it", "--all-features"]),
        }
    }
}

/// What the tests do without: a bug that no file of SQLite shows is found by none of them.
const SERVERS: &str = "postgres,mariadb";
/// A test that takes longer did not find anything.
const LIMIT: Duration = Duration::from_secs(600);
/// How often a running test is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Where the copy is and where it is built.
pub(super) struct Suite<'a> {
    pub(super) package: Package,
    pub(super) house: &'a House,
    pub(super) copy: &'a Path,
    pub(super) target: &'a Path,
}

/// How tests ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Passed(usize),
    Failed,
    TooSlow,
}

impl Suite<'_> {
    /// Builds the tests. An error means that they do not compile.
    pub(super) fn build(&self) -> Result<PathBuf, Failure> {
        let package = self.package.name();
        let (target, chosen) = self.package.target();
        let mut command = child::cargo(self.house);
        command
            .current_dir(self.copy)
            .env("CARGO_TARGET_DIR", self.target)
            // One line differs from one bug to the next: a quarter of the time, whatever the surroundings say.
            .env("CARGO_INCREMENTAL", "1")
            .args(["test", "--no-run", "--quiet", "--package", package])
            .args(chosen)
            .args(["--message-format", "json"])
            // A bug may leave something unused; that is no news.
            .env("RUSTFLAGS", "-Awarnings")
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let failed = || Failure::new(format!("the tests of {package} do not build in the copy"));
        let mut cargo = command.spawn().map_err(|_| failed())?;
        let (mut binary, mut errors) = (None, Vec::new());
        for message in
            cargo.stdout.take().into_iter().flat_map(|stdout| {
                Message::parse_stream(BufReader::new(stdout)).map_while(Result::ok)
            })
        {
            match message {
                Message::CompilerArtifact(built)
                    if built.target.name == target && built.profile.test =>
                {
                    binary = built.executable.map(PathBuf::from).or(binary);
                }
                Message::CompilerMessage(said) => errors.extend(said.message.rendered),
                _ => {}
            }
        }
        if cargo.wait().is_ok_and(|status| status.success()) {
            binary.ok_or_else(failed)
        } else {
            Err(Failure::new(format!("{}\n{}", failed(), errors.concat())))
        }
    }

    /// Runs some tests by their whole names.
    pub(super) fn run(&self, binary: &Path, tests: &[&str]) -> Result<Ended, Failure> {
        let log = self.target.join("tests.log");
        let output = File::create(&log).map_err(|e| Failure::file("write", &log, &e))?;
        let mut running = Command::new(binary)
            .current_dir(self.copy.join("crates").join(self.package.name()))
            .arg("--exact")
            .args(tests)
            .env("TIDINGS_TEST_WITHOUT", SERVERS)
            .stdout(output)
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| Failure::file("run", binary, &e))?;
        let stopwatch = Stopwatch::start();
        loop {
            let status = running.try_wait();
            match status.map_err(|e| Failure::file("wait for", binary, &e))? {
                Some(status) => {
                    let said = fs::read(&log).map_err(|e| Failure::file("read", &log, &e))?;
                    let mut tally = Tally::default();
                    let said = String::from_utf8_lossy(&said);
                    said.lines().for_each(|line| tally.read(line));
                    return Ok(if status.success() {
                        Ended::Passed(tally.passed)
                    } else {
                        Ended::Failed
                    });
                }
                None if stopwatch.elapsed() > LIMIT => {
                    let stopped = running.kill().and_then(|()| running.wait());
                    stopped.map_err(|e| Failure::file("stop", binary, &e))?;
                    return Ok(Ended::TooSlow);
                }
                None => std::thread::sleep(LOOK),
            }
        }
    }
}
