//! The body of a batch frame: records one behind the other, stored as they are or packed.

use super::fields::Malformed;
use super::frame::FrameHead;
use crate::Codec;
use bytes::Bytes;

/// Below so many bytes packing does not pay.
const PACKED_BYTES_MIN: usize = 512;
/// Level of zstd: the fastest that is not a compromise of its own.
const ZSTD_LEVEL: i32 = 1;

/// Packs a body; `None` where it stays as it is because packing does not make it smaller.
pub(crate) fn pack(body: &[u8], codec: Codec) -> Option<Vec<u8>> {
    if body.len() < PACKED_BYTES_MIN {
        return None;
    }
    let packed = match codec {
        Codec::None => return None,
        Codec::Lz4 => lz4_flex::block::compress(body),
        Codec::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL).ok()?,
    };
    (packed.len() < body.len()).then_some(packed)
}

/// The body of a frame whose checksum held. No more than the head's `body_bytes` are made, and those are within their limit.
pub(crate) fn unpack(head: &FrameHead, stored: Bytes) -> Result<Bytes, Malformed> {
    let what = "the packed body of a frame";
    let bytes = head.body_bytes as usize;
    let body = match head.codec {
        Codec::None => return Ok(stored),
        Codec::Lz4 => {
            lz4_flex::block::decompress(&stored, bytes).map_err(|_| Malformed { what })?
        }
        Codec::Zstd => zstd::bulk::decompress(&stored, bytes).map_err(|_| Malformed { what })?,
    };
    if body.len() == bytes {
        Ok(body.into())
    } else {
        Err(Malformed { what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::frame::FrameKind;
    use proptest::prelude::*;

    fn head(codec: Codec, stored: usize, body: usize) -> FrameHead {
        FrameHead {
            kind: FrameKind::Batch,
            codec,
            stored_bytes: stored as u32,
            body_bytes: body as u32,
            count: 1,
            first: 0,
            synced: 0,
            append_time: 0,
            timestamps: (0, 0),
        }
    }

    #[test]
    fn a_packed_body_comes_back() {
        let body = b"order.placed ".repeat(1_000);
        for codec in [Codec::Lz4, Codec::Zstd] {
            let packed = pack(&body, codec).unwrap();
            let head = head(codec, packed.len(), body.len());
            assert_eq!(unpack(&head, packed.into()).unwrap(), body, "{codec:?}");
        }
    }

    #[test]
    fn what_does_not_shrink_stays_as_it_is() {
        let noise: Vec<u8> = (0..2_000_u32)
            .map(|n| (crc32c::crc32c(&n.to_le_bytes()) >> 7) as u8)
            .collect();
        assert_eq!(pack(b"short", Codec::Zstd), None);
        assert_eq!(pack(&noise, Codec::None), None);
        assert_eq!(pack(&noise, Codec::Lz4), None);
    }

    #[test]
    fn a_bomb_is_refused_at_the_length_that_the_head_allows() {
        let body = vec![0_u8; 4_000_000];
        for codec in [Codec::Lz4, Codec::Zstd] {
            let packed = pack(&body, codec).unwrap();
            let head = head(codec, packed.len(), 1_000);
            assert!(unpack(&head, packed.into()).is_err(), "{codec:?}");
        }
    }

    proptest! {
        #[test]
        fn hostile_packed_bytes_never_panic(bytes: Vec<u8>, claim in 0_usize..100_000) {
            for codec in [Codec::Lz4, Codec::Zstd] {
                drop(unpack(&head(codec, bytes.len(), claim), Bytes::from(bytes.clone())));
            }
        }
    }
}
