//! The channel that runs a command: the alert as JSON on its standard input, exit code 0 means accepted.

use super::channel::{Channel, Handover, Outgoing};
use crate::consumer::process::{OneShot, ProcessError};
use std::time::Duration;
use tidings_core::BoxFuture;

/// Hands alerts to a command of any language, which is run once for each.
///
/// It finds the id of the message, which is the same at every attempt, in `TIDINGS_ALERT_ID`. A command that ends with another exit code than 0, or that is killed at its
/// time limit, is run again later.
#[derive(Debug)]
pub struct CommandChannel {
    name: String,
    command: OneShot,
}

impl CommandChannel {
    /// Finds the program; nothing is started yet.
    ///
    /// **Errors**: permanent; a program that does not exist is named.
    pub fn new(command: &str, time_limit: Duration) -> Result<Self, ProcessError> {
        let command = OneShot::new(command, time_limit)?;
        Ok(Self {
            name: format!("command {}", command.program()),
            command,
        })
    }
}

impl Channel for CommandChannel {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> String {
        super::subject::hex(&format!("command {}", self.command.text()))
    }

    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Handover> {
        Box::pin(async move {
            let line = format!("{}\n", message.body);
            let variables = [("TIDINGS_ALERT_ID", message.id.as_str())];
            match self.command.run(&line, &variables).await {
                Ok(()) => Handover::Accepted {
                    answer: "it ended with exit code 0".to_owned(),
                },
                Err(reason) => Handover::Failed {
                    reason,
                    retry_after: None,
                },
            }
        })
    }
}
