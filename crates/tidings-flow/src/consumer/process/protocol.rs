//! The lines that a `--pipe` process answers with: `{"event_id":…,"outcome":…,"after_ms"?,"reason"?,"emit"?:[…]}`.

use super::exit;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;
use tidings_core::envelope_json;
use tidings_core::extract::{Draft, HandlerError, HandlerErrorKind};
use tidings_core::limits::{HANDLER_LINE_BYTES_MAX, RETRY_AFTER_MAX};

/// What a handling ends with: the events to emit, or a failure.
pub(super) type Outcome = Result<Vec<Draft>, HandlerError>;

/// An answer to one event.
#[derive(Debug)]
pub(super) struct Answer {
    /// The event.
    pub(super) event_id: String,
    /// What became of it. An answer that breaks a rule is a transient failure: the handler is at fault, not its event, so that a circuit breaker has to see it.
    pub(super) outcome: Outcome,
    /// Whether the answer kept every rule.
    pub(super) is_valid: bool,
}

/// Reads an answer.
///
/// **Errors**: the rule that is broken, for a line that does not even tell which event it is about.
pub(super) fn read(line: &[u8]) -> Result<Answer, String> {
    let given: Given<'_> = match serde_json::from_slice(line) {
        Ok(given) => given,
        Err(error) => {
            let rule = error
                .to_string()
                .replace(" at line 1 column ", " at character ");
            return match event_id_of(line) {
                Some(event_id) => Ok(broken(event_id, &rule)),
                None => Err(rule),
            };
        }
    };
    let event_id = given.event_id.clone().into_owned();
    Ok(match outcome(given) {
        Ok(outcome) => Answer {
            event_id,
            outcome,
            is_valid: true,
        },
        Err(rule) => broken(event_id, &rule),
    })
}

/// The answer that an over-long line stands for, as far as its beginning tells which event it is about.
///
/// **Errors**: as [`read`].
pub(super) fn read_too_long(start: &[u8]) -> Result<Answer, String> {
    let rule = format!(
        "the line is longer than {HANDLER_LINE_BYTES_MAX} bytes; emit a reference instead of the content"
    );
    match event_id_of(start) {
        Some(event_id) => Ok(broken(event_id, &rule)),
        None => Err(rule),
    }
}

fn broken(event_id: String, rule: &str) -> Answer {
    let message = format!("the handler's answer is not valid: {rule}");
    Answer {
        event_id,
        outcome: Err(HandlerError::transient_message(exit::bounded(&message))),
        is_valid: false,
    }
}

/// The event that a line is about, as far as its beginning tells; the line may be broken or cut behind that.
fn event_id_of(line: &[u8]) -> Option<String> {
    let mut found = None;
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    // It always ends in an error: that is how the search stops.
    let _ = FindEventId(&mut found).deserialize(&mut deserializer);
    found
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given<'a> {
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    outcome: Verb,
    after_ms: Option<u64>,
    reason: Option<String>,
    #[serde(borrow)]
    emit: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verb {
    Ack,
    Retry,
    DeadLetter,
}

fn outcome(given: Given<'_>) -> Result<Outcome, String> {
    let emit = given.emit.unwrap_or_default();
    if given.outcome != Verb::Ack && !emit.is_empty() {
        return Err("emit goes with the outcome \"ack\" only: what fails emits nothing".to_owned());
    }
    let reason = exit::bounded(given.reason.as_deref().unwrap_or_default());
    Ok(match given.outcome {
        Verb::Ack => {
            let mut drafts = Vec::with_capacity(emit.len());
            for (index, text) in emit.into_iter().enumerate() {
                let draft = envelope_json::draft_from_json(text.get().as_bytes())
                    .map_err(|error| format!("emit[{index}] is no event: {error}"))?;
                drafts.push(draft);
            }
            Ok(drafts)
        }
        Verb::Retry => {
            let error = HandlerError::transient_message(if reason.is_empty() {
                "the handler asked for another attempt".to_owned()
            } else {
                reason
            });
            Err(match given.after_ms {
                None => error,
                Some(after_ms) => error.with_kind(HandlerErrorKind::RetryAfter(
                    Duration::from_millis(after_ms).min(RETRY_AFTER_MAX),
                )),
            })
        }
        Verb::DeadLetter => Err(HandlerError::permanent_message(if reason.is_empty() {
            "the handler gave it up without a reason".to_owned()
        } else {
            reason
        })),
    })
}

/// Looks for the first member named `event_id` and stops there.
struct FindEventId<'a>(&'a mut Option<String>);

impl<'de> DeserializeSeed<'de> for FindEventId<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FindEventId<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name == "event_id" {
                *self.0 = Some(map.next_value()?);
                break;
            }
            map.next_value::<IgnoredAny>()?;
        }
        Err(A::Error::custom("the search is over"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(line: &str) -> Answer {
        read(line.as_bytes()).unwrap_or_else(|rule| panic!("{line}: {rule}"))
    }

    fn failure(line: &str) -> HandlerError {
        answer(line).outcome.unwrap_err()
    }

    #[test]
    fn an_ack_carries_what_is_emitted_in_order_and_to_the_letter() {
        let answer = answer(
            r#"{"event_id":"e\u0031","outcome":"ack","emit":[{"event_type":"a.done","payload":{"n":1.0}},{"event_type":"b.done"}]}"#,
        );

        assert_eq!(answer.event_id, "e1");
        assert!(answer.is_valid);
        let drafts = answer.outcome.unwrap();
        assert_eq!(drafts.len(), 2);
        assert_eq!(drafts[0].event_type.as_str(), "a.done");
        assert_eq!(
            drafts[0].payload.as_ref().unwrap().bytes().as_ref(),
            br#"{"n":1.0}"#
        );
        assert_eq!(drafts[1].event_type.as_str(), "b.done");
    }

    #[test]
    fn retry_and_dead_letter_are_failures_with_their_reason() {
        let plain = failure(r#"{"event_id":"a","outcome":"retry","after_ms":null}"#);
        let later =
            failure(r#"{"event_id":"a","outcome":"retry","after_ms":1500,"reason":"busy"}"#);
        let never =
            failure(r#"{"event_id":"a","outcome":"retry","after_ms":18446744073709551615}"#);
        let dead = failure(r#"{"event_id":"a","outcome":"dead_letter","reason":"no such user"}"#);

        assert_eq!(plain.kind(), HandlerErrorKind::Transient);
        assert_eq!(
            later.kind(),
            HandlerErrorKind::RetryAfter(Duration::from_millis(1_500))
        );
        assert_eq!(later.chain(), ["busy"]);
        assert_eq!(never.kind(), HandlerErrorKind::RetryAfter(RETRY_AFTER_MAX));
        assert_eq!(dead.kind(), HandlerErrorKind::Permanent);
        assert_eq!(dead.chain(), ["no such user"]);
    }

    #[test]
    fn an_answer_that_breaks_a_rule_is_a_transient_failure_of_its_event() {
        for (line, word) in [
            (
                r#"{"event_id":"a","outcome":"done"}"#,
                "unknown variant `done`",
            ),
            (r#"{"event_id":"a"}"#, "missing field `outcome`"),
            (
                r#"{"event_id":"a","outcome":"ack","emits":[]}"#,
                "unknown field `emits`",
            ),
            (
                r#"{"event_id":"a","outcome":"ack","outcome":"retry"}"#,
                "duplicate field",
            ),
            (r#"{"event_id":"a","outcome":"retry","after_ms":-1}"#, "-1"),
            (
                r#"{"event_id":"a","outcome":"ack","emit":[{"payload":1}]}"#,
                "emit[0]",
            ),
            (
                r#"{"event_id":"a","outcome":"retry","emit":[{"event_type":"x.done"}]}"#,
                "\"ack\" only",
            ),
            (r#"{"event_id":"a","outcome":"ack""#, "EOF"),
            (
                r#"{"emit":[{}],"event_id":"a","outcome":ack}"#,
                "expected value",
            ),
        ] {
            let answer = answer(line);
            assert_eq!(answer.event_id, "a", "{line}");
            assert!(!answer.is_valid, "{line}");
            let error = answer.outcome.unwrap_err();
            assert_eq!(error.kind(), HandlerErrorKind::Transient, "{line}");
            assert!(error.chain()[0].contains(word), "{line}: {error:?}");
        }
    }

    #[test]
    fn a_line_that_names_no_event_is_refused_as_a_whole() {
        for line in [
            "hello",
            "{}",
            "[]",
            "1",
            r#"{"event_id":7}"#,
            "{\"event_id\":\"a",
            "\u{fffd}",
        ] {
            assert!(read(line.as_bytes()).is_err(), "{line}");
        }
        assert!(read(b"\xff\xfe").is_err());
    }

    #[test]
    fn the_beginning_of_an_over_long_line_tells_its_event() {
        assert_eq!(
            event_id_of(br#"{"outcome":"ack","event_id":"a","emit":[{"payload":"xxx"#),
            Some("a".to_owned())
        );
        assert_eq!(event_id_of(br#"{"emit":[{"payload":"xxx"#), None);
    }
}
