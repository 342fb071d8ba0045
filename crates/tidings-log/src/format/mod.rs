//! The stored format: one file for each kind of record. `FORMAT.md` shows them byte by byte.

pub(crate) mod batch;
pub(crate) mod cursor;
pub(crate) mod durable;
pub(crate) mod fields;
pub(crate) mod first;
pub(crate) mod frame;
pub(crate) mod index;
pub(crate) mod look_up;
pub(crate) mod record;
mod sealed;
pub(crate) mod segment_header;
pub(crate) mod sync_mark;

/// The format that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The checksums of all records begin with this, so that zeroed bytes never hold.
pub(crate) const CHECKSUM_SEED: u32 = 0x7469_6469;

/// What a frame belongs to. It is part of every checksum, so that a frame in another segment or another log never holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The log, a number drawn when its folder was made.
    pub log: u64,
    /// The segment, by its first position.
    pub segment: u64,
}

impl Identity {
    fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (log, segment) = bytes.split_at_mut(8);
        log.copy_from_slice(&self.log.to_le_bytes());
        segment.copy_from_slice(&self.segment.to_le_bytes());
        bytes
    }
}
