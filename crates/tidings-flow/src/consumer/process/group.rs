//! A process that leads its own process group and never outlives its owner.

use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::process::{Command, ExitStatus};
use std::time::Duration;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::time::timeout;

/// A started process with whatever it starts itself.
///
/// Dropping it kills them all, unless it was [left alone](ProcessGroup::leave).
#[derive(Debug)]
pub(super) struct ProcessGroup {
    child: Child,
    group: Option<Pid>,
    status: Option<ExitStatus>,
    is_left: bool,
}

/// The streams of a started process.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
}

impl ProcessGroup {
    /// Starts a command that was prepared with a process group of its own and every stream piped.
    pub(super) fn start(command: Command) -> io::Result<(Self, Streams)> {
        let mut command = tokio::process::Command::from(command);
        let mut child = command.kill_on_drop(true).spawn()?;
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let process = Self {
            child,
            group,
            status: None,
            is_left: false,
        };
        let (Some(stdin), Some(stdout), Some(stderr)) = streams else {
            return Err(io::Error::other("a stream of the process is not piped"));
        };
        Ok((
            process,
            Streams {
                stdin,
                stdout,
                stderr,
            },
        ))
    }

    /// The process id.
    pub(super) fn id(&self) -> Option<i32> {
        self.group.map(Pid::as_raw_pid)
    }

    /// How the process ended, once that is known.
    pub(super) fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    /// Waits until the process itself has ended; what it started may live on.
    ///
    /// **Cancel**: nothing is lost.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let status = self.child.wait().await?;
        self.status = Some(status);
        Ok(status)
    }

    /// As [`ProcessGroup::wait`], for a bounded time; `None` if it has not ended by then.
    pub(super) async fn wait_at_most(&mut self, limit: Duration) -> Option<ExitStatus> {
        timeout(limit, self.wait()).await.ok()?.ok()
    }

    /// Kills the process and whatever it started that did not leave its group.
    ///
    /// The group's number cannot belong to anyone else while a member lives. Once the last one is gone the system hands out every other
    /// number before it uses this one again.
    pub(super) fn kill(&mut self) {
        if let Some(group) = self.group {
            // The error is that nobody is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Lets what the process started in the background go on after its own end.
    pub(super) fn leave(mut self) {
        self.is_left = true;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if !self.is_left {
            self.kill();
        }
    }
}
