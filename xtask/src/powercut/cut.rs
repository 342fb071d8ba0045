//! `Rebuild`: the disk as a power cut leaves it. All up to the last flush before the cut, and of the rest what chance keeps.

use crate::powercut::chance::Chance;
use crate::powercut::disk::DiskState;
use crate::powercut::log::{Entry, WriteLog};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// What becomes of the writes that were not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unflushed {
    /// All are on the disk: the kindest cut.
    Kept,
    /// None is.
    Dropped,
    /// Each one is kept, dropped, halved or torn, whatever became of those before it.
    Shuffled,
}

impl Unflushed {
    pub(super) fn pick(chance: &mut Chance) -> Unflushed {
        match chance.below(8) {
            0 => Unflushed::Kept,
            1 => Unflushed::Dropped,
            _ => Unflushed::Shuffled,
        }
    }
}

/// Replays a log of writes; cuts come in the order of their instants.
#[derive(Debug)]
pub(super) struct Rebuild<'a> {
    log: &'a WriteLog,
    /// The disk after the first `applied` entries.
    disk: DiskState,
    applied: usize,
}

impl<'a> Rebuild<'a> {
    pub(super) fn new(base: &DiskState, log: &'a WriteLog) -> Rebuild<'a> {
        Rebuild {
            log,
            disk: base.clone(),
            applied: 0,
        }
    }

    /// The disk after a cut at which `count` entries were under way or done. Never less than in the call before.
    pub(super) fn cut(
        &mut self,
        count: usize,
        unflushed: Unflushed,
        chance: &mut Chance,
    ) -> DiskState {
        let flushed = self.log.flushed(count);
        let entries = &self.log.entries;
        for entry in entries.get(self.applied..flushed).unwrap_or_default() {
            apply(&mut self.disk, self.log, entry);
        }
        self.applied = self.applied.max(flushed);
        let mut disk = self.disk.clone();
        for entry in entries.get(flushed..count).unwrap_or_default() {
            match unflushed {
                _ if entry.is_forced => apply(&mut disk, self.log, entry),
                Unflushed::Kept => apply(&mut disk, self.log, entry),
                Unflushed::Dropped => {}
                Unflushed::Shuffled => apply_in_part(&mut disk, self.log, entry, chance),
            }
        }
        disk
    }
}

fn apply(disk: &mut DiskState, log: &WriteLog, entry: &Entry) {
    if entry.is_discard {
        disk.discard(entry.offset, entry.bytes);
    } else {
        disk.write(entry.offset, log.written(entry));
    }
}

fn apply_in_part(disk: &mut DiskState, log: &WriteLog, entry: &Entry, chance: &mut Chance) {
    let choice = chance.below(8);
    match choice {
        0..=3 => {}
        4..=5 => apply(disk, log, entry),
        _ if entry.is_discard => {}
        6 => {
            let bytes = log.written(entry);
            let half = bytes.len() / SECTOR_BYTES / 2 * SECTOR_BYTES;
            disk.write(entry.offset, bytes.get(..half).unwrap_or_default());
        }
        _ => {
            let sectors = log.written(entry).chunks(SECTOR_BYTES);
            for (number, sector) in sectors.enumerate() {
                if chance.once_in(2) {
                    disk.write(entry.offset + (number * SECTOR_BYTES) as u64, sector);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::powercut::log::tests::log_of;

    const DISK_BYTES: u64 = 65_536;

    /// A flushed write of 1s, then unflushed writes of 2s over it and of 3s behind it.
    fn log() -> WriteLog {
        let entries = [
            (0, 0, vec![1; 4_096]),
            (0, 1, Vec::new()),
            (0, 0, vec![2; 4_096]),
            (8, 0, vec![3; 4_096]),
        ];
        WriteLog::parse(log_of(&entries)).expect("parses")
    }

    fn cut(log: &WriteLog, count: usize, unflushed: Unflushed, seed: u64) -> Vec<u8> {
        let mut rebuild = Rebuild::new(&DiskState::empty(DISK_BYTES), log);
        let disk = rebuild.cut(count, unflushed, &mut Chance::new(seed));
        disk.read(0, 8_192)
    }

    #[test]
    fn what_was_flushed_is_there_and_the_rest_is_what_was_chosen() {
        let log = log();

        let kept = cut(&log, 4, Unflushed::Kept, 1);
        let dropped = cut(&log, 4, Unflushed::Dropped, 1);
        let early = cut(&log, 3, Unflushed::Kept, 1);

        assert_eq!((kept[0], kept[4_096]), (2, 3));
        assert_eq!((dropped[0], dropped[4_096]), (1, 0));
        assert_eq!((early[0], early[4_096]), (2, 0));
    }

    #[test]
    fn before_the_first_flush_nothing_is_certain() {
        assert_eq!(cut(&log(), 1, Unflushed::Dropped, 1), vec![0; 8_192]);
    }

    #[test]
    fn a_shuffled_cut_mixes_old_and_new_by_whole_sectors() {
        let log = log();
        let (mut torn, mut whole, mut none, mut second_alone) = (0, 0, 0, 0);
        for seed in 0..500 {
            let disk = cut(&log, 4, Unflushed::Shuffled, seed);
            for sector in disk.chunks(512) {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "seed {seed}");
            }
            let new = disk[..4_096].iter().filter(|byte| **byte == 2).count();
            match new {
                0 => none += 1,
                4_096 => whole += 1,
                _ => torn += 1,
            }
            second_alone += usize::from(new == 0 && disk[4_096..].iter().all(|byte| *byte == 3));
        }

        assert!(
            torn > 50 && whole > 50 && none > 50,
            "{torn} {whole} {none}"
        );
        assert!(second_alone > 20, "a later write survives an earlier one");
    }

    #[test]
    fn the_same_seed_cuts_alike() {
        let log = log();

        let first = cut(&log, 4, Unflushed::Shuffled, 11);

        assert_eq!(first, cut(&log, 4, Unflushed::Shuffled, 11));
    }

    #[test]
    fn a_later_cut_of_the_same_rebuild_does_not_see_an_earlier_one() {
        let log = log();
        let mut rebuild = Rebuild::new(&DiskState::empty(DISK_BYTES), &log);
        let mut chance = Chance::new(5);

        rebuild.cut(3, Unflushed::Kept, &mut chance);
        let dropped = rebuild.cut(4, Unflushed::Dropped, &mut chance);

        assert_eq!(dropped.read(0, 4_096), vec![1; 4_096]);
    }

    #[test]
    fn a_forced_write_survives_every_cut() {
        let log = WriteLog::parse(log_of(&[(0, 2, vec![5; 512])])).expect("parses");

        assert_eq!(cut(&log, 1, Unflushed::Dropped, 1)[..512], [5; 512]);
    }
}
