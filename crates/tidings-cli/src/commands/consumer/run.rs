//! `tidings consumer run`: a group whose handler is a command of any language.

use crate::arguments::{ConsumerRun, Global};
use crate::failure::Failure;
use crate::folder;
use crate::interrupt::{Interrupt, interrupted};
use crate::output::{json, object, talk};
use serde::Serialize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tidings::flow::consumer::process::{ExecHandler, PipeHandler, ProcessConfig, ProcessError};
use tidings::flow::consumer::{ConsumerStats, Notice, Observer};
use tidings::handler::DeliveryHandler;

/// How long a process may take to end after its input was closed.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What the group did in this run.
#[derive(Debug, Serialize)]
struct Summary {
    consumer: String,
    handled: u64,
    retried: u64,
    dead_lettered: u64,
    emitted: u64,
}

pub(crate) async fn run(global: &Global, arguments: ConsumerRun) -> Result<ExitCode, Failure> {
    let handler = Process::new(&arguments)?;
    let tidings = folder::own(&arguments.data.folder).await?;
    let crate::arguments::OnFailure::Continue = arguments.on_failure;
    let mut builder = tidings
        .consumer(arguments.group.to_string())
        .handler(handler.delivery_handler())
        .attempts(arguments.attempts)
        .parallel(arguments.parallel)
        .start_at(arguments.from.0)
        .observer(Arc::new(Teller {
            quiet: global.quiet,
        }));
    if arguments.until_end {
        builder = builder.until_end();
    }
    let consumer = builder.start().await?;
    let interrupt = tokio::select! {
        finished = consumer.finished() => {
            finished?;
            None
        }
        interrupt = interrupted() => Some(interrupt),
    };
    let stopped = tidings.shutdown().await;
    handler.stop().await;
    print(global, &arguments, &consumer.stats())?;
    stopped?;
    Ok(interrupt.map_or(ExitCode::SUCCESS, |interrupt: Interrupt| {
        ExitCode::from(interrupt.exit_code())
    }))
}

fn print(global: &Global, arguments: &ConsumerRun, stats: &ConsumerStats) -> Result<(), Failure> {
    let summary = Summary {
        consumer: arguments.group.to_string(),
        handled: stats.handled,
        retried: stats.retried,
        dead_lettered: stats.dead_lettered,
        emitted: stats.emitted,
    };
    let text = format!(
        "{}: {} handled, {} attempts failed, {} dead letters, {} emitted",
        summary.consumer, summary.handled, summary.retried, summary.dead_lettered, summary.emitted
    );
    if global.format().is_table() {
        talk(global.quiet, text);
        return Ok(());
    }
    object(global.format(), &json(&summary), || text)
}

/// The handler's process, one for each event or one for all.
enum Process {
    Exec(Arc<ExecHandler>),
    Pipe(Arc<PipeHandler>),
}

impl Process {
    fn new(arguments: &ConsumerRun) -> Result<Self, Failure> {
        let config = |command: &str| ProcessConfig {
            parallel: arguments.parallel,
            time_limit: arguments.time_limit.0,
            ..ProcessConfig::new(
                command,
                arguments.group.to_string(),
                arguments.types.clone(),
            )
        };
        let refused = |error: ProcessError| Failure::new(error.code(), error.to_string());
        match (&arguments.exec, &arguments.pipe) {
            (Some(command), _) => Ok(Self::Exec(Arc::new(
                ExecHandler::new(config(command)).map_err(refused)?,
            ))),
            (None, Some(command)) => Ok(Self::Pipe(Arc::new(
                PipeHandler::new(config(command)).map_err(refused)?,
            ))),
            (None, None) => Err(Failure::usage("give --exec CMD or --pipe CMD")),
        }
    }

    fn delivery_handler(&self) -> Arc<dyn DeliveryHandler> {
        match self {
            Self::Exec(handler) => handler.clone(),
            Self::Pipe(handler) => handler.clone(),
        }
    }

    async fn stop(&self) {
        if let Self::Pipe(handler) = self {
            handler.stop(STOP_GRACE).await;
        }
    }
}

/// Tells the person what goes wrong; what goes well is only counted.
struct Teller {
    quiet: bool,
}

impl Observer for Teller {
    fn notice(&self, notice: Notice<'_>) {
        match notice {
            Notice::RetryScheduled {
                envelope,
                attempt,
                reason,
                delay,
                ..
            } => {
                talk(
                    self.quiet,
                    format_args!(
                        "retry  {} attempt {attempt} failed, again in {delay:?}: {reason}",
                        envelope.event_id()
                    ),
                );
            }
            Notice::DeadLettered {
                envelope,
                attempts,
                reason,
                ..
            } => {
                talk(
                    self.quiet,
                    format_args!(
                        "dead letter  {} given up after {attempts} attempts: {reason}",
                        envelope.event_id()
                    ),
                );
            }
            Notice::Paused { reason } => talk(self.quiet, format_args!("paused  {reason}")),
            Notice::Resumed => talk(self.quiet, "resumed"),
            Notice::Damaged { error } => {
                talk(false, format_args!("warning: {error}; going on behind it"))
            }
            Notice::BrokerFailed { error, delay } => talk(
                self.quiet,
                format_args!("warning: {error}; again in {delay:?}"),
            ),
            Notice::Stopped { reason } => talk(false, format_args!("stopped  {reason}")),
            _ => {}
        }
    }
}
