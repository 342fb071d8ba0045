//! Envelopes as messages of NATS and event types as subjects, in both directions.

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use std::fmt;
use tidings_core::cloudevents::binding::{self, Binding, Body, Carried, Incoming, Origin};
use tidings_core::limits::NATS_HEADER_BYTES_MAX;
use tidings_core::{DedupeKey, Envelope, Pattern, Timestamp};

/// What a token of a subject cannot hold, and the escape itself; what is not ASCII is escaped as well.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'*')
    .add(b'>')
    .add(b'%')
    .add(b'\x7f');
/// Stands for a segment without a letter. No type has the control character that it would decode to.
const EMPTY: &str = "%00";
const CONTENT_TYPE: &str = "Content-Type";

/// A message as it was found in the stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) subject: &'a str,
    pub(super) headers: Option<&'a HeaderMap>,
    pub(super) payload: &'a Bytes,
    pub(super) sequence: u64,
    pub(super) timestamp: Option<Timestamp>,
}

/// The subject of an event type: its segments behind the prefix, those of them escaped that a subject cannot hold.
pub(super) fn subject(prefix: &str, event_type: &str) -> String {
    let mut subject = prefix.to_owned();
    for segment in event_type.split('.') {
        subject.push('.');
        subject.push_str(&token(segment));
    }
    subject
}

/// What stands behind the prefix of a subject, printed as the event type that it was made of.
struct SubjectType<'a>(&'a str);

impl<'a> SubjectType<'a> {
    fn of(prefix: &str, subject: &'a str) -> Option<Self> {
        let rest = subject.strip_prefix(prefix)?.strip_prefix('.')?;
        Some(Self(rest))
    }
}

impl fmt::Display for SubjectType<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, token) in self.0.split('.').enumerate() {
            if place > 0 {
                f.write_str(".")?;
            }
            if token != EMPTY {
                f.write_str(&percent_decode_str(token).decode_utf8_lossy())?;
            }
        }
        Ok(())
    }
}

fn token(segment: &str) -> String {
    if segment.is_empty() {
        return EMPTY.to_owned();
    }
    utf8_percent_encode(segment, ESCAPED).to_string()
}

/// Headers and body of an envelope.
pub(super) fn write(envelope: &Envelope) -> (HeaderMap, Bytes) {
    let mut message = Binding::NATS.write(envelope);
    let header_bytes = |(name, value): &(String, String)| name.len() + value.len() + 4;
    if message.headers.iter().map(header_bytes).sum::<usize>() > NATS_HEADER_BYTES_MAX {
        message = binding::structured(envelope);
    }
    let mut headers = HeaderMap::new();
    if let Some(content_type) = message.content_type {
        headers.insert(CONTENT_TYPE, content_type);
    }
    for (name, value) in message.headers {
        headers.insert(name, value);
    }
    headers.insert(NATS_MESSAGE_ID, message_id(envelope));
    (headers, message.body)
}

/// By what JetStream knows a duplicate: the dedupe key in hexadecimal digits.
fn message_id(envelope: &Envelope) -> String {
    let key = DedupeKey::of(envelope);
    let digits = key.as_bytes().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

/// The event that a message carries, or its bytes with the reason why it carries none.
pub(super) fn read(stream: &str, prefix: &str, found: Found<'_>) -> Carried {
    let mut content_type = None;
    let mut headers: Vec<(&str, &[u8])> =
        Vec::with_capacity(found.headers.map_or(0, HeaderMap::len));
    for (name, values) in found.headers.into_iter().flat_map(HeaderMap::iter) {
        let name: &str = name.as_ref();
        for value in values {
            if name.eq_ignore_ascii_case(CONTENT_TYPE) {
                content_type = Some(value.as_str());
            } else {
                headers.push((name, value.as_str().as_bytes()));
            }
        }
    }
    // The client keeps them in a hash map; a stable order makes reading repeatable.
    if binding::order_matters(&headers) {
        headers.sort_unstable();
    }
    let event_type = SubjectType::of(prefix, found.subject);
    Binding::NATS.read(Incoming {
        content_type,
        headers: &headers,
        body: Some(Body::Shared(found.payload)),
        origin: Origin {
            place: &format_args!("{stream}/{}", found.sequence),
            source: &format_args!("nats://{stream}"),
            key: None,
            event_type: event_type.as_ref().map(|text| text as &dyn fmt::Display),
            timestamp: found.timestamp,
        },
    })
}

/// The filters that select at least what the patterns match, without an overlap, which NATS refuses.
///
/// Patterns are matched against the type without its version, so each literal end also takes one token more. Where filters overlap in part, or where the
/// server takes one alone, everything is selected; the runtime filters again.
pub(super) fn filters(prefix: &str, patterns: &[Pattern], several: bool) -> Vec<String> {
    let everything = format!("{prefix}.>");
    let mut wanted: Vec<String> = Vec::new();
    for pattern in patterns {
        let mut filter = prefix.to_owned();
        let mut open_end = false;
        for segment in pattern.as_str().split('.') {
            filter.push('.');
            match segment {
                "*" => filter.push('*'),
                "**" => {
                    filter.push('>');
                    open_end = true;
                }
                literal => filter.push_str(&token(literal)),
            }
        }
        if !open_end {
            wanted.push(format!("{filter}.*"));
        }
        wanted.push(filter);
    }
    wanted.sort_unstable();
    wanted.dedup();
    let smallest: Vec<String> = wanted
        .iter()
        .filter(|filter| {
            !wanted
                .iter()
                .any(|other| other != *filter && covers(other, filter))
        })
        .cloned()
        .collect();
    let overlap = smallest.iter().enumerate().any(|(index, one)| {
        smallest
            .iter()
            .skip(index + 1)
            .any(|other| meet(one, other))
    });
    if smallest.is_empty() || overlap || (smallest.len() > 1 && !several) {
        return vec![everything];
    }
    smallest
}

/// Whether everything that `inner` selects is selected by `outer`.
fn covers(outer: &str, inner: &str) -> bool {
    let mut inner = inner.split('.');
    for token in outer.split('.') {
        match (token, inner.next()) {
            (">", Some(_)) => return true,
            (_, None | Some(">")) => return false,
            ("*", Some(_)) => {}
            (one, Some(other)) if one == other => {}
            _ => return false,
        }
    }
    inner.next().is_none()
}

/// Whether some subject is selected by both.
fn meet(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// The name of a group's consumer: a dot, which NATS cannot have there, is written as an escape.
pub(super) fn consumer_name(group: &str) -> String {
    group.replace('.', "%2E")
}

/// The group of a consumer, if the name can be one.
pub(super) fn group_name(consumer: &str) -> String {
    consumer.replace("%2E", ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_subject_and_comes_back() {
        for (text, expected) in [
            ("order.placed.v2", "e.order.placed.v2"),
            ("a b.*.>", "e.a%20b.%2A.%3E"),
            ("100%.naïve", "e.100%25.na%C3%AFve"),
            ("..", "e.%00.%00.%00"),
        ] {
            assert_eq!(subject("e", text), expected);
            let back = SubjectType::of("e", expected).unwrap();
            assert_eq!(back.to_string(), text);
        }
        assert!(SubjectType::of("e", "other.x").is_none());
    }

    #[test]
    fn patterns_become_filters_that_do_not_overlap() {
        let filters = |patterns: &[&str], several| {
            let patterns: Vec<Pattern> =
                patterns.iter().map(|text| text.parse().unwrap()).collect();
            filters("e", &patterns, several)
        };
        assert_eq!(filters(&["**"], true), ["e.>"]);
        assert_eq!(filters(&["order.**", "order.placed"], true), ["e.order.>"]);
        assert_eq!(
            filters(&["order.placed"], true),
            ["e.order.placed", "e.order.placed.*"]
        );
        assert_eq!(filters(&["order.placed"], false), ["e.>"]);
        assert_eq!(filters(&["*.placed", "order.*"], true), ["e.>"]);
        assert_eq!(
            filters(&["order.**", "stock.**"], true),
            ["e.order.>", "e.stock.>"]
        );
    }

    #[test]
    fn group_names_come_back() {
        assert_eq!(consumer_name("audit.v2"), "audit%2Ev2");
        assert_eq!(group_name("audit%2Ev2"), "audit.v2");
    }
}
