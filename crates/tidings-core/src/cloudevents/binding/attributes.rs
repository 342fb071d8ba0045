//! The headers of a message in binary mode, read in one walk: nothing is copied that can stay where it lies.

use super::super::{
    CAUSATION_ID, CORRELATION_ID, DATA_VERSION, OVERFLOW, SHADOW_PREFIX, SHADOWED, SOURCE_ABSENT,
};
use super::Binding;
use crate::envelope::BorrowedParts;
use crate::envelope_json::EnvelopeJsonError;
use crate::event_type::EventType;
use crate::json_object as object;
use std::borrow::Cow;

/// Attributes that have a place of their own in an envelope.
const KNOWN: [&str; 11] = [
    "specversion",
    "id",
    "type",
    "source",
    "subject",
    "datacontenttype",
    "time",
    DATA_VERSION,
    CORRELATION_ID,
    CAUSATION_ID,
    OVERFLOW,
];

/// What the headers say.
#[derive(Debug, Default)]
pub(super) struct Attributes<'a> {
    pub(super) parts: BorrowedParts<'a>,
    /// What travelled as no extension.
    pub(super) overflow: Option<Cow<'a, str>>,
    /// A `specversion` was there.
    pub(super) is_cloud_event: bool,
    has_id: bool,
    has_source: bool,
    has_type: bool,
}

impl<'a> Attributes<'a> {
    /// Takes every attribute.
    ///
    /// **Errors**: the reason, for people; what stands behind it was not looked at.
    pub(super) fn walk(
        &mut self,
        binding: &Binding,
        headers: &[(&'a str, &'a [u8])],
    ) -> Result<(), String> {
        for &(header, value) in headers {
            let Some(name) = attribute_name(header) else {
                continue;
            };
            let value = binding.text(name, value)?;
            self.take(name, value).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn take(&mut self, name: &'a str, value: Cow<'a, str>) -> Result<(), EnvelopeJsonError> {
        let Some(value) = self.set(name, value)? else {
            return Ok(());
        };
        // Most names have a place as they are spelled; whether another one has large letters is looked at here alone.
        if !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            self.extend(Cow::Borrowed(name), &value);
            return Ok(());
        }
        let name = name.to_ascii_lowercase();
        if let Some(value) = self.set(&name, value)? {
            self.extend(Cow::Owned(name), &value);
        }
        Ok(())
    }

    /// Whether everything was there that every CloudEvent must have.
    pub(super) fn check(&self) -> Result<(), String> {
        for (attribute, given) in [
            ("id", self.has_id),
            ("source", self.has_source),
            ("type", self.has_type),
        ] {
            if !given {
                return Err(EnvelopeJsonError::Missing { attribute }.to_string());
            }
        }
        Ok(())
    }

    /// Puts a value in its place, or gives it back where there is none of that name.
    fn set(
        &mut self,
        name: &str,
        value: Cow<'a, str>,
    ) -> Result<Option<Cow<'a, str>>, EnvelopeJsonError> {
        let parts = &mut self.parts;
        match name {
            "specversion" => {
                self.is_cloud_event = true;
                if value != "1.0" {
                    return Err(EnvelopeJsonError::SpecVersion {
                        value: value.chars().take(40).collect(),
                    });
                }
            }
            "id" => {
                self.has_id = true;
                parts.event_id = value;
            }
            "type" => {
                self.has_type = true;
                EventType::check(&value)?;
                parts.event_type = value;
            }
            "source" => {
                self.has_source = true;
                parts.source = Some(value).filter(|text| text != SOURCE_ABSENT);
            }
            "subject" => parts.aggregate_id = Some(value),
            "datacontenttype" => parts.content_type = Some(value),
            "time" => {
                let parsed = value.parse();
                parts.timestamp = Some(parsed.map_err(|source| EnvelopeJsonError::Timestamp {
                    attribute: "time",
                    source,
                })?);
            }
            CORRELATION_ID => parts.correlation_id = Some(value),
            CAUSATION_ID => parts.causation_id = Some(value),
            OVERFLOW => self.overflow = Some(value),
            DATA_VERSION => match usual_number(&value) {
                Some(version) => parts.version = Some(version),
                None => return Ok(Some(value)),
            },
            _ => return Ok(Some(value)),
        }
        Ok(None)
    }

    fn extend(&mut self, name: Cow<'a, str>, value: &str) {
        let name = if SHADOWED.contains(&&*name) {
            Cow::Owned([SHADOW_PREFIX, &name].concat())
        } else {
            name
        };
        let mut quoted = Vec::with_capacity(value.len() + 2);
        object::write_string(&mut quoted, value);
        let quoted = String::from_utf8(quoted).expect("a text stays UTF-8");
        self.parts.extensions.push((name, quoted));
    }
}

/// A number that is spelled as it would be printed again.
fn usual_number(text: &str) -> Option<u32> {
    let is_usual = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| is_usual)
}

/// Whether one of the headers says that the others are those of a CloudEvent.
pub(super) fn is_cloud_event(headers: &[(&str, &[u8])]) -> bool {
    let mut names = headers.iter().map(|(header, _)| attribute_name(header));
    names.any(|name| name.is_some_and(|name| name.eq_ignore_ascii_case("specversion")))
}

/// Whether an event reads as another if its headers come in another order: some of them are extensions, which keep their order, or stand there twice.
pub(super) fn order_matters(headers: &[(&str, &[u8])]) -> bool {
    let mut seen = 0_u16;
    headers.iter().any(|(header, _)| {
        let Some(name) = attribute_name(header) else {
            return false;
        };
        let mut known = KNOWN.iter();
        let known = known.position(|known| known.eq_ignore_ascii_case(name));
        let bit = known.map_or(0, |place| 1 << place);
        let is_new = bit != 0 && seen & bit == 0;
        seen |= bit;
        !is_new
    })
}

/// The attribute that a header carries, if it carries one: behind `ce_`, `ce-`, `cloudEvents_` or `cloudEvents:`, in large letters or small ones, on every
/// transport, whatever that writes. The name is as it is spelled.
fn attribute_name(header: &str) -> Option<&str> {
    const LONG: &str = "cloudEvents";
    if let [b'c' | b'C', b'e' | b'E', b'_' | b'-', ..] = header.as_bytes() {
        return header.get(3..);
    }
    let head = header.get(..LONG.len())?;
    let rest = header.get(LONG.len()..)?;
    if !head.eq_ignore_ascii_case(LONG) {
        return None;
    }
    rest.strip_prefix(['_', ':'])
}
