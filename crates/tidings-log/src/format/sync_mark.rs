//! A frame without events: everything before its position is synced. It keeps the last acknowledged batch of an idle log from looking like an unfinished end.

use super::Identity;
use super::frame::{FrameHead, FrameKind, HEAD_BYTES, body_checksum};
use crate::Codec;

/// A sync mark as bytes.
pub(crate) fn encode(next: u64, append_time: i64, identity: Identity) -> [u8; HEAD_BYTES] {
    let head = FrameHead {
        kind: FrameKind::SyncMark,
        codec: Codec::None,
        stored_bytes: 0,
        body_bytes: 0,
        count: 0,
        first: next,
        synced: next,
        append_time,
        timestamps: (i64::MAX, i64::MIN),
    };
    head.encode(identity, body_checksum(&[]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::frame;

    #[test]
    fn a_mark_says_that_everything_before_it_is_synced() {
        let identity = Identity { log: 1, segment: 2 };
        let bytes = encode(77, 5, identity);

        let head = FrameHead::decode(&bytes).unwrap();

        assert!(frame::holds(&bytes, identity, &[]));
        assert_eq!(
            (head.kind, head.first, head.synced, head.count),
            (FrameKind::SyncMark, 77, 77, 0)
        );
    }
}
