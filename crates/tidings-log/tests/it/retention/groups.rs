//! Groups and retention: the slowest is waited for and named, one that is passed is told, one that is abandoned holds segments only by the rule.

use super::*;

#[test]
fn the_slowest_group_is_never_passed_and_is_named() {
    let (disk, clock) = (FaultyDisk::new(), clock());
    let broker = LogBroker::open(keeping(&disk, &clock, days(1))).unwrap();
    let mut fast = join(&broker, "fast").unwrap();
    let mut slow = join(&broker, "slow").unwrap();
    three_days(&broker, &clock);
    settle(&mut fast, 180);
    settle(&mut slow, 70);

    let removal = broker.retain().unwrap();

    assert_eq!(removal.held_by.as_deref(), Some("slow"));
    assert!(removal.passed.is_empty());
    assert!(
        removal.earliest > 0 && removal.earliest <= 70,
        "{removal:?}"
    );
    assert_eq!(receive(&mut slow, 1)[0].position, Some(Position(70)));
    let lag = block_on(broker.lag(&"slow".parse().unwrap())).unwrap();
    assert_eq!((lag.lost, lag.loss), (0, None), "retention waits for it");

    drop(slow);
    let mut slow = join(&broker, "slow").unwrap();
    settle(&mut slow, 110);
    assert!(broker.retain().unwrap().earliest > 70);
}

#[test]
fn a_group_that_is_passed_is_told_what_it_lost_and_how_to_go_on() {
    let (disk, clock) = (FaultyDisk::new(), clock());
    let rule = Retention {
        held_by: HeldBy::NoGroup,
        ..days(2)
    };
    let broker = LogBroker::open(keeping(&disk, &clock, rule)).unwrap();
    let mut group = join(&broker, "slow").unwrap();
    settle_some(&broker, &mut group);
    three_days(&broker, &clock);
    let name = "slow".parse().unwrap();
    let lag = block_on(broker.lag(&name)).unwrap();
    assert!(lag.loss.unwrap().is_near, "it is not warned: {lag:?}");
    assert_eq!(lag.lost, 0);

    let removal = broker.retain().unwrap();

    let lag = block_on(broker.lag(&name)).unwrap();
    assert_eq!(lag.lost, removal.earliest - 3);
    let error = block_on(async {
        loop {
            if let Err(error) = group.receive.receive(1).await {
                break error;
            }
        }
    });
    assert!(
        matches!(&error, BrokerError::GroupPassed { group, oldest, .. } if group == "slow" && oldest.0 == removal.earliest),
        "{error}"
    );
    assert_eq!(error.code(), codes::GROUP_PASSED);
    block_on(group.settle.leave()).unwrap();
    assert_eq!(
        join(&broker, "slow").unwrap_err().code(),
        codes::GROUP_PASSED,
        "a restart does not hide it"
    );

    block_on(broker.seek(&name, StartAt::Earliest)).unwrap();
    let mut group = join(&broker, "slow").unwrap();
    assert_eq!(
        receive(&mut group, 1)[0].position,
        Some(Position(removal.earliest))
    );
}

/// Publishes and settles three events, so that the group stands somewhere.
#[test]
fn an_abandoned_group_is_named_and_holds_segments_only_by_the_rule() {
    let (disk, clock) = (FaultyDisk::new(), clock());
    let rule = Retention {
        abandoned_after: DAY * 2,
        ..days(1)
    };
    let broker = LogBroker::open(keeping(&disk, &clock, rule)).unwrap();
    let mut gone = join(&broker, "gone").unwrap();
    let mut here = join(&broker, "here").unwrap();
    settle_some(&broker, &mut gone);
    settle(&mut here, 3);
    block_on(gone.settle.leave()).unwrap();
    drop(gone);
    let abandoned = || {
        let groups = block_on(broker.groups()).unwrap();
        let names = groups.iter().filter(|group| group.abandoned);
        names
            .map(|group| group.name.to_string())
            .collect::<Vec<_>>()
    };
    three_days(&broker, &clock);
    // The log went on for two days without it, no longer.
    assert!(abandoned().is_empty());
    publish(&broker, &events(180..190)).unwrap();
    assert_eq!(abandoned(), ["gone"], "who works is not abandoned");
    settle(&mut here, 190);

    assert_eq!(broker.retain().unwrap().held_by.as_deref(), Some("gone"));
    broker
        .set_retention(Retention {
            held_by: HeldBy::ActiveGroups,
            ..rule
        })
        .unwrap();
    let removal = broker.retain().unwrap();

    assert!(removal.earliest >= 60);
    assert_eq!(
        block_on(broker.lag(&"gone".parse().unwrap())).unwrap().lost,
        removal.earliest - 3
    );
}

#[test]
fn a_long_silence_of_the_whole_log_abandons_no_group() {
    let (disk, clock) = (FaultyDisk::new(), clock());
    let rule = Retention {
        held_by: HeldBy::ActiveGroups,
        ..days(1)
    };
    let broker = LogBroker::open(keeping(&disk, &clock, rule)).unwrap();
    let mut group = join(&broker, "group").unwrap();
    publish(&broker, &events(0..100)).unwrap();
    settle(&mut group, 5);
    block_on(group.settle.leave()).unwrap();
    drop((group, broker));
    clock.advance(DAY * 400);

    let broker = LogBroker::open(keeping(&disk, &clock, rule)).unwrap();
    let removal = broker.retain().unwrap();

    assert_eq!(removal.earliest, 0, "{removal:?}");
    assert!(!block_on(broker.groups()).unwrap()[0].abandoned);
    assert_eq!(
        receive(&mut join(&broker, "group").unwrap(), 1)[0].position,
        Some(Position(5))
    );
}
