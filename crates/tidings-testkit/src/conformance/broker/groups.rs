//! Groups beside each other, late ones, moved ones, and how far they are behind: A14, A16, H1, H2, H3, J1.

use super::consumer::{builder, drain, start, without_handler};
use super::ground::{
    Ground, IDLE_MAX, assert_seen, counts, event, number_of, pattern, publish, spread, typed_event,
};
use super::member::Member;
use super::report::Verdict;
use super::witness::{Witness, content};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{Admin, Broker, BrokerError, GroupName, Position, StartAt};
use tidings_core::seam::Clock as _;
use tidings_flow::runtime::SystemClock;

const NO_HISTORY: &str =
    "it has no history: a late group begins with what is published after it joined";

/// A14: a group that joins late begins with the first event, in order; without history, with what comes after it.
pub(super) async fn late(ground: Arc<Ground>) -> Verdict {
    let events = spread(4, 1);
    let broker = ground.connect().await;
    // Without history an event needs a queue to be kept in.
    ground.prepare(&*broker, "a14-early").await;
    publish(&*broker, &events).await;
    if !broker.capabilities().old_events_for_late_groups {
        let mut member = Member::join(&ground, &*broker, "a14-late").await;
        let after = event("after", 0);
        publish(&*broker, std::slice::from_ref(&after)).await;
        assert_seen(&[after], &member.read(&ground, 1).await, 1);
        return Verdict::Declared(NO_HISTORY.to_owned());
    }
    for consumer in 0..3 {
        let group = format!("a14-{consumer}");
        let mut member = Member::join(&ground, &*broker, &group).await;
        let seen = member.read(&ground, events.len()).await;
        assert_eq!(seen, events, "in order, from the first on");
    }
    Verdict::Pass
}

/// A16: two groups get everything; what one acknowledges and how far it is behind does not concern the other.
pub(super) async fn apart(ground: Arc<Ground>) -> Verdict {
    let events = spread(50, 10);
    let broker = ground.connect().await;
    let mut first = Member::join(&ground, &*broker, "a16-first").await;
    let mut second = Member::join(&ground, &*broker, "a16-second").await;
    publish(&*broker, &events).await;

    let seen = first.read(&ground, events.len()).await;
    assert_seen(&events, &seen, 1);
    first
        .subscription
        .settle
        .flush()
        .await
        .expect("flushing works");
    if let Some(admin) = broker.admin() {
        let (first, second) = (ground.group("a16-first"), ground.group("a16-second"));
        if let Some(lag) = lag_of(admin, &first).await {
            assert_eq!(lag, 0, "the first group has finished");
            // The second group has not begun. What is on its way to a member, a broker may count a moment later.
            until_lag(&ground, admin, &second, events.len() as u64).await;
        }
    }
    let seen = second.read(&ground, events.len()).await;
    assert_seen(&events, &seen, 1);
    Verdict::Pass
}

/// The lag in events; nothing where the broker cannot tell.
pub(super) async fn lag_of(admin: &dyn Admin, group: &GroupName) -> Option<u64> {
    match admin.lag(group).await {
        Ok(lag) => Some(lag.events),
        Err(BrokerError::Unsupported { .. }) => None,
        Err(error) => panic!("the lag cannot be told: {error}"),
    }
}

/// H1: groups that join before, in the middle and at the end each get what is theirs.
pub(super) async fn independent(ground: Arc<Ground>) -> Verdict {
    let events = spread(60, 6);
    let broker = ground.connect().await;
    let mut early = Member::join(&ground, &*broker, "h1-early").await;
    publish(&*broker, &events[..30]).await;
    let mut request = ground.request("h1-latest");
    request.start = StartAt::Latest;
    let latest = broker.subscribe(&request).await;
    let latest = latest.unwrap_or_else(|error| panic!("cannot join at the end: {error}"));
    let mut latest = Member::of(&ground, latest);
    // Some brokers find the end when they are first asked for events.
    assert!(
        latest.read_on(&ground).await.is_empty(),
        "old events for a group that begins at the end"
    );
    publish(&*broker, &events[30..]).await;

    assert_seen(&events, &early.read(&ground, 60).await, 1);
    assert_seen(&events[30..], &latest.read(&ground, 30).await, 1);
    if !broker.capabilities().old_events_for_late_groups {
        return Verdict::Declared(NO_HISTORY.to_owned());
    }
    let mut late = Member::join(&ground, &*broker, "h1-late").await;
    assert_seen(&events, &late.read(&ground, 60).await, 1);
    Verdict::Pass
}

/// H2: a group is moved to the beginning, to the end, to a time and to a position, and goes on there; where events have no positions, that is refused.
pub(super) async fn moved(ground: Arc<Ground>) -> Verdict {
    let events = spread(20, 1);
    let broker = ground.connect().await;
    let group = ground.group("h2");
    let mut member = Member::join(&ground, &*broker, "h2").await;
    publish(&*broker, &events[..3]).await;
    let outcomes = broker.publish(&events[3..4]).await;
    let [Ok(receipt)] = outcomes.as_slice() else {
        panic!("one event, and the outcomes are {outcomes:?}");
    };
    publish(&*broker, &events[4..10]).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let between = SystemClock::new().now();
    tokio::time::sleep(Duration::from_millis(20)).await;
    publish(&*broker, &events[10..]).await;
    assert_seen(&events, &member.read(&ground, events.len()).await, 1);
    member.leave().await;
    let Some(admin) = broker.admin() else {
        return Verdict::Declared("it does not administrate groups".to_owned());
    };
    if !broker.capabilities().replay {
        let moved = admin.seek(&group, StartAt::Earliest).await;
        assert!(
            matches!(moved, Err(BrokerError::Unsupported { .. })),
            "{moved:?}"
        );
        return Verdict::Declared("it has no history: moving a group is refused".to_owned());
    }
    for (start, first) in [
        (StartAt::Earliest, 0),
        (StartAt::Time(between), 10),
        (StartAt::Latest, events.len()),
    ] {
        seek_and_read(&ground, &*broker, start, &events[first..]).await;
    }
    match receipt.position {
        Some(third) => {
            seek_and_read(&ground, &*broker, StartAt::Position(third), &events[3..]).await;
        }
        None => {
            let moved = admin.seek(&group, StartAt::Position(Position(3))).await;
            assert!(
                matches!(moved, Err(BrokerError::Unsupported { .. })),
                "events have no positions: {moved:?}"
            );
        }
    }
    let unknown = admin
        .seek(&ground.group("h2-unknown"), StartAt::Earliest)
        .await;
    assert!(
        matches!(unknown, Err(BrokerError::GroupUnknown { .. })),
        "{unknown:?}"
    );
    Verdict::Pass
}

async fn seek_and_read(
    ground: &Ground,
    broker: &dyn Broker,
    start: StartAt,
    expected: &[tidings_core::Envelope],
) {
    let admin = broker.admin().expect("looked at before");
    let group = ground.group("h2");
    let began = ground.elapsed();
    // A broker may take a moment to see that the last instance has left.
    while let Err(error) = admin.seek(&group, start).await {
        let waits = error.class().is_transient() && ground.elapsed() - began < IDLE_MAX;
        assert!(waits, "cannot move the group to {start:?}: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut member = Member::join(ground, broker, "h2").await;
    let seen = member.read(ground, expected.len()).await;
    let numbers: Vec<_> = seen.iter().map(number_of).collect();
    let wanted: Vec<_> = expected.iter().map(number_of).collect();
    assert_eq!(numbers, wanted, "after moving to {start:?}");
    member.leave().await;
}

/// H3: handlers with overlapping patterns get each event of their group once, by the first that matches.
pub(super) async fn overlapping(ground: Arc<Ground>) -> Verdict {
    let broker = ground.connect().await;
    let (exact, wide) = (Witness::new(), Witness::new());
    let consumer = start(&ground, || {
        let mut everything = wide.handler(pattern("**"), content());
        Arc::get_mut(&mut everything).expect("just made").name = "everything";
        without_handler(&ground, &broker, "h3")
            .handler(exact.handler(pattern("order.placed"), content()))
            .handler(everything)
    })
    .await;
    let mut events = Vec::new();
    for number in 0..20 {
        let key = format!("k{}", number % 10);
        events.push(typed_event("order.placed", &key, number));
        events.push(typed_event("order.line.added", &key, number));
        events.push(typed_event("stock.counted.v2", &key, number));
    }
    publish(&*broker, &events).await;

    exact.until_handled(20).await;
    wide.until_handled(40).await;
    tokio::time::sleep(ground.traits.quiet).await;
    for (witness, expected) in [(&exact, 20), (&wide, 40)] {
        let seen = witness.seen();
        assert_eq!(seen.begun.len(), expected, "deliveries");
        let different = counts(seen.begun.iter().map(|it| &it.envelope));
        assert_eq!(different.len(), expected, "different events");
    }
    drain(consumer).await;
    Verdict::Pass
}

/// J1: the lag in events is what is not settled, and goes to zero.
pub(super) async fn lag(ground: Arc<Ground>) -> Verdict {
    // A key each: where a key is locked while an event of it is open, all of them can be taken.
    let events = spread(100, 100);
    let broker = ground.connect().await;
    let group = ground.group("j1");
    ground.prepare(&*broker, "j1").await;
    publish(&*broker, &events).await;
    let told = match broker.admin() {
        Some(admin) => lag_of(admin, &group).await,
        None => None,
    };
    if told.is_none() {
        return Verdict::Declared("it cannot tell how far a group is behind".to_owned());
    }
    let admin = broker.admin().expect("looked at before");
    until_lag(&ground, admin, &group, 100).await;
    let mut member = Member::join(&ground, &*broker, "j1").await;
    let taken = member.take(40).await;
    member.acknowledge(&taken).await;
    member
        .subscription
        .settle
        .flush()
        .await
        .expect("flushing works");
    // What is handed out and not settled is part of it.
    until_lag(&ground, admin, &group, 60).await;
    member.leave().await;
    let witness = Witness::new();
    let build = || builder(&ground, &broker, "j1", &witness, content());
    let consumer = start(&ground, build).await;
    witness.until_handled(60).await;
    drain(consumer).await;
    until_lag(&ground, admin, &group, 0).await;
    let lag = admin.lag(&group).await.expect("told before");
    assert_eq!(
        lag.age,
        Duration::ZERO,
        "nothing is old where nothing waits"
    );
    Verdict::Pass
}

async fn until_lag(ground: &Ground, admin: &dyn Admin, group: &GroupName, wanted: u64) {
    let began = ground.elapsed();
    loop {
        let told = lag_of(admin, group).await;
        if told == Some(wanted) {
            return;
        }
        assert!(
            ground.elapsed() - began < IDLE_MAX,
            "the lag is {wanted} and {told:?} is told"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
