//! What is known of a stretch of a segment, collected by reading it: its blocks, and which of them hold which ids and keys.

use crate::filter::Filter;
use crate::format::Identity;
use crate::format::look_up::{
    BLOCKS_MAX, Block, Covered, ENTRIES_MAX, Kind, block_of, coarser, encode, entry, fingerprint,
};
use crate::log::Log;
use crate::scan::{Bounds, Scanner, Stop};
use std::sync::Arc;
use tidings_core::broker::BrokerError;
use tidings_core::limits::LOOK_UP_BLOCK_BYTES;

/// Entries that are sorted together before they are merged with the others.
const RUN_ENTRIES: usize = 65_536;

/// Blocks and entries of one segment, from its first event on.
#[derive(Debug)]
pub(crate) struct Collected {
    identity: Identity,
    /// Everything in the segment before this position was looked at.
    pub next: u64,
    blocks: Vec<Block>,
    /// Bytes of events in the last block so far, and those after which it is full.
    block_bytes: usize,
    block_bytes_max: usize,
    /// Sorted runs of entries, each at least twice as long as the one behind it.
    runs: Vec<Vec<u64>>,
    entries: usize,
}

/// Why collecting stopped before the end.
#[derive(Debug)]
pub(crate) enum Halt {
    /// It was told to.
    Stopped,
    /// There are more entries than are kept in memory.
    TooMany,
    /// The disk failed.
    Failed(BrokerError),
}

impl From<BrokerError> for Halt {
    fn from(error: BrokerError) -> Self {
        Self::Failed(error)
    }
}

impl Collected {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            identity,
            next: identity.segment,
            blocks: Vec::new(),
            block_bytes: 0,
            block_bytes_max: LOOK_UP_BLOCK_BYTES,
            runs: Vec::new(),
            entries: 0,
        }
    }

    /// The segment that this is of.
    pub(crate) fn segment(&self) -> u64 {
        self.identity.segment
    }

    /// Reads on to a position. Whatever happens, everything before `next` is in, and nothing else.
    pub(crate) fn read_to(
        &mut self,
        log: &Arc<Log>,
        until: u64,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Halt> {
        if self.next >= until {
            return Ok(());
        }
        let mut scanner = Scanner::new(log.clone(), self.next);
        let mut filter = Filter::all();
        let mut fresh = Vec::new();
        let halted = loop {
            if self.next >= until {
                break Ok(());
            }
            if stop() {
                break Err(Halt::Stopped);
            }
            if self.entries + fresh.len() > ENTRIES_MAX {
                break Err(Halt::TooMany);
            }
            match self.read_frame(&mut scanner, &mut filter, until, &mut fresh) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
            if fresh.len() >= RUN_ENTRIES {
                self.add_run(std::mem::take(&mut fresh));
            }
        };
        self.add_run(fresh);
        halted
    }

    /// Reads the events of one frame; `false` at the end of what can be read.
    fn read_frame(
        &mut self,
        scanner: &mut Scanner,
        filter: &mut Filter,
        until: u64,
        fresh: &mut Vec<u64>,
    ) -> Result<bool, BrokerError> {
        self.begin_block(fresh);
        let log = self.identity.log;
        let block = self.blocks.len().saturating_sub(1);
        let before = fresh.len();
        let mut bytes = 0;
        let bounds = Bounds {
            events_max: usize::MAX,
            bytes_max: 1,
        };
        let stopped = scanner.scan_with(filter, bounds, &mut |found| {
            if found.position >= until {
                return Ok(());
            }
            let names = found.names()?;
            bytes += found.bytes();
            fresh.push(entry(
                fingerprint(log, Kind::EventId, names.event_id),
                block,
            ));
            if let Some(id) = names.aggregate_id {
                fresh.push(entry(fingerprint(log, Kind::Key, id), block));
            }
            if let Some(key) = names.other_key() {
                fresh.push(entry(fingerprint(log, Kind::Key, &key), block));
            }
            Ok(())
        });
        let stopped = stopped.inspect_err(|_| fresh.truncate(before))?;
        self.block_bytes += bytes;
        if let Stop::Damage(_) = stopped
            && let Some(last) = self.blocks.last_mut()
        {
            // What cannot be read may have been anything: whoever looks something up is told, as who reads is.
            last.suspect = true;
            self.block_bytes = self.block_bytes_max;
        }
        self.next = self.next.max(scanner.position().min(until));
        Ok(!matches!(stopped, Stop::AtEnd))
    }

    /// Begins the next block if the last one is full.
    fn begin_block(&mut self, fresh: &mut [u64]) {
        if !self.blocks.is_empty() && self.block_bytes < self.block_bytes_max {
            return;
        }
        if self.blocks.len() == BLOCKS_MAX {
            self.coarsen(fresh);
            return;
        }
        self.blocks.push(Block {
            first: self.next,
            suspect: false,
        });
        self.block_bytes = 0;
    }

    /// Makes one block of every two, because there are no more numbers for blocks. The last one is half full then.
    fn coarsen(&mut self, fresh: &mut [u64]) {
        let (pairs, _) = self.blocks.as_chunks::<2>();
        self.blocks = pairs
            .iter()
            .map(|[one, other]| Block {
                first: one.first,
                suspect: one.suspect || other.suspect,
            })
            .collect();
        let entries = self.runs.iter_mut().flatten().chain(fresh);
        entries.for_each(|entry| *entry = coarser(*entry));
        self.block_bytes_max = self.block_bytes_max.saturating_mul(2);
        self.block_bytes = self.block_bytes_max;
        // A full last block is followed by a new one; there is room for it now.
        self.begin_block(&mut []);
    }

    fn add_run(&mut self, mut run: Vec<u64>) {
        run.sort_unstable();
        run.dedup();
        self.entries += run.len();
        while let Some(mut last) = self.runs.pop_if(|last| last.len() < 2 * run.len()) {
            self.entries -= last.len() + run.len();
            last.append(&mut run);
            // Two sorted runs one behind the other, which this sort merges.
            last.sort();
            last.dedup();
            self.entries += last.len();
            run = last;
        }
        self.runs.push(run);
    }

    /// The blocks, in order; the last one ends at `next`.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Adds the blocks that may hold what the fingerprint is of.
    pub(crate) fn add_blocks_of(&self, fingerprint: u64, blocks: &mut Vec<usize>) {
        for run in &self.runs {
            let from = run.partition_point(|known| *known < fingerprint);
            let same = run
                .get(from..)
                .unwrap_or_default()
                .iter()
                .take_while(|known| **known - fingerprint < BLOCKS_MAX as u64);
            blocks.extend(same.map(|known| block_of(*known)));
        }
    }

    /// The table of a segment that was looked at as a whole, as bytes.
    pub(crate) fn into_table(mut self, covered: Covered) -> Vec<u8> {
        let mut entries = Vec::new();
        // The shortest are merged first.
        while let Some(mut run) = self.runs.pop() {
            run.append(&mut entries);
            run.sort();
            run.dedup();
            entries = run;
        }
        encode(self.identity, self.next, covered, &self.blocks, &entries)
    }
}
