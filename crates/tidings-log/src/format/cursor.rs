//! The cursor of a group: two slots, of which the one with the higher number that holds is the cursor.
//!
//! A slot that was synced is not written again before the other one was synced too, so that a torn write always leaves a synced slot behind.

use super::CHECKSUM_SEED;
use super::fields::Malformed;
use super::sealed::{sealed, unsealed};

/// Bytes of the whole file; they are reserved when the group is made, so that settling goes on while the disk is full.
pub(crate) const CURSOR_FILE_BYTES: usize = 8_192;
/// Where the two slots begin: in different sectors and pages.
pub(crate) const SLOT_OFFSETS: [u64; 2] = [0, 4_096];
/// Bytes of a slot.
pub(crate) const SLOT_BYTES: usize = 80;
const MAGIC: &[u8; 8] = b"tidcur\xf5\xf7";

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CursorSlot {
    /// The log it speaks of.
    pub log: u64,
    /// A hash of the group's name, so that a cursor of another group is known.
    pub group: u32,
    /// Grows with each write.
    pub number: u64,
    /// The first position that is not settled.
    pub position: u64,
    /// Everything before this position may have been handed to a handler.
    pub handed_out_before: u64,
    /// How often the group was joined.
    pub generation: u64,
    /// When the position last moved, in microseconds; zero if never.
    pub moved_at: i64,
    /// When somebody last worked for the group, in microseconds; zero if that was not noted.
    pub worked_at: i64,
}

/// The hash of a group's name as it stands in its cursor.
pub(crate) fn group_hash(name: &str) -> u32 {
    crc32c::crc32c_append(CHECKSUM_SEED, name.as_bytes())
}

impl CursorSlot {
    /// The slot as bytes.
    pub(crate) fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut out = Vec::with_capacity(SLOT_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.log.to_le_bytes());
        out.extend_from_slice(&self.group.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for value in [
            self.number,
            self.position,
            self.handed_out_before,
            self.generation,
        ] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        for value in [self.moved_at, self.worked_at] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        sealed(out)
    }

    /// Reads a slot.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let what = "a slot of a cursor";
        let mut fields = unsealed::<SLOT_BYTES>(bytes, MAGIC, what)?;
        let log = fields.u64(what)?;
        let group = fields.u32(what)?;
        fields.u32(what)?;
        Ok(Self {
            log,
            group,
            number: fields.u64(what)?,
            position: fields.u64(what)?,
            handed_out_before: fields.u64(what)?,
            generation: fields.u64(what)?,
            moved_at: fields.i64(what)?,
            worked_at: fields.i64(what)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_comes_back_and_every_changed_bit_is_seen() {
        let slot = CursorSlot {
            log: 1,
            group: group_hash("inventory"),
            number: 3,
            position: 40,
            handed_out_before: 4_096,
            generation: 2,
            moved_at: -7,
            worked_at: 9,
        };
        let bytes = slot.encode();
        assert_eq!(CursorSlot::decode(&bytes), Ok(slot));

        for bit in 0..SLOT_BYTES * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(CursorSlot::decode(&changed).is_err(), "bit {bit}");
        }
        assert!(CursorSlot::decode(&[0; SLOT_BYTES]).is_err());
    }
}
