//! What a reading answers and what it leaves out.

use super::{NewRow, Place, everything, ids, ids_of, read};
use std::collections::HashSet;
use tidings_core::store::{BlockedKey, Shard, UnsentQuery};

pub(super) async fn order(place: Place) {
    let mut rows: Vec<NewRow> = Vec::new();
    for (n, key) in ["a", "b", "a", "b", "a"].into_iter().enumerate() {
        let mut row = NewRow::of(key);
        row.payload = format!("{{\"n\":   {n}}}");
        rows.push(row);
    }
    (place.insert)(rows.clone()).await;

    let found = read(&*place.store, &everything()).await;

    assert_eq!(found.len(), rows.len());
    for (row, written) in found.iter().zip(&rows) {
        let envelope = row.content.as_ref().unwrap();
        assert_eq!(envelope.event_type().as_str(), written.event_type);
        assert_eq!(
            envelope.payload_bytes(),
            written.payload.as_bytes(),
            "no byte of a payload changes, and rows come in order"
        );
        if place.has_keys {
            assert_eq!(row.key.as_deref(), written.key.as_deref());
            assert_eq!(envelope.aggregate_id(), written.key.as_deref());
        }
        assert_eq!(row.attempts, 0);
        if let Some(timestamp) = envelope.timestamp() {
            assert_eq!(timestamp.instant(), row.created_at);
        }
    }
}

pub(super) async fn cut(place: Place) {
    (place.insert)(vec![NewRow::of("a"); 3]).await;
    let query = |limit| UnsentQuery {
        limit,
        ..everything()
    };

    let two = place.store.unsent(&query(2)).await.unwrap();
    assert_eq!((two.rows.len(), two.cut), (2, true));
    let three = place.store.unsent(&query(3)).await.unwrap();
    assert_eq!((three.rows.len(), three.cut), (3, false));
    assert_eq!(ids_of(&two.rows), ids_of(&three.rows[..2]));
    let now = three.now;
    let age = now.since(three.rows[0].created_at);
    assert!(
        age.as_secs() < 600,
        "rows are dated by the clock of the database: {age:?}"
    );
}

pub(super) async fn repeats(place: Place) {
    (place.insert)(vec![NewRow::of("a"), NewRow::of("a")]).await;
    let events = async |store| {
        let rows = read(store, &everything()).await;
        let ids = rows
            .iter()
            .map(|row| row.content.as_ref().unwrap().event_id().to_owned());
        ids.collect::<Vec<String>>()
    };

    let first = events(&*place.store).await;

    assert_ne!(first[0], first[1], "two rows are two events");
    assert_eq!(first, events(&*place.store).await);
    assert_eq!(
        first,
        events(&*place.beside).await,
        "another relay finds the same ids"
    );
}

pub(super) async fn fault(place: Place) {
    let mut bad = NewRow::of("a");
    bad.event_type = "has a space\n".to_owned();
    (place.insert)(vec![NewRow::of("a"), bad, NewRow::of("b")]).await;

    let rows = read(&*place.store, &everything()).await;

    assert_eq!(rows.len(), 3);
    assert!(rows[0].content.is_ok() && rows[2].content.is_ok());
    let fault = rows[1].content.as_ref().unwrap_err();
    assert!(fault.reason.contains("type"), "{fault}");
}

pub(super) async fn blocked(place: Place) {
    if !place.has_keys {
        return;
    }
    let rows = vec![
        NewRow::of("a"),
        NewRow::of("A"),
        NewRow::of("b"),
        NewRow::of(None),
        NewRow::of("a").to("other"),
    ];
    (place.insert)(rows).await;
    let all = ids(&*place.store).await;
    let mut query = everything();
    query.blocked_keys = vec![BlockedKey {
        destination: "".into(),
        key: "a".into(),
    }];

    let found = ids_of(&read(&*place.store, &query).await);

    let mut left = vec![all[1], all[2], all[3]];
    if place.has_destinations {
        left.push(all[4]);
    }
    assert_eq!(
        found, left,
        "rows without a key and keys in another case are not blocked"
    );
}

pub(super) async fn excluded(place: Place) {
    let rows = vec![
        NewRow::of("a"),
        NewRow::of(None).to("mail"),
        NewRow::of("b"),
    ];
    (place.insert)(rows).await;
    let all = ids(&*place.store).await;

    let mut query = everything();
    query.excluded_rows = vec![all[0]];
    assert_eq!(ids_of(&read(&*place.store, &query).await), all[1..]);

    if place.has_destinations {
        let mut query = everything();
        query.excluded_destinations = vec!["mail".into()];
        assert_eq!(ids_of(&read(&*place.store, &query).await), [all[0], all[2]]);
    }
}

pub(super) async fn floor(place: Place) {
    if !place.has_floor {
        return;
    }
    (place.insert)(vec![NewRow::of("a"); 3]).await;
    let all = ids(&*place.store).await;
    let mut query = everything();
    query.floor = Some(all[0]);

    assert_eq!(ids_of(&read(&*place.store, &query).await), all[1..]);
}

pub(super) async fn shards(place: Place) {
    if !place.has_keys {
        return;
    }
    const KEYS: [&str; 12] = [
        "a", "b", "c", "k-1", "k-2", "k-3", "k-4", "order-77", "order-78", "x", "", "ü",
    ];
    let mut rows: Vec<NewRow> = KEYS
        .iter()
        .chain(&KEYS)
        .map(|key| NewRow::of(*key))
        .collect();
    rows.push(NewRow::of(None));
    (place.insert)(rows).await;
    let all = ids(&*place.store).await;

    let mut seen = Vec::new();
    let mut keys_of_shards = Vec::new();
    for index in 0..3 {
        let mut query = everything();
        query.shard = Shard { index, count: 3 };
        let rows = read(&*place.store, &query).await;
        let keys: HashSet<String> = rows
            .iter()
            .filter_map(|row| row.key.as_deref().map(str::to_owned))
            .collect();
        seen.extend(ids_of(&rows));
        keys_of_shards.push(keys);
    }

    seen.sort();
    let mut expected = all;
    expected.sort();
    assert_eq!(seen, expected, "every row is in one shard");
    for (index, keys) in keys_of_shards.iter().enumerate() {
        for other in &keys_of_shards[index + 1..] {
            assert!(
                keys.is_disjoint(other),
                "a key is in one shard: {keys:?} {other:?}"
            );
        }
    }
    let used = keys_of_shards
        .iter()
        .filter(|keys| !keys.is_empty())
        .count();
    assert!(used > 1, "keys are spread");
}
