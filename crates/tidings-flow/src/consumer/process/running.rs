//! One process that is fed events: its streams, its time limit, and what is known when it is gone.

use super::command::HandlerCommand;
use super::exit;
use super::group::ProcessGroup;
use super::lines::LineReader;
use super::queue::Suspicion;
use super::stderr::{self, SharedTail};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::time::Duration;
use tidings_core::envelope_json;
use tidings_core::limits::{HANDLER_LINE_BYTES_MAX, PROCESS_OUTPUT_GRACE};
use tidings_core::{BoxFuture, Envelope};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::{Sleep, timeout};

/// A time to wait for; absent means never.
pub(super) type Timer = Option<Pin<Box<Sleep>>>;

/// Ends when the timer does, and takes it away.
pub(super) async fn elapsed(timer: &mut Timer) {
    match timer {
        Some(sleep) => {
            sleep.await;
            *timer = None;
        }
        None => std::future::pending().await,
    }
}

/// A process that is fed. Dropping it kills the process and what it started.
pub(super) struct Running {
    pub(super) input: Input,
    pub(super) lines: LineReader<ChildStdout>,
    pub(super) stderr: Stderr,
    pub(super) exit: Exit,
    /// Ends when the event that waits longest has waited too long.
    pub(super) silence: Timer,
    pub(super) has_answered: bool,
}

/// Why a process is given up.
#[derive(Debug)]
pub(super) enum Cause {
    /// It ended, or closed its stdout.
    Ended,
    /// It did not answer within the time limit.
    Silent { limit: Duration },
    /// It wrote a line that answers no event.
    Broken { rule: String },
    /// It did not end when it was asked to.
    Overdue { grace: Duration },
}

/// What is known of a process that is gone.
#[derive(Debug)]
pub(super) struct Death {
    pub(super) reason: String,
    pub(super) suspicion: Suspicion,
    /// Whether it ended by itself with success.
    pub(super) is_orderly: bool,
}

impl Cause {
    /// The start of the line is told, so that a print for debugging is recognised.
    pub(super) fn broken(rule: &str, line: &[u8]) -> Self {
        let start: String = String::from_utf8_lossy(line).chars().take(80).collect();
        Self::Broken {
            rule: format!("{rule} (it begins {start:?})"),
        }
    }
}

impl Running {
    /// Starts the process.
    pub(super) fn start(command: &HandlerCommand) -> io::Result<Self> {
        let (group, streams) = ProcessGroup::start(command.prepare())?;
        let tail = SharedTail::default();
        let drain = stderr::drain(streams.stderr, tail.clone(), command.stderr_route());
        Ok(Self {
            input: Input {
                stdin: Some(streams.stdin),
                line: Vec::new(),
                written: 0,
            },
            lines: LineReader::new(streams.stdout, HANDLER_LINE_BYTES_MAX),
            stderr: Stderr {
                drain: Some(Box::pin(drain)),
                tail,
            },
            exit: Exit { group, grace: None },
            silence: None,
            has_answered: false,
        })
    }

    /// The process id.
    pub(super) fn process_id(&self) -> Option<i32> {
        self.exit.group.id()
    }

    /// Waits until the process has ended, as long as the timer allows.
    pub(super) async fn ends_in_time(&mut self, over: &mut Timer) -> bool {
        tokio::select! {
            ended = self.exit.group.wait() => ended.is_ok(),
            () = elapsed(over) => false,
        }
    }

    /// Makes an end of the process and tells how it died.
    pub(super) async fn bury(mut self, cause: Cause) -> Death {
        self.input.close();
        if matches!(cause, Cause::Ended) {
            // Its stdout ends a moment before it does; the true exit status is worth that moment.
            self.settle().await;
        }
        let status = self.exit.group.status();
        self.exit.group.kill();
        self.settle().await;
        let what = match &cause {
            Cause::Ended => match status {
                Some(status) => format!("the handler process died: {}", exit::describe(status)),
                None => "the handler process closed its stdout and was killed".to_owned(),
            },
            Cause::Silent { limit } if self.has_answered => {
                format!("the handler process took longer than {limit:?} and was killed")
            }
            Cause::Silent { limit } => format!(
                "the handler process took longer than {limit:?} and was killed; it had not answered any event (does it flush its stdout after each line?)"
            ),
            Cause::Broken { rule } => format!(
                "the handler process wrote a line that answers no event and was killed: {rule}"
            ),
            Cause::Overdue { grace } => format!(
                "the handler process did not end within {grace:?} of its stdin being closed and was killed"
            ),
        };
        let is_from_outside =
            matches!(cause, Cause::Ended) && status.is_some_and(exit::may_be_from_outside);
        Death {
            reason: self.stderr.tail.reason(&what),
            suspicion: if is_from_outside {
                Suspicion::EventOrOutside
            } else {
                Suspicion::Event
            },
            is_orderly: status.is_some_and(|status| status.success()),
        }
    }

    /// Waits for the end of the process and of its stderr, for a bounded time.
    async fn settle(&mut self) {
        let ended = async {
            // A process that cannot be waited for is as good as gone.
            let _ = self.exit.group.wait().await;
        };
        let drained = async {
            if let Some(drain) = &mut self.stderr.drain {
                drain.await;
            }
            self.stderr.drain = None;
        };
        let both = async { tokio::join!(ended, drained) };
        // What takes longer is left behind: the reason is then told without it.
        let _ = timeout(PROCESS_OUTPUT_GRACE, both).await;
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("group", &self.exit.group)
            .field("has_answered", &self.has_answered)
            .finish_non_exhaustive()
    }
}

/// The stdin of a process, written one whole line after the other.
#[derive(Debug)]
pub(super) struct Input {
    stdin: Option<ChildStdin>,
    line: Vec<u8>,
    written: usize,
}

impl Input {
    /// Whether the next line may begin.
    pub(super) fn is_ready(&self) -> bool {
        self.stdin.is_some() && self.written == self.line.len()
    }

    /// Begins the line of an event.
    pub(super) fn begin(&mut self, envelope: &Envelope) {
        self.line.clear();
        self.written = 0;
        envelope_json::write_json(envelope, &mut self.line);
        self.line.push(b'\n');
    }

    /// Ends when the line is written or cannot be written; never while there is none.
    ///
    /// **Cancel**: nothing is written twice, the next call goes on where this one was.
    pub(super) async fn write(&mut self) {
        let Some(stdin) = &mut self.stdin else {
            return std::future::pending().await;
        };
        if self.written == self.line.len() {
            return std::future::pending().await;
        }
        while let Some(rest) = self
            .line
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            match stdin.write(rest).await {
                Ok(count) if count > 0 => self.written += count,
                // The process reads no more. It is about to die, or its silence will tell.
                Ok(_) | Err(_) => {
                    self.stdin = None;
                    return;
                }
            }
        }
    }

    /// Tells the process that nothing more comes.
    pub(super) fn close(&mut self) {
        self.stdin = None;
    }
}

/// The stderr of a process, being read.
pub(super) struct Stderr {
    drain: Option<BoxFuture<'static, ()>>,
    tail: SharedTail,
}

impl Stderr {
    /// Ends when stderr does, once.
    ///
    /// **Cancel**: nothing is lost, the next call goes on where this one was.
    pub(super) async fn drain(&mut self) {
        match &mut self.drain {
            Some(drain) => {
                drain.await;
                self.drain = None;
            }
            None => std::future::pending().await,
        }
    }
}

/// The end of a process.
#[derive(Debug)]
pub(super) struct Exit {
    group: ProcessGroup,
    grace: Timer,
}

impl Exit {
    /// Ends some time after the process: normally its stdout ends first, unless something that it started holds it open.
    ///
    /// **Cancel**: nothing is lost.
    pub(super) async fn wait(&mut self) {
        if self.grace.is_none() {
            // A process that cannot be waited for is as good as gone.
            let _ = self.group.wait().await;
            self.grace = Some(Box::pin(tokio::time::sleep(PROCESS_OUTPUT_GRACE)));
        }
        elapsed(&mut self.grace).await;
    }
}
