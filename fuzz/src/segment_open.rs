//! The target `segment_open`: any bytes as the segments of a log. It is read beside nobody, opened, read, written, closed, and opened again.
//!
//! Nothing is served whose checksum does not hold, nothing panics or runs for ever, and a recovery does not change its mind.

use crate::checksummed::{self, Held, LOG};
use crate::reading::{Seen, block_on, read_all};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidings_core::broker::Broker;
use tidings_core::seam::Clock;
use tidings_core::{Envelope, EnvelopeParts, Timestamp};
use tidings_log::{LogBroker, LogReader, OpenOptions};
use tidings_testkit::{FaultyDisk, ManualClock};

const FOLDER: &str = "/data";
/// Longer inputs find nothing that shorter ones do not, only later.
const INPUT_BYTES_MAX: usize = 16_384;

/// No log gets there by writing; a forger's does, and then there are no positions left to give away.
const POSITION_MAX: u64 = 1 << 63;

const WITH_HEADERS: u8 = 1;
const WITH_CHECKSUMS: u8 = 1 << 1;
const WITH_DURABLE: u8 = 1 << 2;
const WITH_INDEX: u8 = 1 << 3;
const WITH_SECOND: u8 = 1 << 4;
const ENDS_UNCLEANLY: u8 = 1 << 5;
const IS_ONLY_READ: u8 = 1 << 6;

/// An input, taken apart: the first byte says what is there, numbers of two bytes follow, the rest is segments.
struct Input {
    what: u8,
    numbers: [u16; 6],
    /// First position and bytes of each segment.
    segments: Vec<(u64, Vec<u8>)>,
}

impl Input {
    fn of(input: &[u8]) -> Option<Self> {
        let (what, rest) = input.split_first()?;
        let (numbers, rest) = rest.split_first_chunk::<12>()?;
        let numbers: [u16; 6] =
            std::array::from_fn(|at| u16::from_le_bytes([numbers[2 * at], numbers[2 * at + 1]]));
        let mut this = Self {
            what: *what,
            numbers,
            segments: vec![(0, rest.to_vec())],
        };
        if this.is(WITH_SECOND) {
            let at = usize::from(numbers[0]).min(rest.len());
            let second = u64::from(numbers[1]).max(1);
            this.segments = vec![(0, rest[..at].to_vec()), (second, rest[at..].to_vec())];
        }
        for (first, bytes) in &mut this.segments {
            if what & WITH_HEADERS != 0 {
                let header = checksummed::segment_header(*first);
                let covered = bytes.len().min(header.len());
                bytes.splice(..covered, header);
            } else if let Some(log) = bytes.get_mut(16..24) {
                // A header that holds may only be one of this log, or frames of another one hold too.
                log.copy_from_slice(&LOG.to_le_bytes());
            }
            if what & WITH_CHECKSUMS != 0 {
                checksummed::repair_frames(bytes, *first);
            }
        }
        Some(this)
    }

    fn is(&self, bit: u8) -> bool {
        self.what & bit != 0
    }

    /// The folder that the input describes.
    fn disk(&self) -> FaultyDisk {
        let disk = FaultyDisk::new();
        let format = format!("format 1\nlog {LOG:016x}\n");
        disk.put(Path::new(FOLDER).join("format"), format.as_bytes());
        for (first, bytes) in &self.segments {
            disk.put(file(&format!("{first:020}.seg")), bytes);
        }
        let last = self.segments.last().map_or(0, |(first, _)| *first);
        if self.is(WITH_DURABLE) {
            let [_, _, visible, behind, offset, _] = self.numbers.map(u64::from);
            let synced = visible.saturating_sub(behind);
            disk.put(
                file("durable"),
                &checksummed::durable(visible, synced, last, offset),
            );
        }
        if self.is(WITH_INDEX) {
            let [a, b, c, d, e, covered] = self.numbers.map(u64::from);
            let entries = [[a, b, 64], [c, d, e]];
            for (first, _) in &self.segments {
                disk.put(
                    file(&format!("{first:020}.idx")),
                    &checksummed::index(*first, covered, &entries),
                );
            }
        }
        disk
    }

    /// Whether the frames that hold say what a log can say: each goes on at or behind the end of the one before, and none reaches into the next segment.
    fn is_consistent(&self) -> bool {
        let mut reached = 0;
        self.segments
            .iter()
            .enumerate()
            .all(|(at, (first, bytes))| {
                let next_segment = self.segments.get(at + 1).map_or(u64::MAX, |next| next.0);
                reached = reached.max(*first);
                checksummed::frames(bytes, *first).iter().all(|frame| {
                    let follows = frame.first >= reached && frame.synced <= frame.first;
                    reached = frame.next().unwrap_or(u64::MAX);
                    follows && reached <= next_segment && reached < u64::MAX
                })
            })
    }

    fn frames(&self) -> Vec<Held<'_>> {
        let segments = self.segments.iter();
        segments
            .flat_map(|(first, bytes)| checksummed::frames(bytes, *first))
            .collect()
    }
}

/// Runs the target on an input.
pub fn run(input: &[u8]) {
    if input.len() > INPUT_BYTES_MAX {
        return;
    }
    let Some(input) = Input::of(input) else {
        return;
    };
    let (disk, frames) = (input.disk(), input.frames());
    let beside = LogReader::open(FOLDER, clock(), Arc::new(disk.fork()))
        .expect("a log of this format is opened for reading");
    held(&read_all(&beside), &frames);
    if input.is(IS_ONLY_READ) {
        return;
    }

    let broker = open(&disk);
    let seen = read_all(&broker);
    held(&seen, &frames);
    if seen.end > POSITION_MAX {
        return;
    }
    let marker = marker();
    let outcomes = block_on(broker.publish(std::slice::from_ref(&marker)));
    let position = outcomes
        .into_iter()
        .next()
        .expect("one event has one outcome")
        .expect("the disk has room")
        .position
        .expect("the log has positions")
        .0;
    if !input.is_consistent() {
        // Only a forger writes such frames. Nothing above may go wrong with them; what an opening makes of them is not defined.
        return;
    }
    // Facts that state damage may come first, and later.
    assert!(position >= seen.end, "{position} before {}", seen.end);
    let again = if input.is(ENDS_UNCLEANLY) {
        let left = disk.fork();
        drop(broker);
        left
    } else {
        drop(broker);
        disk
    };

    let broker = open(&again);
    let report = broker.recovery();
    // A segment full of marks and garbage, without an event, is begun anew under its own name; what is left of it behind the new frames is cut then.
    if frames.iter().any(|frame| frame.count > 0) {
        assert_eq!(report.cut_bytes, 0, "the second opening cut something");
    }
    let mut expected = seen;
    expected.events.push((position, marker));
    let found = read_all(&broker);
    assert!(found.end > position, "the log ends before its last event");
    expected.end = found.end;
    assert_eq!(found, expected, "the second opening sees something else");
}

/// Every event is in a frame whose checksum holds.
fn held(seen: &Seen, frames: &[Held<'_>]) {
    for (position, envelope) in &seen.events {
        let id = envelope.event_id().as_bytes();
        let stands_in = |frame: &Held<'_>| {
            frame.has(*position)
                && (frame.codec != 0 || memchr::memmem::find(frame.stored, id).is_some())
        };
        assert!(
            frames.iter().any(stands_in),
            "{position} is served, and no frame that holds has it"
        );
    }
    assert!(
        seen.events.is_sorted_by(|one, other| one.0 < other.0),
        "positions are out of order"
    );
}

fn file(name: &str) -> PathBuf {
    Path::new(FOLDER).join("log").join("main").join(name)
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at(Timestamp::from_micros(
        1_700_000_000_000_000,
    )))
}

fn open(disk: &FaultyDisk) -> LogBroker {
    let mut options = OpenOptions::new(FOLDER, clock(), Arc::new(disk.clone()));
    options.segment_bytes = 4_096;
    // A thread for each opening costs more than the opening; the tables have a target of their own.
    options.look_up_tables = false;
    LogBroker::open(options).expect("whatever its segments hold, a log opens")
}

fn marker() -> Envelope {
    Envelope::new(EnvelopeParts::new("marker", "segment.opened")).expect("the marker is an event")
}
