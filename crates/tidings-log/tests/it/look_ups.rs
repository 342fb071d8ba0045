//! Look-ups by event id and by key: what a look-up answers is what reading everything would, whatever has become of the tables.

use crate::driver::{
    block_on, clock, event, events, on_disk, on_faulty, publish, read_from, repeated, typed_event,
};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidings_core::broker::{
    Broker, BrokerError, LookUpBy, LookUpRequest, Position, Reader, Recorded,
};
use tidings_core::{Envelope, EnvelopeParts, Pattern};
use tidings_log::{LogBroker, LogReader};
use tidings_testkit::disk::{DiskFault, FaultPlan, Operation, Times};
use tidings_testkit::{FaultyDisk, ManualClock};

/// Everything that a look-up answers, by pages of so many events, and the damage that it told.
fn look_up_by_pages(
    reader: &dyn Reader,
    by: LookUpBy<'_>,
    patterns: &[Pattern],
    events_max: usize,
) -> (Vec<Recorded>, Vec<u64>) {
    let (mut all, mut lost, mut from) = (Vec::new(), Vec::new(), Position(0));
    loop {
        let request = LookUpRequest {
            by,
            from,
            patterns,
            events_max,
        };
        match block_on(reader.look_up(request)) {
            Ok(page) => {
                assert!(page.events.len() <= events_max);
                assert!(page.at_end || page.next >= from);
                all.extend(page.events);
                if page.at_end {
                    return (all, lost);
                }
                from = page.next;
            }
            Err(BrokerError::Damaged {
                from: first, to, ..
            }) => {
                lost.extend(first.0..=to.0);
                from = to.next();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn look_up(reader: &dyn Reader, by: LookUpBy<'_>) -> Vec<Recorded> {
    let (found, lost) = look_up_by_pages(reader, by, &[], 100);
    assert_eq!(lost, [] as [u64; 0]);
    found
}

fn position_of(reader: &dyn Reader, id: &str) -> Option<u64> {
    let found = look_up(reader, LookUpBy::EventId(id));
    assert!(found.len() <= 1, "{id} is there {} times", found.len());
    found.first().map(|recorded| {
        assert_eq!(recorded.envelope.event_id(), id);
        recorded.position.0
    })
}

fn beside(disk: &FaultyDisk) -> LogReader {
    LogReader::open("/data", Arc::new(clock()), Arc::new(disk.clone())).unwrap()
}

/// A closed log of several segments: events 0 to 199 in batches of ten.
fn log_on(disk: &FaultyDisk) {
    let broker = LogBroker::open(on_faulty(disk)).unwrap();
    for from in (0..200).step_by(10) {
        publish(&broker, &events(from..from + 10)).unwrap();
    }
    block_on(broker.close()).unwrap();
}

/// Makes the tables of all closed segments, as an import does that asks what is there already.
fn make_tables(disk: &FaultyDisk) {
    let broker = LogBroker::open(on_faulty(disk)).unwrap();
    block_on(broker.recorded(&[event(999)])).unwrap();
    block_on(broker.close()).unwrap();
}

fn tables(disk: &FaultyDisk) -> Vec<PathBuf> {
    let is_table = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "lkp");
    disk.files().into_iter().filter(is_table).collect()
}

fn all_are_found(reader: &dyn Reader) {
    are_found(reader, 1);
}

/// Some events of the log and all keys; each so many-th.
fn are_found(reader: &dyn Reader, step: usize) {
    for number in (0..200).step_by(step) {
        assert_eq!(
            position_of(reader, &format!("evt-{number}")),
            Some(number),
            "event {number}"
        );
    }
    assert_eq!(position_of(reader, "evt-200"), None);
    for key in 0..7 {
        let by = format!("order-{key}");
        let found = look_up(reader, LookUpBy::Key(&by));
        let positions: Vec<u64> = found.iter().map(|recorded| recorded.position.0).collect();
        let expected: Vec<u64> = (0..200).filter(|number| number % 7 == key).collect();
        assert_eq!(positions, expected, "{by}");
    }
}

fn keyed(id: &str, aggregate: Option<&str>, partition_key: Option<&str>) -> Envelope {
    let mut parts = EnvelopeParts::new(id, "order.placed");
    parts.aggregate_id = aggregate.map(str::to_owned);
    if let Some(key) = partition_key {
        let key = ("partitionkey".to_owned(), format!("{key:?}"));
        parts.extensions.push(key);
    }
    Envelope::new(parts).unwrap()
}

#[test]
fn the_tables_of_closed_segments_are_made_in_the_background() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = on_disk(&folder.path().join("data"));
    options.segment_bytes = 4_096;
    let broker = LogBroker::open(options).unwrap();
    for from in (0..200).step_by(10) {
        publish(&broker, &events(from..from + 10)).unwrap();
    }
    all_are_found(&broker);
    block_on(broker.close()).unwrap();

    let log = folder.path().join("data/log/main");
    let count = |extension: &str| {
        let names = std::fs::read_dir(&log).unwrap();
        let paths = names.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .count()
    };
    assert!(count("seg") > 3);
    assert_eq!(count("lkp"), count("seg") - 1);
}

#[test]
fn a_reader_beside_the_owner_finds_everything_with_and_without_tables_and_writes_nothing() {
    let disk = FaultyDisk::new();
    log_on(&disk);
    assert_eq!(tables(&disk), [] as [PathBuf; 0]);
    let with = disk.fork();
    make_tables(&with);
    assert!(tables(&with).len() >= 3);

    for disk in [disk, with] {
        disk.set_read_only(true);
        let before = disk.files();
        all_are_found(&beside(&disk));
        assert_eq!(disk.files(), before);
    }
}

#[test]
fn a_table_spares_the_reading_of_the_log() {
    let disk = FaultyDisk::new();
    log_on(&disk);
    let with = disk.fork();
    make_tables(&with);
    let reads = |disk: &FaultyDisk| {
        let reader = beside(disk);
        let (before, table_reads) = (disk.calls_of(Operation::Read), 3 * tables(disk).len());
        assert_eq!(position_of(&reader, "evt-nowhere"), None);
        (disk.calls_of(Operation::Read) - before, table_reads as u64)
    };

    let (without, _) = reads(&disk);
    let (with, of_tables) = reads(&with);

    assert!(
        without > 0 && with <= of_tables + without,
        "{with} {without}"
    );
}

#[test]
fn a_table_that_is_missing_short_damaged_or_of_another_segment_changes_no_answer_and_is_made_anew()
{
    let whole = FaultyDisk::new();
    log_on(&whole);
    make_tables(&whole);
    let paths = tables(&whole);
    let sound: Vec<Vec<u8>> = paths
        .iter()
        .map(|path| whole.bytes_of(path).unwrap())
        .collect();
    let (path, bytes) = (&paths[1], &sound[1]);
    let mut cases: Vec<(String, Option<Vec<u8>>)> = vec![
        ("missing".to_owned(), None),
        ("empty".to_owned(), Some(Vec::new())),
        ("of another segment".to_owned(), Some(sound[2].clone())),
        ("zeroes".to_owned(), Some(vec![0; bytes.len()])),
    ];
    for cut in [1, 63, 64, 100, bytes.len() - 1] {
        cases.push((format!("cut at {cut}"), Some(bytes[..cut].to_vec())));
    }
    for at in (0..bytes.len()).step_by(repeated(11, 61) as usize) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        cases.push((format!("byte {at}"), Some(changed)));
    }
    for (what, content) in cases {
        let disk = whole.fork();
        match content {
            Some(content) => disk.put(path, &content),
            None => disk.take_away(path),
        }

        are_found(&beside(&disk), 9);
        let broker = LogBroker::open(on_faulty(&disk)).unwrap();
        are_found(&broker, 9);
        // An import asks for many at once, which makes what is missing.
        let found = block_on(broker.recorded(&events(0..200))).unwrap();
        assert!(found.iter().all(Option::is_some), "{what}");
        block_on(broker.close()).unwrap();
        assert_eq!(disk.bytes_of(path).as_ref(), Some(bytes), "{what}");
    }
}

#[test]
fn a_table_of_what_the_segment_was_before_is_not_believed() {
    let disk = FaultyDisk::new();
    let one = LogBroker::open(on_faulty(&disk)).unwrap();
    block_on(one.close()).unwrap();
    let other = disk.fork();
    // Two histories of the same log, of the same shape to the byte: a backup that was put back.
    for (disk, is_first) in [(&disk, true), (&other, false)] {
        let mut options = on_faulty(disk);
        if !is_first {
            options.clock = Arc::new(ManualClock::at("2024-01-15T10:31:00Z".parse().unwrap()));
        }
        let broker = LogBroker::open(options).unwrap();
        for number in 100..200 {
            let number = if is_first { number } else { 1_099 - number };
            publish(&broker, &[event(number)]).unwrap();
        }
        block_on(broker.close()).unwrap();
        make_tables(disk);
    }
    let foreign = other.bytes_of(&tables(&other)[0]).unwrap();
    assert_ne!(disk.bytes_of(&tables(&disk)[0]).unwrap(), foreign);
    disk.put(&tables(&disk)[0], &foreign);

    let reader = beside(&disk);

    for number in 100..200 {
        let id = format!("evt-{number}");
        assert_eq!(position_of(&reader, &id), Some(number - 100), "{id}");
    }
    assert_eq!(position_of(&reader, "evt-999"), None);
}

#[test]
fn what_a_table_says_is_compared_with_the_events() {
    let disk = FaultyDisk::new();
    log_on(&disk);
    make_tables(&disk);
    let path = tables(&disk)[0].clone();
    let table = disk.bytes_of(&path).unwrap();
    let u32_at = |bytes: &[u8], at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().unwrap());
    let (blocks, buckets) = (u32_at(&table, 44) as usize, u32_at(&table, 48) as usize);
    assert_eq!(buckets, 1, "a small segment has one bucket");
    let (bucket_at, entries_at) = (64 + 8 * blocks, 64 + 8 * blocks + 8);
    let checksum = |bytes: &[u8]| crc32c::crc32c_append(0x7469_6469, bytes).to_le_bytes();
    let reader_of = |tag: u32| {
        let mut forged = table.clone();
        // Every entry says that the one that is looked for is in the first block.
        for at in (entries_at..forged.len()).step_by(4) {
            forged[at..at + 4].copy_from_slice(&(tag << 12).to_le_bytes());
        }
        let sum = checksum(&forged[entries_at..]);
        forged[bucket_at + 4..bucket_at + 8].copy_from_slice(&sum);
        let sum = checksum(&forged[64..entries_at]);
        forged[56..60].copy_from_slice(&sum);
        let sum = checksum(&forged[..60]);
        forged[60..64].copy_from_slice(&sum);
        let disk = disk.fork();
        disk.put(&path, &forged);
        beside(&disk)
    };
    // The tag of an id is not known here: each one that stands in the table is tried with the id that it may be of.
    let tags = (entries_at..table.len())
        .step_by(4)
        .map(|at| u32_at(&table, at) >> 12);
    let mut led_astray = 0;
    for tag in tags {
        let reader = reader_of(tag);
        for number in 10..12 {
            let id = format!("evt-{number}");
            match position_of(&reader, &id) {
                Some(position) => assert_eq!(position, number, "{id}"),
                None => led_astray += 1,
            }
            let by_key = look_up(&reader, LookUpBy::Key("order-3"));
            assert!(
                by_key
                    .iter()
                    .all(|found| found.envelope.key().as_deref() == Some("order-3"))
            );
        }
    }
    assert!(led_astray > 0, "the forged tables are gone by");
}

#[test]
fn the_newest_events_are_found_as_soon_as_they_are_acknowledged() {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    let reader = beside(&disk);
    for number in 0..150 {
        publish(&broker, &[event(number)]).unwrap();

        let id = format!("evt-{number}");
        assert_eq!(position_of(&broker, &id), Some(number));
        assert_eq!(position_of(&reader, &id), Some(number));
        assert_eq!(position_of(&broker, &format!("evt-{}", number + 1)), None);
    }
    all_of_key(&broker, 150);
    all_of_key(&reader, 150);
}

fn all_of_key(reader: &dyn Reader, count: u64) {
    let positions: Vec<u64> = look_up(reader, LookUpBy::Key("order-2"))
        .iter()
        .map(|recorded| recorded.position.0)
        .collect();
    assert_eq!(
        positions,
        (0..count)
            .filter(|number| number % 7 == 2)
            .collect::<Vec<_>>()
    );
}

#[test]
fn an_event_is_found_by_its_key_and_by_its_aggregate_where_they_differ() {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    let all = [
        keyed("a", Some("order-1"), None),
        keyed("b", Some("order-1"), Some("customer \"7\"")),
        keyed("c", None, Some("customer \"7\"")),
        keyed("d", None, None),
    ];
    publish(&broker, &all).unwrap();
    let ids = |key: &str| -> Vec<String> {
        let found = look_up(&broker, LookUpBy::Key(key));
        found
            .iter()
            .map(|recorded| recorded.envelope.event_id().to_owned())
            .collect()
    };

    assert_eq!(ids("order-1"), ["a", "b"]);
    assert_eq!(ids("customer \"7\""), ["b", "c"]);
    assert_eq!(ids(""), [] as [&str; 0]);
}

#[test]
fn a_look_up_leaves_out_types_that_are_not_asked_for() {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    publish(
        &broker,
        &[
            typed_event("order.placed", 1),
            typed_event("tidings.note.taken", 1),
        ],
    )
    .unwrap();
    let by = LookUpBy::EventId("evt-1");
    let count = |patterns: &[Pattern]| look_up_by_pages(&broker, by, patterns, 9).0.len();

    assert_eq!(count(&[]), 1);
    assert_eq!(count(&[Pattern::everything(), Pattern::internal()]), 2);
    assert_eq!(count(&["payment.*".parse().unwrap()]), 0);
}

#[test]
fn damage_where_the_event_may_be_is_told_and_the_rest_is_found() {
    let disk = FaultyDisk::new();
    log_on(&disk);
    make_tables(&disk);
    let segment = Path::new("/data/log/main/00000000000000000000.seg");
    // In the first frame, behind the head.
    disk.flip_bit(segment, (64 + 64 + 10) * 8);

    let reader = beside(&disk);
    let by = |id| look_up_by_pages(&reader, LookUpBy::EventId(id), &[], 9);

    assert_eq!(by("evt-3"), (vec![], (0..10).collect()));
    assert_eq!(by("evt-150").0[0].position, Position(150));
    // A table that is made now knows of the damage: whatever is looked up may have been there.
    tables(&disk).iter().for_each(|path| disk.take_away(path));
    make_tables(&disk);
    let reader = beside(&disk);
    let (found, lost) = look_up_by_pages(&reader, LookUpBy::EventId("evt-150"), &[], 9);
    assert_eq!((found[0].position.0, lost), (150, (0..10).collect()));
}

#[test]
fn recorded_tells_events_by_their_dedupe_key_and_answers_the_first() {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    let from = |id: &str, source: &str| {
        let mut parts = EnvelopeParts::new(id, "order.placed");
        parts.source = Some(source.to_owned());
        Envelope::new(parts).unwrap()
    };
    let uuid = "018d0c2e-1234-7abc-8def-0123456789ab";
    publish(
        &broker,
        &[from("1", "shop"), from("1", "bank"), from(uuid, "shop")],
    )
    .unwrap();
    publish(&broker, &events(0..100)).unwrap();
    publish(&broker, &[from("1", "shop")]).unwrap();

    let asked = [
        from("1", "bank"),
        from("1", "shop"),
        from("1", "stock"),
        from(uuid, "stock"),
        from("2", "shop"),
        from("1", "shop"),
        event(42),
    ];
    let found = block_on(broker.recorded(&asked)).unwrap();

    let positions: Vec<Option<u64>> = found
        .iter()
        .map(|found| found.as_ref().map(|recorded| recorded.position.0))
        .collect();
    assert_eq!(
        positions,
        [Some(1), Some(0), None, Some(2), None, Some(0), Some(45)]
    );
    assert_eq!(found[6].as_ref().unwrap().envelope, event(42));
}

#[test]
fn a_damaged_event_counts_as_not_recorded() {
    let disk = FaultyDisk::new();
    log_on(&disk);
    let segment = Path::new("/data/log/main/00000000000000000000.seg");
    disk.flip_bit(segment, (64 + 64 + 10) * 8);
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();

    for _ in 0..2 {
        let found = block_on(broker.recorded(&events(0..200))).unwrap();
        let there: Vec<bool> = found.iter().map(Option::is_some).collect();
        assert_eq!(
            there,
            (0..200).map(|number| number >= 10).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_look_up_below_the_oldest_position_is_refused_as_reading_there_is() {
    let disk = FaultyDisk::new();
    log_on(&disk);
    let first = disk
        .files()
        .into_iter()
        .find(|path| path.extension().is_some_and(|e| e == "seg"));
    disk.take_away(first.unwrap());
    let reader = beside(&disk);
    let request = LookUpRequest {
        by: LookUpBy::EventId("evt-1"),
        from: Position(0),
        patterns: &[],
        events_max: 1,
    };

    assert!(matches!(
        block_on(reader.look_up(request)),
        Err(BrokerError::Removed { .. })
    ));
}

#[test]
fn a_disk_that_fails_while_a_table_is_made_changes_no_answer() {
    let sound = FaultyDisk::new();
    log_on(&sound);
    for operation in [
        Operation::Open,
        Operation::Write,
        Operation::SetBytes,
        Operation::Bytes,
        Operation::FreeBytes,
        Operation::Info,
    ] {
        for after in 0..6 {
            for fault in [DiskFault::Io, DiskFault::Full] {
                let disk = sound.fork();
                let broker = LogBroker::open(on_faulty(&disk)).unwrap();
                disk.plan(FaultPlan {
                    operation: Some(operation),
                    after,
                    times: Times::Once,
                    fault,
                });
                // It may fail as reading does; what it answers is right.
                if let Ok(found) = block_on(broker.recorded(&events(0..210))) {
                    let there = found.iter().filter(|found| found.is_some()).count();
                    assert_eq!(there, 200, "{operation:?} {after} {fault:?}");
                }
                disk.heal();
                are_found(&broker, 19);
                block_on(broker.close()).unwrap();
                are_found(&beside(&disk), 19);
            }
        }
    }
}

#[test]
fn no_table_takes_the_room_that_is_kept_for_cursors() {
    let disk = FaultyDisk::new();
    log_on(&disk);
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    disk.leave_free(Some(4_194_304 + 100));

    let found = block_on(broker.recorded(&events(0..200))).unwrap();

    assert!(found.iter().all(Option::is_some));
    assert_eq!(tables(&disk), [] as [PathBuf; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The model is reading everything and keeping what matches.
    #[test]
    fn a_look_up_answers_what_reading_everything_would(
        batches in proptest::collection::vec(proptest::collection::vec((0_u8..30, 0_u8..6, any::<bool>()), 1..20), 1..30),
        make_at in proptest::option::of(0_usize..30),
        events_max in 1_usize..12,
    ) {
        let disk = FaultyDisk::new();
        let broker = LogBroker::open(on_faulty(&disk)).unwrap();
        let mut number = 0;
        for (at, batch) in batches.iter().enumerate() {
            let batch: Vec<Envelope> = batch
                .iter()
                .map(|(id, key, other)| {
                    let aggregate = format!("order-{key}");
                    keyed(&format!("evt-{id}"), Some(&aggregate), other.then_some("order-0"))
                })
                .collect();
            publish(&broker, &batch).unwrap();
            number += batch.len();
            if make_at == Some(at) {
                block_on(broker.recorded(&[event(999)])).unwrap();
            }
        }
        let everything = read_from(&broker, 0, &[]);
        prop_assert_eq!(everything.len(), number);
        for reader in [&broker as &dyn Reader, &beside(&disk)] {
            for id in 0..31 {
                let id = format!("evt-{id}");
                let by = LookUpBy::EventId(&id);
                let expected: Vec<&Recorded> = everything.iter().filter(|one| by.matches(&one.envelope)).collect();
                let (found, _) = look_up_by_pages(reader, by, &[], events_max);
                prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected);
            }
            for key in 0..7 {
                let key = format!("order-{key}");
                let by = LookUpBy::Key(&key);
                let expected: Vec<&Recorded> = everything.iter().filter(|one| by.matches(&one.envelope)).collect();
                let (found, _) = look_up_by_pages(reader, by, &[], events_max);
                prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected);
            }
        }
    }
}
