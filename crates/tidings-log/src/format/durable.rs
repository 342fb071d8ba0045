//! The owner's word to readers beside it: how far the log may be read. Written after each sync and never synced itself.

use super::fields::Malformed;
use super::sealed::{sealed, unsealed};
use tidings_core::limits::POSITION_END;

/// Bytes of the record.
pub(crate) const DURABLE_BYTES: usize = 64;
const MAGIC: &[u8; 8] = b"tiddur\xf5\xf7";

/// How far the log may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Durable {
    /// The log it speaks of.
    pub log: u64,
    /// Everything before this position was accepted and may be read.
    pub visible: u64,
    /// Everything before this position is synced.
    pub synced: u64,
    /// The segment that `visible` lies in, by its first position.
    pub segment: u64,
    /// Where in that segment the next frame will begin.
    pub offset: u64,
}

impl Durable {
    /// The record as bytes.
    pub(crate) fn encode(&self) -> [u8; DURABLE_BYTES] {
        let mut out = Vec::with_capacity(DURABLE_BYTES);
        out.extend_from_slice(MAGIC);
        for value in [
            self.log,
            self.visible,
            self.synced,
            self.segment,
            self.offset,
        ] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        sealed(out)
    }

    /// Reads a record; malformed also while the owner is writing it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let what = "the durable position";
        let mut fields = unsealed::<DURABLE_BYTES>(bytes, MAGIC, what)?;
        let durable = Self {
            log: fields.u64(what)?,
            visible: fields.u64(what)?,
            synced: fields.u64(what)?,
            segment: fields.u64(what)?,
            offset: fields.u64(what)?,
        };
        let positions = [durable.visible, durable.synced, durable.segment];
        if positions.iter().any(|position| *position >= POSITION_END) {
            return Err(Malformed { what });
        }
        Ok(durable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_every_changed_bit_is_seen() {
        let durable = Durable {
            log: 1,
            visible: 22,
            synced: 20,
            segment: 10,
            offset: 4_096,
        };
        let bytes = durable.encode();
        assert_eq!(Durable::decode(&bytes), Ok(durable));

        for bit in 0..DURABLE_BYTES * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Durable::decode(&changed).is_err(), "bit {bit}");
        }
        assert!(Durable::decode(&[0; DURABLE_BYTES]).is_err());
    }
}
