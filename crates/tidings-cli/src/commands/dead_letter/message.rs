//! Messages of other products as tools print them: `kcat -J`, `rpk topic consume`, `rabbitmqadmin get -f raw_json`, or one's own.

use serde_json::{Map, Value};
use std::borrow::Cow;
use tidings::Timestamp;
use tidings::core::{DedupeKey, envelope_json};
use tidings::dead_letter::{ForeignMessage, HeaderValue};

/// Stands for a byte that is no text, `kcat` prints those as they are: the character of so much and the byte.
const RAW_BYTE: u32 = 0x10_ff00;

/// The messages of a line, each with the reason in its place that is none: one object, or a list of them as RabbitMQ's tools print it.
pub(super) fn messages(line: &[u8], place: &str) -> Vec<Result<ForeignMessage, String>> {
    match serde_json::from_str(&text_of(line)) {
        Err(error) => vec![Err(error.to_string())],
        Ok(Value::Array(items)) => {
            let items = items.into_iter().enumerate();
            let each = items.map(|(index, item)| message(item, format!("{place}/{}", index + 1)));
            each.collect()
        }
        Ok(item) => vec![message(item, place.to_owned())],
    }
}

fn message(value: Value, place: String) -> Result<ForeignMessage, String> {
    let Value::Object(mut members) = value else {
        return Err("it is no JSON object".to_owned());
    };
    let payload = payload(&mut members)?;
    if let (Some(Value::String(routing_key)), Some(properties)) =
        (members.remove("routing_key"), members.remove("properties"))
    {
        return of_rabbitmq(&members, &routing_key, &properties, payload);
    }
    let topic = members.get("topic").and_then(Value::as_str);
    let place = match (topic, members.get("partition"), members.get("offset")) {
        (Some(topic), Some(partition), Some(offset)) => format!("{topic}/{partition}/{offset}"),
        _ => place,
    };
    let millis = members.get("ts").or(members.get("timestamp"));
    let millis = millis.and_then(Value::as_i64);
    Ok(ForeignMessage {
        headers: headers(members.remove("headers").unwrap_or_default())?,
        key: members.get("key").and_then(Value::as_str).map(lossy),
        payload,
        place,
        timestamp: millis.map(|millis| Timestamp::from_micros(millis.saturating_mul(1_000))),
    })
}

/// As `rabbitmqadmin` and RabbitMQ's HTTP API print it: headers, content type and time are properties, the time in seconds.
fn of_rabbitmq(
    members: &Map<String, Value>,
    routing_key: &str,
    properties: &Value,
    payload: Option<Vec<u8>>,
) -> Result<ForeignMessage, String> {
    let property = |name: &str| properties.get(name);
    let mut headers = headers(property("headers").cloned().unwrap_or_default())?;
    if let Some(Value::String(content_type)) = property("content_type") {
        let value = HeaderValue::Bytes(bytes_of(content_type));
        headers.push(("content-type".to_owned(), value));
    }
    let seconds = property("timestamp").and_then(Value::as_i64);
    let exchange = members.get("exchange").and_then(Value::as_str);
    let exchange = exchange.unwrap_or_default();
    // A queue numbers nothing: the message is named by its id, or by what it says.
    let place = match property("message_id").and_then(Value::as_str) {
        Some(id) => format!("{exchange}/{id}"),
        None => {
            let said = String::from_utf8_lossy(payload.as_deref().unwrap_or_default());
            let when = format!("{routing_key} {}", seconds.unwrap_or_default());
            let digits = DedupeKey::from_id(&said, Some(&when));
            let digits = digits.as_bytes().iter().map(|byte| format!("{byte:02x}"));
            format!("{exchange}/{}", digits.collect::<String>())
        }
    };
    Ok(ForeignMessage {
        headers,
        // A routing key says what an event is, and not which one it is about.
        key: None,
        payload,
        place,
        timestamp: seconds.map(|seconds| Timestamp::from_micros(seconds.saturating_mul(1_000_000))),
    })
}

fn payload(members: &mut Map<String, Value>) -> Result<Option<Vec<u8>>, String> {
    let encoding = members.remove("payload_encoding");
    let is_base64 = encoding.is_some_and(|encoding| encoding == "base64");
    let base64 = members.remove("payload_base64");
    let plain = members.remove("payload").or(members.remove("value"));
    match (base64, plain) {
        (Some(Value::String(text)), _) => from_base64(&text).map(Some),
        (_, Some(Value::String(text))) if is_base64 => from_base64(&text).map(Some),
        (_, Some(Value::String(text))) => Ok(Some(bytes_of(&text))),
        (_, Some(Value::Null) | None) => Ok(None),
        (_, Some(other)) => Ok(Some(other.to_string().into_bytes())),
    }
}

/// A line as text; bytes in it that are none are kept as characters that stand for them.
fn text_of(line: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(line) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        text.push_str(chunk.valid());
        let raw = chunk.invalid().iter();
        text.extend(raw.filter_map(|byte| char::from_u32(RAW_BYTE + u32::from(*byte))));
    }
    Cow::Owned(text)
}

/// The bytes of what [`text_of`] made readable.
fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match u8::try_from(u32::from(character).wrapping_sub(RAW_BYTE)) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

fn lossy(text: &str) -> String {
    String::from_utf8_lossy(&bytes_of(text)).into_owned()
}

/// Bytes as an envelope carries them.
fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    let carrier = serde_json::json!({
        "event_id": "1", "event_type": "bytes.read", "payload_base64": text,
    });
    let envelope = envelope_json::from_json(carrier.to_string().as_bytes());
    envelope
        .map(|envelope| envelope.payload_bytes().to_vec())
        .map_err(|error| error.to_string())
}

/// Headers as an object, as a flat list of names and values, as a list of pairs, or as a list of objects with `key` and `value`.
fn headers(given: Value) -> Result<Vec<(String, HeaderValue)>, String> {
    let wrong = || "its headers are neither an object nor a list of names and values".to_owned();
    match given {
        Value::Null => Ok(Vec::new()),
        Value::Object(members) => {
            let members = members.into_iter();
            Ok(members.map(|(name, value)| (name, header(value))).collect())
        }
        Value::Array(items) if items.iter().all(|item| item.is_array() || item.is_object()) => {
            let each = items.into_iter().map(|item| match item {
                Value::Array(pair) => <[Value; 2]>::try_from(pair).ok(),
                Value::Object(mut members) => {
                    let name = members.remove("key").or(members.remove("name"))?;
                    Some([name, members.remove("value").unwrap_or_default()])
                }
                _ => None,
            });
            let pairs: Option<Vec<[Value; 2]>> = each.collect();
            named(pairs.ok_or_else(wrong)?).ok_or_else(wrong)
        }
        Value::Array(items) if items.len() % 2 == 0 => {
            let (mut names, mut values) = (Vec::new(), Vec::new());
            for (index, item) in items.into_iter().enumerate() {
                if index % 2 == 0 {
                    names.push(item);
                } else {
                    values.push(item);
                }
            }
            let pairs = names.into_iter().zip(values);
            named(pairs.map(|(name, value)| [name, value]).collect()).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

fn named(pairs: Vec<[Value; 2]>) -> Option<Vec<(String, HeaderValue)>> {
    let each = pairs.into_iter().map(|[name, value]| match name {
        Value::String(name) => Some((name, header(value))),
        _ => None,
    });
    each.collect()
}

fn header(value: Value) -> HeaderValue {
    match value {
        Value::String(text) => HeaderValue::Bytes(bytes_of(&text)),
        Value::Number(number) => HeaderValue::Bytes(number.to_string().into_bytes()),
        Value::Null => HeaderValue::Bytes(Vec::new()),
        other => HeaderValue::Table(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &[u8]) -> Result<ForeignMessage, String> {
        messages(line, "file/3").remove(0)
    }

    #[test]
    fn messages_are_read_as_tools_print_them() {
        let kcat = br#"{"topic":"orders.DLT","partition":0,"offset":7,"tstype":"create","ts":1700000000000,"broker":1,"headers":["a","1","b","2"],"key":"k","payload":"{\"n\":1.50}"}"#;
        let read = one(kcat).unwrap();
        assert_eq!(read.place, "orders.DLT/0/7");
        assert_eq!(read.headers.len(), 2);
        assert_eq!(read.headers[1].0, "b");
        assert_eq!(read.payload.as_deref(), Some(&br#"{"n":1.50}"#[..]));
        for headers in [
            r#"{"a":"1","b":"2"}"#,
            r#"[["a","1"],["b","2"]]"#,
            r#"[{"key":"a","value":"1"},{"key":"b","value":"2"}]"#,
        ] {
            let line = format!(r#"{{"headers":{headers},"value":"x"}}"#);
            let other = one(line.as_bytes()).unwrap();
            assert_eq!(other.headers, read.headers, "{headers}");
            assert_eq!(other.place, "file/3");
        }
        assert!(one(b"7").is_err());
        assert!(one(br#"{"headers":["odd"]}"#).is_err());
    }

    /// It escapes what is below a space, and prints every other byte as it is.
    #[test]
    fn bytes_that_are_no_text_are_read_as_kcat_prints_them() {
        let mut line =
            br#"{"topic":"t","partition":0,"offset":1,"headers":["time","\u0000\u0000\u0001"#
                .to_vec();
        line.extend_from_slice(&[0x8b, 0xcf, 0xe5, b'h']);
        line.extend_from_slice(br#"\u0000"],"payload":""#);
        line.extend_from_slice(&[0xff, 0xc3, 0xa9]);
        line.extend_from_slice(br#""}"#);

        let read = one(&line).unwrap();

        let time = HeaderValue::Bytes(1_700_000_000_000_i64.to_be_bytes().to_vec());
        assert_eq!(read.headers, [("time".to_owned(), time)]);
        assert_eq!(read.payload.as_deref(), Some(&[0xff, 0xc3, 0xa9][..]));
    }

    #[test]
    fn a_list_of_messages_is_read_as_rabbitmqadmin_prints_it() {
        let line = br#"[{"payload_bytes":2,"redelivered":true,"exchange":"dead","routing_key":"order.placed","message_count":1,"properties":{"timestamp":1700000000,"delivery_mode":2,"content_type":"application/json","headers":{"x-death":[{"count":1,"queue":"shipping","reason":"rejected"}],"n":7}},"payload":"e30=","payload_encoding":"base64"},{"payload_bytes":2,"redelivered":true,"exchange":"dead","routing_key":"a.b","message_count":0,"properties":[],"payload":"{}","payload_encoding":"string"},7]"#;

        let read = messages(line, "file/1");

        let [Ok(first), Ok(second), Err(_)] = &read[..] else {
            panic!("{read:?}");
        };
        assert_eq!(first.payload.as_deref(), Some(&b"{}"[..]));
        assert_eq!(second.payload, first.payload);
        let names: Vec<&str> = first
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["n", "x-death", "content-type"]);
        assert_eq!(first.key, None);
        assert_eq!(
            first.timestamp,
            Some(Timestamp::from_micros(1_700_000_000_000_000))
        );
        assert_eq!(messages(line, "other")[0], read[0], "its name repeats");
        assert_ne!(first.place, second.place);
    }
}
