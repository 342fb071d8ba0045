//! The way of an event: published, read, handed to groups, settled, found again after a restart.

use crate::driver::{
    block_on, clock, envelopes, event, events, on_disk, publish, read_from, receive, typed_event,
};
use std::sync::Arc;
use tidings_core::broker::{
    Admin, Broker, BrokerError, Position, Reader, SettleAction, StartAt, SubscribeRequest,
};
use tidings_core::seam::Clock;
use tidings_log::{LogBroker, LogReader, RealDisk};

fn request(group: &str, pattern: &str) -> SubscribeRequest {
    SubscribeRequest {
        group: group.parse().unwrap(),
        patterns: vec![pattern.parse().unwrap()],
        start: StartAt::Earliest,
        single_instance: false,
    }
}

#[test]
fn what_is_published_is_read_in_order_and_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let all = events(0..2_500);
    let broker = LogBroker::open(on_disk(folder.path())).unwrap();

    assert_eq!(publish(&broker, &all[..1]).unwrap(), vec![0]);
    assert_eq!(
        publish(&broker, &all[1..]).unwrap(),
        (1..2_500).collect::<Vec<_>>()
    );
    assert_eq!(envelopes(&read_from(&broker, 0, &[])), all);
    block_on(broker.close()).unwrap();
    drop(broker);

    let broker = LogBroker::open(on_disk(folder.path())).unwrap();
    assert_eq!(envelopes(&read_from(&broker, 0, &[])), all);
    assert_eq!(publish(&broker, &[event(2_500)]).unwrap(), vec![2_500]);
    assert_eq!(read_from(&broker, 2_499, &[]).len(), 2);
}

#[test]
fn a_log_of_many_segments_is_read_from_any_position() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = on_disk(folder.path());
    options.segment_bytes = 4_096;
    let broker = LogBroker::open(options).unwrap();
    let all = events(0..1_000);
    for batch in all.chunks(7) {
        publish(&broker, batch).unwrap();
    }

    for from in [0, 1, 6, 7, 500, 998, 999] {
        let read = read_from(&broker, from, &[]);
        assert_eq!(read[0].position, Position(from));
        assert_eq!(envelopes(&read), all[from as usize..], "from {from}");
    }
    let segments = std::fs::read_dir(folder.path().join("log/main")).unwrap();
    assert!(
        segments
            .filter(|entry| entry
                .as_ref()
                .unwrap()
                .path()
                .extension()
                .is_some_and(|e| e == "seg"))
            .count()
            > 10
    );
}

#[test]
fn two_groups_get_every_event_of_their_patterns_and_go_on_where_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let broker = LogBroker::open(on_disk(folder.path())).unwrap();
    let all: Vec<_> = (0..100)
        .map(|n| {
            typed_event(
                if n % 2 == 0 {
                    "order.placed"
                } else {
                    "payment.failed"
                },
                n,
            )
        })
        .collect();
    publish(&broker, &all).unwrap();
    let mut orders = block_on(broker.subscribe(&request("orders", "order.*"))).unwrap();
    let mut every = block_on(broker.subscribe(&request("every", "**"))).unwrap();

    let deliveries = receive(&mut orders, 10);
    assert_eq!(
        deliveries.iter().map(|d| d.token.0).collect::<Vec<_>>(),
        (0..20).step_by(2).collect::<Vec<_>>()
    );
    assert_eq!(receive(&mut every, 1_000).len(), 100);
    assert!(every.receive.is_caught_up() && !orders.receive.is_caught_up());

    let acks: Vec<_> = deliveries[..5]
        .iter()
        .map(|d| (d.token, SettleAction::Ack))
        .collect();
    assert!(
        block_on(orders.settle.settle(&acks))
            .iter()
            .all(Result::is_ok)
    );
    block_on(orders.settle.leave()).unwrap();
    drop((orders, every));

    let mut orders = block_on(broker.subscribe(&request("orders", "order.*"))).unwrap();
    assert_eq!(orders.resumed.unwrap().from, Position(10));
    // Five of those handed out are still open, so that any behind them may have been handled.
    assert!(orders.resumed.unwrap().handed_out_before >= Position(20));
    assert_eq!(receive(&mut orders, 1)[0].token.0, 10);
    let every = block_on(broker.subscribe(&request("every", "**"))).unwrap();
    assert_eq!(every.resumed.unwrap().from, Position(0));
    assert!(every.resumed.unwrap().handed_out_before >= Position(100));
}

#[test]
fn a_released_event_comes_again_ahead_of_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let broker = LogBroker::open(on_disk(folder.path())).unwrap();
    publish(&broker, &events(0..10)).unwrap();
    let mut group = block_on(broker.subscribe(&request("g", "**"))).unwrap();
    let first = receive(&mut group, 3);

    block_on(group.settle.settle(&[
        (first[1].token, SettleAction::Release),
        (first[0].token, SettleAction::Ack),
    ]));

    let again = receive(&mut group, 3);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].envelope, first[1].envelope);
    assert_eq!(receive(&mut group, 1)[0].token.0, 3);
}

#[test]
fn a_group_has_one_holder_who_is_named_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = on_disk(folder.path());
    options.program = "shop".to_owned();
    let broker = LogBroker::open(options).unwrap();
    let held = block_on(broker.subscribe(&request("g", "**"))).unwrap();

    let error = block_on(broker.subscribe(&request("g", "**"))).unwrap_err();
    assert!(matches!(error, BrokerError::GroupLeased { .. }));
    assert!(error.to_string().contains("(shop)"), "{error}");
    let status = block_on(Admin::groups(&broker)).unwrap();
    assert!(status[0].owner.as_ref().unwrap().contains("(shop)"));

    drop(held);
    assert_eq!(block_on(Admin::groups(&broker)).unwrap()[0].owner, None);
    block_on(broker.subscribe(&request("g", "**"))).unwrap();
}

#[test]
fn lag_counts_what_is_wanted_and_not_settled() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut options = on_disk(folder.path());
    options.clock = Arc::new(clock.clone());
    let broker = LogBroker::open(options).unwrap();
    publish(
        &broker,
        &[
            typed_event("order.placed", 0),
            typed_event("order.placed", 1),
            typed_event("payment.failed", 2),
        ],
    )
    .unwrap();
    let mut group = block_on(broker.subscribe(&request("g", "order.*"))).unwrap();
    let first = receive(&mut group, 1);
    block_on(group.settle.settle(&[(first[0].token, SettleAction::Ack)]));
    clock.advance(std::time::Duration::from_secs(5));

    let lag = block_on(broker.lag(&"g".parse().unwrap())).unwrap();

    assert_eq!((lag.events, lag.age.as_secs()), (1, 5));
    assert_eq!(group.receive.behind(clock.now()).unwrap().as_secs(), 5);
    let unknown = block_on(broker.lag(&"gg".parse().unwrap())).unwrap_err();
    assert!(
        unknown.to_string().contains("did you mean \"g\"?"),
        "{unknown}"
    );
}

#[test]
fn a_group_is_moved_and_removed_while_nobody_works_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let broker = LogBroker::open(on_disk(folder.path())).unwrap();
    publish(&broker, &events(0..10)).unwrap();
    let group = "g".parse().unwrap();
    let held = block_on(broker.subscribe(&request("g", "**"))).unwrap();
    assert!(matches!(
        block_on(broker.seek(&group, StartAt::Latest)),
        Err(BrokerError::GroupLeased { .. })
    ));
    assert!(matches!(
        block_on(broker.remove(&group)),
        Err(BrokerError::GroupLeased { .. })
    ));
    drop(held);

    assert_eq!(
        block_on(broker.seek(&group, StartAt::Position(Position(4)))).unwrap(),
        Some(Position(4))
    );
    assert_eq!(
        block_on(broker.subscribe(&request("g", "**")))
            .unwrap()
            .resumed
            .unwrap()
            .from,
        Position(4)
    );

    let reader = LogReader::open(folder.path(), Arc::new(clock()), Arc::new(RealDisk)).unwrap();
    assert_eq!(
        block_on(reader.seek(&group, StartAt::Latest)).unwrap(),
        Some(Position(10))
    );
    block_on(reader.remove(&group)).unwrap();
    assert!(block_on(Admin::groups(&broker)).unwrap().is_empty());
    assert!(matches!(
        block_on(broker.remove(&group)),
        Err(BrokerError::GroupUnknown { .. })
    ));
}

#[test]
fn history_is_found_by_append_time() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut options = on_disk(folder.path());
    options.clock = Arc::new(clock.clone());
    options.segment_bytes = 4_096;
    let broker = LogBroker::open(options).unwrap();
    let begin = clock.now();
    for number in 0..100 {
        publish(&broker, &[event(number)]).unwrap();
        clock.advance(std::time::Duration::from_secs(1));
    }

    let at = |seconds: u64| {
        block_on(broker.position_at(begin.plus(std::time::Duration::from_secs(seconds))))
            .unwrap()
            .0
    };

    assert_eq!((at(0), at(1), at(37), at(99), at(100)), (0, 1, 37, 99, 100));
    assert_eq!(
        block_on(broker.position_at(begin.minus(std::time::Duration::from_secs(9)))).unwrap(),
        Position(0)
    );
}

#[test]
fn a_reader_beside_the_owner_follows_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = on_disk(folder.path());
    options.segment_bytes = 4_096;
    let broker = LogBroker::open(options).unwrap();
    publish(&broker, &events(0..3)).unwrap();
    let reader = LogReader::open(folder.path(), Arc::new(clock()), Arc::new(RealDisk)).unwrap();
    assert_eq!(read_from(&reader, 0, &[]).len(), 3);
    assert!(reader.owner().is_some());

    publish(&broker, &events(3..200)).unwrap();

    block_on(reader.wait_beyond(Position(3))).unwrap();
    assert_eq!(envelopes(&read_from(&reader, 0, &[])), events(0..200));
    assert_eq!(block_on(reader.end()).unwrap(), Position(200));
    drop(broker);
    assert_eq!(read_from(&reader, 150, &[]).len(), 50);
    let later = LogReader::open(folder.path(), Arc::new(clock()), Arc::new(RealDisk)).unwrap();
    assert_eq!(envelopes(&read_from(&later, 0, &[])), events(0..200));
}
