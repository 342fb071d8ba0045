//! How often a publish waits for the server, counted on the line between the two.

use crate::place::{Counting, Place, clock};
use tidings_core::envelope_json;
use tidings_core::extract::Draft;
use tidings_sql::schema::{self, Part};
use tidings_sql::{Database, DatabaseOptions, InTransaction, Kind, Outbox, OutboxConfig, Pool};
use tidings_testkit::proxy::FaultProxy;

fn drafts(count: usize) -> Vec<Draft> {
    let draft = |n: usize| {
        let line = format!(
            r#"{{"event_type":"order.placed","aggregate_id":"o-{}","payload":{{"n":{n}}}}}"#,
            n % 7
        );
        envelope_json::draft_from_json(line.as_bytes()).unwrap()
    };
    (0..count).map(draft).collect()
}

/// Round trips of one publish, whose statement the connection knows already.
async fn turns(
    line: &FaultProxy,
    outbox: &Outbox,
    tx: &mut impl InTransaction,
    events: usize,
) -> u64 {
    outbox.publish_drafts(tx, drafts(events)).await.unwrap();
    let before = line.figures().turns;
    outbox.publish_drafts(tx, drafts(events)).await.unwrap();
    line.figures().turns - before
}

async fn turns_on(
    kind: Kind,
    test: &str,
    config: OutboxConfig,
    sizes: &[usize],
) -> Option<Vec<u64>> {
    let place = Place::fresh(kind, test).await?;
    schema::migrate(&place.database, &Part::ALL).await.unwrap();
    let line = FaultProxy::start(place.address()).unwrap();
    let options = DatabaseOptions::default();
    let database = Database::open(&line.in_place_of(place.url()), &options)
        .await
        .unwrap();
    let outbox = Outbox::new(config, clock(), Counting::new()).unwrap();
    let mut found = Vec::new();
    match database.pool() {
        Pool::Postgres(pool) => {
            let mut tx = pool.begin().await.unwrap();
            for size in sizes {
                found.push(turns(&line, &outbox, &mut tx, *size).await);
            }
        }
        Pool::MySql(pool) => {
            let mut tx = pool.begin().await.unwrap();
            for size in sizes {
                found.push(turns(&line, &outbox, &mut tx, *size).await);
            }
        }
        _ => unreachable!("a file has no line"),
    }
    Some(found)
}

#[tokio::test]
async fn one_event_or_a_thousand_are_published_with_one_round_trip() {
    for kind in [Kind::Postgres, Kind::MySql] {
        let Some(found) = turns_on(
            kind,
            "turns",
            OutboxConfig::default(),
            &[1, 2, 1_000, 1_001],
        )
        .await
        else {
            continue;
        };

        assert_eq!(found, [1, 1, 1, 2], "{kind:?}");
    }
}

#[tokio::test]
async fn counting_what_is_unsent_and_waiting_for_writers_of_a_key_take_one_more_each() {
    for kind in [Kind::Postgres, Kind::MySql] {
        let limited = OutboxConfig {
            unsent_max: Some(1_000_000),
            ..OutboxConfig::default()
        };
        let serialised = OutboxConfig {
            serialise_by_key: true,
            ..OutboxConfig::default()
        };
        let Some(found) = turns_on(kind, "turns_limited", limited, &[1, 100]).await else {
            continue;
        };
        assert_eq!(found, [2, 2], "{kind:?}");

        let found = turns_on(kind, "turns_serialised", serialised, &[1, 100])
            .await
            .unwrap();
        assert_eq!(found, [2, 2], "{kind:?}");
    }
}
