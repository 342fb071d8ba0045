//! An application of a group on a real broker, a process of its own, each of whose handlings has its effect in PostgreSQL in the transaction of the inbox; who publishes to it; and the books in
//! which its effects must stand once, for each key in the order in which they were published.

mod application;
mod publisher;

pub(crate) use application::{Application, Bug, Way, is_played};
pub(crate) use publisher::Publisher;

use crate::table::Table;
use application::{POISON, POISON_FIRST};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidings::prelude::*;

/// Guards the processors: one group whose processes are stopped or killed at a time, each has several programs, and servers, to itself.
static ONE: Mutex<()> = Mutex::new(());

/// Waits for its turn.
pub(crate) fn one_at_a_time() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rounds of events that may be published and not handled.
const AHEAD: u64 = 20;
const LOOK: Duration = Duration::from_millis(20);

/// The group.
pub(crate) const GROUP: &str = "counting";

/// One more of a key; the events of a key are numbered from one.
#[derive(Debug, Clone, Event, Serialize, Deserialize)]
#[event(type = "item.counted", version = 1, key = "lane")]
pub(crate) struct ItemCounted {
    pub(crate) lane: String,
    pub(crate) n: u64,
}

/// The key of that number.
pub(crate) fn lane(number: usize) -> String {
    format!("k{number:02}")
}

/// Opens books in an empty database, with the tables of inbox and failures beside them.
pub(crate) fn open(books: &Table, lanes: usize) {
    books.migrate();
    books.run(
        "CREATE TABLE progress (lane TEXT PRIMARY KEY, n BIGINT NOT NULL);
         CREATE TABLE effect (at BIGSERIAL PRIMARY KEY, lane TEXT NOT NULL, n BIGINT NOT NULL, worker TEXT NOT NULL);
         CREATE TABLE attempt (at BIGSERIAL PRIMARY KEY, lane TEXT NOT NULL, n BIGINT NOT NULL, attempt BIGINT NOT NULL, worker TEXT NOT NULL);
         CREATE TABLE violation (what TEXT NOT NULL)",
    );
    let rows: Vec<String> = (0..lanes)
        .map(|number| format!("('{}', 0)", lane(number)))
        .collect();
    let rows = rows.join(", ");
    books.run(&format!("INSERT INTO progress (lane, n) VALUES {rows}"));
}

/// The effect of an event. One that comes twice, or out of order, is found by the number of the one before it.
fn effect_of(item: &ItemCounted, worker: &str) -> String {
    let ItemCounted { lane, n } = item;
    format!(
        "SELECT n FROM progress WHERE lane = '{lane}' FOR UPDATE;
         INSERT INTO violation (what) SELECT '{lane} {n} by {worker} is not the next of ' || n FROM progress WHERE lane = '{lane}' AND n <> {n} - 1;
         UPDATE progress SET n = {n} WHERE lane = '{lane}';
         INSERT INTO effect (lane, n, worker) VALUES ('{lane}', {n}, '{worker}')"
    )
}

/// What was found wrong so far.
pub(crate) fn violations(books: &Table) -> Vec<String> {
    books.texts("SELECT what FROM violation")
}

/// Effects in all.
pub(crate) fn effects(books: &Table) -> u64 {
    books.number("SELECT COUNT(*) FROM effect") as u64
}

/// Each event of each key has one effect, in the order in which they were published.
pub(crate) fn assert_exact(books: &Table, published: &[u64]) {
    assert_eq!(violations(books), Vec::<String>::new());
    for (number, count) in published.iter().enumerate() {
        let lane = lane(number);
        let made = books.texts(&format!(
            "SELECT CAST(n AS TEXT) FROM effect WHERE lane = '{lane}' ORDER BY at"
        ));
        let each: Vec<String> = (1..=*count).map(|n| n.to_string()).collect();
        assert_eq!(made, each, "the effects of {lane}");
    }
}

/// Each event that handlers give up was a dead letter before it had its effect.
pub(crate) fn assert_poison_was_given_up(books: &Table, accepted: u64, lanes: usize) {
    let given_up = books.texts(&format!(
        "SELECT e.lane || '-' || e.n FROM effect e WHERE e.n % {POISON} = {POISON_FIRST} AND EXISTS (SELECT 1 FROM tidings_dead_letter d WHERE d.event_id = e.lane || '-' || e.n AND d.redrives > 1)"
    ));
    let expected = (1..=accepted)
        .filter(|n| n % POISON == POISON_FIRST)
        .count()
        * lanes;
    assert!(expected > 0, "too few events to tell");
    assert_eq!(given_up.len(), expected, "{given_up:?}");
}

/// The attempts at an event that was never given up are counted on, whoever makes them.
pub(crate) fn assert_attempts_grow(books: &Table) {
    let went_back = books.texts(
        "SELECT lane || '-' || n || ': ' || attempt || ' by ' || worker || ' after ' || before FROM (SELECT *, LAG(attempt || ' by ' || worker) OVER w AS before, LAG(attempt) OVER w AS earlier FROM attempt WINDOW w AS (PARTITION BY lane, n ORDER BY at)) a
         WHERE attempt < earlier AND NOT EXISTS (SELECT 1 FROM tidings_dead_letter d WHERE d.event_id = a.lane || '-' || a.n)",
    );
    assert_eq!(went_back, Vec::<String>::new());
}

/// How far every key is. Lets the publisher be a little ahead of that: a busy machine gets no backlog that it cannot work off.
pub(crate) fn feed(books: &Table, publisher: &Publisher) -> u64 {
    // The books are there for the handlers in the first place.
    std::thread::sleep(LOOK);
    let done = books.number("SELECT MIN(n) FROM progress") as u64;
    publisher.allow(done + AHEAD);
    done
}
