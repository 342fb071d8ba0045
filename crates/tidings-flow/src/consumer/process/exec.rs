//! `--exec`: the command is run once for each event, and its exit code is the outcome.

use super::command::{HandlerCommand, is_permanent};
use super::group::{ProcessGroup, Streams};
use super::lines::{Line, LineReader};
use super::stderr::{self, SharedTail};
use super::{ProcessConfig, ProcessError, StderrRoute, environment, exit};
use crate::handler::{DeliveryHandler, HandlerResult};
use std::io;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::envelope_json;
use tidings_core::extract::{Draft, HandlerContext, HandlerError};
use tidings_core::limits::{
    EMITTED_BYTES_MAX, EMITTED_EVENTS_MAX, HANDLER_LINE_BYTES_MAX, PROCESS_OUTPUT_GRACE,
};
use tidings_core::{BoxFuture, Pattern};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Handles an event by running a command.
///
/// The command reads the envelope as one line of JSON from stdin and finds the seed's attributes in `TIDINGS_EVENT_ID`, `TIDINGS_EVENT_TYPE`
/// and so on. Exit code 0 means done; 75 means try again, and so does what is no judgement of the event: an end by a signal, or what a
/// shell makes of it (129 to 192), and a command that a shell cannot execute or find (126, 127). Anything else is permanent. Each line that it writes to stdout, `{"event_type":…,"aggregate_id":…,"payload":…}`, is an event that it emits; one that is none makes the handling fail as 75 does.
/// The end of its stderr is the reason of a failure.
///
/// **Guarantee**: nothing is emitted unless the command succeeds and every line of its stdout is an event. The process and what it started
/// are killed when the time limit is over.
///
/// **Cancel**: dropping the future of a handling kills the process and what it started.
#[derive(Debug)]
pub struct ExecHandler {
    run: Arc<Run>,
}

#[derive(Debug)]
struct Run {
    command: HandlerCommand,
    name: String,
    patterns: Vec<Pattern>,
    time_limit: Duration,
    /// One permit for each process that may run at the same time.
    permits: Semaphore,
}

impl ExecHandler {
    /// Checks the configuration and finds the program; nothing is started yet.
    ///
    /// **Errors**: permanent; a program that does not exist is named.
    pub fn new(config: ProcessConfig) -> Result<Self, ProcessError> {
        let run = Run {
            command: config.resolve(StderrRoute::Kept)?,
            name: config.name,
            patterns: config.patterns,
            time_limit: config.time_limit,
            permits: Semaphore::new(config.parallel),
        };
        Ok(Self { run: Arc::new(run) })
    }
}

impl DeliveryHandler for ExecHandler {
    fn name(&self) -> &str {
        &self.run.name
    }

    fn patterns(&self) -> &[Pattern] {
        &self.run.patterns
    }

    fn handle(&self, context: HandlerContext) -> BoxFuture<'static, HandlerResult> {
        let run = self.run.clone();
        Box::pin(async move {
            // The semaphore is never closed; without a permit the worst is one process more.
            let _permit = run.permits.acquire().await.ok();
            run.handle(&context).await
        })
    }

    fn own_time_limit(&self) -> Option<Duration> {
        Some(self.run.time_limit)
    }
}

impl Run {
    async fn handle(&self, context: &HandlerContext) -> HandlerResult {
        let mut command = self.command.prepare();
        environment::describe(&mut command, context);
        let (mut process, streams) = match ProcessGroup::start(command) {
            Ok(started) => started,
            Err(error) => {
                let message = format!("the command cannot be started: {error}");
                return Err(if is_permanent(&error) {
                    HandlerError::permanent_message(message)
                } else {
                    HandlerError::transient_message(message)
                });
            }
        };
        let tail = SharedTail::default();
        let mut emitted = Emitted::default();
        let line = envelope_json::to_json(&context.envelope) + "\n";
        let work = self.talk(&mut process, streams, &line, &mut emitted, &tail);
        match timeout(self.time_limit, work).await {
            Ok(Ok(status)) => {
                process.leave();
                conclude(status, emitted, &tail, context)
            }
            Ok(Err(error)) => {
                process.kill();
                let message = format!("the command cannot be waited for: {error}");
                Err(HandlerError::transient_message(message))
            }
            Err(_) => {
                process.kill();
                // The next event of the same key must not meet a process that is still dying.
                process.wait_at_most(PROCESS_OUTPUT_GRACE).await;
                let what = format!(
                    "the command took longer than {:?} and was killed",
                    self.time_limit
                );
                Err(HandlerError::transient_message(tail.reason(&what)))
            }
        }
    }

    /// Feeds the process and reads all that it writes at the same time, so that no pipe can fill up and block both sides.
    async fn talk(
        &self,
        process: &mut ProcessGroup,
        streams: Streams,
        line: &str,
        emitted: &mut Emitted,
        tail: &SharedTail,
    ) -> io::Result<ExitStatus> {
        let streams = async {
            tokio::join!(
                feed(streams.stdin, line),
                emitted.read(streams.stdout),
                stderr::drain(streams.stderr, tail.clone(), self.command.stderr_route()),
            );
        };
        let mut streams = pin!(streams);
        tokio::select! {
            () = &mut streams => return process.wait().await,
            ended = process.wait() => { ended?; }
        }
        // Something that the process started still holds its streams: it may finish writing, but it does not hold up the event.
        if timeout(PROCESS_OUTPUT_GRACE, &mut streams).await.is_err() {
            process.kill();
            if timeout(PROCESS_OUTPUT_GRACE, &mut streams).await.is_err() {
                tracing::warn!(
                    handler = self.name,
                    "a process that the command left behind holds its output open; what it writes is ignored"
                );
            }
        }
        process.wait().await
    }
}

async fn feed(mut stdin: ChildStdin, line: &str) {
    // A command need not read its stdin; whether it did its work is told by its exit code.
    let _ = stdin.write_all(line.as_bytes()).await;
}

fn conclude(
    status: ExitStatus,
    emitted: Emitted,
    tail: &SharedTail,
    context: &HandlerContext,
) -> HandlerResult {
    let what = match status.code() {
        Some(0) => {
            if let Some(fault) = emitted.fault {
                // The command is at fault, not the event: a circuit breaker has to see it.
                return Err(HandlerError::transient_message(tail.reason(&fault)));
            }
            for draft in emitted.drafts {
                context.emit.draft(draft)?;
            }
            return Ok(());
        }
        Some(_) => format!("the command ended with {}", exit::describe(status)),
        None => format!("the command was ended by {}", exit::describe(status)),
    };
    let message = tail.reason(&what);
    Err(match exit::is_transient(status) {
        true => HandlerError::transient_message(message),
        false => HandlerError::permanent_message(message),
    })
}

/// The events that a command wrote to its stdout.
#[derive(Debug, Default)]
struct Emitted {
    drafts: Vec<Draft>,
    bytes: usize,
    line_count: usize,
    /// Why the output as a whole is refused; what follows is read and thrown away.
    fault: Option<String>,
}

impl Emitted {
    async fn read(&mut self, stdout: ChildStdout) {
        let mut lines = LineReader::new(stdout, HANDLER_LINE_BYTES_MAX);
        loop {
            match lines.next().await {
                Ok(Some(line)) => self.add(&line),
                Ok(None) => return,
                Err(error) => {
                    self.fault
                        .get_or_insert(format!("its stdout cannot be read: {error}"));
                    return;
                }
            }
        }
    }

    fn add(&mut self, line: &Line) {
        self.line_count += 1;
        if self.fault.is_some() {
            return;
        }
        let number = self.line_count;
        match line {
            Line::TooLong(_) => {
                self.fault = Some(format!(
                    "line {number} of its stdout is longer than {HANDLER_LINE_BYTES_MAX} bytes; emit a reference instead of the content"
                ));
            }
            Line::Whole(text) | Line::Unended(text) if !text.trim_ascii().is_empty() => {
                self.bytes += text.len();
                match envelope_json::draft_from_json(text.trim_ascii()) {
                    Err(error) => {
                        self.fault =
                            Some(format!("line {number} of its stdout is no event: {error}"));
                    }
                    Ok(_) if self.drafts.len() == EMITTED_EVENTS_MAX => {
                        self.fault = Some(format!(
                            "line {number} of its stdout: a handling may emit {EMITTED_EVENTS_MAX} events at most; split the work"
                        ));
                    }
                    Ok(_) if self.bytes > EMITTED_BYTES_MAX => {
                        self.fault = Some(format!(
                            "line {number} of its stdout: a handling may emit {EMITTED_BYTES_MAX} bytes at most; split the work"
                        ));
                    }
                    Ok(draft) => self.drafts.push(draft),
                }
            }
            Line::Whole(_) | Line::Unended(_) => {}
        }
        if self.fault.is_some() {
            self.drafts = Vec::new();
        }
    }
}
