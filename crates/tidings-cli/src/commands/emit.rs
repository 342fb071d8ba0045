//! `tidings emit`: one event by hand.

use crate::arguments::{Emit, Global};
use crate::failure::Failure;
use crate::folder;
use crate::output::{hint, json, object, talk};
use crate::rows;
use std::io::Read as _;
use tidings::broker::{ReadRequest, Recorded};
use tidings::core::codes;
use tidings::extract::Draft;
use tidings::limits::PAYLOAD_BYTES_MAX;
use tidings::producer::Stamp;
use tidings::{EventType, Pattern, Payload, Tidings};

pub(crate) async fn run(global: &Global, arguments: Emit) -> Result<(), Failure> {
    let event_type = EventType::carried(arguments.event_type.as_str())
        .map_err(|error| Failure::new(error.code(), error.to_string()))?;
    if let Err(error) = EventType::declared(&arguments.event_type) {
        talk(global.quiet, format_args!("warning: {error}"));
    }
    let draft = Draft {
        event_type,
        version: Some(arguments.event_version.unwrap_or(1)),
        aggregate_id: arguments.key.clone(),
        source: Some(arguments.source.clone()),
        timestamp: None,
        content_type: None,
        extensions: arguments
            .attributes
            .iter()
            .map(|text| attribute(text))
            .collect::<Result<_, _>>()?,
        payload: arguments.payload.as_deref().map(payload).transpose()?,
    };
    let tidings = folder::own(&arguments.data.folder).await?;
    let stamp = Stamp {
        correlation_id: arguments.correlation_id.clone(),
        ..Stamp::default()
    };
    let stored = publish(&tidings, draft, stamp).await;
    tidings.shutdown().await?;
    let stored = stored?;
    let line = rows::object(&stored, false);
    let event_id = stored.envelope.event_id();
    object(global.format(), &line, || {
        let key = stored.envelope.aggregate_id().unwrap_or("-");
        format!(
            "{}  {event_id}  {key}  position {}",
            stored.envelope.event_type(),
            stored.position
        )
    })?;
    hint(
        global.quiet,
        format_args!("see it with: tidings event get {event_id}"),
    );
    Ok(())
}

/// Publishes the event and reads it back, so that what is shown is what is stored.
async fn publish(tidings: &Tidings, draft: Draft, stamp: Stamp) -> Result<Recorded, Failure> {
    let patterns = [Pattern::exact(&draft.event_type)];
    let published = tidings.producer().publish_stamped(draft, stamp).await?;
    let missing = || Failure::new(codes::BUG, "the event was acknowledged and cannot be read");
    let from = published.receipt.position.ok_or_else(missing)?;
    let request = ReadRequest {
        from,
        patterns: &patterns,
        events_max: 1,
    };
    tidings
        .reader()?
        .read(request)
        .await?
        .events
        .into_iter()
        .next()
        .ok_or_else(missing)
}

fn attribute(text: &str) -> Result<(String, String), Failure> {
    let (name, value) = text.split_once('=').ok_or_else(|| {
        Failure::usage(format!(
            "the attribute {text:?} has no value; write NAME=VALUE"
        ))
    })?;
    Ok((name.to_owned(), json(&value)))
}

/// JSON as given, of a file (`@FILE`), or of standard input (`-`).
fn payload(text: &str) -> Result<Payload, Failure> {
    let bytes = match text.strip_prefix('@') {
        Some(path) => {
            let file = std::fs::File::open(path)
                .map_err(|error| Failure::file("read the payload from", path, &error))?;
            read(file, path)?
        }
        None if text == "-" => read(std::io::stdin(), "standard input")?,
        None => text.as_bytes().to_vec(),
    };
    let end = bytes.trim_ascii_end().len();
    let bytes = bytes.get(..end).unwrap_or_default().to_vec();
    Payload::json(bytes).map_err(|error| {
        Failure::new(
            codes::PAYLOAD_INVALID,
            format!("the payload is not JSON: {error}; a text needs quotes: --payload '\"text\"'"),
        )
    })
}

fn read(source: impl std::io::Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    // One byte more than allowed is read, so that the limit's own message tells of it.
    let read = source
        .take(PAYLOAD_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes);
    read.map_err(|error| Failure::file("read the payload from", name, &error))?;
    Ok(bytes)
}
