//! Retention in trouble: readers and copies whose segments go, missing files, crashes in the midst of a removal, reads that fail.

use super::*;

#[test]
fn a_reader_beside_the_owner_survives_segments_that_disappear_under_it() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut options = on_disk(folder.path());
    options.clock = Arc::new(clock.clone());
    options.segment_bytes = 4_096;
    let broker = LogBroker::open(options).unwrap();
    three_days(&broker, &clock);
    let disk = Arc::new(tidings_log::RealDisk);
    let open = || LogReader::open(folder.path(), Arc::new(clock.clone()), disk.clone()).unwrap();
    let (reading, fresh) = (open(), open());
    let page = block_on(reading.read(ReadRequest {
        from: Position(0),
        patterns: &[],
        events_max: 5,
    }))
    .unwrap();
    broker.set_retention(days(1)).unwrap();
    let earliest = broker.retain().unwrap().earliest;
    assert!(earliest > 60);

    // One was in the midst of a removed segment, the other has only its list of segments.
    let mut from = page.next.0;
    let error = loop {
        match block_on(reading.read(ReadRequest {
            from: Position(from),
            patterns: &[],
            events_max: 5,
        })) {
            Ok(page) => from = page.next.0,
            Err(error) => break error,
        }
        assert!(from < earliest, "it read on without what is between");
    };
    assert!(
        matches!(error, BrokerError::Removed { oldest, .. } if oldest.0 == earliest),
        "{error}"
    );
    assert!(matches!(
        read(&fresh, 7).unwrap_err(),
        BrokerError::Removed { oldest, .. } if oldest.0 == earliest
    ));
    for reader in [&reading, &fresh] {
        assert_eq!(
            read_from(reader, earliest, &[]).len() as u64,
            180 - earliest
        );
        let time = clock.now().minus(DAY * 9);
        assert_eq!(block_on(reader.position_at(time)).unwrap().0, earliest);
    }
}

#[test]
fn a_copy_that_is_made_while_the_oldest_segments_go_is_sound() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut options = on_disk(&folder.path().join("data"));
    options.clock = Arc::new(clock.clone());
    options.segment_bytes = 4_096;
    let broker = LogBroker::open(options).unwrap();
    three_days(&broker, &clock);
    let (from, to) = (folder.path().join("data"), folder.path().join("copy"));
    let disk = Arc::new(tidings_log::RealDisk);
    let copy = Backup::begin(from, &to, Arc::new(clock.clone()), disk.clone()).unwrap();
    broker.set_retention(days(2)).unwrap();
    let earliest = broker.retain().unwrap().earliest;

    let report = copy.finish().unwrap();

    assert!(earliest > 0 && report.earliest.0 == earliest, "{report:?}");
    let verified = verify(to, Arc::new(clock), disk).unwrap();
    assert!(verified.is_sound(), "{verified:?}");
}

#[test]
fn a_missing_head_that_nobody_removed_is_damage() {
    let (disk, clock) = (FaultyDisk::new(), clock());
    let broker = LogBroker::open(keeping(&disk, &clock, days(1))).unwrap();
    let mut group = join(&broker, "g").unwrap();
    settle_some(&broker, &mut group);
    drop(group);
    three_days(&broker, &clock);
    drop(broker);
    disk.take_away("/data/log/main/00000000000000000000.seg");

    let reader = LogReader::open("/data", Arc::new(clock.clone()), Arc::new(disk.clone())).unwrap();
    let earliest = block_on(reader.earliest()).unwrap().0;
    let error = read(&reader, 1).unwrap_err();

    assert!(
        matches!(error, BrokerError::Damaged { from, to, .. } if from.0 == 1 && to.0 == earliest - 1),
        "{error}"
    );
    let report = verify("/data", Arc::new(clock.clone()), Arc::new(disk.clone())).unwrap();
    assert_eq!(
        (report.damage[0].from, report.damage[0].events),
        (0, earliest)
    );
    let broker = LogBroker::open(keeping(&disk, &clock, days(9))).unwrap();
    let mut group = join(&broker, "g").unwrap();
    let told = block_on(async {
        loop {
            if let Err(error) = group.receive.receive(1).await {
                break error;
            }
        }
    });
    assert!(
        matches!(told, BrokerError::Damaged { from, to, .. } if from.0 == 3 && to.0 == earliest - 1),
        "{told}"
    );
    assert_eq!(receive(&mut group, 1)[0].position, Some(Position(earliest)));
}

/// Publishes, consumes and removes, as far as the disk lets it. Answers how far the group had settled.
fn work(disk: &FaultyDisk, clock: &ManualClock, journal: &mut Journal) {
    let Ok(broker) = LogBroker::open(keeping(disk, clock, bytes(9_000))) else {
        return;
    };
    let mut group = join(&broker, "g").ok();
    for batch in events(0..250).chunks(25) {
        journal.publish(&broker, batch);
        for _ in 0..3 {
            let Some(group) = group.as_mut().filter(|group| !group.receive.is_caught_up()) else {
                break;
            };
            let Ok(Received::Deliveries { deliveries, .. }) = block_on(group.receive.receive(20))
            else {
                continue;
            };
            let acks: Vec<_> = deliveries
                .iter()
                .map(|delivery| (delivery.token, SettleAction::Ack))
                .collect();
            drop(block_on(group.settle.settle(&acks)));
        }
        drop(broker.retain());
    }
    drop(block_on(broker.close()));
}

#[test]
fn a_crash_at_any_call_of_a_removal_leaves_a_log_without_a_hole_and_a_group_that_goes_on() {
    let calls = {
        let disk = FaultyDisk::new();
        work(&disk, &clock(), &mut Journal::default());
        assert!(
            disk.calls_of(Operation::Remove) > 1,
            "nothing was removed: {:?}",
            disk.files()
        );
        disk.calls()
    };
    for call in 0..calls {
        let (disk, clock) = (FaultyDisk::new(), clock());
        let mut journal = Journal::default();
        disk.plan(FaultPlan {
            operation: None,
            after: call,
            times: Times::ForEver,
            fault: DiskFault::Io,
        });
        work(&disk, &clock, &mut journal);
        for loss in [Loss::Everything, Loss::Nothing, Loss::Torn { seed: call }] {
            let about = format!("call {call}, {loss:?}");
            let after = disk.fork();
            after.cut_power(loss);
            // Nothing more goes while it is looked at.
            let broker = LogBroker::open(keeping(&after, &clock, Retention::default()))
                .unwrap_or_else(|error| panic!("{about}: {error}"));
            assert!(broker.recovery().damaged.is_empty(), "{about}");
            let earliest = block_on(broker.earliest()).unwrap().0;
            let recorded = read_from(&broker, earliest, &[]);
            let kept = recorded
                .iter()
                .map(|recorded| recorded.position.0)
                .collect::<Vec<_>>();
            let whole = (earliest..earliest + recorded.len() as u64).collect::<Vec<_>>();
            assert_eq!(kept, whole, "{about}: a hole");
            let acked = journal.acked.len().saturating_sub(earliest as usize);
            assert!(recorded.len() >= acked, "{about}: acknowledged and lost");
            // It never wants what is gone.
            let group = join(&broker, "g").unwrap_or_else(|error| panic!("{about}: {error}"));
            assert!(group.resumed.unwrap().from.0 >= earliest, "{about}");
            drop(group);
            broker.set_retention(bytes(5_000)).unwrap();
            broker
                .retain()
                .unwrap_or_else(|error| panic!("{about}: {error}"));
            drop(broker);
            let report = verify("/data", Arc::new(clock.clone()), Arc::new(after)).unwrap();
            assert!(report.is_sound(), "{about}: {report:?}");
        }
    }
}

#[test]
fn a_read_that_fails_in_the_midst_costs_a_group_no_event() {
    let (disk, clock) = (FaultyDisk::new(), clock());
    let broker = LogBroker::open(keeping(&disk, &clock, days(9))).unwrap();
    publish(&broker, &events(0..150)).unwrap();
    for after in 0..12 {
        let mut group = join(&broker, &format!("g{after}")).unwrap();
        assert!(block_on(group.receive.receive(1)).is_ok(), "it is assigned");
        disk.plan(FaultPlan {
            operation: Some(Operation::Read),
            after,
            times: Times::Once,
            fault: DiskFault::Io,
        });
        let mut positions = Vec::new();
        while positions.len() < 150 {
            match block_on(group.receive.receive(1_000)) {
                Ok(Received::Deliveries { deliveries, .. }) => {
                    positions.extend(deliveries.iter().map(|one| one.position.unwrap().0));
                }
                Ok(_) => {}
                Err(error) => assert!(matches!(error, BrokerError::Io { .. }), "{error}"),
            }
        }
        assert_eq!(positions, (0..150).collect::<Vec<_>>(), "after {after}");
        disk.heal();
    }
}
