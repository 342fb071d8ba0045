//! Feeds one process after the other: sends events, takes answers, restarts what died.

use super::command::HandlerCommand;
use super::lines::Line;
use super::pipe::stopped;
use super::protocol::{self, Answer};
use super::queue::Queue;
use super::queue::Request;
use super::running::{Cause, Running, elapsed};
use std::io;
use std::time::Duration;
use tidings_core::extract::HandlerError;
use tidings_core::limits::{PROCESS_RESTART_BACKOFF_FIRST, PROCESS_RESTART_BACKOFF_MAX};
use tokio::sync::{mpsc, oneshot};

/// What a handler asks of its driver.
#[derive(Debug)]
pub(super) enum Message {
    /// Handle an event.
    Handle(Request),
    /// Stop the process.
    Stop(Stop),
}

/// An orderly end.
#[derive(Debug)]
pub(super) struct Stop {
    /// How long the process may take to end by itself.
    pub(super) grace: Duration,
    /// Told, or dropped, when the process is gone.
    pub(super) done: oneshot::Sender<()>,
}

/// The owner of the process of one handler.
#[derive(Debug)]
pub(super) struct Driver {
    name: String,
    command: HandlerCommand,
    time_limit: Duration,
    queue: Queue,
    messages: mpsc::Receiver<Message>,
    backoff: Backoff,
}

/// Why a process is not fed any more, or none is started.
enum Ending {
    Died(Cause),
    Stopped(Stop),
    /// The handler was dropped.
    Abandoned,
}

impl Driver {
    pub(super) fn new(
        name: String,
        command: HandlerCommand,
        time_limit: Duration,
        queue: Queue,
        messages: mpsc::Receiver<Message>,
    ) -> Self {
        Self {
            name,
            command,
            time_limit,
            queue,
            messages,
            backoff: Backoff::default(),
        }
    }

    /// Runs until the handler is stopped or dropped.
    ///
    /// **Cancel**: kills the process.
    pub(super) async fn run(mut self) {
        loop {
            match self.wait_for_work().await {
                Ok(()) => {}
                Err(Ending::Stopped(stop)) => return self.refuse_all(stop),
                Err(Ending::Died(_) | Ending::Abandoned) => return,
            }
            let mut process = match Running::start(&self.command) {
                Ok(process) => process,
                Err(error) => {
                    self.could_not_start(&error);
                    continue;
                }
            };
            let process_id = process.process_id();
            tracing::debug!(
                handler = self.name,
                process_id,
                "the handler process was started"
            );
            match self.feed(&mut process).await {
                Ending::Died(cause) => self.bury(process, cause).await,
                Ending::Stopped(stop) => {
                    self.let_finish(process, stop.grace).await;
                    return self.refuse_all(stop);
                }
                Ending::Abandoned => return,
            }
        }
    }

    /// Returns when an event waits and the back-off is over. There is no process meanwhile.
    async fn wait_for_work(&mut self) -> Result<(), Ending> {
        let mut pause = self
            .backoff
            .pause()
            .map(|pause| Box::pin(tokio::time::sleep(pause)));
        while pause.is_some() || !self.queue.has_waiting() {
            tokio::select! {
                message = self.messages.recv() => match message {
                    Some(Message::Handle(request)) => self.queue.submit(request),
                    Some(Message::Stop(stop)) => return Err(Ending::Stopped(stop)),
                    None => return Err(Ending::Abandoned),
                },
                () = elapsed(&mut pause) => {}
            }
        }
        Ok(())
    }

    async fn feed(&mut self, process: &mut Running) -> Ending {
        loop {
            self.send(process);
            tokio::select! {
                biased;
                line = process.lines.next() => match line {
                    Ok(Some(line)) => if let Err(cause) = self.take(process, line) {
                        return Ending::Died(cause);
                    },
                    // A stream that cannot be read has ended for us.
                    Ok(None) | Err(_) => return Ending::Died(Cause::Ended),
                },
                () = process.input.write() => {}
                message = self.messages.recv() => match message {
                    Some(Message::Handle(request)) => self.queue.submit(request),
                    Some(Message::Stop(stop)) => return Ending::Stopped(stop),
                    None => return Ending::Abandoned,
                },
                () = process.stderr.drain() => {}
                () = process.exit.wait() => return Ending::Died(Cause::Ended),
                () = elapsed(&mut process.silence) => {
                    return Ending::Died(Cause::Silent { limit: self.time_limit });
                }
            }
        }
    }

    /// Sends what may be sent now, one line at a time: what still waits when the process dies was never in it.
    fn send(&mut self, process: &mut Running) {
        if !process.input.is_ready() {
            return;
        }
        let Some(envelope) = self.queue.send_next() else {
            return;
        };
        process.input.begin(&envelope);
        if process.silence.is_none() {
            process.silence = Some(Box::pin(tokio::time::sleep(self.time_limit)));
        }
    }

    /// Takes one line of the process.
    ///
    /// **Errors**: the line is no answer to an event in the process, so that it is not known any more what the process is doing.
    fn take(&mut self, process: &mut Running, line: Line) -> Result<(), Cause> {
        let (answer, text) = match line {
            Line::Whole(text) if text.trim_ascii().is_empty() => return Ok(()),
            Line::Whole(text) => (protocol::read(text.trim_ascii()), text),
            // The process died within this line, unless the line is a whole answer.
            Line::Unended(text) => match protocol::read(text.trim_ascii()) {
                Ok(answer) if answer.is_valid => (Ok(answer), text),
                Ok(_) | Err(_) => return Ok(()),
            },
            Line::TooLong(start) => (protocol::read_too_long(&start), start),
        };
        let rule = match answer {
            Ok(answer) => match self.settle(process, answer) {
                Ok(()) => return Ok(()),
                Err(event_id) => {
                    format!("no event with the id {event_id:?} is waiting for an answer")
                }
            },
            Err(rule) => rule,
        };
        Err(Cause::broken(&rule, &text))
    }

    fn settle(&mut self, process: &mut Running, answer: Answer) -> Result<(), String> {
        let Some(answered) = self.queue.take_answered(&answer.event_id) else {
            return Err(answer.event_id);
        };
        if answer.is_valid {
            process.has_answered = true;
            self.backoff.reset();
        }
        answered.request.answer(answer.outcome);
        // A process that works through its input in order begins an event when it has answered the one before: the time of the event that now
        // waits longest begins here, however long ago it was sent.
        if self.queue.is_process_idle() {
            process.silence = None;
        } else if answered.was_oldest {
            process.silence = Some(Box::pin(tokio::time::sleep(self.time_limit)));
        }
        Ok(())
    }

    async fn bury(&mut self, process: Running, cause: Cause) {
        let death = process.bury(cause).await;
        self.backoff.increase();
        match self.queue.take_blamed(death.suspicion) {
            Some(request) => {
                tracing::warn!(
                    handler = self.name,
                    event_id = request.envelope.event_id(),
                    "{}",
                    death.reason
                );
                request.answer(Err(HandlerError::transient_message(death.reason)));
            }
            None => tracing::warn!(
                handler = self.name,
                "{}; what it had not answered is handled again",
                death.reason
            ),
        }
    }

    /// Without a process one event after the other fails as transient, at the pace of the back-off: failing all that wait would turn a
    /// program that is missing for a moment into as many dead letters.
    fn could_not_start(&mut self, error: &io::Error) {
        self.backoff.increase();
        let message = format!("the handler process cannot be started: {error}");
        tracing::warn!(handler = self.name, "{message}");
        if let Some(request) = self.queue.take_first() {
            request.answer(Err(HandlerError::transient_message(message)));
        }
    }

    /// Closes stdin and takes what the process still answers before it ends.
    async fn let_finish(&mut self, mut process: Running, grace: Duration) {
        process.input.close();
        let mut over = Some(Box::pin(tokio::time::sleep(grace)));
        let cause = loop {
            tokio::select! {
                biased;
                line = process.lines.next() => match line {
                    Ok(Some(line)) => if let Err(cause) = self.take(&mut process, line) {
                        break cause;
                    },
                    Ok(None) | Err(_) => break Cause::Ended,
                },
                () = process.stderr.drain() => {}
                () = process.exit.wait() => break Cause::Ended,
                () = elapsed(&mut over) => break Cause::Overdue { grace },
            }
        };
        if matches!(cause, Cause::Ended) && process.ends_in_time(&mut over).await {
            tracing::debug!(handler = self.name, "the handler process was stopped");
        }
        let death = process.bury(cause).await;
        if !death.is_orderly {
            tracing::warn!(handler = self.name, "{}", death.reason);
        }
    }

    fn refuse_all(mut self, stop: Stop) {
        for request in self.queue.take_all() {
            request.answer(Err(stopped()));
        }
        self.messages.close();
        // Nobody may be waiting for it.
        let _ = stop.done.send(());
    }
}

/// The wait before a process is started again.
#[derive(Debug, Default)]
struct Backoff {
    next: Option<Duration>,
}

impl Backoff {
    /// How long to wait now; nothing before the first start.
    fn pause(&self) -> Option<Duration> {
        self.next
    }

    fn increase(&mut self) {
        self.next = Some(match self.next {
            None => PROCESS_RESTART_BACKOFF_FIRST,
            Some(pause) => (pause * 2).min(PROCESS_RESTART_BACKOFF_MAX),
        });
    }

    fn reset(&mut self) {
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_begin_anew_after_an_answer() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pause(), None);

        let mut pauses = Vec::new();
        for _ in 0..12 {
            backoff.increase();
            pauses.push(backoff.pause().unwrap().as_millis());
        }

        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[11], PROCESS_RESTART_BACKOFF_MAX.as_millis());
        backoff.reset();
        assert_eq!(backoff.pause(), None);
    }
}
