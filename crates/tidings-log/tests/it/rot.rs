//! Rot: every bit of a small log is flipped, files are lost, swapped or cut. No wrong byte is served, at most one batch is lost, the rest is read, and nothing needs a hand.

use crate::driver::{
    Journal, block_on, clock, event, events, on_faulty, publish, read_around_damage, repeated,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use tidings_core::Envelope;
use tidings_core::broker::{Broker, Reader, Recorded, SettleAction, StartAt, SubscribeRequest};
use tidings_log::{LogBroker, LogReader, VerifyReport, verify};
use tidings_testkit::FaultyDisk;

/// Batches that fill several segments.
const SEVERAL: &[u64] = &[1, 2, 50, 1, 50, 3, 50, 1];
/// Batches of one segment, few enough that each bit can be tried.
const FEW: &[u64] = &[1, 3, 1];

/// A log of a few segments with its batches. `closed`: the owner said farewell; else it was killed.
fn small_log(sizes: &[u64], closed: bool) -> (FaultyDisk, Vec<Vec<Envelope>>) {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    let mut batches = Vec::new();
    let mut next = 0;
    for size in sizes.iter().copied() {
        let batch = events(next..next + size);
        publish(&broker, &batch).unwrap();
        batches.push(batch);
        next += size;
    }
    if closed {
        block_on(broker.close()).unwrap();
    }
    let left = disk.fork();
    (left, batches)
}

fn segments(disk: &FaultyDisk) -> Vec<String> {
    let names = disk
        .files()
        .into_iter()
        .map(|path| path.to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".seg")).collect()
}

/// Checks what is served of a log with one fault: at most one batch is missing, and that is told.
fn check_served(
    recorded: &[Recorded],
    lost: &[std::ops::RangeInclusive<u64>],
    batches: &[Vec<Envelope>],
    about: &str,
) {
    let all: Vec<&Envelope> = batches.iter().flatten().collect();
    let mut missing: BTreeSet<u64> = (0..all.len() as u64).collect();
    for recorded in recorded {
        assert_eq!(
            Some(&&recorded.envelope),
            all.get(recorded.position.0 as usize),
            "{about}: a wrong event is served"
        );
        assert!(
            missing.remove(&recorded.position.0),
            "{about}: an event is served twice"
        );
    }
    let told: BTreeSet<u64> = lost.iter().cloned().flatten().collect();
    assert_eq!(
        missing, told,
        "{about}: what is missing is not what is told"
    );
    let mut first = 0;
    let hit = batches.iter().filter(|batch| {
        let range = first..first + batch.len() as u64;
        first = range.end;
        missing.iter().any(|position| range.contains(position))
    });
    assert!(
        hit.count() <= 1,
        "{about}: more than one batch is lost: {missing:?}"
    );
}

fn open_reader(disk: &FaultyDisk) -> LogReader {
    LogReader::open("/data", Arc::new(clock()), Arc::new(disk.clone())).unwrap()
}

/// Each log, and which of its bits are tried: every one of a log of few events, some of one of several segments.
fn logs_to_flip(usually: [u64; 2], quick: [u64; 2]) -> Vec<(&'static [u64], bool, u64)> {
    let [few, several] = [0, 1].map(|at| repeated(usually[at], quick[at]));
    [true, false]
        .into_iter()
        .flat_map(|closed| [(FEW, closed, few), (SEVERAL, closed, several)])
        .collect()
}

#[test]
fn every_flipped_bit_of_a_segment_costs_one_batch_at_most_and_is_told() {
    for (sizes, closed, step) in logs_to_flip([1, 37], [11, 401]) {
        let (disk, batches) = small_log(sizes, closed);
        for path in segments(&disk) {
            let bytes = disk.bytes_of(&path).unwrap();
            let written = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            // Beside what was written, a few bits of the reserved room.
            for bit in (0..(written as u64 + 8) * 8).step_by(step as usize) {
                let about = format!("bit {bit} of {path}, closed: {closed}");
                disk.flip_bit(&path, bit);
                let (recorded, lost) = read_around_damage(&open_reader(&disk));
                check_served(&recorded, &lost, &batches, &about);
                let report = verified(&disk);
                let told: u64 = report.damage.iter().map(|damage| damage.events).sum();
                assert_eq!(
                    told,
                    sizes.iter().sum::<u64>() - report.events,
                    "{about}: {report:?}"
                );
                assert_eq!(report.events, recorded.len() as u64, "{about}: {report:?}");
                assert!(
                    bit / 8 >= written as u64 || !report.is_sound() || lost.is_empty(),
                    "{about}"
                );
                disk.flip_bit(&path, bit);
            }
        }
    }
}

fn verified(disk: &FaultyDisk) -> VerifyReport {
    verify("/data", Arc::new(clock()), Arc::new(disk.clone())).unwrap()
}

#[test]
fn a_sound_log_verifies_as_sound_and_damage_is_named_with_file_and_positions() {
    let (disk, _) = small_log(SEVERAL, true);
    let all = SEVERAL.iter().sum::<u64>();
    let report = verified(&disk);
    assert!(
        report.is_sound() && report.indexes_to_make.is_empty(),
        "{report:?}"
    );
    assert_eq!((report.earliest, report.end, report.events), (0, all, all));
    assert_eq!(report.segments, segments(&disk).len() as u64);
    let second = &segments(&disk)[1];
    disk.flip_bit(second, 700 * 8);

    let report = verified(&disk);

    assert_eq!(report.damage.len(), 1);
    assert_eq!(report.damage[0].file.to_str(), Some(second.as_str()));
    assert_eq!(report.damage[0].events, 50);
    assert_eq!(report.events, all - 50);
}

#[test]
fn an_owner_opens_a_log_with_any_flipped_bit_and_goes_on() {
    for (sizes, closed, step) in logs_to_flip([5, 211], [53, 2_003]) {
        let (disk, batches) = small_log(sizes, closed);
        let all = sizes.iter().sum::<u64>();
        for path in segments(&disk) {
            let bytes = disk.bytes_of(&path).unwrap();
            let written = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            for bit in (0..written as u64 * 8).step_by(step as usize) {
                let about = format!("bit {bit} of {path}, closed: {closed}");
                let rotten = disk.fork();
                rotten.flip_bit(&path, bit);
                let broker = LogBroker::open(on_faulty(&rotten))
                    .unwrap_or_else(|error| panic!("{about}: {error}"));
                let (recorded, lost) = read_around_damage(&broker);
                check_served(&recorded, &lost, &batches, &about);
                // A lost position is never given to another event; the facts that state the damage may come first.
                let position = publish(&broker, &[event(1_000)]).unwrap()[0];
                let facts = lost.len() as u64;
                assert!(
                    (all..=all + facts).contains(&position),
                    "{about}: {position}"
                );
                drop(broker);
                let broker = LogBroker::open(on_faulty(&rotten)).unwrap();
                let (mut again, lost_again) = read_around_damage(&broker);
                assert_eq!(again.pop().unwrap().envelope, event(1_000), "{about}");
                assert_eq!(
                    (again, lost_again),
                    (recorded, lost),
                    "{about}: the second opening saw something else"
                );
            }
        }
    }
}

#[test]
fn the_last_acknowledged_batch_of_an_idle_log_is_damage_when_it_rots_and_no_unfinished_end() {
    let (disk, _) = small_log(SEVERAL, true);
    disk.take_away("/data/log/main/durable");
    let path = segments(&disk).pop().unwrap();
    let bytes = disk.bytes_of(&path).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    // The sync mark is the last frame of 64 bytes; the batch before it ends there.
    disk.flip_bit(&path, (written as u64 - 64 - 5) * 8);

    let broker = LogBroker::open(on_faulty(&disk)).unwrap();

    assert_eq!(broker.recovery().damaged, vec![157..158]);
    assert_eq!(broker.recovery().cut_bytes, 0);
    assert!(
        disk.files()
            .iter()
            .any(|file| file.to_string_lossy().ends_with(".damaged")),
        "nothing was kept aside"
    );
}

#[test]
fn a_missing_index_and_any_flipped_bit_of_one_change_nothing() {
    let (disk, batches) = small_log(SEVERAL, true);
    let indexes: Vec<_> = disk
        .files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "idx"))
        .collect();
    assert!(indexes.len() >= 2);
    for path in &indexes {
        let missing = disk.fork();
        missing.take_away(path);
        check_all(&missing, &batches, "a missing index");
        for bit in
            (0..disk.bytes_of(path).unwrap().len() as u64 * 8).step_by(repeated(1, 7) as usize)
        {
            let rotten = disk.fork();
            rotten.flip_bit(path, bit);
            check_all(
                &rotten,
                &batches,
                &format!("bit {bit} of {}", path.display()),
            );
        }
    }
}

#[test]
fn a_foreign_a_stale_and_a_lying_index_change_nothing() {
    let (disk, batches) = small_log(SEVERAL, true);
    let indexes: Vec<_> = disk
        .files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "idx"))
        .collect();
    let foreign = disk.fork();
    foreign.put(&indexes[0], &disk.bytes_of(&indexes[1]).unwrap());
    check_all(&foreign, &batches, "a foreign index");

    // Well formed and of this segment, but its entries point to where no frame begins.
    let mut lying = disk.bytes_of(&indexes[0]).unwrap();
    let end = lying.len() - 4;
    for at in (40..end).step_by(24) {
        lying[at + 16] ^= 8;
    }
    let checksum = crc32c::crc32c_append(0x7469_6469, &lying[..end]);
    lying[end..].copy_from_slice(&checksum.to_le_bytes());
    let with_lies = disk.fork();
    with_lies.put(&indexes[0], &lying);
    check_all(&with_lies, &batches, "a lying index");
}

/// Everything is served from every position.
fn check_all(disk: &FaultyDisk, batches: &[Vec<Envelope>], about: &str) {
    let all: Vec<&Envelope> = batches.iter().flatten().collect();
    let reader = open_reader(disk);
    for from in [0, 1, 5, 53, 120, 157] {
        let page = block_on(reader.read(tidings_core::broker::ReadRequest {
            from: tidings_core::broker::Position(from),
            patterns: &[],
            events_max: 3,
        }));
        let page = page.unwrap_or_else(|error| panic!("{about}: {error}"));
        assert_eq!(
            Some(&&page.events[0].envelope),
            all.get(from as usize),
            "{about}, from {from}"
        );
    }
}

#[test]
fn a_lost_or_rotten_durable_file_changes_nothing_for_who_opens_a_closed_log() {
    let (disk, batches) = small_log(SEVERAL, true);
    let all = batches.iter().flatten().count();
    let path = "/data/log/main/durable";
    let lost = disk.fork();
    lost.take_away(path);
    assert_eq!(read_around_damage(&open_reader(&lost)).0.len(), all);
    for bit in 0..64 * 8 {
        disk.flip_bit(path, bit);
        assert_eq!(
            read_around_damage(&open_reader(&disk)).0.len(),
            all,
            "bit {bit}"
        );
        disk.flip_bit(path, bit);
    }
}

#[test]
fn a_lost_or_rotten_format_file_is_written_again() {
    let (disk, batches) = small_log(SEVERAL, true);
    let path = "/data/format";
    let good = disk.bytes_of(path).unwrap();
    for bit in 0..good.len() as u64 * 8 {
        let rotten = disk.fork();
        rotten.flip_bit(path, bit);
        // A rotten number may read as a newer format: then nothing is touched, and that is all that can be done.
        match LogBroker::open(on_faulty(&rotten)) {
            Ok(broker) => assert_eq!(
                read_around_damage(&broker).0.len(),
                batches.iter().flatten().count(),
                "bit {bit}"
            ),
            Err(error) => assert!(
                matches!(error, tidings_core::broker::BrokerError::FormatNewer { .. }),
                "bit {bit}: {error}"
            ),
        }
    }
    disk.take_away(path);
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    assert_eq!(
        read_around_damage(&broker).0.len(),
        batches.iter().flatten().count()
    );
    assert_eq!(disk.bytes_of(path).unwrap(), good);
}

#[test]
fn swapped_doubled_and_missing_segments_serve_nothing_wrong() {
    let (disk, batches) = small_log(SEVERAL, true);
    let all: Vec<&Envelope> = batches.iter().flatten().collect();
    let segments = segments(&disk);
    assert!(segments.len() >= 3);
    let bytes: Vec<_> = segments
        .iter()
        .map(|path| disk.bytes_of(path).unwrap())
        .collect();
    let swapped = disk.fork();
    swapped.put(&segments[0], &bytes[1]);
    swapped.put(&segments[1], &bytes[0]);
    let doubled = disk.fork();
    doubled.put(&segments[1], &bytes[0]);
    let missing = disk.fork();
    missing.take_away(&segments[1]);
    for (about, disk) in [
        ("swapped", swapped),
        ("doubled", doubled),
        ("missing", missing),
    ] {
        let broker = LogBroker::open(on_faulty(&disk)).unwrap();
        let (recorded, lost) = read_around_damage(&broker);
        assert!(!recorded.is_empty() && !lost.is_empty(), "{about}");
        for recorded in recorded {
            assert_eq!(
                recorded.envelope, *all[recorded.position.0 as usize],
                "{about}"
            );
        }
    }
}

#[test]
fn a_lost_or_rotten_cursor_makes_a_group_begin_again_and_never_skips() {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    publish(&broker, &events(0..10)).unwrap();
    let request = SubscribeRequest {
        group: "g".parse().unwrap(),
        patterns: vec!["**".parse().unwrap()],
        start: StartAt::Earliest,
        single_instance: false,
    };
    let mut group = block_on(broker.subscribe(&request)).unwrap();
    let taken = crate::driver::receive(&mut group, 4);
    let acks: Vec<_> = taken
        .iter()
        .map(|delivery| (delivery.token, SettleAction::Ack))
        .collect();
    block_on(group.settle.settle(&acks));
    block_on(group.settle.leave()).unwrap();
    block_on(broker.close()).unwrap();
    let path = "/data/log/main/groups/g.cursor";
    let resumed = |disk: &FaultyDisk| {
        let broker = LogBroker::open(on_faulty(disk)).unwrap();
        block_on(broker.subscribe(&request))
            .unwrap()
            .resumed
            .unwrap()
    };
    assert_eq!(resumed(&disk.fork()).from.0, 4);

    let lost = disk.fork();
    lost.take_away(path);
    assert_eq!(
        (resumed(&lost).from.0, resumed(&lost).handed_out_before.0),
        (0, 10)
    );
    let foreign = disk.fork();
    foreign.put(path, &[7; 8_192]);
    assert_eq!(resumed(&foreign).from.0, 0);
    for bit in (0..80 * 8).chain(4_096 * 8..4_176 * 8) {
        let rotten = disk.fork();
        rotten.flip_bit(path, bit);
        assert!(resumed(&rotten).from.0 <= 4, "bit {bit}");
    }
}

#[test]
fn a_group_is_told_of_damage_once_and_goes_on_behind_it() {
    let (disk, batches) = small_log(SEVERAL, true);
    let all = batches.iter().flatten().count() as u64;
    let path = segments(&disk).remove(0);
    disk.flip_bit(&path, 1_200 * 8);
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    let request = SubscribeRequest {
        group: "g".parse().unwrap(),
        patterns: vec!["**".parse().unwrap()],
        start: StartAt::Earliest,
        single_instance: false,
    };
    let mut group = block_on(broker.subscribe(&request)).unwrap();

    let (mut received, mut told) = (0, Vec::<(u64, u64)>::new());
    let lost = |told: &[(u64, u64)]| told.iter().map(|(from, to)| to - from + 1).sum::<u64>();
    // Not until it is caught up: the fact that states the damage, which nobody here wants, comes at its own time.
    while received + lost(&told) < all {
        match block_on(group.receive.receive(7)) {
            Ok(tidings_core::broker::Received::Deliveries { deliveries, .. }) => {
                received += deliveries.len() as u64;
                let acks: Vec<_> = deliveries
                    .iter()
                    .map(|delivery| (delivery.token, SettleAction::Ack))
                    .collect();
                assert!(
                    block_on(group.settle.settle(&acks))
                        .iter()
                        .all(Result::is_ok)
                );
            }
            Ok(_) => {}
            Err(tidings_core::broker::BrokerError::Damaged { from, to, .. }) => {
                told.push((from.0, to.0))
            }
            Err(error) => panic!("{error}"),
        }
    }

    assert_eq!(told.len(), 1);
    assert_eq!(received + lost(&told), all);
    let status = block_on(tidings_core::broker::Admin::groups(&broker)).unwrap();
    assert!(status[0].position.unwrap().0 >= all, "{status:?}");
}

#[test]
fn bytes_of_a_frame_inside_a_payload_are_not_taken_for_a_frame() {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    publish(&broker, &events(0..3)).unwrap();
    let path = segments(&disk).remove(0);
    let frame = disk.bytes_of(&path).unwrap()[64..600].to_vec();
    let mut parts = event(3).into_parts();
    parts.payload = Some(tidings_core::Payload::binary(frame));
    let nested = Envelope::new(parts).unwrap();
    publish(&broker, &[nested]).unwrap();
    publish(&broker, &events(4..6)).unwrap();
    let mut journal = Journal::default();
    journal.acked.extend(events(0..3));
    journal.acked.extend(events(4..6));
    drop(broker);
    let bytes = disk.bytes_of(&path).unwrap();
    let second = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, w)| *w == [0xf5, b'T', b'd', 0xf7])
        .map(|(at, _)| at)
        .nth(1)
        .unwrap();
    // The length of the frame that holds the payload: now only a search finds what follows.
    disk.flip_bit(&path, (second as u64 + 12) * 8 + 3);

    let (recorded, lost) = read_around_damage(&open_reader(&disk));

    assert_eq!(lost, vec![3..=3]);
    journal.check(&recorded, "a frame inside a payload");
}

#[test]
fn damage_is_counted_and_stated_once_as_a_fact_with_its_place() {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    for number in 0..20 {
        publish(&broker, &[event(number)]).unwrap();
    }
    block_on(broker.close()).unwrap();
    drop(broker);
    let path = "/data/log/main/00000000000000000000.seg";
    let segment = disk.bytes_of(path).unwrap();
    let frames: Vec<usize> = segment
        .windows(4)
        .enumerate()
        .filter(|(_, found)| *found == [0xf5, b'T', b'd', 0xf7])
        .map(|(at, _)| at)
        .collect();
    disk.flip_bit(path, frames[7] as u64 * 8 + 600);
    let facts = |broker: &LogBroker| -> Vec<(String, String)> {
        read_around_damage_for(broker, &["tidings.log.*".parse().unwrap()])
            .iter()
            .map(|fact| {
                let payload = String::from_utf8_lossy(fact.envelope.payload_bytes()).into_owned();
                (fact.envelope.event_id().to_owned(), payload)
            })
            .collect()
    };

    let mut stated = Vec::new();
    for opening in 0..3 {
        let broker = LogBroker::open(on_faulty(&disk)).unwrap();
        publish(&broker, &[event(100 + opening)]).unwrap();
        let status = broker.status().unwrap();
        assert_eq!((status.damage_found, status.damaged_positions), (1, 1));
        stated = facts(&broker);
        let after = broker.status().unwrap();
        assert_eq!(after.damage_found, 1, "a reader met the same stretch");
        block_on(broker.close()).unwrap();
    }

    assert_eq!(stated.len(), 1, "{stated:?}");
    let (id, payload) = &stated[0];
    assert!(id.ends_with("-7"), "{id}");
    for part in [
        "\"first_position\":7",
        "\"last_position\":7",
        "00000000000000000000.seg",
        ".damaged",
    ] {
        assert!(payload.contains(part), "{part} is not in {payload}");
    }
}

/// Events of these patterns, behind whatever is damaged.
fn read_around_damage_for(
    reader: &dyn tidings_core::broker::Reader,
    patterns: &[tidings_core::Pattern],
) -> Vec<tidings_core::broker::Recorded> {
    let (mut all, mut from) = (Vec::new(), tidings_core::broker::Position(0));
    loop {
        match block_on(reader.read(tidings_core::broker::ReadRequest {
            from,
            patterns,
            events_max: 100,
        })) {
            Ok(page) => {
                all.extend(page.events);
                from = page.next;
                if page.at_end {
                    return all;
                }
            }
            Err(tidings_core::broker::BrokerError::Damaged { to, .. }) => from = to.next(),
            Err(error) => panic!("{error}"),
        }
    }
}
