//! `tidings dlq import`: dead letters of other products, a message a line.

use crate::arguments::Global;
use crate::dlq_arguments::DlqImport;
use crate::failure::Failure;
use crate::input::{Line, Lines};
use crate::output::{json, object, talk};
use crate::when::now;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use tidings::Timestamp;
use tidings::core::store::{DeadLetterStore as _, ForeignLetter, Operator};
use tidings::core::{codes, envelope_json};
use tidings::dead_letter::{ForeignMessage, HeaderValue, foreign};
use tidings::limits::REDRIVE_BATCH_LETTERS;
use tidings::sql::Failures;

/// What was or would be taken over, as programs see it.
#[derive(Debug, Default, Serialize)]
struct Imported {
    dry_run: bool,
    read: u64,
    imported: u64,
    known: u64,
    rejected: u64,
    consumers: BTreeSet<String>,
}

pub(crate) async fn run(global: &Global, arguments: DlqImport) -> Result<(), Failure> {
    let failures = super::open(&arguments.place).await?;
    let operator = arguments.signature.operator();
    let path = arguments.file.display().to_string();
    let failed = |error: std::io::Error| Failure::file("read", &path, &error);
    let mut lines = Lines::open(&arguments.file)?;
    let mut imported = Imported {
        dry_run: arguments.dry_run,
        ..Imported::default()
    };
    let mut batch = Vec::new();
    while let Some(line) = lines.next(&mut std::io::sink()).map_err(failed)? {
        let number = lines.number;
        let text = match line {
            Line::Whole(text) if text.trim_ascii().is_empty() => continue,
            Line::Whole(text) => Ok(text),
            Line::TooLong { bytes } => Err(format!("{bytes} bytes are too long for a line")),
        };
        imported.read += 1;
        let read = text
            .and_then(|text| message(&text, &path, number))
            .and_then(|message| {
                foreign(&message, arguments.consumer.as_ref()).map_err(|error| error.to_string())
            });
        match read {
            Ok((_, mut letter)) => {
                // A message that tells no time died before it was read.
                if letter.died == Timestamp::default() {
                    letter.died = now();
                }
                imported.consumers.insert(letter.group.clone());
                if imported.consumers.len() > 1 {
                    return Err(mixed(&imported.consumers, number));
                }
                batch.push(letter);
            }
            Err(reason) => {
                imported.rejected += 1;
                talk(global.quiet, format_args!("line {number}: {reason}"));
            }
        }
        if batch.len() as u64 >= u64::from(REDRIVE_BATCH_LETTERS) {
            take(&failures, &mut batch, &operator, &mut imported).await?;
        }
    }
    take(&failures, &mut batch, &operator, &mut imported).await?;
    object(global.format(), &json(&imported), || {
        let verb = if imported.dry_run { "would be" } else { "are" };
        format!(
            "{} of {} messages {verb} taken over, {} were known, {} are no dead letters",
            imported.imported, imported.read, imported.known, imported.rejected
        )
    })?;
    if imported.rejected > 0 {
        let message = format!("{} messages were not taken over", imported.rejected);
        return Err(Failure::new(codes::FOREIGN_LETTER_UNREADABLE, message));
    }
    Ok(())
}

async fn take(
    failures: &Failures,
    batch: &mut Vec<ForeignLetter>,
    operator: &Operator,
    imported: &mut Imported,
) -> Result<(), Failure> {
    let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
    if imported.dry_run {
        imported.imported += count;
    } else if count > 0 {
        let new = failures.take_over(batch, operator).await?;
        imported.imported += new;
        imported.known += count - new;
    }
    batch.clear();
    Ok(())
}

fn mixed(consumers: &BTreeSet<String>, line: u64) -> Failure {
    let names: Vec<&str> = consumers.iter().map(String::as_str).collect();
    Failure::usage(format!(
        "at line {line} the messages are of several groups: {}; import those of one group at a time, or say --consumer GROUP for all",
        names.join(", ")
    ))
}

/// A line as tools print messages: `kcat -J`, `rpk topic consume`, or one's own.
fn message(line: &[u8], path: &str, number: u64) -> Result<ForeignMessage, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let Value::Object(mut members) = value else {
        return Err("it is no JSON object".to_owned());
    };
    let topic = members.get("topic").and_then(Value::as_str);
    let place = match (topic, members.get("partition"), members.get("offset")) {
        (Some(topic), Some(partition), Some(offset)) => format!("{topic}/{partition}/{offset}"),
        _ => format!("{path}/{number}"),
    };
    let base64 = members.remove("payload_base64");
    let payload = match (
        base64,
        members.remove("payload").or(members.remove("value")),
    ) {
        (Some(Value::String(text)), _) => Some(from_base64(&text)?),
        (_, Some(Value::String(text))) => Some(text.into_bytes()),
        (_, Some(Value::Null) | None) => None,
        (_, Some(other)) => Some(other.to_string().into_bytes()),
    };
    let millis = members.get("ts").or(members.get("timestamp"));
    let timestamp = millis
        .and_then(Value::as_i64)
        .map(|millis| Timestamp::from_micros(millis.saturating_mul(1_000)));
    Ok(ForeignMessage {
        headers: headers(members.remove("headers").unwrap_or_default())?,
        key: members
            .get("key")
            .and_then(Value::as_str)
            .map(str::to_owned),
        payload,
        place,
        timestamp,
    })
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
        Value::String(text) => HeaderValue::Bytes(text.into_bytes()),
        Value::Number(number) => HeaderValue::Bytes(number.to_string().into_bytes()),
        Value::Null => HeaderValue::Bytes(Vec::new()),
        other => HeaderValue::Table(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_tools_print_them() {
        let kcat = br#"{"topic":"orders.DLT","partition":0,"offset":7,"tstype":"create","ts":1700000000000,"broker":1,"headers":["a","1","b","2"],"key":"k","payload":"{\"n\":1.50}"}"#;
        let read = message(kcat, "file", 1).unwrap();
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
            let other = message(line.as_bytes(), "file", 3).unwrap();
            assert_eq!(other.headers, read.headers, "{headers}");
            assert_eq!(other.place, "file/3");
        }
        assert!(message(b"[]", "file", 1).is_err());
        assert!(message(br#"{"headers":["odd"]}"#, "file", 1).is_err());
    }
}
