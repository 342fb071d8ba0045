//! The contiguous low watermark over outcomes that come out of order, for brokers whose cursor is one number. Pure.

use std::collections::BTreeSet;

/// Tracks which offsets of one scope are settled, and up to where all of them are.
///
/// **Guarantee**: the watermark never passes an offset that was handed out and not settled.
#[derive(Debug, Clone)]
pub struct LowWatermark {
    /// Everything below was looked at: handed out, or skipped as of no interest.
    scanned: u64,
    /// Handed out and not settled.
    open: BTreeSet<u64>,
}

impl LowWatermark {
    /// A watermark at the first offset that is not settled.
    pub fn new(from: u64) -> Self {
        Self {
            scanned: from,
            open: BTreeSet::new(),
        }
    }

    /// Notes that `offset` was handed out.
    pub fn hand_out(&mut self, offset: u64) {
        self.open.insert(offset);
        self.scanned = self.scanned.max(offset.saturating_add(1));
    }

    /// Notes that everything below `offset` was looked at.
    pub fn scan_to(&mut self, offset: u64) {
        self.scanned = self.scanned.max(offset);
    }

    /// Notes that `offset` is settled; `false` if it was not open.
    pub fn settle(&mut self, offset: u64) -> bool {
        self.open.remove(&offset)
    }

    /// Whether `offset` is handed out and not settled.
    pub fn is_open(&self, offset: u64) -> bool {
        self.open.contains(&offset)
    }

    /// The first offset that is not settled: all below it are, or are of no interest.
    pub fn position(&self) -> u64 {
        self.open.first().copied().unwrap_or(self.scanned)
    }

    /// How many offsets are handed out and not settled.
    pub fn open_count(&self) -> usize {
        self.open.len()
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
