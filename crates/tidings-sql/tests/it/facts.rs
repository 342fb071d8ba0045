//! An outbox of which only our own facts are relayed, beside a relay of all of it.

use crate::place::{KINDS, Place, open};
use std::time::Duration;
use tidings_core::store::{LeaseAnswer, LeaseRequest, OutboxStore as _, Shard, UnsentQuery};
use tidings_sql::schema::{self, Part};
use tidings_sql::{OutboxOptions, SqlOutbox};

fn request(owner: &str) -> LeaseRequest {
    LeaseRequest {
        shard: Shard::WHOLE,
        owner: owner.to_owned(),
        time_to_live: Duration::from_secs(60),
    }
}

async fn types(outbox: &SqlOutbox) -> Vec<String> {
    let query = UnsentQuery {
        shard: Shard::WHOLE,
        floor: None,
        blocked_keys: Vec::new(),
        excluded_rows: Vec::new(),
        excluded_destinations: Vec::new(),
        hold_behind_dead: true,
        limit: 10,
    };
    let rows = outbox.unsent(&query).await.unwrap().rows.into_iter();
    rows.map(|row| row.content.unwrap().event_type().to_string())
        .collect()
}

#[tokio::test]
async fn facts_are_read_alone_under_a_lease_that_gives_way_to_a_relay_of_all_rows() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "facts_only").await else {
            continue;
        };
        schema::migrate(&place.database, &Part::ALL).await.unwrap();
        for event_type in ["order.placed", "tidings.dead_letter.recorded", "tidingsx.a"] {
            place
                .run(&format!(
                    "INSERT INTO outbox (event_type, payload) VALUES ('{event_type}', '1')"
                ))
                .await;
        }
        let options = OutboxOptions {
            facts_only: true,
            ..OutboxOptions::default()
        };
        let facts = open(&place.database, options).await.unwrap();
        let whole = open(&place.database, OutboxOptions::default())
            .await
            .unwrap();

        assert_eq!(types(&facts).await, ["tidings.dead_letter.recorded"]);
        assert_eq!(facts.status().await.unwrap().pending, 1, "{kind:?}");
        assert_eq!(types(&whole).await.len(), 3, "{kind:?}");

        let held = |answer: &LeaseAnswer| matches!(answer, LeaseAnswer::Held { .. });
        let first = facts.lease(&request("facts")).await.unwrap();
        assert!(held(&first), "{kind:?}: {first:?}");
        let all = whole.lease(&request("whole")).await.unwrap();
        assert!(held(&all), "nobody waits for facts: {kind:?}: {all:?}");
        let LeaseAnswer::HeldByOther { owner, .. } = facts.lease(&request("facts")).await.unwrap()
        else {
            panic!("{kind:?}: a relay of all rows works");
        };
        assert_eq!(owner, "whole");
        whole.release(Shard::WHOLE, "whole").await.unwrap();
        let again = facts.lease(&request("facts")).await.unwrap();
        assert!(held(&again), "{kind:?}: {again:?}");
    }
}
