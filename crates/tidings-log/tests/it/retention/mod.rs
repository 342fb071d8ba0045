//! Retention: what goes, what stays for the sake of groups and of what is being written, and what crashes in between leave.

use crate::driver::{
    Journal, block_on, clock, event, events, on_disk, on_faulty, publish, read_from, receive,
};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{
    Admin, Broker, BrokerError, Position, ReadRequest, Reader, Received, SettleAction, StartAt,
    SubscribeRequest, Subscription,
};
use tidings_core::codes;
use tidings_core::seam::Clock;
use tidings_log::{Backup, HeldBy, LogBroker, LogReader, OpenOptions, Retention, verify};
use tidings_testkit::disk::{DiskFault, FaultPlan, Loss, Operation, Times};
use tidings_testkit::{FaultyDisk, ManualClock};

mod groups;
mod trouble;

const DAY: Duration = Duration::from_secs(86_400);

fn days(age: u32) -> Retention {
    Retention {
        age_max: Some(DAY * age),
        ..Retention::default()
    }
}

fn bytes(max: u64) -> Retention {
    Retention {
        bytes_max: Some(max),
        ..Retention::default()
    }
}

fn keeping(disk: &FaultyDisk, clock: &ManualClock, rule: Retention) -> OpenOptions {
    let mut options = on_faulty(disk);
    options.clock = Arc::new(clock.clone());
    options.retention = Some(rule);
    options
}

fn join(broker: &LogBroker, group: &str) -> Result<Subscription, BrokerError> {
    block_on(broker.subscribe(&SubscribeRequest {
        group: group.parse().unwrap(),
        patterns: vec!["**".parse().unwrap()],
        start: StartAt::Earliest,
        single_instance: false,
    }))
}

fn settle(group: &mut Subscription, events: usize) {
    let mut left = events;
    while left > 0 {
        let deliveries = receive(group, left);
        left -= deliveries.len();
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
}

fn settle_some(broker: &LogBroker, group: &mut Subscription) {
    publish(broker, &events(0..3)).unwrap();
    settle(group, 3);
}

fn read(reader: &dyn Reader, from: u64) -> Result<usize, BrokerError> {
    let request = ReadRequest {
        from: Position(from),
        patterns: &[],
        events_max: 10,
    };
    block_on(reader.read(request)).map(|page| page.events.len())
}

/// Three days of events, 60 a day, in small segments.
fn three_days(broker: &LogBroker, clock: &ManualClock) {
    for day in 0..3 {
        publish(broker, &events(day * 60..day * 60 + 60)).unwrap();
        clock.advance(DAY);
    }
}

#[test]
fn segments_go_once_their_newest_event_is_too_old_and_what_is_left_is_whole() {
    let (disk, clock) = (FaultyDisk::new(), clock());
    let broker = LogBroker::open(keeping(&disk, &clock, days(100))).unwrap();
    three_days(&broker, &clock);
    assert_eq!(broker.retain().unwrap().earliest, 0);

    broker.set_retention(days(2)).unwrap();
    let removal = broker.retain().unwrap();

    // The first day is more than two days ago; its last segment may hold events of the second.
    assert!(
        removal.earliest > 20 && removal.earliest <= 60,
        "{removal:?}"
    );
    assert_eq!(
        block_on(broker.earliest()).unwrap(),
        Position(removal.earliest)
    );
    let left = read_from(&broker, removal.earliest, &[]);
    assert_eq!(left.len() as u64, 180 - removal.earliest);
    assert_eq!(left[0].position, Position(removal.earliest));
    assert_eq!(
        broker.retain().unwrap().earliest,
        removal.earliest,
        "once is enough"
    );
    let report = verify("/data", Arc::new(clock), Arc::new(disk.clone())).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.earliest, removal.earliest);
    assert!(
        disk.files().iter().all(|file| {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            let first = name.split('.').next().unwrap().parse::<u64>();
            first.is_err() || first.unwrap() >= removal.earliest
        }),
        "files of removed segments are left: {:?}",
        disk.files()
    );
}

#[test]
fn the_oldest_segments_go_while_the_log_is_too_large() {
    let (disk, clock) = (FaultyDisk::new(), clock());
    let broker = LogBroker::open(keeping(&disk, &clock, bytes(20_000))).unwrap();
    for number in 0..40 {
        publish(&broker, &events(number * 10..number * 10 + 10)).unwrap();
    }
    broker.retain().unwrap();

    let kept: usize = disk
        .files()
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "seg"))
        .map(|file| disk.bytes_of(file).unwrap().len())
        .sum();
    let earliest = block_on(broker.earliest()).unwrap().0;

    assert!(earliest > 0, "nothing was removed");
    assert!(kept <= 20_000 + 4_096, "{kept} bytes");
    assert_eq!(
        read_from(&broker, earliest, &[]).len() as u64,
        400 - earliest
    );
}

#[test]
fn a_removed_position_is_an_error_that_names_the_first_one_kept() {
    let (disk, clock) = (FaultyDisk::new(), clock());
    let broker = LogBroker::open(keeping(&disk, &clock, days(1))).unwrap();
    three_days(&broker, &clock);
    let earliest = broker.retain().unwrap().earliest;
    let beside = LogReader::open("/data", Arc::new(clock), Arc::new(disk)).unwrap();

    for reader in [&broker as &dyn Reader, &beside] {
        let error = read(reader, earliest - 1).unwrap_err();

        assert_eq!(error.code(), codes::POSITION_REMOVED);
        assert!(
            matches!(error, BrokerError::Removed { position, oldest } if position.0 == earliest - 1 && oldest.0 == earliest),
            "{error}"
        );
        assert_eq!(read(reader, earliest).unwrap(), 10);
        assert_eq!(block_on(reader.earliest()).unwrap().0, earliest);
    }
}

#[test]
fn the_rule_stays_with_the_folder_and_a_rule_that_rots_removes_nothing() {
    let (disk, clock) = (FaultyDisk::new(), clock());
    drop(LogBroker::open(keeping(&disk, &clock, days(2))).unwrap());
    let mut options = on_faulty(&disk);
    options.clock = Arc::new(clock.clone());
    let later = LogBroker::open(options).unwrap();
    assert_eq!(later.retention(), days(2));
    let path = "/data/log/main/retention.json";
    let text = String::from_utf8(disk.bytes_of(path).unwrap()).unwrap();
    assert!(text.contains("172800000"), "{text}");
    // Before there is anything to remove: the log looks by itself after each closed segment.
    disk.put(path, text.replace("172800000", "172800").as_bytes());
    three_days(&later, &clock);

    let error = later.retain().unwrap_err();

    assert_eq!(error.code(), codes::RETENTION_INVALID);
    assert_eq!(block_on(later.earliest()).unwrap(), Position(0));
    publish(&later, &[event(500)]).unwrap();
    later.set_retention(days(2)).unwrap();
    assert!(later.retain().unwrap().earliest > 0);
}

#[test]
fn retention_runs_by_itself_and_closes_a_segment_that_would_keep_old_events() {
    let (disk, clock) = (FaultyDisk::new(), clock());
    let mut options = keeping(&disk, &clock, days(4));
    options.segment_bytes = 1 << 20;
    let broker = LogBroker::open(options).unwrap();
    for number in 0..20 {
        publish(&broker, &[event(number)]).unwrap();
        clock.advance(DAY / 2);
    }
    block_on(broker.close()).unwrap();

    let earliest = block_on(broker.earliest()).unwrap().0;

    // Ten days of two events, of which the last four days and what shares their segments are kept.
    assert!((8..=12).contains(&earliest), "{earliest}");
}

#[test]
fn a_clock_that_jumps_forward_and_back_removes_nothing_young() {
    let (disk, clock) = (FaultyDisk::new(), clock());
    let broker = LogBroker::open(keeping(&disk, &clock, days(1))).unwrap();
    let begin = clock.now();
    publish(&broker, &events(0..60)).unwrap();
    clock.advance(Duration::from_secs(60));
    clock.set(begin.plus(DAY * 30));
    publish(&broker, &events(60..120)).unwrap();
    assert_eq!(
        broker.retain().unwrap().earliest,
        0,
        "a jump is not believed"
    );
    clock.set(begin.minus(DAY));
    publish(&broker, &events(120..180)).unwrap();
    assert_eq!(broker.retain().unwrap().earliest, 0);
    clock.set(begin.plus(Duration::from_secs(120)));
    publish(&broker, &events(180..181)).unwrap();
    let mut group = join(&broker, "g").unwrap();
    settle(&mut group, 10);

    let recorded = read_from(&broker, 0, &[]);

    assert_eq!(recorded.len(), 181);
    assert!(
        recorded
            .windows(2)
            .all(|pair| pair[0].append_time <= pair[1].append_time)
    );
    let lag = block_on(broker.lag(&"g".parse().unwrap())).unwrap();
    assert_eq!(lag.events, 171);
    assert!(lag.age <= Duration::from_secs(120), "{lag:?}");
    assert!(group.receive.behind(clock.now()).unwrap() <= Duration::from_secs(120));

    // A jump that lasts is a clock that was set right.
    clock.set(begin.plus(DAY * 40));
    assert_eq!(broker.retain().unwrap().earliest, 0);
    clock.advance(Duration::from_secs(3_601));
    settle(&mut group, 171);
    assert!(broker.retain().unwrap().earliest > 0);
}
