//! The target `look_up_table`: any bytes as the look-up table of a segment. A table that does not hold is not read, one that holds says what its entries say, and whatever it says, a look-up answers only events that are what was asked for.
//!
//! The first byte of an input says what is done to the rest: bit 0 gives the table the right checksums, bit 1 makes one of the rest as fingerprints and blocks, bit 2 makes it that of a segment that is there.

use crate::checksummed::{self, LOG};
use crate::reading::{Seen, block_on, read_all};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tidings_core::broker::{Broker, LookUpBy, LookUpRequest, Position, Reader};
use tidings_core::seam::Clock;
use tidings_core::{Envelope, EnvelopeParts, Timestamp};
use tidings_log::{LogBroker, LogReader, OpenOptions, fuzzing};
use tidings_testkit::{FaultyDisk, ManualClock};

const FOLDER: &str = "/data";
const SEGMENT: u64 = 0;
/// Calls after which a look-up in a small log should have ended long ago.
const CALLS_MAX: usize = 1_000;

/// Runs the target on an input.
pub fn run(input: &[u8]) {
    let Some(([what, id], rest)) = input.split_first_chunk::<2>() else {
        return;
    };
    let id = format!("evt-{id}");
    let print = fuzzing::fingerprint_of_id(LOG, &id);
    let mut table = if what & 2 == 0 {
        rest.to_vec()
    } else {
        written(rest)
    };
    if what & 4 != 0 {
        checksummed::claim_table(&mut table, &log().covered);
    }
    if what & 1 != 0 {
        checksummed::repair_table(&mut table);
    }

    let found = fuzzing::look_up(&table, LOG, SEGMENT, print);

    let expected = checksummed::table_blocks(&table, SEGMENT, print);
    assert_eq!(found, expected, "a table is read as it should not be");
    if what & 4 != 0 {
        answers_are_right(&table, &id);
    }
}

/// A table of fingerprints and blocks of two bytes each; every one of them is found in it.
pub fn written(input: &[u8]) -> Vec<u8> {
    let (pairs, _) = input.as_chunks::<2>();
    let pairs: Vec<(u64, usize)> = pairs
        .iter()
        .map(|[id, block]| {
            let id = format!("evt-{id}");
            (fuzzing::fingerprint_of_id(LOG, &id), usize::from(*block))
        })
        .collect();
    let table = fuzzing::write_table(LOG, SEGMENT, &pairs, 256);
    for (print, _) in &pairs {
        let same = pairs.iter().filter(|(other, _)| other == print);
        let expected: BTreeSet<usize> = same.map(|(_, block)| *block).collect();
        let found = fuzzing::look_up(&table, LOG, SEGMENT, *print).expect("it was made to hold");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    }
    table
}

/// A small log of several segments, and what is in it.
struct Log {
    disk: FaultyDisk,
    seen: Seen,
    /// What a table says of the first segment: position behind it, length, checksum of its ends.
    covered: checksummed::Covered,
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at(Timestamp::from_micros(
        1_700_000_000_000_000,
    )))
}

fn log() -> &'static Log {
    static MADE: OnceLock<Log> = OnceLock::new();
    MADE.get_or_init(|| {
        let disk = FaultyDisk::new();
        let format = format!("format 1\nlog {LOG:016x}\n");
        disk.put(Path::new(FOLDER).join("format"), format.as_bytes());
        let mut options = OpenOptions::new(FOLDER, clock(), Arc::new(disk.clone()));
        (options.segment_bytes, options.look_up_tables) = (4_096, false);
        let broker = LogBroker::open(options).expect("a log is made");
        for number in 0..120_u64 {
            let mut parts = EnvelopeParts::new(format!("evt-{}", number), "order.placed");
            parts.aggregate_id = Some(format!("order-{}", number % 7));
            let event = Envelope::new(parts).expect("it has an id and a type");
            let outcomes = block_on(broker.publish(&[event]));
            assert!(outcomes.iter().all(Result::is_ok));
        }
        let seen = read_all(&broker);
        drop(broker);
        let mut segments = disk.files().into_iter().filter_map(|path| {
            let first = path.file_name()?.to_str()?.strip_suffix(".seg")?;
            Some((first.parse().ok()?, disk.bytes_of(&path)?))
        });
        let (_, bytes): (u64, Vec<u8>) = segments.next().expect("there is a segment");
        let (next, _) = segments.next().expect("there is a second segment");
        let covered = checksummed::Covered::of(next, &bytes);
        Log {
            disk,
            seen,
            covered,
        }
    })
}

/// Whatever a table says, what is answered was asked for, and nothing is answered twice.
fn answers_are_right(table: &[u8], id: &str) {
    let log = log();
    let disk = log.disk.fork();
    let path = format!("{FOLDER}/log/main/{SEGMENT:020}.lkp");
    disk.put(path, table);
    let reader = LogReader::open(FOLDER, clock(), Arc::new(disk)).expect("it is read");
    for by in [LookUpBy::EventId(id), LookUpBy::Key("order-3")] {
        let mut found = Vec::new();
        let mut from = Position(0);
        let mut calls = 0..CALLS_MAX;
        loop {
            calls.next().expect("a look-up ends");
            let request = LookUpRequest {
                by,
                from,
                patterns: &[],
                events_max: 3,
            };
            let page = block_on(reader.look_up(request)).expect("nothing is damaged but a table");
            let events = page.events.into_iter();
            found.extend(events.map(|event| (event.position.0, event.envelope)));
            if page.at_end {
                break;
            }
            from = page.next;
        }
        assert!(found.is_sorted_by(|one, other| one.0 < other.0));
        let is_right =
            |event: &(u64, Envelope)| by.matches(&event.1) && log.seen.events.contains(event);
        assert!(found.iter().all(is_right), "{by:?}: {found:?}");
        if checksummed::table_lists(table, SEGMENT).is_none() {
            let all = log.seen.events.iter().filter(|event| by.matches(&event.1));
            assert_eq!(
                found.len(),
                all.count(),
                "{by:?}: a table that does not hold hides events"
            );
        }
    }
}
