//! The sparse index beside a segment: where some of its frames begin. It is a hint: whoever uses an entry checks the frame that it points to.

use super::fields::{Fields, Malformed};
use super::{CHECKSUM_SEED, Identity};

const MAGIC: &[u8; 8] = b"tididx\xf5\xf7";
const HEAD_BYTES: usize = 40;
const ENTRY_BYTES: usize = 24;

/// Where a frame begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// The position of its first event.
    pub position: u64,
    /// When it was appended.
    pub append_time: i64,
    /// Where it stands in the segment.
    pub offset: u64,
}

/// The sparse index of one segment, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Index {
    pub entries: Vec<IndexEntry>,
    /// Up to where the segment was looked at.
    pub covered_bytes: u64,
}

impl Index {
    /// The index as bytes.
    pub(crate) fn encode(&self, identity: Identity) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.entries.len() * ENTRY_BYTES + 4);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&identity.log.to_le_bytes());
        out.extend_from_slice(&identity.segment.to_le_bytes());
        out.extend_from_slice(&self.covered_bytes.to_le_bytes());
        out.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        for entry in &self.entries {
            out.extend_from_slice(&entry.position.to_le_bytes());
            out.extend_from_slice(&entry.append_time.to_le_bytes());
            out.extend_from_slice(&entry.offset.to_le_bytes());
        }
        let checksum = crc32c::crc32c_append(CHECKSUM_SEED, &out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads the index of this segment and no other.
    pub(crate) fn decode(bytes: &[u8], identity: Identity) -> Result<Self, Malformed> {
        let what = "the index of a segment";
        let (covered, checksum) = bytes.split_last_chunk::<4>().ok_or(Malformed { what })?;
        if crc32c::crc32c_append(CHECKSUM_SEED, covered) != u32::from_le_bytes(*checksum) {
            return Err(Malformed { what });
        }
        let mut fields = Fields::new(covered);
        let magic = fields.bytes(8, what)?;
        let found = Identity {
            log: fields.u64(what)?,
            segment: fields.u64(what)?,
        };
        if magic != MAGIC || found != identity {
            return Err(Malformed { what });
        }
        let covered_bytes = fields.u64(what)?;
        let count = fields.u64(what)?;
        if count.checked_mul(ENTRY_BYTES as u64) != Some(fields.left() as u64) {
            return Err(Malformed { what });
        }
        let entries = (0..count)
            .map(|_| {
                Ok(IndexEntry {
                    position: fields.u64(what)?,
                    append_time: fields.i64(what)?,
                    offset: fields.u64(what)?,
                })
            })
            .collect::<Result<_, Malformed>>()?;
        Ok(Self {
            entries,
            covered_bytes,
        })
    }

    /// The last entry whose frame begins at `position` or before.
    pub(crate) fn at_or_before(&self, position: u64) -> Option<IndexEntry> {
        let behind = self
            .entries
            .partition_point(|entry| entry.position <= position);
        self.entries.get(behind.checked_sub(1)?).copied()
    }

    /// The last entry whose frame was appended before `time`.
    pub(crate) fn before_time(&self, time: i64) -> Option<IndexEntry> {
        let behind = self
            .entries
            .partition_point(|entry| entry.append_time < time);
        self.entries.get(behind.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity {
        log: 1,
        segment: 100,
    };

    fn index() -> Index {
        let entry = |position, append_time, offset| IndexEntry {
            position,
            append_time,
            offset,
        };
        Index {
            entries: vec![
                entry(100, 5, 64),
                entry(180, 5, 70_000),
                entry(190, 9, 140_000),
            ],
            covered_bytes: 150_000,
        }
    }

    #[test]
    fn an_index_comes_back_and_every_changed_bit_is_seen() {
        let bytes = index().encode(IDENTITY);
        assert_eq!(Index::decode(&bytes, IDENTITY), Ok(index()));

        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Index::decode(&changed, IDENTITY).is_err(), "bit {bit}");
        }
        assert!(
            Index::decode(
                &bytes,
                Identity {
                    segment: 99,
                    ..IDENTITY
                }
            )
            .is_err()
        );
        assert!(Index::decode(&[], IDENTITY).is_err());
    }

    #[test]
    fn entries_are_found_by_position_and_by_time() {
        let index = index();

        assert_eq!(index.at_or_before(99), None);
        assert_eq!(index.at_or_before(185).unwrap().position, 180);
        assert_eq!(index.at_or_before(u64::MAX).unwrap().position, 190);
        assert_eq!(index.before_time(5), None);
        assert_eq!(index.before_time(6).unwrap().position, 180);
    }
}
