//! Who may relay.

use super::{Place, a_moment};
use std::time::Duration;
use tidings_core::store::{LeaseAnswer, LeaseRequest, OutboxStore, Shard};

const LONG: Duration = Duration::from_secs(600);

fn request(owner: &str, shard: Shard, time_to_live: Duration) -> LeaseRequest {
    LeaseRequest {
        shard,
        owner: owner.to_owned(),
        time_to_live,
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
