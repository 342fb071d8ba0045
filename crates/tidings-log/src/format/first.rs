//! Where a log begins since retention removed what came before. It is durable before the first file is removed, so that a crash in between leaves no hole.

use super::fields::Malformed;
use super::sealed::{sealed, unsealed};
use tidings_core::limits::POSITION_END;

/// Bytes of the record.
pub(crate) const FIRST_BYTES: usize = 64;
const MAGIC: &[u8; 8] = b"tidfir\xf5\xf7";

/// Where a log begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct First {
    /// The log it speaks of.
    pub log: u64,
    /// Everything before this position was removed on purpose.
    pub position: u64,
}

impl First {
    /// The record as bytes.
    pub(crate) fn encode(&self) -> [u8; FIRST_BYTES] {
        let mut out = Vec::with_capacity(FIRST_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.log.to_le_bytes());
        out.extend_from_slice(&self.position.to_le_bytes());
        sealed(out)
    }

    /// Reads a record.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let what = "the first position";
        let mut fields = unsealed::<FIRST_BYTES>(bytes, MAGIC, what)?;
        let first = Self {
            log: fields.u64(what)?,
            position: fields.u64(what)?,
        };
        if first.position >= POSITION_END {
            return Err(Malformed { what });
        }
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_every_changed_bit_is_seen() {
        let first = First {
            log: 1,
            position: 4_711,
        };
        let bytes = first.encode();
        assert_eq!(First::decode(&bytes), Ok(first));

        for bit in 0..FIRST_BYTES * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(First::decode(&changed).is_err(), "bit {bit}");
        }
        assert!(First::decode(&[0; FIRST_BYTES]).is_err());
    }
}
