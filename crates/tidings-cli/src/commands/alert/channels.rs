//! The channels that the arguments name.

use crate::alert_arguments::Channels;
use crate::failure::Failure;
use std::sync::Arc;
use tidings::core::BoxFuture;
use tidings::flow::alert::{Channel, CommandChannel, Handover, Outgoing};

/// Standard error, as a channel.
struct StandardError;

impl Channel for StandardError {
    fn name(&self) -> &str {
        "standard error"
    }

    fn identity(&self) -> String {
        "stderr".to_owned()
    }

    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Handover> {
        Box::pin(async move {
            eprintln!("{}", message.line);
            Handover::Accepted {
                answer: "it was printed".to_owned(),
            }
        })
    }
}

/// Standard error unless it is to be quiet, then webhooks, then commands.
pub(super) fn open(arguments: &Channels, quiet: bool) -> Result<Vec<Arc<dyn Channel>>, Failure> {
    let mut channels: Vec<Arc<dyn Channel>> = Vec::new();
    if !quiet {
        channels.push(Arc::new(StandardError));
    }
    channels.extend(webhooks(arguments)?);
    for command in &arguments.exec {
        let channel = CommandChannel::new(command, arguments.exec_time_limit.0)
            .map_err(|error| Failure::new(error.code(), error.to_string()))?;
        channels.push(Arc::new(channel));
    }
    Ok(channels)
}

#[cfg(not(feature = "webhook"))]
fn webhooks(arguments: &Channels) -> Result<Vec<Arc<dyn Channel>>, Failure> {
    if arguments.webhook.is_empty() {
        return Ok(Vec::new());
    }
    Err(Failure::new(
        tidings::core::codes::WEBHOOK_NOT_BUILT_IN,
        "this program was built without webhooks; build it with the feature webhook: cargo install tidings-cli --features webhook",
    ))
}

#[cfg(feature = "webhook")]
fn webhooks(arguments: &Channels) -> Result<Vec<Arc<dyn Channel>>, Failure> {
    use tidings::flow::alert::webhook::{Inside, WebhookChannel, WebhookConfig, WebhookError};
    use tidings::flow::runtime::SystemClock;
    if arguments.webhook.is_empty() {
        return Ok(Vec::new());
    }
    let secret = secret(arguments)?;
    let mut channels: Vec<Arc<dyn Channel>> = Vec::new();
    for url in &arguments.webhook {
        let config = WebhookConfig {
            inside: if arguments.allow_private {
                Inside::Allowed
            } else {
                Inside::Refused
            },
            trusted: arguments.webhook_ca.clone(),
            ..WebhookConfig::new(url.clone(), secret.clone())
        };
        let channel =
            WebhookChannel::new(config, Arc::new(SystemClock::new())).map_err(|error| {
                let way_out = match error {
                    WebhookError::AddressRefused {
                        may_be_allowed: true,
                        ..
                    } => "; --allow-private lets webhooks lead into private networks",
                    WebhookError::AddressRefused { .. } => {
                        ", and no option lets a webhook lead there; name another receiver"
                    }
                    _ => "",
                };
                Failure::new(error.code(), format!("{error}{way_out}"))
            })?;
        channels.push(Arc::new(channel));
    }
    Ok(channels)
}

/// The secret from the file or from the environment. It is no flag: other users of the machine see those.
#[cfg(feature = "webhook")]
#[expect(
    clippy::disallowed_methods,
    reason = "this is where the configuration of webhooks is read"
)]
fn secret(arguments: &Channels) -> Result<tidings::flow::alert::webhook::WebhookSecret, Failure> {
    use tidings::core::codes;
    use tidings::flow::alert::webhook::WebhookSecret;
    let text = match &arguments.webhook_secret_file {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::file("read", path.display(), &error))?,
        None => std::env::var("TIDINGS_WEBHOOK_SECRET").map_err(|_| {
            Failure::new(
                codes::WEBHOOK_SECRET_INVALID,
                "a webhook needs a secret to sign with; name its file with --webhook-secret-file, or set TIDINGS_WEBHOOK_SECRET",
            )
        })?,
    };
    WebhookSecret::parse(&text).map_err(|error| Failure::new(error.code(), error.to_string()))
}
