//! The suites of stores: [`failures`], whole [`stories`] over those, and here that of [`OutboxStore`]: each guarantee of the port is a check that panics with what was broken.

mod dead;
pub mod failures;
mod lease;
mod listing;
mod reading;
mod settling;
pub mod stories;

use std::sync::Arc;
use std::time::Duration;
use tidings_core::BoxFuture;
use tidings_core::store::{Burial, OutboxRow, OutboxStore, RowId, Shard, UnsentQuery};

/// A row as an application writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRow {
    /// The event type.
    pub event_type: String,
    /// What order is kept by.
    pub key: Option<String>,
    /// Topic or lane; left out where the table has none.
    pub destination: String,
    /// The payload.
    pub payload: String,
}

impl NewRow {
    /// A row of a key.
    pub fn of(key: impl Into<Option<&'static str>>) -> Self {
        Self {
            event_type: "order.placed".to_owned(),
            key: key.into().map(str::to_owned),
            destination: String::new(),
            payload: "{\"n\": 1}".to_owned(),
        }
    }

    /// The same row to another destination.
    pub fn to(mut self, destination: &str) -> Self {
        destination.clone_into(&mut self.destination);
        self
    }
}

/// Writes rows, one transaction each, with plain SQL.
pub type InsertRows = Arc<dyn Fn(Vec<NewRow>) -> BoxFuture<'static, ()> + Send + Sync>;

/// A fresh outbox under test.
pub struct Place {
    /// The outbox.
    pub store: Box<dyn OutboxStore>,
    /// The same outbox, as another process opens it.
    pub beside: Box<dyn OutboxStore>,
    /// Writes rows.
    pub insert: InsertRows,
    /// Whether the table has keys.
    pub has_keys: bool,
    /// Whether the table has destinations.
    pub has_destinations: bool,
    /// Whether the table is ours: rows that are discarded or pruned are gone.
    pub is_ours: bool,
    /// Whether a floor is respected: rows have growing numbers.
    pub has_floor: bool,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place")
            .field("name", &self.store.name())
            .finish_non_exhaustive()
    }
}

/// Makes a fresh outbox for the check of that name.
pub type Fresh<'a> = &'a (dyn Fn(&'static str) -> BoxFuture<'a, Place> + Sync);

type Check = (&'static str, fn(Place) -> BoxFuture<'static, ()>);

const CHECKS: &[Check] = &[
    (
        "rows_come_in_the_order_in_which_they_were_written",
        |place| Box::pin(reading::order(place)),
    ),
    ("an_answer_says_whether_it_was_cut", |place| {
        Box::pin(reading::cut(place))
    }),
    ("a_row_has_the_same_event_at_every_reading", |place| {
        Box::pin(reading::repeats(place))
    }),
    (
        "a_row_without_an_event_is_told_and_stops_no_other",
        |place| Box::pin(reading::fault(place)),
    ),
    ("a_blocked_key_is_left_out_and_nothing_else", |place| {
        Box::pin(reading::blocked(place))
    }),
    ("rows_and_destinations_are_left_out", |place| {
        Box::pin(reading::excluded(place))
    }),
    ("a_floor_leaves_out_what_is_not_above_it", |place| {
        Box::pin(reading::floor(place))
    }),
    ("shards_divide_the_keys", |place| {
        Box::pin(reading::shards(place))
    }),
    ("a_settled_row_is_not_read_again", |place| {
        Box::pin(settling::settled(place))
    }),
    (
        "a_failure_is_remembered_until_the_row_is_settled",
        |place| Box::pin(settling::failures(place)),
    ),
    ("the_status_counts_what_nobody_relays", |place| {
        Box::pin(settling::status(place))
    }),
    ("sent_rows_are_pruned_where_the_table_is_ours", |place| {
        Box::pin(settling::prune(place))
    }),
    ("every_row_is_listed_with_what_became_of_it", |place| {
        Box::pin(listing::states_listed(place))
    }),
    ("a_list_names_events_as_the_relay_publishes_them", |place| {
        Box::pin(listing::names(place))
    }),
    ("a_row_given_up_waits_for_a_person", |place| {
        Box::pin(dead::buried(place))
    }),
    (
        "what_stands_behind_a_row_given_up_waits_if_asked",
        |place| Box::pin(dead::held_behind(place)),
    ),
    ("a_discarded_row_is_not_read_again", |place| {
        Box::pin(dead::discarded(place))
    }),
    ("a_row_that_was_not_given_up_cannot_be_discarded", |place| {
        Box::pin(dead::alive(place))
    }),
    ("nothing_is_noted_by_one_whose_lease_is_over", |place| {
        Box::pin(lease::fence(place))
    }),
    ("a_shard_has_one_owner", |place| {
        Box::pin(lease::one_owner(place))
    }),
    (
        "a_lease_that_ran_out_goes_to_another_with_a_higher_epoch",
        |place| Box::pin(lease::runs_out(place)),
    ),
    ("two_divisions_do_not_relay_at_the_same_time", |place| {
        Box::pin(lease::divisions(place))
    }),
];

/// Runs every check of the suite, each on a fresh outbox.
///
/// # Panics
/// With the name of the check and what it found.
pub async fn outbox_store(fresh: Fresh<'_>) {
    for (name, check) in CHECKS {
        eprintln!("outbox store: {name}");
        check(fresh(name).await).await;
    }
}

/// Everything that is unsent.
pub fn everything() -> UnsentQuery {
    UnsentQuery {
        shard: Shard::WHOLE,
        floor: None,
        blocked_keys: Vec::new(),
        excluded_rows: Vec::new(),
        excluded_destinations: Vec::new(),
        hold_behind_dead: false,
        limit: 1_000,
    }
}

async fn read(store: &dyn OutboxStore, query: &UnsentQuery) -> Vec<OutboxRow> {
    store.unsent(query).await.unwrap().rows
}

async fn ids(store: &dyn OutboxStore) -> Vec<RowId> {
    let rows = read(store, &everything()).await;
    rows.iter().map(|row| row.id).collect()
}

fn ids_of(rows: &[OutboxRow]) -> Vec<RowId> {
    rows.iter().map(|row| row.id).collect()
}

/// Waits between two tries of something that another clock must allow.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

fn burial(row: RowId) -> Burial {
    Burial {
        row,
        attempts: 7,
        reason: "too large for the broker".to_owned(),
    }
}
