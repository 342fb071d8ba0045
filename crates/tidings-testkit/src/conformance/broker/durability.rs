//! What outlives a crash: D1, D3, D4, D5.

use super::child::{CHILD_KEYS, Child, Part, TOGETHER, of_child};
use super::ground::{
    END_MAX, Ground, assert_none_missing, assert_seen, declared, event, number_of, publish, spread,
};
use super::member::Member;
use super::outage::Fall;
use super::report::Verdict;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::Envelope;
use tidings_core::broker::{KeyOrder, SettleAction};

/// D1: a publisher is killed with SIGKILL, then the server, or it is restarted in good order where it must not be killed: whatever was acknowledged is there.
pub(super) async fn survives(ground: Arc<Ground>) -> Verdict {
    if let Some(why) = ground.traits.in_process {
        return Verdict::Declared(why.to_owned());
    }
    let before = ground.connect().await;
    ground.prepare(&*before, "d1").await;
    before.close().await.expect("closing works");
    drop(before);
    let acknowledged = killed_publisher(&ground).await;

    let fall = Fall::first(&*ground.fixture).await;

    assert_kept(&ground, "d1", &acknowledged).await;
    match fall {
        Ok(fall) => fall.verdict(),
        Err(_) if ground.traits.is_embedded => Verdict::Pass,
        Err(reason) => declared(&reason),
    }
}

/// I2 where the broker lives in its client's process: that is killed three times while it publishes.
pub(super) async fn process_killed_thrice(ground: &Ground) -> Verdict {
    let before = ground.connect().await;
    ground.prepare(&*before, "i2").await;
    before.close().await.expect("closing works");
    drop(before);
    for _ in 0..3 {
        let acknowledged = killed_publisher(ground).await;
        assert_kept(ground, "i2", &acknowledged).await;
    }
    Verdict::Pass
}

/// What was acknowledged to a child is there, for a group that has seen nothing of it.
async fn assert_kept(ground: &Ground, group: &str, acknowledged: &BTreeSet<usize>) {
    let broker = ground.connect().await;
    let mut member = Member::join(ground, &*broker, group).await;
    let seen = member.read(ground, acknowledged.len()).await;
    let is_one = |it: &&Envelope| acknowledged.contains(&number_of(it));
    let of_acknowledged: Vec<_> = seen.iter().filter(is_one).cloned().collect();
    let expected: Vec<_> = acknowledged
        .iter()
        .map(|number| of_child(*number))
        .collect();
    assert_none_missing(&expected, &of_acknowledged);
    drop(member);
    broker.close().await.expect("closing works");
}

/// Lets another process publish, kills it in the middle, and answers which events were acknowledged to it.
async fn killed_publisher(ground: &Ground) -> BTreeSet<usize> {
    let mut acknowledged = BTreeSet::new();
    let mut child = Child::start(ground, Part::Publish);
    let wanted = ground.count(2_000, 100);
    while acknowledged.len() < wanted {
        let number = child.tells().await.expect("the child publishes");
        acknowledged.insert(number.parse().unwrap());
    }
    child.kill();
    while let Some(number) = child.tells().await {
        acknowledged.insert(number.parse().unwrap());
    }
    acknowledged
}

/// D5: a publisher is killed in the middle of events that it publishes together. Each of them is there or not: whatever was acknowledged is, and of each key a beginning, where the broker keeps its order.
pub(super) async fn together(ground: Arc<Ground>) -> Verdict {
    if let Some(why) = ground.traits.in_process {
        return Verdict::Declared(why.to_owned());
    }
    let before = ground.connect().await;
    ground.prepare(&*before, "d5").await;
    let is_ordered = before.capabilities().key_order != KeyOrder::None;
    before.close().await.expect("closing works");
    drop(before);
    let mut child = Child::start(&ground, Part::PublishTogether);
    let wanted = ground.count(10, 2) * TOGETHER;
    let mut acknowledged = 0;
    while acknowledged < wanted {
        let count = child.tells().await.expect("the child publishes");
        acknowledged = count.parse().unwrap();
    }
    child.kill();
    while let Some(count) = child.tells().await {
        acknowledged = count.parse().unwrap();
    }

    let broker = ground.connect().await;
    let mut member = Member::join(&ground, &*broker, "d5").await;
    let seen = member.read(&ground, acknowledged).await;
    let mut next: BTreeMap<usize, usize> = BTreeMap::new();
    let mut different = BTreeSet::new();
    for envelope in &seen {
        let number = number_of(envelope);
        assert_eq!(envelope, &of_child(number), "it is there, and whole");
        if different.insert(number) && is_ordered {
            let key = number % CHILD_KEYS;
            let expected = next.insert(key, number + CHILD_KEYS).unwrap_or(key);
            assert_eq!(
                number, expected,
                "of its key something is missing before it"
            );
        }
    }
    let missing: Vec<_> = (0..acknowledged)
        .filter(|it| !different.contains(it))
        .collect();
    assert!(missing.is_empty(), "acknowledged and missing: {missing:?}");
    Verdict::Pass
}

/// D3: a consumer is killed with an event in its hands: the event goes to exactly one other.
pub(super) async fn killed_consumer(ground: Arc<Ground>) -> Verdict {
    if let Some(why) = ground.traits.in_process {
        return Verdict::Declared(why.to_owned());
    }
    let published = event("k", 0);
    let before = ground.connect().await;
    ground.prepare(&*before, "held").await;
    publish(&*before, std::slice::from_ref(&published)).await;
    before.close().await.expect("closing works");
    drop(before);
    let mut child = Child::start(&ground, Part::Hold);
    let held = child.tells().await.expect("the child takes the event");
    assert_eq!(held, published.event_id());
    child.kill();

    let broker = ground.connect().await;
    let mut next = Member::join(&ground, &*broker, "held").await;
    let deliveries = next.next(10, ground.traits.takeover_max + END_MAX).await;
    let envelopes: Vec<_> = deliveries.iter().map(|it| it.envelope.clone()).collect();
    assert_seen(&[published], &envelopes, 1);
    next.acknowledge(&deliveries).await;
    assert!(next.read_on(&ground).await.is_empty(), "it came once more");
    Verdict::Pass
}

/// D4: with the third of ten open, whoever comes next gets it, whether the one before left politely or vanished.
pub(super) async fn hole(ground: Arc<Ground>) -> Verdict {
    for politely in [true, false] {
        let here = ground.elsewhere("d4").await;
        let events = spread(10, 1);
        let broker = here.connect().await;
        // All of them are there when they are asked for: a broker may lock a key behind the events that it handed out last.
        here.prepare(&*broker, "d4").await;
        publish(&*broker, &events).await;
        let mut member = Member::join(&here, &*broker, "d4").await;
        let mut deliveries = member.take(events.len()).await;
        let third = deliveries.remove(2);
        member.settle(&deliveries, SettleAction::Ack).await;
        member
            .subscription
            .settle
            .flush()
            .await
            .expect("flushing works");
        if politely {
            member.leave().await;
        } else {
            drop(member);
        }

        let mut next = Member::join(&here, &*broker, "d4").await;
        let again = next
            .next(10, here.traits.takeover_max + Duration::from_secs(10))
            .await;
        let first: Option<&Envelope> = again.first().map(|it| &it.envelope);
        assert_eq!(first, Some(&third.envelope), "politely: {politely}");
        next.acknowledge(&again).await;
        let mut seen: Vec<_> = again.iter().map(|it| number_of(&it.envelope)).collect();
        seen.extend(next.read_on(&here).await.iter().map(number_of));
        assert!(
            seen.iter().all(|number| *number >= 2),
            "before the hole: {seen:?}"
        );
        here.fixture.remove(&here.address).await;
    }
    Verdict::Pass
}
