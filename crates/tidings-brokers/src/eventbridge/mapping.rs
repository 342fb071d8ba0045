//! An envelope as an entry of EventBridge, and what its rule put into a queue as an envelope.

use super::exact;
use crate::aws::open::sent_at;
use crate::aws::publishing::check_size;
use aws_sdk_sqs::types::Message;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use tidings_core::broker::PublishError;
use tidings_core::cloudevents::binding::{
    Binding, Body, Carried, FOREIGN_TYPE, Incoming, Origin, structured,
};
use tidings_core::limits::{
    EVENTBRIDGE_RESOURCE_CHARS_MAX, EVENTBRIDGE_SOURCE_CHARS_MAX, EVENTBRIDGE_TYPE_CHARS_MAX,
};
use tidings_core::payload::Carriage;
use tidings_core::{Envelope, EnvelopeParts, ErrorClass, EventType, Payload, Timestamp, codes};

/// The extension that has a payload's text once more, where EventBridge would change its spelling.
const EXACT: &str = "tdgpayload";
/// Bytes that EventBridge counts for the time of an entry.
const TIME_BYTES: usize = 14;

/// An entry that is ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) detail: String,
    pub(crate) detail_type: String,
    pub(crate) source: String,
    /// Where EventBridge can have it: not before 1970.
    pub(crate) time: Option<Timestamp>,
    pub(crate) resource: Option<String>,
    /// What counts against the limits of EventBridge.
    pub(crate) bytes: usize,
}

/// Makes the entry of an event.
///
/// **Errors**: it is larger than what EventBridge takes, or its type is longer.
pub(crate) fn write(envelope: &Envelope, source: &str) -> Result<Outgoing, PublishError> {
    let detail_type = envelope.event_type().as_str().to_owned();
    let characters = detail_type.chars().count();
    if characters > EVENTBRIDGE_TYPE_CHARS_MAX {
        return Err(PublishError::Refused {
            reason: format!(
                "its type has {characters} characters, EventBridge takes {EVENTBRIDGE_TYPE_CHARS_MAX}; give it a shorter one"
            ),
            class: ErrorClass::Permanent,
            code: codes::LIMIT_EXCEEDED,
        });
    }
    let own = envelope.source().filter(|own| {
        let fits = own.chars().count() <= EVENTBRIDGE_SOURCE_CHARS_MAX;
        !own.is_empty() && fits && !own.starts_with("aws.")
    });
    let source = own.unwrap_or(source).to_owned();
    let resource = envelope
        .aggregate_id()
        .filter(|key| !key.is_empty() && key.chars().count() <= EVENTBRIDGE_RESOURCE_CHARS_MAX);
    let resource = resource.map(str::to_owned);
    let time = envelope.timestamp().map(|given| given.instant());
    let beside =
        detail_type.len() + source.len() + TIME_BYTES + resource.as_ref().map_or(0, String::len);
    let plain = || text(&structured(envelope).body);
    let mut detail = match with_exact_payload(envelope) {
        Some(doubled) => text(&structured(&doubled).body),
        None => plain(),
    };
    if check_size("EventBridge", detail.len() + beside).is_err() {
        // Rather the payload in another spelling than no event at all.
        detail = plain();
    }
    let bytes = check_size("EventBridge", detail.len() + beside)?;
    Ok(Outgoing {
        detail,
        detail_type,
        source,
        time: time.filter(|time| time.as_micros() >= 0),
        resource,
        bytes,
    })
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

/// The envelope with its payload's text as an attribute besides, where the payload would come back in another spelling.
fn with_exact_payload(envelope: &Envelope) -> Option<Envelope> {
    if envelope.payload_carriage()? != Carriage::Json {
        return None;
    }
    let payload = std::str::from_utf8(envelope.payload_bytes()).ok()?;
    if exact::survives(payload) {
        return None;
    }
    let mut parts = envelope.parts();
    let quoted = serde_json::to_string(payload).ok()?;
    parts.extensions.push((EXACT.to_owned(), quoted));
    Some(Envelope::trusted(parts))
}

/// What a rule puts into a queue.
#[derive(Debug)]
struct Incomer<'a> {
    members: HashMap<Cow<'a, str>, &'a RawValue>,
}

impl<'a> Incomer<'a> {
    fn of(body: &'a str) -> Option<Self> {
        let members: HashMap<Cow<'a, str>, &'a RawValue> = serde_json::from_str(body).ok()?;
        let incomer = Self { members };
        (incomer.members.contains_key("detail-type") && incomer.members.contains_key("detail"))
            .then_some(incomer)
    }

    fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.members.get(name)?.get()).ok()
    }

    fn detail(&self) -> String {
        let detail = self
            .members
            .get("detail")
            .map_or("null", |detail| detail.get());
        exact::usual(detail).unwrap_or_else(|| detail.to_owned())
    }
}

/// The event of a message: ours, one of AWS or of others, or its bytes and why they are none.
pub(crate) fn read(message: &Message, bus: &str) -> Carried {
    let body = message.body().unwrap_or_default();
    let incomer = Incomer::of(body);
    let detail = incomer.as_ref().map(Incomer::detail);
    let is_ours = detail.as_deref().is_some_and(is_cloud_event);
    if let (Some(incomer), Some(detail)) = (&incomer, &detail)
        && !is_ours
        && let Some(envelope) = foreign(incomer, detail)
    {
        return Carried {
            envelope,
            problem: None,
        };
    }
    let carried = detail.as_deref().filter(|_| is_ours).unwrap_or(body);
    let mut carried = Binding::HTTP.read(Incoming {
        content_type: None,
        headers: &[],
        body: Some(Body::Borrowed(carried.as_bytes())),
        origin: Origin {
            place: &format_args!("sqs:{}", message.message_id().unwrap_or_default()),
            source: &format_args!("eventbridge://{bus}"),
            key: None,
            event_type: None,
            timestamp: sent_at(message),
        },
    });
    if carried.problem.is_none() && carried.envelope.extension(EXACT).is_some() {
        carried.envelope = with_payload_restored(&carried.envelope);
    }
    carried
}

fn is_cloud_event(detail: &str) -> bool {
    let members = serde_json::from_str::<HashMap<Cow<'_, str>, &RawValue>>(detail);
    members.is_ok_and(|members| {
        ["specversion", "id", "source", "type"]
            .iter()
            .all(|name| members.contains_key(*name))
    })
}

/// An event that is no CloudEvent, for example one of `aws.s3`: what EventBridge says of it, and its detail as the payload.
fn foreign(incomer: &Incomer<'_>, detail: &str) -> Option<Envelope> {
    let event_type = incomer.text("detail-type")?;
    let event_type = match EventType::carried(event_type) {
        Ok(event_type) => event_type.as_str().to_owned(),
        Err(_) => FOREIGN_TYPE.to_owned(),
    };
    let mut parts = EnvelopeParts::new(incomer.text("id")?, event_type);
    parts.source = incomer.text("source");
    parts.timestamp = incomer.text("time").and_then(|time| time.parse().ok());
    let resources: Option<Vec<String>> = incomer
        .members
        .get("resources")
        .and_then(|resources| serde_json::from_str(resources.get()).ok());
    parts.aggregate_id = resources.and_then(|resources| resources.into_iter().next());
    parts.payload = Some(Payload::json(detail.as_bytes().to_vec()).ok()?);
    Envelope::new(parts).ok()
}

fn with_payload_restored(envelope: &Envelope) -> Envelope {
    let Some(payload) = envelope.extension_text(EXACT) else {
        return envelope.clone();
    };
    let mut parts = envelope.parts();
    parts.extensions.retain(|(name, _)| name != EXACT);
    if let Ok(payload) = Payload::json(payload.into_bytes()) {
        parts.payload = Some(payload);
    }
    Envelope::trusted(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> Message {
        Message::builder().message_id("m-1").body(body).build()
    }

    #[test]
    fn an_event_of_aws_becomes_an_event_by_what_is_said_of_it() {
        let body = r#"{"version":"0","id":"i-1","detail-type":"Object Created","source":"aws.s3","account":"1","time":"2024-01-15T10:30:00Z","region":"r","resources":["arn:aws:s3:::b"],"detail":{"bucket": {"name":"b"}}}"#;

        let carried = read(&message(body), "events");

        assert_eq!(carried.problem, None);
        let event = carried.envelope;
        assert_eq!((event.event_id(), event.source()), ("i-1", Some("aws.s3")));
        assert_eq!(event.event_type().as_str(), "Object Created");
        assert_eq!(event.aggregate_id(), Some("arn:aws:s3:::b"));
        assert_eq!(event.payload_bytes(), br#"{"bucket":{"name":"b"}}"#);
        assert!(event.timestamp().is_some());
    }

    #[test]
    fn a_payload_comes_back_to_the_letter_whatever_is_done_to_it() {
        for payload in ["1.50", r#"{ "a":1 }"#, r#"{"a":1}"#] {
            let mut parts = EnvelopeParts::new("1", "order.placed");
            parts.source = Some("aws.like".to_owned());
            parts.payload = Some(Payload::json(payload.as_bytes().to_vec()).unwrap());
            let envelope = Envelope::new(parts).unwrap();

            let outgoing = write(&envelope, "tidings").unwrap();
            assert_eq!(outgoing.source, "tidings");
            let parsed: serde_json::Value = serde_json::from_str(&outgoing.detail).unwrap();
            let detail = serde_json::to_string_pretty(&parsed).unwrap();
            let body = format!(r#"{{"id":"x","detail-type":"t","detail":{detail}}}"#);

            assert_eq!(read(&message(&body), "events").envelope, envelope);
        }
    }

    #[test]
    fn what_eventbridge_cannot_take_is_refused_by_name() {
        let long = format!("a.{}", "x".repeat(130));
        let envelope = Envelope::new(EnvelopeParts::new("1", long)).unwrap();
        let error = write(&envelope, "tidings").unwrap_err();
        assert!(
            error.is_about_the_event() && error.to_string().contains("132"),
            "{error}"
        );
        let carried = read(&message("{half"), "events");
        assert!(carried.problem.is_some());
        assert_eq!(carried.envelope.payload_bytes(), b"{half");
    }
}
