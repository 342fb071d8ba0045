//! Handlers in any language: a command that is run once for each event, or one process that is fed events line by line.
//!
//! ```text
//!  consumer runtime ──handle──► ExecHandler ──spawn──► command   (one event, then its exit code is the outcome)
//!                   └─handle──► PipeHandler ──line──►  process   (many events, a line with the outcome for each)
//! ```
//!
//! A command is split into words by the rules of a shell and run without one. Each process leads a process group of its own, so that what it
//! started is killed with it.

mod command;
mod driver;
mod environment;
mod exec;
mod exit;
mod group;
mod lines;
mod once;
mod pipe;
mod protocol;
mod queue;
mod running;
mod stderr;

pub use command::ProcessError;
pub use exec::ExecHandler;
pub(crate) use once::OneShot;
pub use pipe::PipeHandler;
pub use stderr::StderrRoute;

use command::HandlerCommand;
use std::path::PathBuf;
use std::time::Duration;
use tidings_core::Pattern;
use tidings_core::limits::{HANDLE_TIMEOUT_DEFAULT, PARALLEL_DEFAULT, PARALLEL_MAX};

/// What a handler that is a process is built from.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// The command with its arguments, written as for a shell.
    pub command: String,
    /// Name of the handler within its group; the ids of emitted events are made from it.
    pub name: String,
    /// What it handles.
    pub patterns: Vec<Pattern>,
    /// Events handled at the same time: 1 to [`PARALLEL_MAX`].
    pub parallel: usize,
    /// Time limit of one handling; the process is killed when it is over.
    pub time_limit: Duration,
    /// Where the process runs; where this process runs if absent.
    pub working_directory: Option<PathBuf>,
    /// Where its stderr goes; what suits the handler if absent: kept for a command, passed on for a process.
    pub stderr: Option<StderrRoute>,
}

impl ProcessConfig {
    /// A configuration with the default bounds.
    pub fn new(
        command: impl Into<String>,
        name: impl Into<String>,
        patterns: Vec<Pattern>,
    ) -> Self {
        Self {
            command: command.into(),
            name: name.into(),
            patterns,
            parallel: PARALLEL_DEFAULT,
            time_limit: HANDLE_TIMEOUT_DEFAULT,
            working_directory: None,
            stderr: None,
        }
    }

    fn resolve(&self, stderr_default: StderrRoute) -> Result<HandlerCommand, ProcessError> {
        if self.parallel == 0 || self.parallel > PARALLEL_MAX {
            return Err(ProcessError::Parallel {
                parallel: self.parallel,
            });
        }
        if self.time_limit.is_zero() {
            return Err(ProcessError::NoTime);
        }
        let stderr_route = self.stderr.unwrap_or(stderr_default);
        let working_directory = self.working_directory.as_deref();
        HandlerCommand::resolve(&self.command, working_directory, stderr_route)
    }
}
