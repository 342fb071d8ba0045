//! A ledger of transfers between accounts, through outbox, relay, log, inbox, outbox again, and another inbox, while everything that takes part is killed and cut off.
//!
//! Producers commit transfers with their events; some transactions are rolled back on purpose, some take back a savepoint, some events are published twice. The relays are `tidings relay run`, the
//! consumers handle each event once (`book`), emit a second one, and handle that in batches (`audit`). All of them are processes that are killed with SIGKILL by chance, and their connections to the
//! database are cut, half open, frozen, slow, or lose the answers of commits. In the end the books must agree to the cent, with one effect for each committed transfer and none for any other.
//!
//! `TIDINGS_TEST_TRANSFERS` sets the number of transfers, `TIDINGS_TEST_SEED` repeats what a failure printed.

mod books;
mod crew;
mod desk;
mod log;
mod roles;

use crate::command::{Place, is_quick};
use crate::table::{Kind, Table};
use crew::Crew;
use roles::{Bug, Orders};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const TRANSFERS: u64 = 10_000;
const TRANSFERS_QUICK: u64 = 1_000;
const TRANSFERS_BUG: u64 = 600;
/// One fault for so many transfers, and no more in a long run: after each killed relay the others wait for the end of its lease.
const TRANSFERS_BETWEEN_FAULTS: u64 = 250;
const FAULTS_MAX: u64 = 400;

/// Guards the processors: one ledger at a time.
static ONE: Mutex<()> = Mutex::new(());

fn number(variable: &str) -> Option<u64> {
    let given = std::env::var(variable).ok()?;
    let parsed = given.parse();
    Some(parsed.unwrap_or_else(|_| panic!("{variable} is a whole number, not {given:?}")))
}

/// One run of a ledger. The name of a test is how its processes find it.
fn run(table: &Table, test: &'static str, transfers: u64, bug: Option<Bug>) {
    let seed = number("TIDINGS_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("{test}: TIDINGS_TEST_SEED={seed} TIDINGS_TEST_TRANSFERS={transfers}");
    let place = Place::new();
    let began = Instant::now();
    books::open(table);

    let mut crew = Crew::start(table, &place.data(), test, transfers, seed, bug);
    let deadline = Duration::from_secs(300) + Duration::from_millis(40) * transfers as u32;
    let faults = (transfers / TRANSFERS_BETWEEN_FAULTS).min(FAULTS_MAX);
    crew.work(faults, deadline);
    let worked = began.elapsed();
    let done = crew.finish();

    books::assert_balanced(table, transfers);
    let found = log::compare(table, &place.data(), transfers);
    eprintln!("{test}: {transfers} transfers in {worked:.1?}, {found:?}, {done:?}");
    assert!(
        found.doubles > 0,
        "nothing was doubled, so that nothing is shown"
    );
}

fn ledger_on(kind: Kind, test: &'static str) {
    if let Some(orders) = Orders::given() {
        return orders.carry_out();
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(table) = Table::fresh(kind, "ledger") {
        let usual = if is_quick() {
            TRANSFERS_QUICK
        } else {
            TRANSFERS
        };
        let transfers = number("TIDINGS_TEST_TRANSFERS").unwrap_or(usual);
        run(&table, test, transfers, None);
    }
}

/// A ledger with a planted bug, which has to be found.
fn finds(bug: Bug, test: &'static str, words: &str) {
    if let Some(orders) = Orders::given() {
        return orders.carry_out();
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let table = Table::fresh(Kind::Sqlite, "ledger").unwrap();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        run(&table, test, TRANSFERS_BUG, Some(bug))
    }));
    let said = ended.expect_err("the planted bug was not found");
    let said = said.downcast_ref::<String>().map_or("", String::as_str);
    assert!(said.contains(words), "found something else: {said}");
}

#[test]
fn an_effect_without_an_inbox_row_is_found() {
    let test = "ledger::an_effect_without_an_inbox_row_is_found";
    finds(Bug::EffectWithoutInbox, test, "is not the next of");
}

#[test]
fn an_event_that_is_published_outside_of_a_transaction_taken_back_is_found() {
    let test = "ledger::an_event_that_is_published_outside_of_a_transaction_taken_back_is_found";
    finds(Bug::EventOutsideTransaction, test, "phantom");
}

#[test]
fn transfers_are_exact_on_sqlite_whatever_is_killed() {
    ledger_on(
        Kind::Sqlite,
        "ledger::transfers_are_exact_on_sqlite_whatever_is_killed",
    );
}

#[cfg(feature = "postgres")]
#[test]
fn transfers_are_exact_on_postgres_whatever_is_killed_or_cut_off() {
    let test = "ledger::transfers_are_exact_on_postgres_whatever_is_killed_or_cut_off";
    ledger_on(Kind::Postgres, test);
}

#[cfg(feature = "mysql")]
#[test]
fn transfers_are_exact_on_mariadb_whatever_is_killed_or_cut_off() {
    let test = "ledger::transfers_are_exact_on_mariadb_whatever_is_killed_or_cut_off";
    ledger_on(Kind::MariaDb, test);
}
