//! Every row and what became of it, as a comparison with a destination needs them.

use super::lease::owner;
use super::{NewRow, Place, burial, everything, ids, read};
use tidings_core::store::{OutboxStore, RowSeen, RowState, Settlement};

async fn listed(store: &dyn OutboxStore) -> Vec<RowSeen> {
    let mut rows = Vec::new();
    let count = store.rows(&mut |row| rows.push(row)).await.unwrap();
    assert_eq!(count, rows.len() as u64, "the answer counts what it gave");
    rows
}

fn states(rows: &[RowSeen]) -> Vec<RowState> {
    rows.iter().map(|row| row.state).collect()
}

pub(super) async fn states_listed(place: Place) {
    assert!(listed(&*place.store).await.is_empty());
    (place.insert)(vec![
        NewRow::of("a"),
        NewRow::of("b"),
        NewRow::of(None),
        NewRow::of("c"),
    ])
    .await;
    let all = ids(&*place.store).await;
    place.store.settle(&all[..1]).await.unwrap();
    let lease = owner(&*place.store).await;
    place
        .store
        .bury(&lease, &[burial(all[1]), burial(all[2])])
        .await
        .unwrap();
    place.store.discard(&all[2..3]).await.unwrap();

    let mut expected = vec![
        RowState::Sent,
        RowState::Dead,
        RowState::Dead,
        RowState::Unsent,
    ];
    if place.is_ours {
        // What a person discarded is gone.
        expected.remove(2);
    }
    if place.store.settlement() == Settlement::Delete {
        expected.remove(0);
        if !place.is_ours {
            expected = vec![RowState::Dead, RowState::Dead, RowState::Unsent];
        }
    }
    assert_eq!(states(&listed(&*place.beside).await), expected);
    place.store.revive(&[]).await.unwrap();
    let revived = states(&listed(&*place.store).await);
    assert!(!revived.is_empty());
    let dead = revived.iter().filter(|state| **state == RowState::Dead);
    assert_eq!(dead.count(), usize::from(!place.is_ours), "{revived:?}");
}

pub(super) async fn names(place: Place) {
    let rows = ["a", "b", "a", "c"].map(NewRow::of);
    (place.insert)(rows.to_vec()).await;
    let published = read(&*place.store, &everything()).await;

    let listed = listed(&*place.beside).await;

    assert_eq!(listed.len(), published.len());
    for (listed, published) in listed.iter().zip(&published) {
        let envelope = published.content.as_ref().unwrap();
        assert_eq!(listed.event_id, envelope.event_id());
        assert_eq!(listed.key.as_deref(), published.key.as_deref());
        assert_eq!(listed.key.is_some(), place.has_keys);
    }
}
