//! Names on AWS: queues and rules of groups, ids of ordered messages, and what a subscription filters by.

use crate::BrokerUrl;
use serde_json::{Value, json};
use std::borrow::Cow;
use tidings_core::Pattern;
use tidings_core::broker::BrokerError;
use tidings_core::event_id::DedupeKey;
use tidings_core::limits::{AWS_GROUP_ID_CHARS_MAX, SQS_NAME_CHARS_MAX};

/// How names of ordered topics and queues end.
pub(crate) const FIFO: &str = ".fifo";
/// Characters of the mark of a name that could not be taken as it is.
const MARK_CHARS: usize = 8;

/// Characters of a prefix: the rest of a queue's name must still tell groups apart.
pub(crate) const PREFIX_CHARS_MAX: usize = 40;

/// Refuses a name in a URL that AWS would not take.
pub(crate) fn check_name(
    url: &BrokerUrl,
    parameter: &str,
    name: &str,
    chars_max: usize,
) -> Result<(), BrokerError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !name.is_empty() && name.len() <= chars_max && name.bytes().all(plain) {
        return Ok(());
    }
    Err(url.invalid(format!(
        "{parameter}={name}: use 1 to {chars_max} letters, digits, '-' and '_'"
    )))
}

/// The name of the queue of a group: the prefix and the group's name, with a mark where that name had to be changed.
pub(crate) fn queue_name(prefix: &str, group: &str, fifo: bool) -> String {
    let ending = if fifo { FIFO } else { "" };
    let name = fitting(prefix, group, SQS_NAME_CHARS_MAX - ending.len());
    format!("{name}{ending}")
}

/// Prefix and name within so many characters, of letters, digits, `-` and `_` alone.
pub(crate) fn fitting(prefix: &str, name: &str, chars_max: usize) -> String {
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
                c
            } else {
                '-'
            }
        })
        .collect();
    let room = chars_max.saturating_sub(prefix.len());
    if plain == name && plain.len() <= room {
        return format!("{prefix}{name}");
    }
    let mark = hex(DedupeKey::from_id(name, Some("tidings queue")).as_bytes());
    let mark = mark.get(..MARK_CHARS).unwrap_or_default();
    let kept = room.saturating_sub(MARK_CHARS + 1);
    let plain = plain.get(..kept.min(plain.len())).unwrap_or_default();
    format!("{prefix}{plain}-{mark}")
}

/// The id of a message group: the key itself where AWS can have it, else a digest of it.
#[cfg_attr(
    not(feature = "sns_sqs"),
    allow(dead_code, reason = "SNS alone needs it")
)]
pub(crate) fn message_group(key: &str) -> Cow<'_, str> {
    let fits = !key.is_empty()
        && key.len() <= AWS_GROUP_ID_CHARS_MAX
        && key.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        return Cow::Borrowed(key);
    }
    let digest = hex(DedupeKey::from_id(key, Some("tidings key")).as_bytes());
    Cow::Owned(format!("key-{digest}"))
}

/// The id by which AWS knows a message that is sent twice.
#[cfg_attr(
    not(feature = "sns_sqs"),
    allow(dead_code, reason = "SNS alone needs it")
)]
pub(crate) fn deduplication(key: &DedupeKey) -> String {
    hex(key.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What patterns come to as matchers of a type, for SNS and EventBridge alike; `None` where everything must come.
///
/// They select more than the patterns: a version suffix looks like one more segment, and `*` like `**`.
pub(crate) fn matchers(patterns: &[Pattern]) -> Option<Vec<Value>> {
    let mut matchers: Vec<Value> = Vec::new();
    for pattern in patterns {
        let text = pattern.as_str();
        let literal = match text.find('*') {
            None => text,
            Some(at) => text.get(..at).unwrap_or_default(),
        };
        if literal.is_empty() {
            return None;
        }
        let mut found = Vec::new();
        if literal.len() == text.len() {
            found.push(json!(text));
            found.push(json!({"prefix": format!("{text}.v")}));
        } else {
            found.push(json!({"prefix": literal}));
        }
        for matcher in found {
            if !matchers.contains(&matcher) {
                matchers.push(matcher);
            }
        }
    }
    (!matchers.is_empty()).then_some(matchers)
}

/// The patterns that matchers stand for, as near as they tell.
pub(crate) fn patterns(matchers: &[Value]) -> Vec<Pattern> {
    let mut patterns: Vec<Pattern> = Vec::new();
    for matcher in matchers {
        let text = match matcher {
            Value::String(text) => text.clone(),
            other => match other.get("prefix").and_then(Value::as_str) {
                Some(prefix) if prefix.ends_with('.') => format!("{prefix}**"),
                // The versions of a type that stands beside it.
                _ => continue,
            },
        };
        if let Ok(pattern) = text.parse() {
            patterns.push(pattern);
        }
    }
    if patterns.is_empty() {
        patterns.push(Pattern::everything());
    }
    patterns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_named_after_its_group_and_marked_where_it_cannot() {
        assert_eq!(queue_name("events-", "stock", false), "events-stock");
        assert_eq!(queue_name("events-", "stock", true), "events-stock.fifo");
        let dotted = queue_name("events-", "stock.v2", false);
        assert!(dotted.starts_with("events-stock-v2-"), "{dotted}");
        assert_ne!(dotted, queue_name("events-", "stock-v2", false));
        let long = queue_name("events-", &"x".repeat(120), true);
        assert_eq!(long.len(), SQS_NAME_CHARS_MAX);
        assert_ne!(long, queue_name("events-", &"x".repeat(119), true));
    }

    #[test]
    fn keys_that_aws_cannot_have_become_digests() {
        assert_eq!(message_group("order-1"), "order-1");
        for key in ["", "a b", "naïve", &"x".repeat(129)] {
            let group = message_group(key);
            assert!(group.starts_with("key-") && group.len() == 36, "{group}");
        }
        assert_ne!(message_group("a b"), message_group("a c"));
    }

    #[test]
    fn patterns_become_exact_names_and_prefixes() {
        let parse = |texts: &[&str]| -> Vec<Pattern> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let given = parse(&["order.placed", "payment.**", "stock.*.moved"]);

        let found = matchers(&given).unwrap();

        let expected = json!(["order.placed", {"prefix": "order.placed.v"}, {"prefix": "payment."}, {"prefix": "stock."}]);
        assert_eq!(Value::from(found.clone()), expected);
        let back = patterns(&found);
        assert_eq!(back, parse(&["order.placed", "payment.**", "stock.**"]));
        assert_eq!(matchers(&parse(&["order.placed", "**"])), None);
        assert_eq!(matchers(&[]), None);
    }
}
