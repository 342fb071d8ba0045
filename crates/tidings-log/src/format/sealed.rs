//! What short records of a fixed length have in common: magic, fields, zeros, and a checksum over all of it at the end.

use super::CHECKSUM_SEED;
use super::fields::{Fields, Malformed};

/// A record of `N` bytes: what was written of it, zeros, and the checksum.
pub(super) fn sealed<const N: usize>(mut out: Vec<u8>) -> [u8; N] {
    out.resize(N - 4, 0);
    let checksum = crc32c::crc32c_append(CHECKSUM_SEED, &out);
    out.extend_from_slice(&checksum.to_le_bytes());
    let mut bytes = [0; N];
    bytes.copy_from_slice(&out);
    bytes
}

/// The fields behind the magic of a record of `N` bytes whose checksum holds.
pub(super) fn unsealed<'a, const N: usize>(
    bytes: &'a [u8],
    magic: &[u8; 8],
    what: &'static str,
) -> Result<Fields<'a>, Malformed> {
    let (covered, checksum) = bytes
        .get(..N)
        .and_then(|bytes| bytes.split_last_chunk::<4>())
        .ok_or(Malformed { what })?;
    if crc32c::crc32c_append(CHECKSUM_SEED, covered) != u32::from_le_bytes(*checksum) {
        return Err(Malformed { what });
    }
    let mut fields = Fields::new(covered);
    if fields.bytes(8, what)? != magic {
        return Err(Malformed { what });
    }
    Ok(fields)
}
