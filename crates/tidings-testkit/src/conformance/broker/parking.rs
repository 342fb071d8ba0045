//! What is put off until later, and what is given up: E2, E3, E5.
//!
//! On a broker without order the first event of a key is parked before the others are published, so that what waits behind what is known there, too.

use super::consumer::{ATTEMPTS, drain, keeping, start, without_handler};
use super::failure::letters as facts;
use super::fixture::Sharing;
use super::ground::{Ground, event, number_of, publish};
use super::report::Verdict;
use super::stores::{Store, drain_relay};
use super::witness::{Act, Seen, Witness, assert_effects_in_order, assert_no_overlap, content};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidings_core::broker::{Broker, KeyOrder};
use tidings_core::extract::HandlerError;
use tidings_core::store::{Letter, LetterStatus};
use tidings_core::{Envelope, Pattern};
use tidings_flow::dead_letter::RedriveOptions;

/// The wait before a later attempt: long enough to be told from an attempt in place, which waits 20 ms at most.
const LATER: Duration = Duration::from_millis(60);
/// A wait that nobody lives to see: whoever waits for it is let go by a person.
const HOURS: Duration = Duration::from_secs(86_400);
/// Databases cut their times to milliseconds, so that two differ from ours by so much.
const CLOCK_STEP: Duration = Duration::from_millis(2);
/// The key that fails.
pub(super) const KEY: &str = "k";

/// A handler whose first event of the key fails until it has been tried so often; everything else succeeds.
pub(super) fn failing_until(attempts: u32) -> Act {
    Arc::new(move |context| {
        let fails = is_head(&context.envelope) && context.attempt <= attempts;
        let failure = fails.then(|| HandlerError::transient_message("no money"));
        Box::pin(std::future::ready(failure.map_or(Ok(()), Err)))
    })
}

/// A handler whose first event of the key fails as long as that is not repaired.
pub(super) fn failing_while_broken(repaired: &Arc<AtomicBool>) -> Act {
    let repaired = Arc::clone(repaired);
    Arc::new(move |context| {
        let fails = is_head(&context.envelope) && !repaired.load(Ordering::Acquire);
        let failure = fails.then(|| HandlerError::transient_message("no money"));
        Box::pin(std::future::ready(failure.map_or(Ok(()), Err)))
    })
}

fn is_head(envelope: &Envelope) -> bool {
    envelope.key().as_deref() == Some(KEY) && number_of(envelope) == 0
}

/// Events of a key, by their numbers.
pub(super) fn of_key(key: &str, numbers: std::ops::Range<usize>) -> Vec<Envelope> {
    numbers.map(|number| event(key, number)).collect()
}

/// E2: an event that still fails is parked with what is behind it; it is not tried early, its key waits, the others go on, and then it comes ahead of newer ones.
pub(super) async fn put_off(ground: Arc<Ground>) -> Verdict {
    let store = match Store::fresh(&ground, "e2", Sharing::OneInstance).await {
        Ok(store) => store,
        Err(declared) => return declared,
    };
    let broker = ground.connect().await;
    let group = ground.group("e2");
    let behind = of_key(KEY, 1..ground.count(40, 8));
    let others = of_key("other", 0..ground.count(100, 20));
    let head = event(KEY, 0);
    let witness = Witness::new();
    let consumer = start(&ground, || {
        let act = failing_until(ATTEMPTS + 1);
        keeping(
            &ground,
            (&broker, &store),
            "e2",
            &[LATER, HOURS],
            (&witness, act),
        )
        // Fewer than are parked: what is parked takes no place.
        .configure(|config| config.in_flight_max = 4)
    })
    .await;

    publish(&*broker, std::slice::from_ref(&head)).await;
    witness
        .until("the attempts", |seen| seen.ends_of(&head).len() == 3)
        .await;
    publish(&*broker, &behind).await;
    publish(&*broker, &others).await;
    store.until_parked(&group, KEY, behind.len() + 1).await;
    witness.until_handled(others.len()).await;

    assert_eq!(
        witness.seen().handled(),
        others.len(),
        "what is parked waits"
    );
    assert_eq!(
        store.retry_now(&group).await,
        1,
        "heads that wait for a time"
    );
    witness.until_handled(others.len() + behind.len() + 1).await;
    store.until_parked(&group, KEY, 0).await;
    tokio::time::sleep(ground.traits.quiet).await;
    assert_attempts(&witness.seen(), &head);
    let mut published = vec![head];
    published.extend(behind);
    assert_kept(&*broker, &witness, &published, &[]);
    drain(consumer).await;
    Verdict::Pass
}

/// E3: after its attempts an event is a dead letter that tells why and holds its key; the fact about it reaches who asks for it, once.
pub(super) async fn given_up(ground: Arc<Ground>) -> Verdict {
    let store = match Store::fresh(&ground, "e3", Sharing::OneInstance).await {
        Ok(store) => store,
        Err(declared) => return declared,
    };
    let broker = ground.connect().await;
    let group = ground.group("e3");
    let alarms = Witness::new();
    let alarm = start(&ground, || {
        without_handler(&ground, &broker, "e3-alarm")
            .handler(alarms.handler(Pattern::internal(), content()))
    })
    .await;
    let relay = store.relay(&broker);
    let witness = Witness::new();
    let consumer = start(&ground, || {
        let act = failing_until(u32::MAX);
        keeping(&ground, (&broker, &store), "e3", &[LATER], (&witness, act))
    })
    .await;
    let head = event(KEY, 0);
    let behind = of_key(KEY, 1..4);
    let others = of_key("other", 0..ground.count(100, 20));

    publish(&*broker, std::slice::from_ref(&head)).await;
    let letter = store.until_letter(&group, "open", |_| true).await;
    publish(&*broker, &behind).await;
    publish(&*broker, &others).await;
    store.until_parked(&group, KEY, behind.len() + 1).await;
    witness.until_handled(others.len()).await;
    alarms
        .until("the fact", |seen| !facts(seen, &group).is_empty())
        .await;
    tokio::time::sleep(ground.traits.quiet).await;

    assert_letter(&letter, &head, &witness.seen());
    assert_eq!(witness.seen().handled(), others.len(), "the key is held");
    let facts = facts(&alarms.seen(), &group);
    assert_eq!(facts.len(), 1, "facts about one death");
    assert_eq!(facts[0].record.attempts, ATTEMPTS + 1);
    drain(consumer).await;
    drain(alarm).await;
    drain_relay(relay).await;
    Verdict::Pass
}

/// The letter has the event, and as many attempts as there were handlings.
fn assert_letter(letter: &Letter, head: &Envelope, seen: &Seen) {
    let handlings = seen.attempts_at(head).len();
    assert_eq!(handlings, (ATTEMPTS + 1) as usize, "handlings");
    assert_eq!(
        letter.attempts as usize, handlings,
        "attempts of the letter"
    );
    assert_eq!(letter.history.len(), handlings, "attempts that it tells");
    assert_eq!(letter.status, LetterStatus::Open);
    assert!(letter.holds, "it holds its key");
    assert_eq!(letter.envelope, *head, "the event of the letter");
    let told = letter
        .reasons
        .iter()
        .any(|reason| reason.contains("no money"));
    assert!(told, "it tells why: {:?}", letter.reasons);
}

/// E5: a redriven event comes ahead of what waits behind it, and all of it goes to the group that gave it up, and to no other.
pub(super) async fn redriven(ground: Arc<Ground>) -> Verdict {
    let store = match Store::fresh(&ground, "e5", Sharing::OneInstance).await {
        Ok(store) => store,
        Err(declared) => return declared,
    };
    let broker = ground.connect().await;
    let group = ground.group("e5");
    let other = Witness::new();
    let beside = start(&ground, || {
        keeping(
            &ground,
            (&broker, &store),
            "e5-other",
            &[],
            (&other, content()),
        )
    })
    .await;
    let witness = Witness::new();
    let repaired = Arc::new(AtomicBool::new(false));
    let consumer = start(&ground, || {
        let act = failing_while_broken(&repaired);
        keeping(&ground, (&broker, &store), "e5", &[], (&witness, act))
    })
    .await;
    let mut published = vec![event(KEY, 0)];
    publish(&*broker, &published).await;
    store.until_letter(&group, "open", |_| true).await;
    let behind = of_key(KEY, 1..ground.count(40, 8));
    publish(&*broker, &behind).await;
    published.extend(behind);
    store.until_parked(&group, KEY, published.len()).await;

    repaired.store(true, Ordering::Release);
    let report = store.redrive(&group, &RedriveOptions::default()).await;

    assert_eq!(report.redriven, 1, "{report:?}");
    witness.until_handled(published.len()).await;
    store
        .until_letter(&group, "resolved", |it| it.status == LetterStatus::Resolved)
        .await;
    store.until_parked(&group, KEY, 0).await;
    let last = event(KEY, published.len());
    publish(&*broker, std::slice::from_ref(&last)).await;
    published.push(last);
    witness.until_handled(published.len()).await;
    other.until_handled(published.len()).await;
    tokio::time::sleep(ground.traits.quiet).await;
    assert_kept(&*broker, &witness, &published, &[]);
    let told_other = other.seen().begun.len();
    assert_eq!(
        told_other,
        published.len(),
        "the other group got a redriven event"
    );
    drain(consumer).await;
    drain(beside).await;
    Verdict::Pass
}

/// Each attempt counts on from the one before, and the later one is not early.
fn assert_attempts(seen: &Seen, head: &Envelope) {
    let tried = seen.attempts_at(head);
    let attempts: Vec<u32> = tried.iter().map(|it| it.attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4], "attempts");
    let ends = seen.ends_of(head);
    let waited = tried[2].at - ends[1].0;
    assert!(
        waited + CLOCK_STEP >= LATER,
        "it was to wait {LATER:?} and was tried again after {waited:?}"
    );
}

/// One at a time, what failed first ahead of what is behind it; where the broker keeps order, in the order of publication throughout. Nothing was handled again.
pub(super) fn assert_kept(
    broker: &dyn Broker,
    witness: &Witness,
    published: &[Envelope],
    given_up: &[&str],
) {
    let seen = witness.seen();
    assert_no_overlap(&seen);
    let again: Vec<_> = seen.done.iter().filter(|(_, times)| **times > 1).collect();
    assert!(again.is_empty(), "handled again: {again:?}");
    if broker.capabilities().key_order != KeyOrder::None {
        assert_effects_in_order(&seen, published, given_up);
        return;
    }
    for later in &published[1..] {
        let pair = [published[0].clone(), later.clone()];
        assert_effects_in_order(&seen, &pair, given_up);
    }
}
