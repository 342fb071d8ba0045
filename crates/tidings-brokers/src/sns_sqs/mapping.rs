//! An envelope as a message of SNS, and a message of SQS as an envelope: the structured CloudEvent is the body, and what filters look at stands beside it.

use crate::aws::open::sent_at;
use crate::aws::publishing::check_size;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use std::fmt::Display;
use tidings_core::Envelope;
use tidings_core::broker::PublishError;
use tidings_core::cloudevents::binding::{Binding, Body, Carried, Incoming, Origin, structured};

/// The attribute that subscriptions filter by.
pub(crate) const TYPE: &str = "type";
/// The data type of an attribute, which counts against the size of a message.
const STRING: &str = "String";

/// A message that is ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) body: String,
    pub(crate) attributes: Vec<(&'static str, String)>,
    /// What counts against the limits of SNS.
    pub(crate) bytes: usize,
}

/// Makes the message of an event.
///
/// **Errors**: it is larger than what SNS takes.
pub(crate) fn write(envelope: &Envelope) -> Result<Outgoing, PublishError> {
    let body = structured(envelope).body;
    let body = escaped(String::from_utf8_lossy(&body).into_owned());
    let event_type = envelope.event_type();
    let given = [
        (TYPE, Some(event_type.as_str())),
        ("source", envelope.source()),
        ("subject", envelope.aggregate_id()),
        ("correlationid", envelope.correlation_id_given()),
    ];
    let attributes: Vec<_> = given
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .filter(|(_, value)| !value.is_empty() && value.chars().all(is_legal))
        .map(|(name, value)| (name, value.to_owned()))
        .collect();
    let beside = attributes
        .iter()
        .map(|(name, value)| name.len() + STRING.len() + value.len());
    let bytes = check_size("SNS", body.len() + beside.sum::<usize>())?;
    Ok(Outgoing {
        body,
        attributes,
        bytes,
    })
}

/// The event of a message, or its bytes and why they are none.
pub(crate) fn read(message: &Message, topic: &str) -> Carried {
    let body = message.body().unwrap_or_default().as_bytes();
    let event_type = message
        .message_attributes()
        .and_then(|attributes| attributes.get(TYPE))
        .and_then(|value| value.string_value());
    let key = message
        .attributes()
        .and_then(|attributes| attributes.get(&MessageSystemAttributeName::MessageGroupId));
    Binding::HTTP.read(Incoming {
        content_type: None,
        headers: &[],
        body: Some(Body::Borrowed(body)),
        origin: Origin {
            place: &format_args!("sqs:{}", message.message_id().unwrap_or_default()),
            source: &format_args!("sns://{topic}"),
            key: key.map(String::as_str),
            event_type: event_type.as_ref().map(|text| text as &dyn Display),
            timestamp: sent_at(message),
        },
    })
}

/// Whether SNS and SQS take a character.
fn is_legal(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

/// JSON without the two characters that SNS and SQS do not take and that JSON lets stand as they are.
fn escaped(json: String) -> String {
    if json.contains(['\u{fffe}', '\u{ffff}']) {
        json.replace('\u{fffe}', "\\ufffe")
            .replace('\u{ffff}', "\\uffff")
    } else {
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_core::limits::{AWS_MESSAGE_BYTES_MAX, AWS_PAYLOAD_BYTES_MAX};
    use tidings_core::{EnvelopeParts, Payload, codes};

    fn message(body: &str) -> Message {
        Message::builder().message_id("m-1").body(body).build()
    }

    #[test]
    fn what_filters_look_at_stands_beside_the_event() {
        let mut parts = EnvelopeParts::new("1", "order.placed.v2");
        parts.source = Some("/shop".to_owned());
        parts.aggregate_id = Some("with \u{ffff}".to_owned());
        parts.payload = Some(Payload::json("\"\u{fffe}\"").unwrap());
        let envelope = Envelope::new(parts).unwrap();

        let outgoing = write(&envelope).unwrap();

        let expected = [
            ("type", "order.placed.v2".to_owned()),
            ("source", "/shop".to_owned()),
        ];
        assert_eq!(outgoing.attributes, expected);
        assert!(outgoing.body.chars().all(is_legal), "{}", outgoing.body);
        let back = read(&message(&outgoing.body), "events").envelope;
        assert_eq!(back.aggregate_id(), envelope.aggregate_id());
        assert_eq!(back.payload_bytes(), b"\"\\ufffe\"");
    }

    #[test]
    fn an_event_beyond_the_limit_is_refused_by_name() {
        let event = |bytes: usize| {
            let mut parts = EnvelopeParts::new("1", "order.placed");
            parts.payload = Some(Payload::binary(vec![0; bytes]));
            Envelope::new(parts).unwrap()
        };
        assert!(write(&event(AWS_PAYLOAD_BYTES_MAX)).is_ok());
        let error = write(&event(AWS_MESSAGE_BYTES_MAX)).unwrap_err();
        assert_eq!(error.code(), codes::LIMIT_EXCEEDED);
        assert!(error.is_about_the_event() && error.to_string().contains("262144"));
    }

    #[test]
    fn a_body_that_is_no_event_keeps_its_bytes() {
        let carried = read(&message("not json"), "events");
        assert_eq!(carried.envelope.payload_bytes(), b"not json");
        assert_eq!(carried.envelope.event_id(), "sqs:m-1");
        assert!(carried.problem.unwrap().contains("JSON"));
        let foreign = read(&message(r#"{"a": 1}"#), "events");
        assert_eq!(foreign.problem, None);
        assert_eq!(foreign.envelope.source(), Some("sns://events"));
    }
}
