//! The books in a database: accounts, the transfers that were committed, and what became of them behind outbox, log and inbox.

use crate::table::{Kind, Table};
use tidings::prelude::*;

pub(super) const ACCOUNTS: u64 = 50;
const OPENING_BALANCE: u64 = 10_000;

/// Money went from one account to another; the transfers of a payer are numbered from one.
#[derive(Debug, Clone, Event, Serialize, Deserialize)]
#[event(type = "transfer.made", version = 1, key = "payer")]
pub(super) struct TransferMade {
    pub(super) transfer: String,
    pub(super) payer: String,
    pub(super) payee: String,
    pub(super) amount: u64,
    pub(super) seq: u64,
}

/// The transfer is in the second books.
#[derive(Debug, Clone, Event, Serialize, Deserialize)]
#[event(type = "transfer.booked", version = 1, key = "payer")]
pub(super) struct TransferBooked {
    pub(super) transfer: String,
    pub(super) payer: String,
    pub(super) seq: u64,
}

/// What a producer wants to happen in one transaction.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) producer: u64,
    /// The number of the first transfer within its producer.
    pub(super) first: u64,
    /// Payer, payee and amount of each.
    pub(super) transfers: Vec<(u64, u64, u64)>,
    pub(super) fate: Fate,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Commit,
    /// Everything is taken back.
    RollBack,
    /// One more event is published within a savepoint, which is taken back; the rest is committed.
    PhantomInSavepoint,
}

pub(super) fn account(number: u64) -> String {
    format!("a-{number:02}")
}

/// The opened books, all empty but for the opening balances.
pub(super) fn open(table: &Table) {
    table.migrate();
    table.run(
        "CREATE TABLE account (id VARCHAR(16) NOT NULL PRIMARY KEY, balance BIGINT NOT NULL, seq BIGINT NOT NULL);
         CREATE TABLE transfer (producer BIGINT NOT NULL, n BIGINT NOT NULL, payer VARCHAR(16) NOT NULL, seq BIGINT NOT NULL, event_id VARCHAR(64) NOT NULL, PRIMARY KEY (producer, n));
         CREATE TABLE shadow (id VARCHAR(16) NOT NULL PRIMARY KEY, balance BIGINT NOT NULL, seq BIGINT NOT NULL);
         CREATE TABLE booked (event_id VARCHAR(64) NOT NULL, transfer VARCHAR(32) NOT NULL);
         CREATE TABLE audited (id VARCHAR(16) NOT NULL PRIMARY KEY, seq BIGINT NOT NULL);
         CREATE TABLE audit (transfer VARCHAR(32) NOT NULL);
         CREATE TABLE violation (what VARCHAR(255) NOT NULL)",
    );
    let accounts: Vec<String> = (0..ACCOUNTS)
        .map(|number| format!("('{}', {OPENING_BALANCE}, 0)", account(number)))
        .collect();
    let accounts = accounts.join(", ");
    table.run(&format!(
        "INSERT INTO account (id, balance, seq) VALUES {accounts}"
    ));
    table.run(&format!(
        "INSERT INTO shadow (id, balance, seq) VALUES {accounts}"
    ));
    table.run("INSERT INTO audited (id, seq) SELECT id, 0 FROM account");
}

/// How many transfers have got how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) committed: u64,
    pub(super) booked: u64,
    pub(super) audited: u64,
}

impl Progress {
    pub(super) fn of(table: &Table) -> Self {
        let sums = ["account", "shadow", "audited"].map(|books| {
            let text = match table.kind {
                Kind::MariaDb => "CHAR",
                Kind::Sqlite | Kind::Postgres => "TEXT",
            };
            format!("SELECT CAST(SUM(seq) AS {text}) FROM {books}")
        });
        let sums = table.texts(&sums.join(" UNION ALL "));
        let sum = |at: usize| sums[at].parse().unwrap();
        Self {
            committed: sum(0),
            booked: sum(1),
            audited: sum(2),
        }
    }
}

/// The type to cast a sum to.
fn whole(kind: Kind) -> &'static str {
    match kind {
        Kind::MariaDb => "SIGNED",
        Kind::Sqlite | Kind::Postgres => "BIGINT",
    }
}

/// What the handlers themselves noticed.
pub(super) fn assert_no_violation(table: &Table) {
    let violations = table.texts("SELECT what FROM violation");
    assert!(violations.is_empty(), "{violations:?}");
}

/// The books agree: nothing was lost, doubled, invented or put out of order.
pub(super) fn assert_balanced(table: &Table, transfers: u64) {
    assert_no_violation(table);
    let number = |sql: &str| table.number(sql);
    let transfers = transfers as i64;
    let cast = whole(table.kind);
    assert_eq!(number("SELECT COUNT(*) FROM transfer"), transfers);
    let whole_sum = (ACCOUNTS * OPENING_BALANCE) as i64;
    for books in ["account", "shadow"] {
        let sum = format!("SELECT CAST(SUM(balance) AS {cast}) FROM {books}");
        assert_eq!(number(&sum), whole_sum, "the sum of {books}");
    }
    let differing = "SELECT COUNT(*) FROM account a JOIN shadow s ON s.id = a.id JOIN audited d ON d.id = a.id WHERE a.balance <> s.balance OR a.seq <> s.seq OR a.seq <> d.seq";
    assert_eq!(number(differing), 0, "accounts that differ");
    for (effects, what) in [("booked", "event_id"), ("audit", "transfer")] {
        let all = format!("SELECT COUNT(*) FROM {effects}");
        assert_eq!(number(&all), transfers, "effects in {effects}");
        let once = format!("SELECT COUNT(DISTINCT {what}) FROM {effects}");
        assert_eq!(number(&once), transfers, "different effects in {effects}");
    }
    let strange = "SELECT COUNT(*) FROM booked LEFT JOIN transfer ON transfer.event_id = booked.event_id WHERE transfer.event_id IS NULL";
    assert_eq!(
        number(strange),
        0,
        "effects of transfers that were never committed"
    );
}
