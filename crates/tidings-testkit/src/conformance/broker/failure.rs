//! Deliveries that cannot be handled, and outcomes that come too late: E4, E8.

use super::consumer::{builder, drain, keeping, start, without_handler};
use super::fixture::{RawMessage, Sharing};
use super::ground::{Ground, declared, event, publish};
use super::member::Member;
use super::report::Verdict;
use super::stores::Store;
use super::witness::{Seen, Witness, content};
use std::sync::Arc;
use tidings_core::Pattern;
use tidings_core::broker::{Broker, GroupName, SettleAction, SettleError};
use tidings_core::store::DeathCause;
use tidings_flow::consumer::RunningConsumer;
use tidings_flow::dead_letter::DeadLetter;

/// E4: bytes that are no event become a dead letter that has them; what is before and behind is handled.
pub(super) async fn garbage(ground: Arc<Ground>) -> Verdict {
    let broker = ground.connect().await;
    let witness = Witness::new();
    let build = || builder(&ground, &broker, "e4", &witness, content());
    let consumer = start(&ground, build).await;
    let alarms = Witness::new();
    let alarm = start(&ground, || {
        without_handler(&ground, &broker, "e4-alarm")
            .handler(alarms.handler(Pattern::internal(), content()))
    })
    .await;

    let store = Store::fresh(&ground, "e4", Sharing::OneInstance).await.ok();
    let keeper = match &store {
        Some(store) => Some(keeper(&ground, &broker, store).await),
        None => None,
    };

    publish(&*broker, &[event("k", 0)]).await;
    let garbage = ground.fixture.garbage();
    let message = RawMessage {
        event_type: "order.placed".to_owned(),
        key: Some("k".to_owned()),
        content_type: Some("application/cloudevents+json".to_owned()),
        headers: Vec::new(),
        body: garbage.clone(),
    };
    if let Err(reason) = ground.fixture.send_raw(&ground.address, message).await {
        return declared(&reason);
    }
    publish(&*broker, &[event("k", 1)]).await;

    witness.until_handled(2).await;
    let group = ground.group("e4");
    alarms
        .until("the dead letter", |seen| !letters(seen, &group).is_empty())
        .await;
    tokio::time::sleep(ground.traits.quiet).await;
    assert_eq!(
        witness.seen().begun.len(),
        2,
        "the garbage reached a handler"
    );
    let letters = letters(&alarms.seen(), &group);
    assert_eq!(letters.len(), 1, "one dead letter");
    let original = letters[0].original().expect("kept").expect("readable");
    assert_eq!(original.payload_bytes(), garbage, "the raw bytes");
    assert!(!letters[0].record.reason.is_empty());
    drain(consumer).await;
    drain(alarm).await;
    if let (Some(store), Some(keeper)) = (store, keeper) {
        assert_kept(&store, &ground.group("e4-store"), &garbage).await;
        drain(keeper).await;
    }
    Verdict::Pass
}

/// A group that keeps what it cannot handle in a store.
async fn keeper(ground: &Ground, broker: &Arc<dyn Broker>, store: &Store) -> RunningConsumer {
    let witness = Witness::new();
    start(ground, || {
        keeping(
            ground,
            (broker, store),
            "e4-store",
            &[],
            (&witness, content()),
        )
    })
    .await
}

/// What is no event is a dead letter of the store, too.
async fn assert_kept(store: &Store, group: &GroupName, garbage: &[u8]) {
    let letter = store.until_letter(group, "open", |_| true).await;
    assert_eq!(letter.envelope.payload_bytes(), garbage, "the raw bytes");
    assert!(letter.problem.is_some(), "it tells why it is no event");
    assert_eq!(letter.cause, DeathCause::Unreadable.as_str());
}

/// The dead letters of a group, as facts tell them.
pub(super) fn letters(seen: &Seen, group: &GroupName) -> Vec<DeadLetter> {
    seen.begun
        .iter()
        .filter_map(|it| DeadLetter::from_envelope(&it.envelope).ok())
        .filter(|letter| letter.record.consumer == group.as_str())
        .collect()
}

/// E8: who has left, and whose event another instance has by now, is told so; the other one's delivery stays open.
pub(super) async fn stale(ground: Arc<Ground>) -> Verdict {
    let broker = ground.connect().await;
    let published = event("k", 0);
    let mut first = Member::join(&ground, &*broker, "e8").await;
    publish(&*broker, std::slice::from_ref(&published)).await;
    let held = first.take(1).await;
    first
        .subscription
        .settle
        .leave()
        .await
        .expect("leaving works");
    let mut second = Member::join(&ground, &*broker, "e8").await;
    let again = second.take(1).await;
    assert_eq!(again[0].envelope, published);

    let late = [(held[0].token, SettleAction::Ack)];
    let answers = first.subscription.settle.settle(&late).await;

    assert!(
        matches!(
            answers.as_slice(),
            [Err(SettleError::Stale | SettleError::Unknown)]
        ),
        "a stale acknowledgement answers {answers:?}"
    );
    drop(first);
    drop(second);
    let mut third = Member::join(&ground, &*broker, "e8").await;
    let still = third.take(1).await;
    assert_eq!(
        still[0].envelope, published,
        "it was acknowledged by a stale token"
    );
    third.acknowledge(&still).await;
    assert!(third.read_on(&ground).await.is_empty());
    Verdict::Pass
}
