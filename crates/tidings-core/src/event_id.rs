//! Event ids: fresh ones, repeatable ones, and the 16-byte key that tells duplicates.

use crate::seam::{Chance, Clock};
use crate::{Envelope, Timestamp};
use std::fmt;
use uuid::{Builder, Uuid};

/// Namespace of the version 5 UUIDs below: itself the version 5 UUID of the name `tidings` in the DNS namespace.
fn namespace() -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"tidings")
}

/// A fresh event id: a version 7 UUID of the clock's time.
///
/// ```
/// # use tidings_core::{BoxFuture, Timestamp, event_id, seam::{Chance, Clock}};
/// # struct Fixed;
/// # impl Clock for Fixed {
/// #     fn now(&self) -> Timestamp { Timestamp::from_micros(1_700_000_000_000_000) }
/// #     fn elapsed(&self) -> std::time::Duration { std::time::Duration::ZERO }
/// #     fn sleep(&self, _: std::time::Duration) -> BoxFuture<'static, ()> { Box::pin(async {}) }
/// # }
/// # impl Chance for Fixed { fn next_u64(&self) -> u64 { 7 } }
/// let id = event_id::fresh(&Fixed, &Fixed);
/// assert_eq!(id.len(), 36);
/// assert_eq!(id.as_bytes()[14], b'7');
/// ```
pub fn fresh(clock: &dyn Clock, chance: &dyn Chance) -> String {
    let mut random = [0_u8; 10];
    let (high, low) = random.split_at_mut(8);
    high.copy_from_slice(&chance.next_u64().to_le_bytes());
    low.copy_from_slice(&chance.next_u64().to_le_bytes()[..2]);
    version_7(clock.now(), &random)
}

/// What an emitted event's id is made from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The event that was handled.
    pub cause: &'a Envelope,
    /// The group that handled it.
    pub group: &'a str,
    /// The handler within the group.
    pub handler: &'a str,
    /// Which of the events emitted by that handling, from 0.
    pub ordinal: usize,
}

/// The id of an emitted event: the same whenever the same handler of the same group handles the same event again.
///
/// A version 7 UUID whose time is the cause's, not before 1970, and whose random bits are a hash of the origin.
pub fn repeatable(origin: Origin<'_>) -> String {
    let ordinal = origin.ordinal.to_string();
    let cause = DedupeKey::of(origin.cause);
    let random = hash_of(&[
        cause.as_bytes(),
        origin.group.as_bytes(),
        origin.handler.as_bytes(),
        ordinal.as_bytes(),
    ]);
    let time = origin
        .cause
        .timestamp()
        .map_or(Timestamp::from_micros(0), |given| given.instant());
    version_7(time, &random)
}

/// What the id of a row is made from that was written without one.
#[derive(Debug, Clone, Copy)]
pub struct RowOrigin<'a> {
    /// The random identity of the outbox, so that two services' first rows differ.
    pub outbox: &'a str,
    /// The identity of the row within it.
    pub row_id: &'a str,
    /// When the row was written.
    pub created_at: Timestamp,
    /// The payload.
    pub payload: &'a [u8],
}

/// The id of a row that was written without one: the same whenever the same row is read again.
///
/// A version 7 UUID whose time is that of the row, not before 1970, and whose random bits are a hash of the origin.
pub fn of_row(origin: RowOrigin<'_>) -> String {
    let created_at = origin.created_at.as_micros().to_le_bytes();
    let parts = [
        origin.outbox.as_bytes(),
        origin.row_id.as_bytes(),
        &created_at,
        origin.payload,
    ];
    version_7(origin.created_at, &hash_of(&parts))
}

fn hash_of(parts: &[&[u8]]) -> [u8; 10] {
    let mut name = Vec::new();
    for part in parts {
        name.extend_from_slice(&(part.len() as u64).to_le_bytes());
        name.extend_from_slice(part);
    }
    let hash = Uuid::new_v5(&namespace(), &name).into_bytes();
    let mut random = [0_u8; 10];
    // Version and variant bits of the hash are constant, so the bytes that hold them are left out.
    random[..6].copy_from_slice(&hash[..6]);
    random[6..].copy_from_slice(&hash[10..14]);
    random
}

fn version_7(time: Timestamp, random: &[u8; 10]) -> String {
    let millis = u64::try_from(time.as_micros() / 1_000).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, random)
        .into_uuid()
        .to_string()
}

/// The 16 bytes by which duplicates are known in inbox, relay, look-ups and broker deduplication.
///
/// A UUIDv7 in canonical form is its own key; anything else is the UUIDv5 of source and id, because ids of foreign events are unique within their source only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DedupeKey([u8; 16]);

impl DedupeKey {
    /// The key of an envelope.
    pub fn of(envelope: &Envelope) -> Self {
        Self::from_id(envelope.event_id(), envelope.source())
    }

    /// The key of an id from a source.
    pub fn from_id(event_id: &str, source: Option<&str>) -> Self {
        if let Some(own) = own_key(event_id) {
            return Self(own);
        }
        let source = source.unwrap_or("");
        let mut name = Vec::with_capacity(8 + source.len() + event_id.len());
        name.extend_from_slice(&(source.len() as u64).to_le_bytes());
        name.extend_from_slice(source.as_bytes());
        name.extend_from_slice(event_id.as_bytes());
        Self(Uuid::new_v5(&namespace(), &name).into_bytes())
    }

    /// The key that [`as_bytes`](Self::as_bytes) gave, read back from where it was kept.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The key as bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for DedupeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DedupeKey({})", Uuid::from_bytes(self.0))
    }
}

fn own_key(event_id: &str) -> Option<[u8; 16]> {
    if event_id.len() != 36 || event_id.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let uuid = Uuid::try_parse(event_id).ok()?;
    (uuid.get_version_num() == 7).then(|| uuid.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EnvelopeParts;

    fn envelope(id: &str) -> Envelope {
        let mut parts = EnvelopeParts::new(id, "order.placed");
        parts.source = Some("order-service".into());
        parts.timestamp = Some("2024-01-15T10:30:00Z".parse().unwrap());
        Envelope::new(parts).unwrap()
    }

    fn origin(cause: &Envelope, ordinal: usize) -> Origin<'_> {
        Origin {
            cause,
            group: "payment",
            handler: "charge",
            ordinal,
        }
    }

    #[test]
    fn emitted_ids_repeat_and_differ_by_every_part_of_their_origin() {
        let cause = envelope("evt-a7f8b4c2");
        let id = repeatable(origin(&cause, 0));

        assert_eq!(id, repeatable(origin(&cause, 0)));
        assert_ne!(id, repeatable(origin(&cause, 1)));
        assert_ne!(
            id,
            repeatable(Origin {
                group: "stock",
                ..origin(&cause, 0)
            })
        );
        assert_ne!(
            id,
            repeatable(Origin {
                handler: "refund",
                ..origin(&cause, 0)
            })
        );
        assert_ne!(id, repeatable(origin(&envelope("evt-other"), 0)));
        let uuid = Uuid::parse_str(&id).unwrap();
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_timestamp().unwrap().to_unix().0, 1_705_314_600);
    }

    #[test]
    fn the_id_of_a_row_repeats_and_differs_by_every_part_of_its_origin() {
        let origin = RowOrigin {
            outbox: "a",
            row_id: "1",
            created_at: Timestamp::from_micros(1_705_314_600_000_000),
            payload: b"{}",
        };
        let id = of_row(origin);

        assert_eq!(id, of_row(origin));
        assert!(id.starts_with("018d0ca"), "{id}");
        for other in [
            RowOrigin {
                outbox: "b",
                ..origin
            },
            RowOrigin {
                row_id: "2",
                ..origin
            },
            RowOrigin {
                created_at: Timestamp::from_micros(1_705_314_600_000_001),
                ..origin
            },
            RowOrigin {
                payload: b"[]",
                ..origin
            },
        ] {
            assert_ne!(id, of_row(other), "{other:?}");
        }
    }

    #[test]
    fn an_emitted_id_of_a_cause_before_1970_has_time_zero() {
        let mut parts = EnvelopeParts::new("a", "order.placed");
        parts.timestamp = Some("1948-05-01T00:00:00Z".parse().unwrap());
        let cause = Envelope::new(parts).unwrap();

        let uuid = Uuid::parse_str(&repeatable(origin(&cause, 0))).unwrap();

        assert_eq!(uuid.get_timestamp().unwrap().to_unix().0, 0);
    }

    #[test]
    fn a_uuid_7_is_its_own_key_and_any_other_id_is_hashed_with_its_source() {
        let own = "018d0c2e-1234-7abc-8def-0123456789ab";

        assert_eq!(
            DedupeKey::from_id(own, None),
            DedupeKey::from_id(own, Some("shop"))
        );
        assert_ne!(
            DedupeKey::from_id("evt-1", Some("a")),
            DedupeKey::from_id("evt-1", Some("b"))
        );
        assert_ne!(
            DedupeKey::from_id("bevt-1", Some("a")),
            DedupeKey::from_id("evt-1", Some("ab"))
        );
        assert_eq!(
            DedupeKey::from_id("evt-1", None),
            DedupeKey::from_id("evt-1", None)
        );
    }
}
