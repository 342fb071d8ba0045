//! Trouble with the disk while the log is in use: any call may fail once or for ever, the disk runs full, becomes read-only, a flush fails, the clock jumps.

use crate::driver::{
    Journal, block_on, clock, event, events, on_faulty, publish, read_from, receive,
};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{
    Admin, Broker, BrokerError, Position, PublishError, Reader, SettleAction, StartAt,
    SubscribeRequest,
};
use tidings_core::seam::Clock;
use tidings_core::{ErrorClass, codes};
use tidings_log::{LogBroker, LogState};
use tidings_testkit::FaultyDisk;
use tidings_testkit::disk::{DiskFault, FaultPlan, Loss, Operation, Times};

fn everything(group: &str) -> SubscribeRequest {
    SubscribeRequest {
        group: group.parse().unwrap(),
        patterns: vec!["**".parse().unwrap()],
        start: StartAt::Earliest,
        single_instance: false,
    }
}

fn fails(disk: &FaultyDisk, operation: Operation, times: Times, fault: DiskFault) {
    disk.plan(FaultPlan {
        operation: Some(operation),
        after: 0,
        times,
        fault,
    });
}

/// Publishes, consumes and closes, and goes on after whatever fails. What was settled is answered.
fn use_log(disk: &FaultyDisk, journal: &mut Journal) -> u64 {
    let Ok(broker) = LogBroker::open(on_faulty(disk)) else {
        return 0;
    };
    let mut settled = 0;
    let mut group = block_on(broker.subscribe(&everything("g"))).ok();
    for batch in events(0..130).chunks(43) {
        journal.publish(&broker, batch);
        let Some(group) = &mut group else { continue };
        for _ in 0..6 {
            if group.receive.is_caught_up() {
                break;
            }
            let Ok(tidings_core::broker::Received::Deliveries { deliveries, .. }) =
                block_on(group.receive.receive(20))
            else {
                continue;
            };
            let acks: Vec<_> = deliveries
                .iter()
                .map(|delivery| (delivery.token, SettleAction::Ack))
                .collect();
            // Told to be settled, whatever the answer was: the cursor must not be beyond this.
            settled = settled.max(deliveries.last().map_or(0, |last| last.token.0 + 1));
            drop(block_on(group.settle.settle(&acks)));
        }
    }
    if let Some(group) = &group {
        drop(block_on(group.settle.leave()));
    }
    drop(block_on(broker.close()));
    settled
}

#[test]
fn any_call_may_fail_once_or_for_ever_and_nothing_acknowledged_is_lost() {
    let calls = {
        let disk = FaultyDisk::new();
        let mut journal = Journal::default();
        assert_eq!(use_log(&disk, &mut journal), 130);
        assert_eq!(journal.acked.len(), 130);
        disk.calls()
    };
    for fault in [
        DiskFault::Io,
        DiskFault::Full,
        DiskFault::ReadOnly,
        DiskFault::Unsupported,
    ] {
        for times in [Times::Once, Times::ForEver] {
            for call in 0..calls {
                let about = format!("{fault:?} {times:?} at call {call}");
                let disk = FaultyDisk::new();
                let mut journal = Journal::default();
                disk.plan(FaultPlan {
                    operation: None,
                    after: call,
                    times,
                    fault,
                });
                let settled = use_log(&disk, &mut journal);
                disk.heal();
                for loss in [Loss::Nothing, Loss::Everything, Loss::Torn { seed: call }] {
                    let after = disk.fork();
                    after.cut_power(loss);
                    let broker = LogBroker::open(on_faulty(&after))
                        .unwrap_or_else(|error| panic!("{about}: {error}"));
                    journal.check(&read_from(&broker, 0, &[]), &about);
                    assert!(
                        broker.recovery().damaged.is_empty(),
                        "{about}: {:?}",
                        broker.recovery()
                    );
                    for group in block_on(Admin::groups(&broker)).unwrap() {
                        assert!(
                            group.position.unwrap().0 <= settled,
                            "{about}: the cursor {} is ahead of {settled}",
                            group.position.unwrap()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn after_a_failed_flush_nothing_is_acknowledged_until_the_log_is_opened_again() {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    publish(&broker, &events(0..2)).unwrap();
    fails(&disk, Operation::SyncData, Times::Once, DiskFault::Io);

    let error = publish(&broker, &[event(2)]).unwrap_err();
    assert!(
        matches!(error, PublishError::Ambiguous { .. }) && error.may_have_happened(),
        "{error}"
    );
    let flushes = disk.calls_of(Operation::SyncData);
    let error = publish(&broker, &[event(3)]).unwrap_err();
    assert_eq!(
        (error.class(), error.code(), error.may_have_happened()),
        (ErrorClass::Poison, codes::LOG_POISONED, false)
    );
    assert_eq!(
        disk.calls_of(Operation::SyncData),
        flushes,
        "a flush was tried again"
    );
    assert!(matches!(broker.state(), LogState::Poisoned { .. }));
    assert_eq!(
        read_from(&broker, 0, &[]).len(),
        2,
        "what was not acknowledged is not shown"
    );
    assert!(matches!(
        block_on(broker.close()),
        Err(BrokerError::Poisoned { .. })
    ));
    drop(broker);

    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    assert_eq!(broker.state(), LogState::Open);
    publish(&broker, &[event(3)]).unwrap();
    disk.cut_power(Loss::Everything);
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    let ids: Vec<_> = read_from(&broker, 0, &[])
        .iter()
        .map(|recorded| recorded.envelope.event_id().to_owned())
        .collect();
    assert_eq!(ids, ["evt-0", "evt-1", "evt-2", "evt-3"]);
}

#[test]
fn a_full_disk_refuses_events_keeps_reading_and_settling_and_heals_by_itself() {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    let mut group = block_on(broker.subscribe(&everything("g"))).unwrap();
    publish(&broker, &events(0..20)).unwrap();
    disk.leave_free(Some(0));

    let mut refused = None;
    for number in 20..200 {
        if let Err(error) = publish(&broker, &[event(number)]) {
            refused = Some((number, error));
            break;
        }
    }
    let (number, error) = refused.unwrap();
    assert_eq!(
        (error.class(), error.code(), error.may_have_happened()),
        (ErrorClass::Transient, codes::DISK_FULL, false)
    );
    assert_eq!(broker.state(), LogState::DiskFull);
    let deliveries = receive(&mut group, 1_000);
    assert_eq!(deliveries.len() as u64, number);
    let acks: Vec<_> = deliveries
        .iter()
        .map(|delivery| (delivery.token, SettleAction::Ack))
        .collect();
    assert!(
        block_on(group.settle.settle(&acks))
            .iter()
            .all(Result::is_ok)
    );
    block_on(group.settle.flush()).unwrap();
    assert_eq!(read_from(&broker, 0, &[]).len() as u64, number);

    disk.leave_free(None);
    assert_eq!(publish(&broker, &[event(500)]).unwrap(), vec![number]);
    assert_eq!(broker.state(), LogState::Open);
    disk.cut_power(Loss::Everything);
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    assert_eq!(read_from(&broker, 0, &[]).len() as u64, number + 1);
    assert_eq!(
        block_on(broker.subscribe(&everything("g")))
            .unwrap()
            .resumed
            .unwrap()
            .from,
        Position(number)
    );
}

#[test]
fn room_for_cursors_is_kept_free() {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    disk.leave_free(Some(tidings_core::limits::DISK_RESERVE_BYTES + 50_000));

    let mut number = 0;
    while publish(&broker, &[event(number)]).is_ok() {
        number += 1;
    }

    assert!(number > 100, "{number}");
    block_on(broker.subscribe(&everything("late"))).unwrap();
}

#[test]
fn half_a_batch_left_by_a_full_disk_is_never_taken_for_rot() {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    publish(&broker, &events(0..3)).unwrap();
    for shorter in 1..4 {
        fails(&disk, Operation::Write, Times::Once, DiskFault::Full);
        let error = publish(&broker, &events(100..110)).unwrap_err();
        assert_eq!(error.code(), codes::DISK_FULL);
        publish(&broker, &[event(shorter)]).unwrap();
        let killed = disk.fork();
        let broker = LogBroker::open(on_faulty(&killed)).unwrap();
        assert!(broker.recovery().damaged.is_empty());
        assert_eq!(read_from(&broker, 0, &[]).len() as u64, 3 + shorter);
    }
}

/// A file system whose journal was given up may answer a flush as if all were well, and refuses what is written next.
#[test]
fn a_file_system_that_refuses_writes_behind_a_flush_acknowledges_nothing() {
    for fault in [DiskFault::Io, DiskFault::ReadOnly] {
        let disk = FaultyDisk::new();
        let broker = LogBroker::open(on_faulty(&disk)).unwrap();
        publish(&broker, &[event(0)]).unwrap();
        disk.plan(FaultPlan {
            operation: Some(Operation::Write),
            after: 1,
            times: Times::Once,
            fault,
        });

        let error = publish(&broker, &[event(1)]).unwrap_err();

        assert!(error.may_have_happened(), "{error}");
        assert!(matches!(broker.state(), LogState::Poisoned { .. }));
        assert!(publish(&broker, &[event(2)]).is_err());
        assert_eq!(
            read_from(&broker, 0, &[]).len(),
            1,
            "nobody reads what may be lost"
        );
    }
}

#[test]
fn a_full_disk_that_keeps_readers_beside_from_being_told_refuses_no_event() {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    publish(&broker, &[event(0)]).unwrap();
    disk.plan(FaultPlan {
        operation: Some(Operation::Write),
        after: 1,
        times: Times::Once,
        fault: DiskFault::Full,
    });

    assert_eq!(publish(&broker, &[event(1)]).unwrap(), vec![1]);
    assert_eq!(broker.state(), LogState::Open);
}

#[test]
fn after_a_refusal_nothing_later_of_the_batch_is_written() {
    let disk = FaultyDisk::new();
    let mut options = on_faulty(&disk);
    options.segment_bytes = 1 << 22;
    let broker = LogBroker::open(options).unwrap();
    publish(&broker, &[event(0)]).unwrap();
    fails(&disk, Operation::Write, Times::Once, DiskFault::Full);
    let big = |number| {
        let mut parts = event(number).into_parts();
        parts.payload = Some(tidings_core::Payload::binary(vec![1; 700_000]));
        tidings_core::Envelope::new(parts).unwrap()
    };

    let outcomes = block_on(broker.publish(&[big(1), big(2), big(3)]));

    let written = outcomes.iter().position(Result::is_ok);
    assert_eq!(written, None, "{outcomes:?}");
    assert!(matches!(outcomes[0], Err(PublishError::Refused { .. })));
    assert!(matches!(
        outcomes[2],
        Err(PublishError::NotAttempted | PublishError::Refused { .. })
    ));
    assert_eq!(publish(&broker, &[event(9)]).unwrap(), vec![1]);
}

#[test]
fn a_folder_that_becomes_read_only_refuses_events_and_is_read_on() {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    publish(&broker, &events(0..5)).unwrap();
    disk.set_read_only(true);

    let error = publish(&broker, &[event(5)]).unwrap_err();
    assert_eq!(
        (error.code(), error.may_have_happened()),
        (codes::FOLDER_READ_ONLY, false)
    );
    assert_eq!(broker.state(), LogState::ReadOnly);
    assert_eq!(read_from(&broker, 0, &[]).len(), 5);

    disk.set_read_only(false);
    assert_eq!(publish(&broker, &[event(5)]).unwrap(), vec![5]);
}

#[test]
fn a_file_system_that_cannot_reserve_is_written_all_the_same() {
    let disk = FaultyDisk::new();
    fails(
        &disk,
        Operation::Reserve,
        Times::ForEver,
        DiskFault::Unsupported,
    );
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    for batch in events(0..300).chunks(30) {
        publish(&broker, batch).unwrap();
    }
    disk.cut_power(Loss::Everything);
    disk.heal();
    assert_eq!(
        read_from(&LogBroker::open(on_faulty(&disk)).unwrap(), 0, &[]).len(),
        300
    );
}

#[test]
fn a_clock_that_jumps_back_a_day_changes_no_order() {
    let disk = FaultyDisk::new();
    let clock = clock();
    let mut options = on_faulty(&disk);
    options.clock = Arc::new(clock.clone());
    let broker = LogBroker::open(options).unwrap();
    publish(&broker, &[event(0)]).unwrap();
    let begin = clock.now();
    clock.set(begin.minus(Duration::from_secs(86_400)));
    publish(&broker, &[event(1)]).unwrap();
    drop(broker);
    let mut options = on_faulty(&disk);
    options.clock = Arc::new(clock.clone());
    let broker = LogBroker::open(options).unwrap();
    publish(&broker, &[event(2)]).unwrap();

    let times: Vec<_> = read_from(&broker, 0, &[])
        .iter()
        .map(|recorded| recorded.append_time)
        .collect();

    assert_eq!(times, vec![begin; 3]);
    assert_eq!(block_on(broker.position_at(begin)).unwrap(), Position(0));
    assert_eq!(
        block_on(broker.position_at(begin.plus(Duration::from_micros(1)))).unwrap(),
        Position(3)
    );
}

#[test]
fn a_read_that_fails_says_so_and_the_next_one_goes_on() {
    let disk = FaultyDisk::new();
    let broker = LogBroker::open(on_faulty(&disk)).unwrap();
    publish(&broker, &events(0..5)).unwrap();
    fails(&disk, Operation::Read, Times::Once, DiskFault::Io);

    let request = || tidings_core::broker::ReadRequest {
        from: Position(0),
        patterns: &[],
        events_max: 10,
    };
    let error = block_on(broker.read(request())).unwrap_err();

    assert!(matches!(error, BrokerError::Io { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Transient);
    assert_eq!(block_on(broker.read(request())).unwrap().events.len(), 5);
    let cause = std::error::Error::source(&error)
        .unwrap()
        .downcast_ref::<io::Error>()
        .unwrap();
    assert_eq!(cause.raw_os_error(), Some(5));
}
