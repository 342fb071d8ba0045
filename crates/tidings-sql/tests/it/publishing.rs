//! Events in the caller's transaction.

use crate::place::{Counting, KINDS, Place, clock, open};
use tidings_core::correlation::Inherited;
use tidings_core::extract::Draft;
use tidings_core::store::{OutboxStore, StoreError};
use tidings_core::{Envelope, envelope_json};
use tidings_sql::schema::{self, Part};
use tidings_sql::{Kind, Outbox, OutboxConfig, OutboxOptions, Pool, context};
use tidings_testkit::conformance::store::everything;

fn outbox(config: OutboxConfig) -> Outbox {
    Outbox::new(config, clock(), Counting::new()).unwrap()
}

fn draft(n: usize) -> Draft {
    let line = format!(
        r#"{{"event_type":"order.placed","aggregate_id":"o-{}","payload":{{"n": {n}, "n":{n}.0}}}}"#,
        n % 3
    );
    envelope_json::draft_from_json(line.as_bytes()).unwrap()
}

async fn made(kind: Kind, test: &str) -> Option<Place> {
    let place = Place::fresh(kind, test).await?;
    schema::migrate(&place.database, &Part::ALL).await.unwrap();
    Some(place)
}

/// Publishes in a transaction that ends as asked.
async fn publish(
    place: &Place,
    outbox: &Outbox,
    drafts: Vec<Draft>,
    commits: bool,
) -> Result<Vec<String>, StoreError> {
    match place.database.pool() {
        Pool::Sqlite(pool) => {
            let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
            let ids = outbox.publish_drafts(&mut tx, drafts).await?;
            if commits {
                outbox.commit(tx).await?;
            }
            Ok(ids)
        }
        Pool::Postgres(pool) => {
            let mut tx = pool.begin().await.unwrap();
            let ids = outbox.publish_drafts(&mut tx, drafts).await?;
            if commits {
                outbox.commit(tx).await?;
            }
            Ok(ids)
        }
        Pool::MySql(pool) => {
            let mut tx = pool.begin().await.unwrap();
            let ids = outbox.publish_drafts(&mut tx, drafts).await?;
            if commits {
                outbox.commit(tx).await?;
            }
            Ok(ids)
        }
        _ => unreachable!("the tests know three databases"),
    }
}

async fn relayed(place: &Place) -> Vec<Envelope> {
    let store = open(&place.database, OutboxOptions::default())
        .await
        .unwrap();
    let mut query = everything();
    query.limit = 5_000;
    let rows = store.unsent(&query).await.unwrap().rows;
    rows.into_iter().map(|row| row.content.unwrap()).collect()
}

#[tokio::test]
async fn many_events_keep_their_order_their_ids_and_their_bytes() {
    for kind in KINDS {
        let Some(place) = made(kind, "many_events").await else {
            continue;
        };
        let outbox = outbox(OutboxConfig {
            source: Some("shop".to_owned()),
            ..OutboxConfig::default()
        });

        let ids = publish(&place, &outbox, (0..2_500).map(draft).collect(), true)
            .await
            .unwrap();

        let events = relayed(&place).await;
        assert_eq!(events.len(), 2_500);
        for (n, (event, id)) in events.iter().zip(&ids).enumerate() {
            assert_eq!(event.event_id(), id);
            assert_eq!(
                event.payload_bytes(),
                format!(r#"{{"n": {n}, "n":{n}.0}}"#).as_bytes()
            );
            assert_eq!(event.source(), Some("shop"));
            assert_eq!(event.correlation_id(), id);
        }
    }
}

#[tokio::test]
async fn an_event_of_a_transaction_that_is_rolled_back_does_not_exist() {
    for kind in KINDS {
        let Some(place) = made(kind, "rolled_back").await else {
            continue;
        };
        let outbox = outbox(OutboxConfig::default());

        publish(&place, &outbox, vec![draft(1)], false)
            .await
            .unwrap();

        assert!(relayed(&place).await.is_empty());
    }
}

#[tokio::test]
async fn what_is_published_in_the_course_of_an_event_names_it_as_its_cause() {
    let place = made(Kind::Sqlite, "cause").await.unwrap();
    let outbox = outbox(OutboxConfig::default());
    let cause = Envelope::from_json(
        r#"{"event_id":"evt-1","event_type":"cart.ordered","correlation_id":"flow","traceparent":"t"}"#,
    )
    .unwrap();

    let publish = publish(&place, &outbox, vec![draft(1)], true);
    context::caused_by(&cause, publish).await.unwrap();

    let event = &relayed(&place).await[0];
    assert_eq!(event.correlation_id(), "flow");
    assert_eq!(event.causation_id(), Some("evt-1"));
    assert_eq!(event.extension("traceparent"), Some("\"t\""));
}

#[tokio::test]
async fn what_a_request_causes_belongs_to_its_flow_and_names_no_event_as_its_cause() {
    let place = made(Kind::Sqlite, "request").await.unwrap();
    let outbox = outbox(OutboxConfig::default());
    let request = Inherited {
        correlation_id: "request-1".to_owned(),
        causation_id: None,
        trace: vec![("traceparent".to_owned(), "\"t\"".to_owned())],
    };

    let publish = publish(&place, &outbox, vec![draft(1)], true);
    context::inheriting(request, publish).await.unwrap();

    let event = &relayed(&place).await[0];
    assert_eq!(event.correlation_id(), "request-1");
    assert_eq!(event.causation_id(), None);
    assert_eq!(event.extension("traceparent"), Some("\"t\""));
}

#[tokio::test]
async fn a_full_outbox_refuses_and_says_how_full_it_is() {
    for kind in KINDS {
        let Some(place) = made(kind, "full_outbox").await else {
            continue;
        };
        let limited = |unsent_max| {
            outbox(OutboxConfig {
                unsent_max: Some(unsent_max),
                ..OutboxConfig::default()
            })
        };
        let drafts = |count: usize| (0..count).map(draft).collect::<Vec<_>>();
        publish(&place, &limited(3), drafts(2), true).await.unwrap();

        // A batch counts whole, and the number is that of the rows, whatever the limit.
        for (events, limit, told) in [
            (
                2,
                3,
                "holds 2 unsent events, and 2 more would pass its limit of 3",
            ),
            (
                1,
                1,
                "holds 2 unsent events, and 1 more would pass its limit of 1",
            ),
        ] {
            let error = publish(&place, &limited(limit), drafts(events), true)
                .await
                .unwrap_err();
            assert_eq!(error.code().as_str(), "TD0079", "{error}");
            assert!(error.to_string().contains(told), "{error}");
        }
        let never = publish(&place, &limited(3), drafts(4), true)
            .await
            .unwrap_err();
        assert_eq!(never.code().as_str(), "TD0078", "{never}");
        publish(&place, &limited(2), drafts(0), true).await.unwrap();
        publish(&place, &limited(3), drafts(1), true).await.unwrap();
        assert_eq!(relayed(&place).await.len(), 3);
    }
}

#[tokio::test]
async fn a_missing_table_is_named_with_the_command_that_makes_it() {
    for kind in KINDS {
        let Some(place) = Place::fresh(kind, "missing_table").await else {
            continue;
        };
        let outbox = outbox(OutboxConfig::default());

        let error = publish(&place, &outbox, vec![draft(1)], true)
            .await
            .unwrap_err();
        assert_eq!(error.code().as_str(), "TD0073", "{error}");
        assert!(
            error.to_string().contains("tidings outbox migrate"),
            "{error}"
        );
        let error = open(&place.database, OutboxOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error.code().as_str(), "TD0073", "{error}");
    }
}

#[tokio::test]
async fn the_seeds_statements_work_on_our_table_and_so_does_the_sql_function() {
    for kind in KINDS {
        let Some(place) = made(kind, "seeds_statements").await else {
            continue;
        };
        let now = if kind == Kind::Sqlite {
            "CURRENT_TIMESTAMP"
        } else {
            "NOW()"
        };
        place
            .run(&format!("INSERT INTO outbox (event_type, payload, created_at, sent) VALUES ('order.placed', '{{\"a\":  1}}', {now}, false)"))
            .await;
        let unsent =
            "SELECT COUNT(*) FROM (SELECT * FROM outbox WHERE sent = false LIMIT 100) AS u";
        assert_eq!(place.number(unsent).await, 1);

        let event = relayed(&place).await.remove(0);
        assert_eq!(event.payload_bytes(), b"{\"a\":  1}");
        place
            .run("UPDATE outbox SET sent = true WHERE id IN (1)")
            .await;
        assert!(relayed(&place).await.is_empty());

        if kind == Kind::Postgres {
            place
                .run(r#"SELECT tidings_publish('order.placed', 'o-1', '{"b": 2.0}', '{"source": "php", "version": 3}')"#)
                .await;
            let event = relayed(&place).await.remove(0);
            assert_eq!(event.aggregate_id(), Some("o-1"));
            assert_eq!((event.source(), event.version()), (Some("php"), 3));
        }
    }
}

/// Without it the second writer would draw its id and commit first.
#[tokio::test]
async fn writers_of_one_key_wait_for_each_other_where_asked() {
    for kind in [Kind::Postgres, Kind::MySql] {
        let Some(place) = made(kind, "serialised").await else {
            continue;
        };
        let outbox = outbox(OutboxConfig {
            serialise_by_key: true,
            ..OutboxConfig::default()
        });
        match place.database.pool() {
            Pool::Postgres(pool) => {
                let mut first = pool.begin().await.unwrap();
                outbox
                    .publish_drafts(&mut first, vec![draft(1)])
                    .await
                    .unwrap();
                sqlx::raw_sql("SET lock_timeout = '200ms'")
                    .execute(&mut *first)
                    .await
                    .unwrap();
                let mut second = pool.begin().await.unwrap();
                sqlx::raw_sql("SET LOCAL lock_timeout = '200ms'")
                    .execute(&mut *second)
                    .await
                    .unwrap();
                outbox
                    .publish_drafts(&mut second, vec![draft(2)])
                    .await
                    .unwrap();
                let waits = outbox
                    .publish_drafts(&mut second, vec![draft(1)])
                    .await
                    .unwrap_err();
                assert_eq!(waits.code().as_str(), "TD0072", "{waits}");
            }
            Pool::MySql(pool) => {
                let mut first = pool.begin().await.unwrap();
                outbox
                    .publish_drafts(&mut first, vec![draft(1)])
                    .await
                    .unwrap();
                let mut second = pool.begin().await.unwrap();
                sqlx::raw_sql("SET SESSION innodb_lock_wait_timeout = 1")
                    .execute(&mut *second)
                    .await
                    .unwrap();
                outbox
                    .publish_drafts(&mut second, vec![draft(2)])
                    .await
                    .unwrap();
                let waits = outbox
                    .publish_drafts(&mut second, vec![draft(1)])
                    .await
                    .unwrap_err();
                assert_eq!(waits.code().as_str(), "TD0072", "{waits}");
            }
            _ => unreachable!("they were asked for"),
        }
    }
}
