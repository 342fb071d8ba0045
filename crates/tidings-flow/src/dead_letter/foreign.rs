//! Dead letters of other products, read by the headers that those put on a message: Spring for Kafka, Kafka Connect, RabbitMQ, Watermill.
//!
//! A message becomes a letter of the group that its headers name, or of one that is told; the event in it is read as any message of a broker is.

use super::fingerprint;
use super::record::{cut_chain, fact_id};
use serde_json::Value;
use std::fmt;
use tidings_core::broker::GroupName;
use tidings_core::cloudevents::binding::{Binding, Body, Carried, Incoming, Origin};
use tidings_core::store::{FailedAttempt, ForeignLetter, LaneId, ParkedDelivery, ParkedId};
use tidings_core::{Code, EventType, Timestamp, codes};

/// Headers of Spring for Kafka, whose `DeadLetterPublishingRecoverer` writes numbers as big-endian bytes.
const SPRING: &str = "kafka_dlt-";
/// Headers of Kafka Connect with `errors.deadletterqueue.context.headers.enable`.
const CONNECT: &str = "__connect.errors.";
/// The header of RabbitMQ: a list of tables, the newest death first.
const X_DEATH: &str = "x-death";
/// Where RabbitMQ names the first death.
const X_FIRST_DEATH: &str = "x-first-death-";
/// The reason of Watermill's poison queue.
const WATERMILL_REASON: &str = "reason_poisoned";

/// A message of a dead-letter topic or queue.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ForeignMessage {
    /// Its headers.
    pub headers: Vec<(String, HeaderValue)>,
    /// Its key or routing key.
    pub key: Option<String>,
    /// Its body.
    pub payload: Option<Vec<u8>>,
    /// Where it was found: the topic or queue, and the place in it.
    pub place: String,
    /// When the broker took it, if that is known.
    pub timestamp: Option<Timestamp>,
}

/// The value of a header: bytes, or for AMQP a table.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderValue {
    /// Bytes, also of a text.
    Bytes(Vec<u8>),
    /// A list or a table.
    Table(Value),
}

/// What wrote a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignOrigin {
    /// Spring for Apache Kafka.
    Spring,
    /// Kafka Connect.
    Connect,
    /// RabbitMQ's dead-letter exchange.
    RabbitMq,
    /// Watermill's poison queue.
    Watermill,
}

/// Why a message is no dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForeignError {
    /// It has none of the headers that are known.
    #[error(
        "the message {place} has no header of a dead letter: neither {SPRING}…, {CONNECT}…, {X_DEATH} nor {WATERMILL_REASON}"
    )]
    NoDeadLetter {
        /// Where it was found.
        place: String,
    },
    /// It does not say whose it is, or what it says is no name of a group.
    #[error("the message {place} does not say which group gave it up{}; tell it", told(.said))]
    NoGroup {
        /// Where it was found.
        place: String,
        /// What it says.
        said: Option<String>,
    },
}

fn told(said: &Option<String>) -> String {
    said.as_ref().map_or_else(String::new, |said| {
        format!(": {said:?} is no name of a group")
    })
}

impl ForeignError {
    /// The stable code.
    pub fn code(&self) -> Code {
        codes::FOREIGN_LETTER_UNREADABLE
    }
}

/// What the headers tell.
#[derive(Debug, Default)]
struct Told {
    group: Option<String>,
    /// Topic or queue, and place in it, before it was given up.
    source: Option<String>,
    /// What says the type of an event that says none itself.
    event_type: Option<String>,
    partition: Option<String>,
    offset: Option<String>,
    reasons: Vec<String>,
    cause: Option<String>,
    attempts: Option<u32>,
    time: Option<Timestamp>,
}

/// Reads a dead letter of another product. `group` overrides what the headers say; `event_type` is the type of an event that says none.
///
/// **Errors**: [`ForeignError`]; a message whose body is no event becomes a letter with its bytes and the reason.
pub fn foreign(
    message: &ForeignMessage,
    group: Option<&GroupName>,
    event_type: Option<&EventType>,
) -> Result<(ForeignOrigin, ForeignLetter), ForeignError> {
    let place = || message.place.clone();
    let (origin, told) =
        headers_of(message).ok_or_else(|| ForeignError::NoDeadLetter { place: place() })?;
    let group = match (group, &told.group) {
        (Some(group), _) => group.clone(),
        (None, Some(said)) => said.parse().map_err(|_| ForeignError::NoGroup {
            place: place(),
            said: Some(said.clone()),
        })?,
        (None, None) => {
            return Err(ForeignError::NoGroup {
                place: place(),
                said: None,
            });
        }
    };
    Ok((
        origin,
        letter(message, (origin, told), group.as_str(), event_type),
    ))
}

fn letter(
    message: &ForeignMessage,
    (origin, told): (ForeignOrigin, Told),
    group: &str,
    event_type: Option<&EventType>,
) -> ForeignLetter {
    let carried = event_of(message, (origin, &told), event_type);
    let died = message.timestamp.or(told.time);
    let envelope = carried.envelope;
    let attempts = told.attempts.unwrap_or(1);
    let reasons = cut_chain(&told.reasons);
    let history = told.time.map(|at| FailedAttempt {
        attempt: attempts,
        at,
        error: reasons.join(": "),
    });
    ForeignLetter {
        id: fact_id(&envelope, group, 0),
        group: group.to_owned(),
        fingerprint: fingerprint("", &reasons),
        delivery: ParkedDelivery {
            id: ParkedId(0),
            lead: 0,
            lane: LaneId::of(&envelope),
            envelope,
            problem: carried.problem,
            position: None,
            attempts,
            rounds: 0,
            deaths: 0,
            history: history.into_iter().collect(),
            due: None,
            letter: None,
        },
        handler: String::new(),
        reasons,
        cause: told.cause.unwrap_or_else(|| "attempts".to_owned()),
        died: died.unwrap_or_default(),
    }
}

/// The event that a message carries, read as any message of its broker.
fn event_of(
    message: &ForeignMessage,
    (origin, told): (ForeignOrigin, &Told),
    event_type: Option<&EventType>,
) -> Carried {
    let original = match (&told.source, &told.partition, &told.offset) {
        (Some(source), Some(partition), Some(offset)) => format!("{source}/{partition}/{offset}"),
        _ => message.place.clone(),
    };
    let source = told.source.as_deref().unwrap_or(&message.place);
    let headers: Vec<(&str, &[u8])> = message
        .headers
        .iter()
        .filter_map(|(name, value)| match value {
            HeaderValue::Bytes(bytes) => Some((name.as_str(), bytes.as_slice())),
            HeaderValue::Table(_) => None,
        })
        .collect();
    let content_type = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        .and_then(|(_, value)| std::str::from_utf8(value).ok());
    let binding = match origin {
        ForeignOrigin::RabbitMq => Binding::RABBITMQ,
        ForeignOrigin::Spring | ForeignOrigin::Connect | ForeignOrigin::Watermill => Binding::KAFKA,
    };
    let said = told.event_type.as_ref();
    let event_type = match event_type {
        Some(event_type) => Some(event_type as &dyn fmt::Display),
        None => said.map(|said| said as &dyn fmt::Display),
    };
    binding.read(Incoming {
        content_type,
        headers: &headers,
        body: message.payload.as_deref().map(Body::Borrowed),
        origin: Origin {
            place: &original,
            source: &source,
            key: message.key.as_deref(),
            event_type,
            timestamp: told.time.or(message.timestamp),
        },
    })
}

fn headers_of(message: &ForeignMessage) -> Option<(ForeignOrigin, Told)> {
    let has = |prefix: &str| {
        let mut names = message.headers.iter();
        names.any(|(name, _)| name.starts_with(prefix))
    };
    if has(SPRING) {
        Some((ForeignOrigin::Spring, spring(message)))
    } else if has(CONNECT) {
        Some((ForeignOrigin::Connect, connect(message)))
    } else if has(X_DEATH) || has(X_FIRST_DEATH) {
        Some((ForeignOrigin::RabbitMq, rabbitmq(message)))
    } else if has(WATERMILL_REASON) {
        Some((ForeignOrigin::Watermill, watermill(message)))
    } else {
        None
    }
}

fn spring(message: &ForeignMessage) -> Told {
    let text = |name: &str| message.text(&format!("{SPRING}{name}"));
    let number = |name: &str| message.number(&format!("{SPRING}{name}"));
    let exception = text("exception-fqcn");
    let mut reasons = Vec::new();
    match (exception, text("exception-message")) {
        (Some(class), Some(message)) => reasons.push(format!("{class}: {message}")),
        (Some(one), None) | (None, Some(one)) => reasons.push(one),
        (None, None) => reasons.push("no exception is told".to_owned()),
    }
    reasons.extend(text("exception-cause-fqcn"));
    Told {
        group: text("original-consumer-group"),
        source: text("original-topic"),
        partition: number("original-partition").map(|number| number.to_string()),
        offset: number("original-offset").map(|number| number.to_string()),
        reasons,
        attempts: message
            .number("retry_topic-attempts")
            .and_then(|number| u32::try_from(number).ok()),
        time: number("original-timestamp").map(millis),
        ..Told::default()
    }
}

fn connect(message: &ForeignMessage) -> Told {
    let text = |name: &str| message.text(&format!("{CONNECT}{name}"));
    let mut reasons = Vec::new();
    match (text("exception.class.name"), text("exception.message")) {
        (Some(class), Some(message)) => reasons.push(format!("{class}: {message}")),
        (Some(one), None) | (None, Some(one)) => reasons.push(one),
        (None, None) => reasons.push("no exception is told".to_owned()),
    }
    let stage = text("stage").map(|stage| format!("at the stage {stage}"));
    reasons.extend(stage);
    Told {
        group: text("connector.name"),
        source: text("topic"),
        partition: text("partition"),
        offset: text("offset"),
        reasons,
        ..Told::default()
    }
}

fn rabbitmq(message: &ForeignMessage) -> Told {
    let deaths = match message.value(X_DEATH) {
        Some(HeaderValue::Table(deaths)) => deaths.clone(),
        // As tools print it.
        Some(HeaderValue::Bytes(bytes)) => serde_json::from_slice(bytes).unwrap_or_default(),
        None => Value::Null,
    };
    let newest = deaths.get(0).unwrap_or(&deaths);
    let of = |name: &str| match newest.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Null) | None => None,
        Some(other) => Some(other.to_string()),
    };
    let first = |name: &str| message.text(&format!("{X_FIRST_DEATH}{name}"));
    let reason = of("reason").or_else(|| first("reason"));
    let queue = of("queue").or_else(|| first("queue"));
    let reason = reason.unwrap_or_else(|| "dead".to_owned());
    let place = queue.as_deref().unwrap_or("a queue");
    let cause = match reason.as_str() {
        "expired" => "age",
        "rejected" => "permanent",
        _ => "attempts",
    };
    Told {
        group: queue.clone(),
        // As a consumer of the queue takes it.
        event_type: newest
            .pointer("/routing-keys/0")
            .and_then(Value::as_str)
            .map(str::to_owned),
        reasons: vec![format!("{reason} in {place}")],
        source: queue,
        attempts: of("count").and_then(|count| count.parse().ok()),
        time: of("time").and_then(|time| moment(&time)),
        cause: Some(cause.to_owned()),
        ..Told::default()
    }
}

fn watermill(message: &ForeignMessage) -> Told {
    let text = |name: &str| message.text(name);
    Told {
        group: text("handler_poisoned").or_else(|| text("subscriber_poisoned")),
        source: text("topic_poisoned"),
        reasons: text(WATERMILL_REASON).into_iter().collect(),
        ..Told::default()
    }
}

/// A time as RFC 3339, or as seconds or milliseconds since 1970.
fn moment(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let number = text.parse::<i64>().ok()?;
    // Seconds until the year 5138.
    Some(if number < 100_000_000_000 {
        millis(number.saturating_mul(1_000))
    } else {
        millis(number)
    })
}

fn millis(since_1970: i64) -> Timestamp {
    Timestamp::from_micros(since_1970.saturating_mul(1_000))
}

impl ForeignMessage {
    fn value(&self, name: &str) -> Option<&HeaderValue> {
        let mut headers = self.headers.iter();
        headers
            .find(|(given, _)| given == name)
            .map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            HeaderValue::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            HeaderValue::Table(value) => Some(value.to_string()),
        }
    }

    /// A number as Java writes it, four or eight bytes with the highest first, or as a text.
    fn number(&self, name: &str) -> Option<i64> {
        let HeaderValue::Bytes(bytes) = self.value(name)? else {
            return None;
        };
        let text = std::str::from_utf8(bytes).ok();
        if let Some(number) = text.and_then(|text| text.parse().ok()) {
            return Some(number);
        }
        match *bytes.as_slice() {
            [a, b, c, d] => Some(i32::from_be_bytes([a, b, c, d]).into()),
            [a, b, c, d, e, f, g, h] => Some(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(name: &str, value: impl AsRef<[u8]>) -> (String, HeaderValue) {
        let value = HeaderValue::Bytes(value.as_ref().to_vec());
        (name.to_owned(), value)
    }

    fn message(headers: Vec<(String, HeaderValue)>) -> ForeignMessage {
        ForeignMessage {
            headers,
            key: Some("order-123".to_owned()),
            payload: Some(br#"{"order_id":"order-123","total":59.980}"#.to_vec()),
            place: "orders.DLT/0/7".to_owned(),
            timestamp: Some(millis(1_700_000_100_000)),
        }
    }

    #[test]
    fn spring_tells_topic_group_and_exception_in_bytes() {
        let headers = vec![
            bytes("kafka_dlt-original-topic", "orders"),
            bytes("kafka_dlt-original-partition", 3_i32.to_be_bytes()),
            bytes("kafka_dlt-original-offset", 1_042_i64.to_be_bytes()),
            bytes(
                "kafka_dlt-original-timestamp",
                1_700_000_000_000_i64.to_be_bytes(),
            ),
            bytes("kafka_dlt-original-consumer-group", "shipping"),
            bytes(
                "kafka_dlt-exception-fqcn",
                "org.springframework.kafka.listener.ListenerExecutionFailedException",
            ),
            bytes("kafka_dlt-exception-message", "no stock of PROD-001"),
            bytes(
                "kafka_dlt-exception-cause-fqcn",
                "java.lang.IllegalStateException",
            ),
            bytes("retry_topic-attempts", 4_i32.to_be_bytes()),
        ];

        let (origin, letter) = foreign(&message(headers.clone()), None, None).unwrap();

        assert_eq!(origin, ForeignOrigin::Spring);
        assert_eq!(letter.group, "shipping");
        assert_eq!(letter.reasons.len(), 2, "{:?}", letter.reasons);
        assert!(letter.reasons[0].ends_with("no stock of PROD-001"));
        let event = &letter.delivery.envelope;
        assert_eq!(event.aggregate_id(), Some("order-123"));
        assert_eq!(
            event.event_id(),
            "orders/3/1042",
            "its place before it died"
        );
        assert_eq!(
            event.payload_bytes(),
            br#"{"order_id":"order-123","total":59.980}"#
        );
        assert_eq!(letter.delivery.attempts, 4);
        assert_eq!(letter.delivery.problem, None);
        let again = foreign(&message(headers), None, None).unwrap().1;
        assert_eq!(again.id, letter.id, "it is taken over once");
    }

    #[test]
    fn kafka_connect_tells_connector_and_stage() {
        let headers = vec![
            bytes("__connect.errors.topic", "payments"),
            bytes("__connect.errors.partition", "1"),
            bytes("__connect.errors.offset", "88"),
            bytes("__connect.errors.connector.name", "jdbc-sink"),
            bytes("__connect.errors.task.id", "0"),
            bytes("__connect.errors.stage", "VALUE_CONVERTER"),
            bytes(
                "__connect.errors.exception.class.name",
                "org.apache.kafka.connect.errors.DataException",
            ),
            bytes("__connect.errors.exception.message", "Unknown magic byte!"),
        ];

        let (origin, letter) = foreign(&message(headers), None, None).unwrap();

        assert_eq!(origin, ForeignOrigin::Connect);
        assert_eq!(letter.group, "jdbc-sink");
        assert!(letter.reasons[0].contains("Unknown magic byte!"));
        assert_eq!(letter.reasons[1], "at the stage VALUE_CONVERTER");
        assert_eq!(letter.delivery.envelope.event_id(), "payments/1/88");
    }

    #[test]
    fn rabbitmq_tells_its_newest_death() {
        let deaths = serde_json::json!([
            {"count": 3, "exchange": "events", "queue": "shipping", "reason": "rejected",
             "routing-keys": ["order.placed"], "time": 1_700_000_000},
            {"count": 1, "exchange": "retry", "queue": "shipping.retry", "reason": "expired",
             "routing-keys": ["order.placed"], "time": 1_699_999_999}
        ]);
        let as_text = bytes("x-death", deaths.to_string());
        let as_table = ("x-death".to_owned(), HeaderValue::Table(deaths));
        for header in [as_table, as_text] {
            let headers = vec![header, bytes("x-first-death-queue", "other")];

            let (origin, letter) = foreign(&message(headers), None, None).unwrap();

            assert_eq!(origin, ForeignOrigin::RabbitMq);
            assert_eq!(letter.group, "shipping");
            assert_eq!(letter.reasons, ["rejected in shipping"]);
            let event_type = letter.delivery.envelope.event_type();
            assert_eq!(event_type.as_str(), "order.placed");
            assert_eq!(
                (letter.delivery.attempts, letter.cause.as_str()),
                (3, "permanent")
            );
        }
        let first = vec![
            bytes("x-first-death-queue", "shipping"),
            bytes("x-first-death-reason", "expired"),
        ];
        let letter = foreign(&message(first), None, None).unwrap().1;
        assert_eq!(
            (letter.group.as_str(), letter.cause.as_str()),
            ("shipping", "age")
        );
    }

    #[test]
    fn watermill_tells_topic_handler_and_reason() {
        let headers = vec![
            bytes(
                "reason_poisoned",
                "cannot decode: unexpected end of JSON input",
            ),
            bytes("topic_poisoned", "orders"),
            bytes("handler_poisoned", "ship_order"),
            bytes("subscriber_poisoned", "kafka.Subscriber"),
        ];

        let (origin, letter) = foreign(&message(headers), None, None).unwrap();

        assert_eq!(origin, ForeignOrigin::Watermill);
        assert_eq!(letter.group, "ship_order");
        assert_eq!(
            letter.reasons,
            ["cannot decode: unexpected end of JSON input"]
        );
        assert_eq!(letter.delivery.envelope.source(), Some("orders"));
    }

    #[test]
    fn a_group_that_is_told_counts_and_one_that_is_none_is_refused() {
        let unnamed = vec![bytes("reason_poisoned", "no")];
        let group: GroupName = "shipping".parse().unwrap();

        let refused = foreign(&message(unnamed.clone()), None, None).unwrap_err();
        assert!(
            matches!(refused, ForeignError::NoGroup { said: None, .. }),
            "{refused}"
        );
        let letter = foreign(&message(unnamed), Some(&group), None).unwrap().1;
        assert_eq!(letter.group, "shipping");
        let none = foreign(&message(vec![bytes("other", "x")]), Some(&group), None).unwrap_err();
        assert!(none.to_string().contains("orders.DLT/0/7"), "{none}");
    }

    #[test]
    fn a_body_that_is_no_event_keeps_its_bytes_and_the_reason() {
        let mut broken = message(vec![
            bytes("reason_poisoned", "no"),
            bytes("handler_poisoned", "h"),
        ]);
        broken.payload = Some(vec![0xff, 0x00, 0x7b]);

        let letter = foreign(&broken, None, None).unwrap().1;

        assert!(letter.delivery.problem.is_some());
        assert_eq!(letter.delivery.envelope.payload_bytes(), [0xff, 0x00, 0x7b]);
    }
}
