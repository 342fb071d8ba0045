//! The suite of outbox stores, on each database and on each shape of table.

use crate::place::{self, Place};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidings_core::store::{OutboxStore, Settlement};
use tidings_sql::schema::{self, Part};
use tidings_sql::{ColumnMapping, Database, DatabaseOptions, Kind, OutboxOptions, Shape};
use tidings_testkit::conformance::store::{self, NewRow};

/// A shape of table, and how it is relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Ours,
    OursMarked,
    /// The seed's columns and no other.
    Seed,
    /// The seed's columns, a key, and the state of the relay in a file of its own.
    SeedWithState,
    Debezium,
    /// Nothing is deleted, and no column can be marked.
    DebeziumKept,
}

impl Variant {
    fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::OursMarked)
    }

    fn is_debezium(self) -> bool {
        matches!(self, Self::Debezium | Self::DebeziumKept)
    }

    fn table(self, kind: Kind) -> String {
        let id = match kind {
            Kind::Postgres => "bigserial PRIMARY KEY",
            Kind::MySql => "BIGINT AUTO_INCREMENT PRIMARY KEY",
            _ => "INTEGER PRIMARY KEY AUTOINCREMENT",
        };
        let key = if self == Self::SeedWithState {
            ", aggregate_id VARCHAR(100)"
        } else {
            ""
        };
        let uuid = if kind == Kind::Postgres {
            "uuid"
        } else {
            "CHAR(36)"
        };
        if self.is_debezium() {
            return format!(
                "CREATE TABLE outbox (seq {id}, id {uuid} NOT NULL UNIQUE, aggregatetype VARCHAR(255) NOT NULL, aggregateid VARCHAR(255), type VARCHAR(255) NOT NULL, payload TEXT)"
            );
        }
        format!(
            "CREATE TABLE outbox (id {id}, event_type VARCHAR(255) NOT NULL, payload TEXT NOT NULL, created_at TIMESTAMP NOT NULL, sent BOOLEAN NOT NULL{key})"
        )
    }

    fn insert(self, row: &NewRow) -> String {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let key = row.key.as_deref().map_or("NULL".to_owned(), text);
        let (event_type, payload) = (text(&row.event_type), text(&row.payload));
        match self {
            Self::Ours | Self::OursMarked => format!(
                "INSERT INTO outbox (event_type, aggregate_id, destination, payload) VALUES ({event_type}, {key}, {}, {payload})",
                text(&row.destination)
            ),
            Self::Seed => format!(
                "INSERT INTO outbox (event_type, payload, created_at, sent) VALUES ({event_type}, {payload}, CURRENT_TIMESTAMP, false)"
            ),
            Self::SeedWithState => format!(
                "INSERT INTO outbox (event_type, payload, created_at, sent, aggregate_id) VALUES ({event_type}, {payload}, CURRENT_TIMESTAMP, false, {key})"
            ),
            Self::Debezium | Self::DebeziumKept => {
                // In descending order, so that nobody takes them for one.
                let id = u64::MAX - IDS.fetch_add(1, Ordering::Relaxed);
                let id = format!("{:08X}-0000-4000-8000-{:012X}", id >> 32, id & 0xffff_ffff);
                format!(
                    "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload) VALUES ('{id}', 'order', {key}, {event_type}, {payload})"
                )
            }
        }
    }

    fn options(self, state: Option<Database>) -> OutboxOptions {
        OutboxOptions {
            settlement: match self {
                Self::OursMarked | Self::DebeziumKept => Some(Settlement::Mark),
                _ => None,
            },
            mapping: ColumnMapping {
                order: self.is_debezium().then(|| "seq".to_owned()),
                ..ColumnMapping::default()
            },
            state,
            ..OutboxOptions::default()
        }
    }

    fn shape(self) -> Shape {
        match self {
            Self::Ours | Self::OursMarked => Shape::Tidings,
            Self::Seed | Self::SeedWithState => Shape::Seed,
            Self::Debezium | Self::DebeziumKept => Shape::Debezium,
        }
    }
}

const TABLES: [&str; 5] = [
    "outbox",
    "tidings_schema",
    "tidings_relay_outbox",
    "tidings_relay_lease",
    "tidings_relay_note",
];

async fn fresh(place: Arc<Place>, variant: Variant) -> store::Place {
    for table in TABLES {
        place.run(&format!("DROP TABLE IF EXISTS {table}")).await;
    }
    if variant.is_ours() {
        schema::migrate(&place.database, &[Part::Outbox])
            .await
            .unwrap();
    } else {
        place.run(&variant.table(place.database.kind())).await;
    }
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let state = if variant == Variant::SeedWithState {
        let url = format!("sqlite://{}/relay.db", folder.path().display());
        let options = DatabaseOptions {
            create: true,
            ..DatabaseOptions::default()
        };
        Some(Database::open(&url, &options).await.unwrap())
    } else {
        None
    };
    let store = place::open(&place.database, variant.options(state.clone()))
        .await
        .unwrap();
    let beside = place::open(&place.database, variant.options(state))
        .await
        .unwrap();
    assert_eq!(store.shape(), variant.shape());
    assert!(store.name().ends_with("#outbox"), "{}", store.name());
    store::Place {
        store: Box::new(store),
        beside: Box::new(beside),
        insert: Arc::new(move |rows| {
            let (place, folder) = (Arc::clone(&place), Arc::clone(&folder));
            Box::pin(async move {
                let _kept = folder;
                for row in &rows {
                    place.run(&variant.insert(row)).await;
                }
            })
        }),
        has_keys: variant != Variant::Seed,
        has_destinations: variant.is_ours(),
        is_ours: variant.is_ours(),
        has_floor: !variant.is_debezium(),
    }
}

async fn run(kind: Kind, variant: Variant) {
    let Some(place) = Place::fresh(kind, &format!("conformance_{variant:?}").to_lowercase()).await
    else {
        return;
    };
    let place = Arc::new(place);
    store::outbox_store(&|_| Box::pin(fresh(Arc::clone(&place), variant))).await;
}

#[tokio::test]
async fn our_table_in_sqlite() {
    run(Kind::Sqlite, Variant::Ours).await;
    run(Kind::Sqlite, Variant::OursMarked).await;
}

#[tokio::test]
async fn our_table_in_postgres() {
    run(Kind::Postgres, Variant::Ours).await;
    run(Kind::Postgres, Variant::OursMarked).await;
}

#[tokio::test]
async fn our_table_in_mariadb() {
    run(Kind::MySql, Variant::Ours).await;
    run(Kind::MySql, Variant::OursMarked).await;
}

#[tokio::test]
async fn the_seeds_table_in_sqlite() {
    run(Kind::Sqlite, Variant::Seed).await;
    run(Kind::Sqlite, Variant::SeedWithState).await;
}

#[tokio::test]
async fn the_seeds_table_in_postgres() {
    run(Kind::Postgres, Variant::Seed).await;
    run(Kind::Postgres, Variant::SeedWithState).await;
}

#[tokio::test]
async fn the_seeds_table_in_mariadb() {
    run(Kind::MySql, Variant::Seed).await;
    run(Kind::MySql, Variant::SeedWithState).await;
}

#[tokio::test]
async fn debeziums_table_in_sqlite() {
    run(Kind::Sqlite, Variant::Debezium).await;
    run(Kind::Sqlite, Variant::DebeziumKept).await;
}

#[tokio::test]
async fn debeziums_table_in_postgres() {
    run(Kind::Postgres, Variant::Debezium).await;
    run(Kind::Postgres, Variant::DebeziumKept).await;
}

#[tokio::test]
async fn debeziums_table_in_mariadb() {
    run(Kind::MySql, Variant::Debezium).await;
    run(Kind::MySql, Variant::DebeziumKept).await;
}
