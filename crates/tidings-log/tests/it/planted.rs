//! What bugs that were planted on purpose got past: a lying index, a frame of another log, a torn cursor. `cargo xtask sabotage` plants them again.

use crate::driver::{
    block_on, clock, envelopes, event, events, on_faulty, publish, read_around_damage, read_from,
    receive, typed_event,
};
use std::sync::Arc;
use tidings_core::broker::{Broker, SettleAction, StartAt, SubscribeRequest};
use tidings_core::{Envelope, EnvelopeParts, Payload};
use tidings_log::{Codec, LogBroker, LogReader};
use tidings_testkit::FaultyDisk;
use tidings_testkit::disk::Loss;

const SEGMENT: &str = "/data/log/main/00000000000000000000.seg";
const INDEX: &str = "/data/log/main/00000000000000000000.idx";
const MAGIC: [u8; 4] = [0xf5, b'T', b'd', 0xf7];

/// Where frames begin in a segment.
fn frames(segment: &[u8]) -> Vec<usize> {
    let starts = segment.windows(MAGIC.len()).enumerate();
    starts
        .filter(|(_, found)| *found == MAGIC)
        .map(|(at, _)| at)
        .collect()
}

#[test]
fn an_index_that_points_to_a_frame_of_another_position_is_not_believed() {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    for number in 0..60 {
        publish(&broker, &[event(number)]).unwrap();
    }
    block_on(broker.close()).unwrap();
    let later = frames(&disk.bytes_of(SEGMENT).unwrap())[3] as u64;
    let mut index = disk.bytes_of(INDEX).unwrap();
    let end = index.len() - 4;
    // Its first entry says that position 0 begins where position 3 does.
    index[40 + 16..40 + 24].copy_from_slice(&later.to_le_bytes());
    let checksum = crc32c::crc32c_append(0x7469_6469, &index[..end]);
    index[end..].copy_from_slice(&checksum.to_le_bytes());
    disk.put(INDEX, &index);

    let reader = LogReader::open("/data", Arc::new(clock()), Arc::new(disk.clone())).unwrap();

    for from in [1, 2, 3, 4] {
        assert_eq!(
            envelopes(&read_from(&reader, from, &[])),
            events(from..60),
            "from {from}"
        );
    }
}

#[test]
fn a_frame_of_another_log_at_the_same_place_is_damage() {
    let written = |event_type: &str| {
        let disk = FaultyDisk::new();
        let broker = LogBroker::open(on_faulty(&disk)).unwrap();
        for number in 0..5 {
            publish(&broker, &[typed_event(event_type, number)]).unwrap();
        }
        block_on(broker.close()).unwrap();
        disk
    };
    let (ours, theirs) = (written("order.placed"), written("order.missed"));
    let (mut segment, foreign) = (
        ours.bytes_of(SEGMENT).unwrap(),
        theirs.bytes_of(SEGMENT).unwrap(),
    );
    let places = frames(&segment);
    assert_eq!(places, frames(&foreign), "both logs have the same shape");
    segment[places[2]..places[3]].copy_from_slice(&foreign[places[2]..places[3]]);
    ours.put(SEGMENT, &segment);

    let reader = LogReader::open("/data", Arc::new(clock()), Arc::new(ours)).unwrap();
    let (recorded, lost) = read_around_damage(&reader);

    assert_eq!(lost, [2..=2]);
    assert_eq!(
        envelopes(&recorded),
        [event(0), event(1), event(3), event(4)]
    );
}

#[test]
fn a_torn_write_of_a_cursor_leaves_the_one_that_was_flushed() {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    publish(&broker, &events(0..20)).unwrap();
    let request = SubscribeRequest {
        group: "g".parse().unwrap(),
        patterns: vec!["**".parse().unwrap()],
        start: StartAt::Earliest,
        single_instance: false,
    };
    let mut group = block_on(broker.subscribe(&request)).unwrap();
    let taken = receive(&mut group, 20);
    for (number, delivery) in taken.iter().enumerate() {
        let settled = block_on(group.settle.settle(&[(delivery.token, SettleAction::Ack)]));
        assert!(settled[0].is_ok());
        // What is settled is flushed after each fifth event, so that the later writes go to either slot.
        let flushed = number as u64 / 5 * 5;
        if number % 5 == 0 {
            block_on(group.settle.flush()).unwrap();
        }
        for seed in 0..20 {
            let after = disk.fork();
            after.cut_power(Loss::Torn { seed });

            let broker = LogBroker::open(on_faulty(&after)).unwrap();
            let resumed = block_on(broker.subscribe(&request))
                .unwrap()
                .resumed
                .unwrap();

            assert!(
                (flushed..=number as u64 + 1).contains(&resumed.from.0),
                "flushed at {flushed}, settled {number}, seed {seed}: {resumed:?}"
            );
            assert!(resumed.handed_out_before.0 >= 20, "{resumed:?}");
        }
    }
}

#[test]
fn a_flipped_bit_in_the_length_of_a_packed_frame_costs_that_frame_alone() {
    // A fuzzer found a damaged frame whose length led behind the next frame: that one, acknowledged and sound, was given up with it.
    let short = (0..64)
        .map(short_event)
        .find(|event| frames(&log_of(std::slice::from_ref(event)).1)[..2] == [64, 64 + 128])
        .expect("some event has a frame of 128 bytes, so that a bit of a length leads behind it");
    let mut tried = 0;
    for numbers in 100..140 {
        let events = [long_event(numbers), short.clone(), event(2)];
        let (disk, mut segment) = log_of(&events);
        let places = frames(&segment);
        assert_eq!(segment[places[0] + 6], 1, "the first frame is packed");
        let length = &mut segment[places[0] + 12];
        if *length & 128 == 0 {
            *length |= 128;
            disk.put(SEGMENT, &segment);
            tried += 1;

            let reader = LogReader::open("/data", Arc::new(clock()), Arc::new(disk)).unwrap();
            let (recorded, lost) = read_around_damage(&reader);

            assert_eq!(lost, [0..=0]);
            assert_eq!(envelopes(&recorded), events[1..]);
        }
    }
    assert!(tried > 0, "no length has the bit unset");
}

/// A closed log of some events, each in a frame of its own, and its segment.
fn log_of(events: &[Envelope]) -> (FaultyDisk, Vec<u8>) {
    let disk = FaultyDisk::new();
    let mut options = on_faulty(&disk);
    options.codec = Codec::Lz4;
    let broker = LogBroker::open(options).unwrap();
    for event in events {
        publish(&broker, std::slice::from_ref(event)).unwrap();
    }
    block_on(broker.close()).unwrap();
    let segment = disk.bytes_of(SEGMENT).unwrap();
    (disk, segment)
}

/// An event that is packed, with a payload of so many numbers.
fn long_event(numbers: usize) -> Envelope {
    let mut parts = event(0).into_parts();
    let numbers: Vec<String> = (0..numbers)
        .map(|number| (number * 37).to_string())
        .collect();
    parts.payload = Payload::json(format!("[{}]", numbers.join(", "))).ok();
    Envelope::new(parts).unwrap()
}

/// An event whose id is so much longer.
fn short_event(longer: usize) -> Envelope {
    let id = format!("evt-1{}", "x".repeat(longer));
    Envelope::new(EnvelopeParts::new(id, "order.placed")).unwrap()
}

/// Writes a frame into a segment with a checksum that holds, as only somebody who forges it can.
fn forge(segment: &mut [u8], at: usize, bytes: usize, change: impl Fn(&mut [u8])) {
    let log = segment[16..24].to_vec();
    let first = segment[24..32].to_vec();
    let frame = &mut segment[at..at + bytes];
    change(&mut *frame);
    let sum = crc32c::crc32c_append(0x7469_6469, &frame[64..]);
    let sum = crc32c::crc32c_append(sum, &frame[..8]);
    let sum = crc32c::crc32c_append(sum, &frame[12..64]);
    let sum = crc32c::crc32c_append(crc32c::crc32c_append(sum, &log), &first);
    frame[8..12].copy_from_slice(&sum.to_le_bytes());
}

/// A fuzzer forged frames near the greatest number: the next append overflowed.
#[test]
fn a_forged_position_near_the_greatest_number_does_not_keep_a_log_from_going_on() {
    for position in [u64::MAX - 1, u64::MAX / 2, (1 << 62) - 1] {
        let (disk, mut segment) = log_of(&events(0..3));
        let places = frames(&segment);
        let (last, mark) = (places[2], places[3]);
        let forged = segment[last..mark].to_vec();
        // Behind the last frame of the log, where the next one would be.
        let at = mark + 64;
        segment.truncate(at);
        segment.extend_from_slice(&forged);
        forge(&mut segment, at, forged.len(), |frame| {
            frame[24..32].copy_from_slice(&position.to_le_bytes());
            frame[32..40].copy_from_slice(&position.to_le_bytes());
        });
        disk.put(SEGMENT, &segment);

        let broker = LogBroker::open(on_faulty(&disk)).unwrap();
        let positions = publish(&broker, &events(3..5)).unwrap();

        assert_eq!(positions, [3, 4], "forged {position}");
        assert_eq!(envelopes(&read_from(&broker, 0, &[])), events(0..5));
    }
}

/// A fuzzer forged a count that reaches into the next segment and beyond the end of the log: a reader went there.
#[test]
fn a_forged_count_moves_no_reader_beyond_the_next_segment() {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    for number in 0..60 {
        publish(&broker, &[event(number)]).unwrap();
    }
    block_on(broker.close()).unwrap();
    let mut segment = disk.bytes_of(SEGMENT).unwrap();
    let next: u64 = disk
        .files()
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "seg"))
        .map(|file| file.file_stem().unwrap().to_str().unwrap().parse().unwrap())
        .filter(|first| *first > 0)
        .min()
        .unwrap();
    let places = frames(&segment);
    // The last batch of the segment; behind it stands the sync mark.
    let (at, mark) = (places[next as usize - 1], places[next as usize]);
    forge(&mut segment, at, mark - at, |frame| {
        frame[20..24].copy_from_slice(&1_000_u32.to_le_bytes());
    });
    disk.put(SEGMENT, &segment);

    let reader = LogReader::open("/data", Arc::new(clock()), Arc::new(disk.clone())).unwrap();
    let (recorded, lost) = read_around_damage(&reader);

    assert_eq!(lost, [next - 1..=next - 1]);
    let expected: Vec<_> = events(0..60)
        .into_iter()
        .filter(|envelope| *envelope != event(next - 1))
        .collect();
    assert_eq!(envelopes(&recorded), expected);
    let report = tidings_log::verify("/data", Arc::new(clock()), Arc::new(disk)).unwrap();
    assert_eq!(report.damage.len(), 1, "{report:?}");
    assert_eq!(
        (report.damage[0].from, report.damage[0].events),
        (next - 1, 1)
    );
}
