//! What becomes of rows that were sent or failed, and how an outbox counts them.

use super::lease::owner;
use super::{NewRow, Place, everything, ids, read};
use std::time::Duration;
use tidings_core::Timestamp;
use tidings_core::store::{Failure, Settlement};

pub(super) async fn settled(place: Place) {
    (place.insert)(vec![NewRow::of("a"); 3]).await;
    let all = ids(&*place.store).await;

    place.store.settle(&[]).await.unwrap();
    place.store.settle(&all[1..2]).await.unwrap();
    assert_eq!(
        ids(&*place.store).await,
        [all[0], all[2]],
        "what stands before a settled row was not settled by it"
    );
    place.store.settle(&all[..2]).await.unwrap();
    place.store.settle(&all[..1]).await.unwrap();

    assert_eq!(ids(&*place.store).await, all[2..]);
    assert_eq!(ids(&*place.beside).await, all[2..]);
    (place.insert)(vec![NewRow::of("a")]).await;
    let after = ids(&*place.store).await;
    assert_eq!(after.len(), 2);
    assert!(!all[..2].contains(&after[1]), "an id is not given twice");
}

pub(super) async fn failures(place: Place) {
    (place.insert)(vec![NewRow::of("a"), NewRow::of("b")]).await;
    let all = ids(&*place.store).await;
    let failure = |attempts| Failure {
        row: all[0],
        attempts,
        reason: "the broker said no".to_owned(),
    };

    let lease = owner(&*place.store).await;
    place
        .store
        .note_failures(&lease, &[failure(1)])
        .await
        .unwrap();
    place
        .store
        .note_failures(&lease, &[failure(2)])
        .await
        .unwrap();

    let rows = read(&*place.beside, &everything()).await;
    assert_eq!((rows[0].attempts, rows[1].attempts), (2, 0));
    assert_eq!(place.store.status().await.unwrap().failing, 1);
    place.store.settle(&all).await.unwrap();
    let status = place.store.status().await.unwrap();
    assert_eq!((status.failing, status.pending), (0, 0));
}

pub(super) async fn status(place: Place) {
    let empty = place.store.status().await.unwrap();
    assert_eq!((empty.pending, empty.dead, empty.failing), (0, 0, 0));
    assert_eq!(empty.oldest_unsent_age, Duration::ZERO);
    assert!(empty.owners.is_empty(), "{empty:?}");

    (place.insert)(vec![NewRow::of("a"), NewRow::of(None)]).await;

    let status = place.beside.status().await.unwrap();
    assert_eq!((status.pending, status.retained), (2, 0));
    assert!(
        status.oldest_unsent_age < Duration::from_secs(600),
        "{status:?}"
    );
}

pub(super) async fn prune(place: Place) {
    (place.insert)(vec![NewRow::of("a"); 3]).await;
    let all = ids(&*place.store).await;
    place.store.settle(&all[..2]).await.unwrap();
    let later = Timestamp::from_micros(32_503_680_000_000_000);

    let none = place
        .store
        .prune(Timestamp::from_micros(1), 10)
        .await
        .unwrap();
    assert_eq!(none, 0, "nothing was sent before 1970");
    let first = place.store.prune(later, 1).await.unwrap();
    let second = place.store.prune(later, 10).await.unwrap();

    let prunes = place.is_ours && place.store.settlement() == Settlement::Mark;
    assert_eq!((first, second), if prunes { (1, 1) } else { (0, 0) });
    assert_eq!(ids(&*place.store).await, all[2..], "what is unsent stays");
}
