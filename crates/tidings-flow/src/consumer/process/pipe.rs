//! `--pipe`: one process is kept and fed events, a line each; it answers with a line for each, in any order.

use super::driver::{Driver, Message, Stop};
use super::queue::{Queue, Request};
use super::{ProcessConfig, ProcessError, StderrRoute, command::HandlerCommand};
use crate::handler::{DeliveryHandler, HandlerResult};
use crate::runtime::Tasks;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tidings_core::extract::{HandlerContext, HandlerError};
use tidings_core::{BoxFuture, Pattern};
use tokio::sync::{mpsc, oneshot};

/// Handles events by a process that reads envelopes and writes answers, each one line of JSON.
///
/// An answer is `{"event_id":…,"outcome":"ack"|"retry"|"dead_letter","after_ms"?,"reason"?,"emit"?:[…]}`. Answers may come in any order; up to
/// `parallel` events are in the process at the same time, never two with the same id. What the process writes to stderr is passed on to
/// ours unless the configuration says otherwise; its end is the reason of a death. An answer that breaks these rules makes the handling fail as
/// `retry` does: the handler is at fault, not the event.
///
/// **Guarantee**: a process that dies, falls silent beyond the time limit or answers nonsense is started again with back-off, and what it had not
/// answered is handled again, one at a time. Only an event that was alone in the process is made responsible for its death; a kill from
/// outside costs no event an attempt, unless it hits the same one again. The process and what it started do not outlive the handler.
///
/// **Cancel**: dropping the future of a handling leaves the event in the process; its answer is ignored.
#[derive(Debug)]
pub struct PipeHandler {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    command: HandlerCommand,
    name: String,
    patterns: Vec<Pattern>,
    parallel: usize,
    time_limit: Duration,
    /// Made with the first event, because only then a runtime is sure to be there.
    feed: OnceLock<Feed>,
}

/// The way to the one who feeds the process.
#[derive(Debug)]
struct Feed {
    messages: mpsc::Sender<Message>,
    /// Owns the driver: it stops, and kills the process, when this is dropped.
    _driver: Tasks<()>,
}

impl PipeHandler {
    /// Checks the configuration and finds the program; the process is started with the first event.
    ///
    /// **Errors**: permanent; a program that does not exist is named.
    pub fn new(config: ProcessConfig) -> Result<Self, ProcessError> {
        let shared = Shared {
            command: config.resolve(StderrRoute::PassedOn)?,
            name: config.name,
            patterns: config.patterns,
            parallel: config.parallel,
            time_limit: config.time_limit,
            feed: OnceLock::new(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Closes the stdin of the process, waits for its end and kills what is left after `grace`. Events that it has not answered by then, and
    /// all that are handed in later, fail as transient.
    ///
    /// **Cancel**: the process is stopped all the same.
    pub async fn stop(&self, grace: Duration) {
        let feed = self.shared.feed.get_or_init(Feed::closed);
        let (done, stopped) = oneshot::channel();
        let stop = Message::Stop(Stop { grace, done });
        // Neither fails unless it is stopped already, or was never started.
        if feed.messages.send(stop).await.is_ok() {
            let _ = stopped.await;
        }
    }
}

impl DeliveryHandler for PipeHandler {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn patterns(&self) -> &[Pattern] {
        &self.shared.patterns
    }

    fn handle(&self, context: HandlerContext) -> BoxFuture<'static, HandlerResult> {
        let shared = self.shared.clone();
        Box::pin(async move {
            let (reply, outcome) = oneshot::channel();
            let request = Request {
                envelope: context.envelope,
                position: context.position,
                reply,
            };
            let sent = shared.messages().send(Message::Handle(request)).await;
            // A handling under way must not keep the process alive once the handler is dropped.
            drop(shared);
            sent.map_err(|_| stopped())?;
            for draft in outcome.await.map_err(|_| stopped())?? {
                context.emit.draft(draft)?;
            }
            Ok(())
        })
    }

    fn own_time_limit(&self) -> Option<Duration> {
        Some(self.shared.time_limit)
    }
}

impl Shared {
    fn messages(&self) -> &mpsc::Sender<Message> {
        let feed = self.feed.get_or_init(|| {
            let (messages, receiver) = mpsc::channel(self.parallel);
            let driver = Driver::new(
                self.name.clone(),
                self.command.clone(),
                self.time_limit,
                Queue::new(self.parallel),
                receiver,
            );
            let mut tasks = Tasks::new();
            tasks.spawn(driver.run());
            Feed {
                messages,
                _driver: tasks,
            }
        });
        &feed.messages
    }
}

impl Feed {
    /// Refuses every event.
    fn closed() -> Self {
        Self {
            messages: mpsc::channel(1).0,
            _driver: Tasks::new(),
        }
    }
}

/// The failure of an event whose process was stopped on purpose.
pub(super) fn stopped() -> HandlerError {
    HandlerError::transient_message("the handler process was stopped before it answered")
}
