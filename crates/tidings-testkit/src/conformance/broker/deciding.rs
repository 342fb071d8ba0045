//! What persons decide about dead letters: E6, E7, E10.

use super::consumer::{ATTEMPTS, drain, keeping, start};
use super::fixture::Sharing;
use super::ground::{Ground, event, publish};
use super::parking::{KEY, assert_kept, failing_until, failing_while_broken, of_key};
use super::report::Verdict;
use super::stores::Store;
use super::witness::Witness;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tidings_core::store::LetterStatus;
use tidings_flow::dead_letter::RedriveOptions;

/// Persons who redrive at the same time.
const PERSONS: usize = 4;
/// So often a letter is handed back at most, where a property says so.
const REDRIVES_MAX: u32 = 2;

/// E6: a redrive that several issue at the same time, and again afterwards, takes effect once.
pub(super) async fn redriven_once(ground: Arc<Ground>) -> Verdict {
    let store = match Store::fresh(&ground, "e6", Sharing::OneInstance).await {
        Ok(store) => Arc::new(store),
        Err(declared) => return declared,
    };
    let broker = ground.connect().await;
    let group = ground.group("e6");
    let witness = Witness::new();
    let repaired = Arc::new(AtomicBool::new(false));
    let consumer = start(&ground, || {
        let act = failing_while_broken(&repaired);
        keeping(&ground, (&broker, &store), "e6", &[], (&witness, act))
    })
    .await;
    let head = event(KEY, 0);
    publish(&*broker, std::slice::from_ref(&head)).await;
    store.until_letter(&group, "open", |_| true).await;

    repaired.store(true, Ordering::Release);
    let mut redriving = tokio::task::JoinSet::new();
    for _ in 0..PERSONS {
        let (store, group) = (Arc::clone(&store), group.clone());
        redriving.spawn(async move {
            let report = store.redrive(&group, &RedriveOptions::default()).await;
            report.redriven
        });
    }
    let redriven: u64 = redriving.join_all().await.into_iter().sum();
    witness.until_handled(1).await;
    store
        .until_letter(&group, "resolved", |it| it.status == LetterStatus::Resolved)
        .await;
    let late = store.redrive(&group, &RedriveOptions::default()).await;
    tokio::time::sleep(ground.traits.quiet).await;

    assert_eq!((redriven, late.redriven), (1, 0), "letters handed back");
    let handlings = witness.seen().attempts_at(&head).len();
    assert_eq!(handlings, ATTEMPTS as usize + 1, "handlings");
    drain(consumer).await;
    Verdict::Pass
}

/// E7: an event that dies each time is handed back no more often than allowed; its letter says why not, and counts its deaths.
pub(super) async fn redriven_in_vain(ground: Arc<Ground>) -> Verdict {
    let store = match Store::fresh(&ground, "e7", Sharing::OneInstance).await {
        Ok(store) => store,
        Err(declared) => return declared,
    };
    let broker = ground.connect().await;
    let group = ground.group("e7");
    let witness = Witness::new();
    let consumer = start(&ground, || {
        let act = failing_until(u32::MAX);
        keeping(&ground, (&broker, &store), "e7", &[], (&witness, act))
    })
    .await;
    let head = event(KEY, 0);
    publish(&*broker, std::slice::from_ref(&head)).await;
    store.until_letter(&group, "open", |_| true).await;
    let options = RedriveOptions {
        redrives_max: REDRIVES_MAX,
        ..RedriveOptions::default()
    };

    for deaths in 2..=REDRIVES_MAX + 1 {
        let report = store.redrive(&group, &options).await;
        assert_eq!(report.redriven, 1, "{report:?}");
        let died_again = "open again with one death more";
        store
            .until_letter(&group, died_again, |it| {
                it.status == LetterStatus::Open && it.deaths == deaths
            })
            .await;
    }
    let refused = store.redrive(&group, &options).await;

    assert_eq!(refused.redriven, 0, "{refused:?}");
    let says_why = refused.skipped.keys().any(|why| why.contains("died again"));
    assert!(says_why, "it says why not: {:?}", refused.skipped);
    tokio::time::sleep(ground.traits.quiet).await;
    let handlings = witness.seen().attempts_at(&head).len();
    let lives = REDRIVES_MAX as usize + 1;
    assert_eq!(handlings, lives * ATTEMPTS as usize, "handlings");
    store.until_parked(&group, KEY, 1).await;
    drain(consumer).await;
    Verdict::Pass
}

/// E10: a letter that is discarded lets go of its key: what waits behind it is handled in its order, and the event itself is not.
pub(super) async fn discarded(ground: Arc<Ground>) -> Verdict {
    let store = match Store::fresh(&ground, "e10", Sharing::OneInstance).await {
        Ok(store) => store,
        Err(declared) => return declared,
    };
    let broker = ground.connect().await;
    let group = ground.group("e10");
    let witness = Witness::new();
    let consumer = start(&ground, || {
        let act = failing_until(u32::MAX);
        keeping(&ground, (&broker, &store), "e10", &[], (&witness, act))
    })
    .await;
    let head = event(KEY, 0);
    publish(&*broker, std::slice::from_ref(&head)).await;
    store.until_letter(&group, "open", |_| true).await;
    let behind = of_key(KEY, 1..ground.count(40, 8));
    publish(&*broker, &behind).await;
    store.until_parked(&group, KEY, behind.len() + 1).await;

    let discarded = store.discard(&group).await;

    assert_eq!(discarded, 1, "letters that were discarded");
    witness.until_handled(behind.len()).await;
    store.until_parked(&group, KEY, 0).await;
    tokio::time::sleep(ground.traits.quiet).await;
    let handlings = witness.seen().attempts_at(&head).len();
    assert_eq!(
        handlings, ATTEMPTS as usize,
        "handlings of what was discarded"
    );
    let id = head.event_id().to_owned();
    let mut published = vec![head];
    published.extend(behind);
    assert_kept(&*broker, &witness, &published, &[&id]);
    let letters = store.letters(&group).await;
    assert_eq!(letters[0].status, LetterStatus::Discarded);
    drain(consumer).await;
    Verdict::Pass
}
