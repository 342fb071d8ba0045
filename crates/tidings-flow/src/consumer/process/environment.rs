//! The environment variables that describe an event to a command: the seed's attributes and the delivery, nothing that a producer can name.

use std::process::Command;
use tidings_core::extract::HandlerContext;

const EVENT_ID: &str = "TIDINGS_EVENT_ID";
const EVENT_TYPE: &str = "TIDINGS_EVENT_TYPE";
const AGGREGATE_ID: &str = "TIDINGS_AGGREGATE_ID";
const TIMESTAMP: &str = "TIDINGS_TIMESTAMP";
const VERSION: &str = "TIDINGS_VERSION";
const SOURCE: &str = "TIDINGS_SOURCE";
const CORRELATION_ID: &str = "TIDINGS_CORRELATION_ID";
const CAUSATION_ID: &str = "TIDINGS_CAUSATION_ID";
const ATTEMPT: &str = "TIDINGS_ATTEMPT";
const GROUP: &str = "TIDINGS_GROUP";
const POSITION: &str = "TIDINGS_POSITION";

/// Every variable that describes an event; none is inherited from the environment of this process.
pub(super) const NAMES: &[&str] = &[
    EVENT_ID,
    EVENT_TYPE,
    AGGREGATE_ID,
    TIMESTAMP,
    VERSION,
    SOURCE,
    CORRELATION_ID,
    CAUSATION_ID,
    ATTEMPT,
    GROUP,
    POSITION,
];

/// Describes a delivery to a command. An absent attribute has no variable; only the correlation id has a default, the event's own id.
///
/// Extension attributes never become variables: their names are chosen by producers, and one called `LD_PRELOAD` would run code.
pub(super) fn describe(command: &mut Command, context: &HandlerContext) {
    let envelope = &context.envelope;
    command
        .env(EVENT_ID, envelope.event_id())
        .env(EVENT_TYPE, envelope.event_type().as_str())
        .env(CORRELATION_ID, envelope.correlation_id())
        .env(ATTEMPT, context.attempt.to_string())
        .env(GROUP, context.shared.group.as_str());
    let version = envelope
        .version_given()
        .or_else(|| envelope.event_type().version());
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let optional = [
        (AGGREGATE_ID, owned(envelope.aggregate_id())),
        (
            TIMESTAMP,
            envelope.timestamp().map(|given| given.to_string()),
        ),
        (VERSION, version.map(|version| version.to_string())),
        (SOURCE, owned(envelope.source())),
        (CAUSATION_ID, owned(envelope.causation_id())),
        (POSITION, context.position.map(|place| place.to_string())),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{StderrRoute, command::HandlerCommand};
    use super::*;

    #[test]
    fn variables_of_an_outer_event_are_not_inherited() {
        let command = HandlerCommand::resolve("sh", None, StderrRoute::Kept).unwrap();

        let prepared = command.prepare();

        let removed: Vec<_> = prepared
            .get_envs()
            .filter(|(_, value)| value.is_none())
            .filter_map(|(name, _)| name.to_str())
            .collect();
        for name in NAMES {
            assert!(removed.contains(name), "{name}");
        }
    }
}
