//! The target `frame`: any bytes as one frame. A frame whose checksum does not hold is never read; what is read is written again and reads the same.
//!
//! The first byte of an input says what is done to the rest: bit 0 gives it the right checksum, bit 1 makes it as long as its body is, bit 2 flips the bit that the second byte names.

use crate::checksummed::{self, HEAD_BYTES, LOG};
use tidings_log::fuzzing;

const SEGMENT: u64 = 7;

/// Runs the target on an input.
pub fn run(input: &[u8]) {
    let Some(([what, bit], frame)) = input.split_first_chunk::<2>() else {
        return;
    };
    let mut frame = frame.to_vec();
    if what & 2 != 0 {
        checksummed::fit_frame(&mut frame);
    }
    if what & 1 != 0 {
        checksummed::repair_frame(&mut frame, 0, SEGMENT);
    }
    if what & 4 != 0
        && let Some(byte) = frame.get_mut(usize::from(*bit) / 8)
    {
        *byte ^= 1 << (bit % 8);
    }
    let held = checksummed::frame_at(&frame, 0, SEGMENT);

    let Some(read) = fuzzing::read_frame(&frame, LOG, SEGMENT) else {
        return;
    };

    assert!(held.is_some(), "a frame was read that does not hold");
    if frame[7] == 0 {
        assert_eq!(read.head, frame[..HEAD_BYTES], "the head changed");
    }
    let body = fuzzing::write_records(&read.events);
    let again = checksummed::batch_frame(&body, 0, 1, 0, SEGMENT);
    let again = fuzzing::read_frame(&again, LOG, SEGMENT).expect("the frame was made to hold");
    assert_eq!(again.malformed, None);
    assert_eq!(again.events, read.events, "the events changed");
}
