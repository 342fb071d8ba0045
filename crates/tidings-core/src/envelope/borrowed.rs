//! Attributes that lie where they were read: an envelope is made of them with one allocation, where owned parts would take one for each.

use super::packed::Packed;
use super::{Checked, Envelope, EnvelopeError, EnvelopeParts, StoredEnvelope};
use crate::payload::Carriage;
use crate::timestamp::GivenTimestamp;
use crate::{EventType, Payload};
use bytes::Bytes;
use std::borrow::Cow;

/// As [`EnvelopeParts`], for the reader of a message.
#[derive(Debug, Default)]
pub(crate) struct BorrowedParts<'a> {
    pub(crate) event_id: Cow<'a, str>,
    pub(crate) event_type: Cow<'a, str>,
    pub(crate) aggregate_id: Option<Cow<'a, str>>,
    pub(crate) timestamp: Option<GivenTimestamp>,
    pub(crate) version: Option<u32>,
    pub(crate) source: Option<Cow<'a, str>>,
    pub(crate) correlation_id: Option<Cow<'a, str>>,
    pub(crate) causation_id: Option<Cow<'a, str>>,
    pub(crate) content_type: Option<Cow<'a, str>>,
    pub(crate) extensions: Vec<(Cow<'a, str>, String)>,
    /// How a JSON envelope carries the payload, and its bytes, which were checked.
    pub(crate) payload: Option<(Carriage, &'a [u8])>,
}

impl<'a> BorrowedParts<'a> {
    /// The envelope, every attribute checked against its limit. A long payload stays a part of `shared`, if it lies there; elsewhere it is copied.
    ///
    /// **Errors**: as [`Envelope::new`].
    pub(crate) fn envelope(&self, shared: Option<&Bytes>) -> Result<Envelope, EnvelopeError> {
        let checked = Checked {
            event_id: &self.event_id,
            event_type: &self.event_type,
            aggregate_id: self.aggregate_id.as_deref(),
            timestamp: self.timestamp.as_ref(),
            version: self.version,
            source: self.source.as_deref(),
            correlation_id: self.correlation_id.as_deref(),
            causation_id: self.causation_id.as_deref(),
            content_type: self.content_type.as_deref(),
            extensions: &self.extensions,
            payload_bytes: self.payload.map(|(_, bytes)| bytes.len()),
        };
        checked.check()?;
        Ok(Envelope {
            packed: Packed::of_texts(&self.stored(), shared),
        })
    }

    fn stored(&self) -> StoredEnvelope<'_> {
        let timestamp = self.timestamp.as_ref();
        StoredEnvelope {
            event_type: self.event_type.as_bytes(),
            event_id: self.event_id.as_bytes(),
            aggregate_id: self.aggregate_id.as_deref().map(str::as_bytes),
            timestamp: timestamp.map(|given| (given.instant(), given.text().map(str::as_bytes))),
            version: self.version,
            source: self.source.as_deref().map(str::as_bytes),
            correlation_id: self.correlation_id.as_deref().map(str::as_bytes),
            causation_id: self.causation_id.as_deref().map(str::as_bytes),
            content_type: self.content_type.as_deref().map(str::as_bytes),
            extensions: self
                .extensions
                .iter()
                .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
                .collect(),
            payload: self.payload,
        }
    }

    /// The same, each attribute on its own.
    ///
    /// **Errors**: the type is no event type.
    pub(crate) fn into_parts(self, shared: Option<&Bytes>) -> Result<EnvelopeParts, EnvelopeError> {
        let owned = |text: Option<Cow<'a, str>>| text.map(Cow::into_owned);
        let event_type = EventType::carried(self.event_type)
            .map_err(|source| EnvelopeError::EventType { source })?;
        let payload = self.payload.map(|(carriage, bytes)| {
            let bytes = shared.map_or_else(
                || Bytes::copy_from_slice(bytes),
                |shared| shared.slice_ref(bytes),
            );
            Payload::trusted(bytes, carriage)
        });
        Ok(EnvelopeParts {
            event_id: self.event_id.into_owned(),
            event_type,
            aggregate_id: owned(self.aggregate_id),
            timestamp: self.timestamp,
            version: self.version,
            source: owned(self.source),
            correlation_id: owned(self.correlation_id),
            causation_id: owned(self.causation_id),
            content_type: owned(self.content_type),
            extensions: self
                .extensions
                .into_iter()
                .map(|(name, value)| (name.into_owned(), value))
                .collect(),
            payload,
        })
    }
}
