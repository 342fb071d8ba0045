//! The first bytes of a segment file. They are synced before the first frame is written behind them.

use super::fields::{Fields, Malformed};
use super::{CHECKSUM_SEED, FORMAT_VERSION, Identity};

/// Bytes of the header; the first frame begins behind them.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 64;
const MAGIC: &[u8; 8] = b"tidseg\xf5\xf7";

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub identity: Identity,
    /// No frame in the segment was appended earlier.
    pub append_time: i64,
}

/// What the bytes of a header say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderRead {
    /// A header of a format that is read here.
    Valid(SegmentHeader),
    /// A header of a newer format.
    Newer(u32),
    /// No header.
    Invalid(Malformed),
}

impl SegmentHeader {
    /// The header as bytes.
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.identity.log.to_le_bytes());
        out.extend_from_slice(&self.identity.segment.to_le_bytes());
        out.extend_from_slice(&self.append_time.to_le_bytes());
        out.resize(SEGMENT_HEADER_BYTES - 4, 0);
        let checksum = crc32c::crc32c_append(CHECKSUM_SEED, &out);
        out.extend_from_slice(&checksum.to_le_bytes());
        let mut header = [0; SEGMENT_HEADER_BYTES];
        header.copy_from_slice(&out);
        header
    }

    /// Reads a header.
    pub(crate) fn decode(bytes: &[u8]) -> HeaderRead {
        match Self::fields(bytes) {
            Ok((FORMAT_VERSION, header)) => HeaderRead::Valid(header),
            Ok((newer, _)) if newer > FORMAT_VERSION => HeaderRead::Newer(newer),
            Ok(_) => HeaderRead::Invalid(Malformed {
                what: "the version of a segment",
            }),
            Err(malformed) => HeaderRead::Invalid(malformed),
        }
    }

    fn fields(bytes: &[u8]) -> Result<(u32, Self), Malformed> {
        let what = "the header of a segment";
        let (covered, checksum) = bytes
            .get(..SEGMENT_HEADER_BYTES)
            .and_then(|bytes| bytes.split_last_chunk::<4>())
            .ok_or(Malformed { what })?;
        if crc32c::crc32c_append(CHECKSUM_SEED, covered) != u32::from_le_bytes(*checksum) {
            return Err(Malformed {
                what: "the checksum of a segment's header",
            });
        }
        let mut fields = Fields::new(covered);
        if fields.bytes(8, what)? != MAGIC {
            return Err(Malformed {
                what: "the magic of a segment",
            });
        }
        let version = fields.u32(what)?;
        fields.u32(what)?;
        let identity = Identity {
            log: fields.u64(what)?,
            segment: fields.u64(what)?,
        };
        Ok((
            version,
            Self {
                identity,
                append_time: fields.i64(what)?,
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            identity: Identity { log: 3, segment: 9 },
            append_time: -1,
        }
    }

    #[test]
    fn a_header_comes_back_and_every_changed_bit_is_seen() {
        let bytes = header().encode();
        assert_eq!(SegmentHeader::decode(&bytes), HeaderRead::Valid(header()));

        for bit in 0..SEGMENT_HEADER_BYTES * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(
                matches!(SegmentHeader::decode(&changed), HeaderRead::Invalid(_)),
                "bit {bit}"
            );
        }
        assert!(matches!(
            SegmentHeader::decode(&[0; 64]),
            HeaderRead::Invalid(_)
        ));
        assert!(matches!(
            SegmentHeader::decode(&bytes[..63]),
            HeaderRead::Invalid(_)
        ));
    }

    #[test]
    fn a_newer_header_is_told_from_a_broken_one() {
        let mut bytes = header().encode();
        bytes[8] = 2;
        let checksum = crc32c::crc32c_append(CHECKSUM_SEED, &bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());

        assert_eq!(SegmentHeader::decode(&bytes), HeaderRead::Newer(2));
    }
}
