//! A dead letter as programs see it.

use serde::Serialize;
use serde_json::value::RawValue;
use tidings::core::envelope_json;
use tidings::core::store::{Letter, OperatorAction};

/// A dead letter as lists show it.
#[derive(Debug, Serialize)]
pub(super) struct Row<'a> {
    event_id: &'a str,
    event_type: String,
    aggregate_id: Option<&'a str>,
    consumer: &'a str,
    pub(super) reason: &'a str,
    attempts: u32,
    status: &'static str,
    recorded_at: String,
    position: Option<u64>,
    letter: &'a str,
    cluster: &'a str,
    deaths: u32,
    redrives: u32,
    holds: bool,
    correlation_id: &'a str,
}

impl<'a> Row<'a> {
    pub(super) fn new(letter: &'a Letter) -> Self {
        let envelope = &letter.envelope;
        Self {
            event_id: envelope.event_id(),
            event_type: envelope.event_type().to_string(),
            aggregate_id: envelope.aggregate_id(),
            consumer: &letter.group,
            reason: letter.reasons.first().map_or("", String::as_str),
            attempts: letter.attempts,
            status: letter.status.as_str(),
            recorded_at: letter.died.to_string(),
            position: letter.position,
            letter: &letter.id,
            cluster: &letter.fingerprint,
            deaths: letter.deaths,
            redrives: letter.redrives,
            holds: letter.holds,
            correlation_id: envelope.correlation_id(),
        }
    }
}

/// A dead letter with everything that is known of it.
#[derive(Debug, Serialize)]
pub(super) struct Whole<'a> {
    #[serde(flatten)]
    row: Row<'a>,
    handler: &'a str,
    cause: &'a str,
    problem: Option<&'a str>,
    reasons: &'a [String],
    history: Vec<Attempt<'a>>,
    code_version: &'a str,
    first_failed_at: Option<String>,
    first_recorded_at: String,
    changed_at: String,
    decided_by: Option<&'a str>,
    decided_why: Option<&'a str>,
    actions: Vec<Action<'a>>,
    envelope: Option<Box<RawValue>>,
    copy: Option<Box<RawValue>>,
}

/// An attempt that failed.
#[derive(Debug, Serialize)]
struct Attempt<'a> {
    attempt: u32,
    at: String,
    error: &'a str,
}

/// What a person did.
#[derive(Debug, Serialize)]
struct Action<'a> {
    at: String,
    actor: &'a str,
    action: &'a str,
    reason: &'a str,
    detail: Option<Box<RawValue>>,
}

impl<'a> Whole<'a> {
    pub(super) fn new(letter: &'a Letter, actions: &'a [OperatorAction]) -> Self {
        let raw = |json: String| RawValue::from_string(json).ok();
        let history = letter.history.iter().map(|failed| Attempt {
            attempt: failed.attempt,
            at: failed.at.to_string(),
            error: &failed.error,
        });
        let actions = actions.iter().map(|action| Action {
            at: action.at.to_string(),
            actor: &action.actor,
            action: &action.action,
            reason: &action.reason,
            detail: raw(action.detail.clone()),
        });
        let edited = letter.edited.as_ref();
        Self {
            row: Row::new(letter),
            handler: &letter.handler,
            cause: &letter.cause,
            problem: letter.problem.as_deref(),
            reasons: &letter.reasons,
            history: history.collect(),
            code_version: &letter.code_version,
            first_failed_at: letter.first_failed.map(|time| time.to_string()),
            first_recorded_at: letter.first_died.to_string(),
            changed_at: letter.changed.to_string(),
            decided_by: letter.decided_by.as_deref(),
            decided_why: letter.decided_why.as_deref(),
            actions: actions.collect(),
            envelope: raw(envelope_json::to_json(&letter.envelope)),
            copy: edited.and_then(|copy| raw(envelope_json::to_json(copy))),
        }
    }
}

/// A message in one line of a table.
pub(super) fn brief(message: &str) -> String {
    let letters = message.chars().take(100);
    letters
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}
