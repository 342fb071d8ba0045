//! Flags that make one event by hand, and the event that they make.

use crate::failure::Failure;
use crate::output::{json, talk};
use clap::Args;
use std::io::Read as _;
use tidings::core::codes;
use tidings::extract::Draft;
use tidings::limits::PAYLOAD_BYTES_MAX;
use tidings::producer::Stamp;
use tidings::{EventType, Payload};

/// What an event says.
#[derive(Debug, Args)]
pub(crate) struct NewEvent {
    /// The event type, for example order.placed
    #[arg(value_name = "TYPE")]
    pub(crate) event_type: String,
    /// What the fact is about; order is kept by it
    #[arg(long, visible_alias = "subject", value_name = "ID")]
    pub(crate) key: Option<String>,
    /// The payload: JSON, @FILE or - for standard input
    #[arg(long, value_name = "JSON")]
    pub(crate) payload: Option<String>,
    /// Version of the payload's schema
    #[arg(long, value_name = "N")]
    pub(crate) event_version: Option<u32>,
    /// Who states the fact
    #[arg(long, default_value = "tidings-cli", value_name = "NAME")]
    pub(crate) source: String,
    /// The correlation id; the event's own id unless given
    #[arg(long = "corr", value_name = "ID")]
    pub(crate) correlation_id: Option<String>,
    /// A further attribute, its value as text; may be repeated
    #[arg(short = 'H', long = "attribute", value_name = "NAME=VALUE")]
    pub(crate) attributes: Vec<String>,
}

impl NewEvent {
    /// The event, without what it gets when it is published. A type that is named unlike a fact is told of.
    pub(crate) fn draft(&self, quiet: bool) -> Result<Draft, Failure> {
        let event_type = EventType::carried(self.event_type.as_str())
            .map_err(|error| Failure::new(error.code(), error.to_string()))?;
        if let Err(error) = EventType::declared(&self.event_type) {
            talk(quiet, format_args!("warning: {error}"));
        }
        let attributes = self.attributes.iter().map(|text| attribute(text));
        Ok(Draft {
            event_type,
            version: Some(self.event_version.unwrap_or(1)),
            aggregate_id: self.key.clone(),
            source: Some(self.source.clone()),
            timestamp: None,
            content_type: None,
            extensions: attributes.collect::<Result<_, _>>()?,
            payload: self.payload.as_deref().map(payload).transpose()?,
        })
    }

    /// What it is stamped with.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp {
            correlation_id: self.correlation_id.clone(),
            ..Stamp::default()
        }
    }
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
pub(crate) fn payload(text: &str) -> Result<Payload, Failure> {
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
    // One byte more than allowed shows that there are too many.
    let read = source
        .take(PAYLOAD_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes);
    read.map_err(|error| Failure::file("read the payload from", name, &error))?;
    if bytes.len() > PAYLOAD_BYTES_MAX {
        return Err(Failure::new(
            codes::LIMIT_EXCEEDED,
            format!(
                "the payload from {name} has more than {PAYLOAD_BYTES_MAX} bytes; store the content elsewhere and let the event name the place"
            ),
        ));
    }
    Ok(bytes)
}
