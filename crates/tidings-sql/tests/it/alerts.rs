//! What watchers keep, and how far behind groups are, on each database.

use crate::failures::{death, delivery, fresh, park};
use crate::place::{KINDS, Place};
use std::time::Duration;
use tidings_core::store::{
    AlertStore as _, FailureStore as _, Kept, KeptChange, KeptKind, StoreError,
};
use tidings_sql::Alerts;
use tidings_sql::schema::{self, Part};

fn kept(kind: KeptKind, name: &str, body: &str) -> Kept {
    Kept {
        kind,
        name: name.to_owned(),
        body: body.to_owned(),
    }
}

fn forget(kind: KeptKind, name: &str) -> KeptChange {
    KeptChange::Forget {
        kind,
        name: name.to_owned(),
    }
}

#[tokio::test]
async fn what_a_watcher_keeps_is_its_own_and_the_newest() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "alerts_kept").await else {
            continue;
        };
        let alerts = Alerts::open(&place.database).await.unwrap();
        let missing = alerts.kept("w").await.unwrap_err();
        assert!(
            matches!(missing, StoreError::TableMissing { .. }),
            "{missing:?}"
        );
        schema::migrate(&place.database, &[Part::Alert])
            .await
            .unwrap();

        let put = |name: &str, body: &str| KeptChange::Put(kept(KeptKind::Alert, name, body));
        let long = "ä".repeat(10_000);
        let changes = [
            put("b", "{\"n\":1}"),
            put("a", &long),
            put("b", "{\"n\":2}"),
            put("c", "gone"),
            forget(KeptKind::Alert, "c"),
            forget(KeptKind::Message, "a"),
            KeptChange::Put(kept(KeptKind::Fact, "a", "7")),
        ];
        alerts.keep("w", &changes).await.unwrap();
        alerts.keep("other", &[put("b", "theirs")]).await.unwrap();
        alerts.keep("w", &[]).await.unwrap();

        let mut found = alerts.kept("w").await.unwrap();
        found.sort_by(|one, other| (one.kind, &one.name).cmp(&(other.kind, &other.name)));
        let expected = [
            kept(KeptKind::Alert, "a", &long),
            kept(KeptKind::Alert, "b", "{\"n\":2}"),
            kept(KeptKind::Fact, "a", "7"),
        ];
        assert_eq!(found, expected, "{kind:?}");
        assert_eq!(alerts.kept("other").await.unwrap().len(), 1, "{kind:?}");
    }
}

#[tokio::test]
async fn the_backlog_tells_what_waits_what_is_held_and_what_is_open() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "alerts_empty").await else {
            continue;
        };
        let alerts = Alerts::open(&place.database).await.unwrap();
        let nothing = alerts.backlog().await.unwrap();
        assert!(
            nothing.parked.is_empty() && nothing.letters.is_empty(),
            "{kind:?}"
        );

        let Some((place, failures)) = fresh(kind, "alerts_backlog").await else {
            continue;
        };
        let alerts = Alerts::open(&place.database).await.unwrap();
        let changes = [
            death(delivery("a", "k1"), true),
            park(vec![delivery("b", "k1")], None),
            park(vec![delivery("c", "k2")], Some(60_000)),
            death(delivery("d", "k3"), false),
        ];
        failures.apply("payment", &changes).await.unwrap();
        let changes = [park(vec![delivery("e", "k1")], Some(0))];
        failures.apply("mailer", &changes).await.unwrap();

        let backlog = alerts.backlog().await.unwrap();
        let parked: Vec<(&str, u64, u64, u64)> = backlog
            .parked
            .iter()
            .map(|one| (one.group.as_str(), one.deliveries, one.keys, one.held))
            .collect();
        assert_eq!(
            parked,
            [("mailer", 1, 1, 0), ("payment", 3, 2, 1)],
            "{kind:?}"
        );
        assert!(
            backlog
                .parked
                .iter()
                .all(|one| one.oldest_age < Duration::from_secs(600))
        );
        assert_eq!(backlog.parked[0].held_age, Duration::ZERO);
        let letters: Vec<(&str, &str, u64, u64)> = backlog
            .letters
            .iter()
            .map(|one| {
                (
                    one.group.as_str(),
                    one.cluster.as_str(),
                    one.open,
                    one.total,
                )
            })
            .collect();
        assert_eq!(letters, [("payment", "dlq-0001", 2, 2)], "{kind:?}");
        assert!(backlog.letters[0].oldest_age < Duration::from_secs(600));
    }
}
