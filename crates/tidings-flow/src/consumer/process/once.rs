//! A command that is run once with a text on its standard input, and whose exit code is all that counts.

use super::ProcessError;
use super::command::HandlerCommand;
use super::group::ProcessGroup;
use super::stderr::{self, SharedTail};
use super::{StderrRoute, exit};
use std::time::Duration;
use tidings_core::limits::PROCESS_OUTPUT_GRACE;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

/// A command that is run for one purpose at a time.
#[derive(Debug)]
pub(crate) struct OneShot {
    command: HandlerCommand,
    text: String,
    time_limit: Duration,
}

impl OneShot {
    /// Splits the command into words by the rules of a shell and finds its program.
    pub(crate) fn new(text: &str, time_limit: Duration) -> Result<Self, ProcessError> {
        if time_limit.is_zero() {
            return Err(ProcessError::NoTime);
        }
        Ok(Self {
            command: HandlerCommand::resolve(text, None, StderrRoute::Kept)?,
            text: text.to_owned(),
            time_limit,
        })
    }

    /// The command as it was given.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The first word of the command.
    pub(crate) fn program(&self) -> &str {
        self.command.name()
    }

    /// Runs it; the error says how it ended, with the end of its standard error. What it writes to its standard output is thrown away.
    ///
    /// **Cancel**: the process and what it started are killed.
    pub(crate) async fn run(&self, input: &str, variables: &[(&str, &str)]) -> Result<(), String> {
        let mut command = self.command.prepare();
        command.envs(variables.iter().copied());
        let (mut process, streams) = ProcessGroup::start(command)
            .map_err(|error| format!("the command cannot be started: {error}"))?;
        let tail = SharedTail::default();
        let (mut stdin, mut stdout) = (streams.stdin, streams.stdout);
        let talk = async {
            let feed = async {
                // A command need not read its input; its exit code tells whether it did its work.
                let _ = stdin.write_all(input.as_bytes()).await;
                drop(stdin);
            };
            let forget = async {
                let mut buffer = [0_u8; 4_096];
                while stdout.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
            };
            let listen = stderr::drain(streams.stderr, tail.clone(), self.command.stderr_route());
            tokio::join!(feed, forget, listen);
        };
        let work = async {
            let mut talk = std::pin::pin!(talk);
            tokio::select! {
                () = &mut talk => {}
                status = process.wait() => {
                    // What it left behind may hold its streams open: that is not waited for.
                    let _ = timeout(PROCESS_OUTPUT_GRACE, &mut talk).await;
                    return status;
                }
            }
            process.wait().await
        };
        let ended = timeout(self.time_limit, work).await;
        if let Ok(Ok(status)) = &ended
            && status.success()
        {
            // What it started may live on.
            process.leave();
            return Ok(());
        }
        process.kill();
        match ended {
            Ok(Ok(status)) => {
                let what = format!("the command ended with {}", exit::describe(status));
                Err(tail.reason(&what))
            }
            Ok(Err(error)) => Err(format!("the command cannot be waited for: {error}")),
            Err(_) => {
                let what = format!(
                    "the command took longer than {:?} and was killed",
                    self.time_limit
                );
                Err(tail.reason(&what))
            }
        }
    }
}
