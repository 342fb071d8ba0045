//! Rows that were given up.

use super::lease::owner;
use super::{NewRow, Place, burial, everything, ids, ids_of, read};
use tidings_core::store::Failure;

pub(super) async fn buried(place: Place) {
    (place.insert)(vec![NewRow::of("a"), NewRow::of("a"), NewRow::of("b")]).await;
    let rows = read(&*place.store, &everything()).await;
    let all = ids_of(&rows);
    let lease = owner(&*place.store).await;
    let event_id = rows[0].content.as_ref().unwrap().event_id().to_owned();
    let failure = Failure {
        row: all[0],
        attempts: 6,
        reason: "no".to_owned(),
    };
    place.store.note_failures(&lease, &[failure]).await.unwrap();

    place
        .store
        .bury(&lease, &[burial(all[0]), burial(all[2])])
        .await
        .unwrap();
    place.store.bury(&lease, &[burial(all[2])]).await.unwrap();

    assert_eq!(ids(&*place.beside).await, [all[1]]);
    let dead = place.beside.dead(10).await.unwrap();
    assert_eq!(dead.len(), 2);
    assert_eq!(place.store.dead(1).await.unwrap().len(), 1);
    let first = dead.iter().find(|row| row.id == all[0]).unwrap();
    assert_eq!(first.reason, "too large for the broker");
    assert_eq!(
        (first.attempts, first.event_type.as_str()),
        (7, "order.placed")
    );
    if place.has_keys {
        assert_eq!(first.key.as_deref(), Some("a"));
    }
    let status = place.store.status().await.unwrap();
    assert_eq!((status.pending, status.dead, status.failing), (1, 2, 0));

    assert_eq!(place.store.revive(&[all[0], all[1]]).await.unwrap(), 1);
    let rows = read(&*place.store, &everything()).await;
    assert_eq!(ids_of(&rows), [all[0], all[1]]);
    assert_eq!(rows[0].attempts, 0);
    assert_eq!(rows[0].content.as_ref().unwrap().event_id(), event_id);
    assert_eq!(place.store.revive(&[]).await.unwrap(), 1);
    assert_eq!(ids(&*place.store).await, all);
}

pub(super) async fn held_behind(place: Place) {
    if !place.has_keys {
        return;
    }
    let rows = vec![
        NewRow::of("a"),
        NewRow::of("a"),
        NewRow::of("b"),
        NewRow::of(None),
        NewRow::of(None),
        NewRow::of("a").to("other"),
    ];
    (place.insert)(rows).await;
    let all = ids(&*place.store).await;
    let lease = owner(&*place.store).await;
    place
        .store
        .bury(&lease, &[burial(all[0]), burial(all[3])])
        .await
        .unwrap();
    let mut query = everything();
    query.hold_behind_dead = true;

    let mut free = vec![all[2], all[4]];
    if place.has_destinations {
        free.push(all[5]);
    }
    assert_eq!(ids_of(&read(&*place.store, &query).await), free);
    assert_eq!(
        ids(&*place.store).await.len(),
        4,
        "unless it is asked for, nothing waits"
    );

    place.beside.revive(&[all[0]]).await.unwrap();
    let rows = read(&*place.store, &query).await;
    assert!(
        ids_of(&rows).starts_with(&all[..2]),
        "a revived row frees its key: {rows:?}"
    );
}

pub(super) async fn discarded(place: Place) {
    (place.insert)(vec![NewRow::of("a"), NewRow::of("a")]).await;
    let all = ids(&*place.store).await;
    let lease = owner(&*place.store).await;
    place.store.bury(&lease, &[burial(all[0])]).await.unwrap();

    assert_eq!(place.store.discard(&all[..1]).await.unwrap(), 1);

    let mut query = everything();
    query.hold_behind_dead = true;
    assert_eq!(ids_of(&read(&*place.store, &query).await), [all[1]]);
    assert_eq!(place.store.revive(&[]).await.unwrap(), 0);
    assert!(place.store.dead(10).await.unwrap().is_empty());
    let status = place.store.status().await.unwrap();
    assert_eq!((status.pending, status.dead), (1, 0));
}

pub(super) async fn alive(place: Place) {
    (place.insert)(vec![NewRow::of("a"), NewRow::of("b")]).await;
    let all = ids(&*place.store).await;
    let lease = owner(&*place.store).await;
    place.store.bury(&lease, &[burial(all[0])]).await.unwrap();

    assert_eq!(place.store.discard(&all).await.unwrap(), 1);

    assert_eq!(ids(&*place.store).await, [all[1]]);
}
