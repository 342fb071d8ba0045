//! Buffers of written frames, kept to be filled again: memory that was used a moment ago is still near the processor, and need not be asked for anew.

use crate::format::frame::HEAD_BYTES;
use std::sync::{Mutex, PoisonError};
use tidings_core::limits::FRAME_BODY_BYTES_TARGET;

/// One is being written while another is filled and a third waits.
const BUFFERS_MAX: usize = 4;
/// A larger one, of an event that stood alone, is given back.
const BUFFER_BYTES_MAX: usize = HEAD_BYTES + FRAME_BODY_BYTES_TARGET;

/// Buffers that wait to be used again.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    /// Guards the buffers: held to take one or to put it back.
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl Spare {
    /// An empty buffer, with the room of an earlier one if there is one.
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        buffers.pop().unwrap_or_default()
    }

    /// Keeps a buffer for later unless there are enough.
    pub(crate) fn put_back(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() > BUFFER_BYTES_MAX {
            return;
        }
        buffer.clear();
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < BUFFERS_MAX {
            buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_buffers_of_a_frames_size_are_kept_and_come_back_empty() {
        let spare = Spare::default();
        for _ in 0..10 {
            spare.put_back(vec![7; 1_000]);
        }
        spare.put_back(Vec::with_capacity(BUFFER_BYTES_MAX + 1));

        let kept: Vec<Vec<u8>> = std::iter::repeat_with(|| spare.take())
            .take_while(|buffer| buffer.capacity() > 0)
            .collect();

        assert_eq!(kept.len(), BUFFERS_MAX);
        assert!(
            kept.iter()
                .all(|buffer| buffer.is_empty() && buffer.capacity() <= BUFFER_BYTES_MAX)
        );
    }
}
