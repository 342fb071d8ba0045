//! Who may relay.

use super::{NewRow, Place, a_moment, burial, everything, ids, ids_of, read};
use std::time::Duration;
use tidings_core::store::{
    Failure, HeldLease, LeaseAnswer, LeaseRequest, OutboxStore, Shard, StoreError,
};

const LONG: Duration = Duration::from_secs(600);

fn request(owner: &str, shard: Shard, time_to_live: Duration) -> LeaseRequest {
    LeaseRequest {
        shard,
        owner: owner.to_owned(),
        time_to_live,
    }
}

/// Takes the whole of an outbox, for what only its owner may do.
pub(super) async fn owner(store: &dyn OutboxStore) -> HeldLease {
    let LeaseAnswer::Held { epoch } = lease(store, "owner", LONG).await else {
        panic!("somebody else relays it");
    };
    held("owner", epoch)
}

fn held(owner: &str, epoch: u64) -> HeldLease {
    HeldLease {
        shard: Shard::WHOLE,
        owner: owner.to_owned(),
        epoch,
    }
}

async fn lease(store: &dyn OutboxStore, owner: &str, time_to_live: Duration) -> LeaseAnswer {
    let request = request(owner, Shard::WHOLE, time_to_live);
    store.lease(&request).await.unwrap()
}

pub(super) async fn one_owner(place: Place) {
    let first = lease(&*place.store, "first", LONG).await;
    assert!(
        matches!(first, LeaseAnswer::Held { epoch } if epoch > 0),
        "{first:?}"
    );
    assert_eq!(
        lease(&*place.store, "first", LONG).await,
        first,
        "renewing keeps the epoch"
    );
    let second = lease(&*place.beside, "second", LONG).await;
    let LeaseAnswer::HeldByOther { owner, expires_in } = second else {
        panic!("two owners: {second:?}");
    };
    assert_eq!(owner, "first");
    assert!(
        expires_in > Duration::from_secs(300) && expires_in <= LONG,
        "{expires_in:?}"
    );
    let owners = place.beside.status().await.unwrap().owners;
    assert_eq!((owners[0].0, owners[0].1.as_str()), (Shard::WHOLE, "first"));

    place.beside.release(Shard::WHOLE, "second").await.unwrap();
    let still = lease(&*place.beside, "second", LONG).await;
    assert!(
        matches!(still, LeaseAnswer::HeldByOther { .. }),
        "who has no lease cannot give it back: {still:?}"
    );
    place.store.release(Shard::WHOLE, "first").await.unwrap();
    let (LeaseAnswer::Held { epoch: before }, LeaseAnswer::Held { epoch: after }) =
        (first, lease(&*place.beside, "second", LONG).await)
    else {
        panic!("a lease that was given back is free");
    };
    assert!(after > before);

    let other = request("first", Shard { index: 0, count: 1 }, LONG);
    let both = tokio::join!(place.store.lease(&other), place.beside.lease(&other));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
}

pub(super) async fn runs_out(place: Place) {
    let first = lease(&*place.store, "first", Duration::from_millis(1)).await;
    let before = match first {
        LeaseAnswer::Held { epoch } => epoch,
        // The millisecond was over before the answer.
        LeaseAnswer::HeldByOther { .. } => 0,
    };
    let mut tries = 0;
    let after = loop {
        if let LeaseAnswer::Held { epoch } = lease(&*place.beside, "second", LONG).await {
            break epoch;
        }
        tries += 1;
        assert!(tries < 500, "a lease of a millisecond does not run out");
        a_moment().await;
    };
    assert!(after > before);
    let late = lease(&*place.store, "first", LONG).await;
    assert!(matches!(late, LeaseAnswer::HeldByOther { .. }), "{late:?}");
}

pub(super) async fn divisions(place: Place) {
    let halves = |index| Shard { index, count: 2 };
    let first = place
        .store
        .lease(&request("a", halves(0), LONG))
        .await
        .unwrap();
    let second = place
        .beside
        .lease(&request("b", halves(1), LONG))
        .await
        .unwrap();
    assert!(matches!(first, LeaseAnswer::Held { .. }), "{first:?}");
    assert!(matches!(second, LeaseAnswer::Held { .. }), "{second:?}");

    let whole = lease(&*place.store, "c", LONG).await;
    assert!(
        matches!(whole, LeaseAnswer::HeldByOther { .. }),
        "its keys are relayed already: {whole:?}"
    );

    place.store.release(halves(0), "a").await.unwrap();
    place.store.release(halves(1), "b").await.unwrap();
    let whole = lease(&*place.store, "c", LONG).await;
    assert!(matches!(whole, LeaseAnswer::Held { .. }), "{whole:?}");
}

/// A relay that stood still beyond its lease, and goes on where it was.
pub(super) async fn fence(place: Place) {
    (place.insert)(vec![NewRow::of("a"), NewRow::of("a")]).await;
    let all = ids(&*place.store).await;
    let first = owner(&*place.store).await;
    place.store.release(Shard::WHOLE, "owner").await.unwrap();
    let failure = Failure {
        row: all[0],
        attempts: 3,
        reason: "late".to_owned(),
    };
    let nobody = place.store.bury(&first, &[burial(all[0])]).await;
    let LeaseAnswer::Held { epoch } = lease(&*place.beside, "second", LONG).await else {
        panic!("a lease that was given back is free");
    };

    let late = place.store.bury(&first, &[burial(all[0])]).await;
    let noted = place.store.note_failures(&first, &[failure]).await;
    let of_before = held("second", epoch - 1);
    let again = place.beside.bury(&of_before, &[burial(all[0])]).await;

    for answer in [nobody, late, noted, again] {
        assert!(
            matches!(answer, Err(StoreError::Conflict { .. })),
            "{answer:?}"
        );
    }
    let mut query = everything();
    query.hold_behind_dead = true;
    let rows = read(&*place.beside, &query).await;
    assert_eq!(ids_of(&rows), all, "nothing is held");
    assert_eq!(rows[0].attempts, 0);
    let status = place.beside.status().await.unwrap();
    assert_eq!((status.dead, status.failing), (0, 0));
    let second = held("second", epoch);
    place.beside.settle(&all[..1]).await.unwrap();
    place
        .beside
        .bury(&second, &[burial(all[0]), burial(all[1])])
        .await
        .unwrap();
    let status = place.beside.status().await.unwrap();
    assert_eq!(status.dead, 1, "what was sent is not given up");
}
