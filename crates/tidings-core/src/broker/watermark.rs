//! The contiguous low watermark over outcomes that come out of order, for brokers whose cursor is one number. Pure.

use std::collections::VecDeque;

/// So many settled offsets may stand behind an open one before they are swept out.
const SETTLED_KEPT_MAX: usize = 4_096;

/// Tracks which offsets of one scope are settled, and up to where all of them are.
///
/// **Guarantee**: the watermark never passes an offset that was handed out and not settled.
#[derive(Debug, Clone)]
pub struct LowWatermark {
    /// Everything below was looked at: handed out, or skipped as of no interest.
    scanned: u64,
    /// What was handed out, in order of offsets; the first one is open. Offsets come in order and are settled nearly so, which a queue takes without searching and without an allocation for each.
    handed_out: VecDeque<HandedOut>,
    /// Entries of `handed_out` that are not settled.
    open: usize,
}

#[derive(Debug, Clone, Copy)]
struct HandedOut {
    offset: u64,
    settled: bool,
}

impl LowWatermark {
    /// A watermark at the first offset that is not settled.
    pub fn new(from: u64) -> Self {
        Self {
            scanned: from,
            handed_out: VecDeque::new(),
            open: 0,
        }
    }

    /// Notes that `offset` was handed out.
    pub fn hand_out(&mut self, offset: u64) {
        self.scanned = self.scanned.max(offset.saturating_add(1));
        let entry = HandedOut {
            offset,
            settled: false,
        };
        match self.find(offset) {
            Ok(index) => {
                if let Some(known) = self.handed_out.get_mut(index)
                    && known.settled
                {
                    *known = entry;
                    self.open += 1;
                }
            }
            Err(index) => {
                self.handed_out.insert(index, entry);
                self.open += 1;
            }
        }
    }

    /// Notes that everything below `offset` was looked at.
    pub fn scan_to(&mut self, offset: u64) {
        self.scanned = self.scanned.max(offset);
    }

    /// Notes that `offset` is settled; `false` if it was not open.
    pub fn settle(&mut self, offset: u64) -> bool {
        let found = self.find(offset).ok();
        let open = found.and_then(|index| self.handed_out.get_mut(index));
        let Some(entry) = open.filter(|entry| !entry.settled) else {
            return false;
        };
        entry.settled = true;
        self.open -= 1;
        while self.handed_out.front().is_some_and(|first| first.settled) {
            self.handed_out.pop_front();
        }
        // One event that stays open for long must not keep the memory of all that came after it.
        if self.handed_out.len() > 2 * self.open + SETTLED_KEPT_MAX {
            self.handed_out.retain(|entry| !entry.settled);
        }
        true
    }

    /// Whether `offset` is handed out and not settled.
    pub fn is_open(&self, offset: u64) -> bool {
        let found = self.find(offset).ok();
        found
            .and_then(|index| self.handed_out.get(index))
            .is_some_and(|entry| !entry.settled)
    }

    /// The first offset that is not settled: all below it are, or are of no interest.
    pub fn position(&self) -> u64 {
        self.handed_out
            .front()
            .map_or(self.scanned, |first| first.offset)
    }

    /// How many offsets are handed out and not settled.
    pub fn open_count(&self) -> usize {
        self.open
    }

    /// Where the entry of an offset is, or where it belongs. Without gaps it is as far from the front as its offset is from the first one.
    fn find(&self, offset: u64) -> Result<usize, usize> {
        let Some(last) = self.handed_out.back() else {
            return Err(0);
        };
        if offset > last.offset {
            return Err(self.handed_out.len());
        }
        let distance = offset.wrapping_sub(self.position());
        let guess = usize::try_from(distance).unwrap_or(usize::MAX);
        match self.handed_out.get(guess) {
            Some(entry) if entry.offset == offset => Ok(guess),
            _ => self
                .handed_out
                .binary_search_by_key(&offset, |entry| entry.offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_watermark_waits_for_the_oldest_open_offset() {
        let mut watermark = LowWatermark::new(5);
        for offset in [5, 7, 8] {
            watermark.hand_out(offset);
        }
        watermark.scan_to(20);

        assert!(watermark.settle(8));
        assert_eq!(watermark.position(), 5);
        assert!(watermark.settle(5));
        assert_eq!(watermark.position(), 7);
        assert!(!watermark.settle(5));
        assert!(watermark.settle(7));
        assert_eq!(watermark.position(), 20);
    }

    #[test]
    fn an_offset_that_stays_open_keeps_no_memory_of_those_behind_it() {
        let mut watermark = LowWatermark::new(0);
        watermark.hand_out(0);
        for offset in 1..100_000 {
            watermark.hand_out(offset);
            assert!(watermark.settle(offset));
        }

        assert_eq!((watermark.position(), watermark.open_count()), (0, 1));
        assert!(watermark.handed_out.len() <= SETTLED_KEPT_MAX + 2);
        assert!(watermark.settle(0));
        assert_eq!(watermark.position(), 100_000);
    }

    proptest! {
        /// The model is a plain list of offsets with a flag: the watermark is the first that is handed out and not settled.
        #[test]
        fn it_agrees_with_a_plain_list(steps in proptest::collection::vec((0_u8..3, 0_usize..40), 1..200)) {
            let mut watermark = LowWatermark::new(0);
            let mut model: Vec<(u64, bool)> = Vec::new();
            let mut next = 0_u64;
            for (kind, pick) in steps {
                match kind {
                    0 => { watermark.hand_out(next); model.push((next, false)); next += 1; }
                    1 => { next += 3; watermark.scan_to(next); }
                    _ => if !model.is_empty() {
                        let index = pick % model.len();
                        let (offset, settled) = model[index];
                        prop_assert_eq!(watermark.settle(offset), !settled);
                        model[index].1 = true;
                    },
                }
                let expected = model.iter().find(|(_, settled)| !settled).map_or(next, |(offset, _)| *offset);
                prop_assert_eq!(watermark.position(), expected);
            }
        }
    }
}
