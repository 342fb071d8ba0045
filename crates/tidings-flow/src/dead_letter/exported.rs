//! A dead letter as an event for elsewhere: as it was given, with who gave it up and why as attributes that are legal in CloudEvents.

use tidings_core::Envelope;
use tidings_core::store::Letter;

/// The group that gave the event up.
const CONSUMER: &str = "tdgconsumer";
/// Why the last attempt failed.
const ERROR: &str = "tdgerror";
/// How many attempts there were.
const ATTEMPTS: &str = "tdgattempts";
/// When the first attempt failed.
const FIRST_FAILURE: &str = "tdgfirstfailure";
/// Where the event stood.
const ORIGIN: &str = "tdgorigin";

/// The event with the attributes `tdg…`; those that it has already under these names are replaced.
pub fn exported(letter: &Letter) -> Envelope {
    let mut parts = letter.envelope.parts();
    let names = [CONSUMER, ERROR, ATTEMPTS, FIRST_FAILURE, ORIGIN];
    parts
        .extensions
        .retain(|(name, _)| !names.contains(&name.as_str()));
    let mut add = |name: &str, value: String| {
        let text = serde_json::to_string(&value).unwrap_or_default();
        parts.extensions.push((name.to_owned(), text));
    };
    // A control character is allowed in no attribute.
    let error = letter.reasons.join(": ");
    add(CONSUMER, letter.group.clone());
    add(ERROR, error.replace(char::is_control, " "));
    add(ATTEMPTS, letter.attempts.to_string());
    if let Some(first) = letter.first_failed {
        add(FIRST_FAILURE, first.to_string());
    }
    if let Some(position) = letter.position {
        add(ORIGIN, position.to_string());
    }
    Envelope::trusted(parts)
}
