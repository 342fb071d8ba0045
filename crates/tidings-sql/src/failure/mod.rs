//! What groups could not handle yet, in a database: parked deliveries, attempts, dead letters.

mod action;
mod apply;
mod circuit;
mod decide;
mod delivery;
mod filter;
mod group;
mod letters;
mod plan;
mod policy;
mod read;
mod waiting;

pub use action::ActionRecord;

use self::decide::whoever_is_in_the_way;
use crate::changing::Changing;
use crate::database::Database;
use crate::dialect::Dialect;
use crate::error::Access;
use crate::many::ManyStatement;
use crate::publish::Outbox;
use crate::schema::{self, Part};
use crate::statement::Statement;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::store::{
    DeadLetterStore, Decision, Due, FailureChange, FailureState, FailureStore, ForeignLetter,
    LaneId, Letter, LetterCluster, LetterFilter, LetterTally, OpenCircuit, Operator,
    OperatorAction, ParkedDelivery, PausedGroup, RedriveOutcome, StoreError, Verdict, Waiting,
    WaitingFilter,
};
use tidings_core::{BoxFuture, DedupeKey, Envelope};

/// The store of parked deliveries and dead letters in a database. Clones are the same one.
///
/// **Guarantee**: what is answered is committed; a dead letter, its parked key and the fact about it become true together.
///
/// **Source**: seed concept *dead letter topic*.
#[derive(Clone)]
pub struct Failures {
    inner: Arc<Inner>,
    /// Where facts go; `None` is the table `outbox` without special settings.
    outbox: Option<Outbox>,
}

struct Inner {
    database: Database,
    statements: Statements,
}

struct Statements {
    attempt: ManyStatement,
    forget_attempt: ManyStatement,
    attempts: Statement,
    park: ManyStatement,
    parked_change: Statement,
    lane_of: ManyStatement,
    unpark: ManyStatement,
    head_of: ManyStatement,
    lock_heads: ManyStatement,
    head_due: ManyStatement,
    resolve_letter: ManyStatement,
    letter_again: Statement,
    letter_new: ManyStatement,
    lanes: Statement,
    decisions: Statement,
    decided: Statement,
    due: Statement,
    due_next: Statement,
    paused: Statement,
    rows: Statement,
    deaths: ManyStatement,
    histories: ManyStatement,
    first_noted: ManyStatement,
    lead: Statement,
    leader: Statement,
    lead_first: Statement,
}

impl Statements {
    fn new(dialect: &Dialect) -> Self {
        let of = |template| Statement::new(dialect, template, &[]);
        let many = |template| ManyStatement::new(dialect, template, &[]);
        Self {
            attempt: many(include_str!("../../sql/failure/attempt.sql")),
            forget_attempt: many(include_str!("../../sql/failure/forget_attempt.sql")),
            attempts: of(include_str!("../../sql/failure/attempts.sql")),
            park: many(include_str!("../../sql/failure/park.sql")),
            parked_change: of(dialect.parked_change),
            lane_of: many(include_str!("../../sql/failure/lane_of.sql")),
            unpark: many(include_str!("../../sql/failure/unpark.sql")),
            head_of: many(include_str!("../../sql/failure/head_of.sql")),
            lock_heads: many(include_str!("../../sql/failure/lock_heads.sql")),
            head_due: many(include_str!("../../sql/failure/head_due.sql")),
            resolve_letter: many(include_str!("../../sql/failure/resolve_letter.sql")),
            letter_again: of(include_str!("../../sql/failure/letter_again.sql")),
            letter_new: many(include_str!("../../sql/failure/letter_new.sql")),
            lanes: of(include_str!("../../sql/failure/lanes.sql")),
            decisions: of(include_str!("../../sql/failure/decisions.sql")),
            decided: of(include_str!("../../sql/failure/decided.sql")),
            due: of(include_str!("../../sql/failure/due.sql")),
            due_next: of(include_str!("../../sql/failure/due_next.sql")),
            paused: of(include_str!("../../sql/failure/paused.sql")),
            rows: of(include_str!("../../sql/failure/rows.sql")),
            deaths: many(include_str!("../../sql/failure/deaths.sql")),
            histories: many(include_str!("../../sql/failure/histories.sql")),
            first_noted: many(include_str!("../../sql/failure/first_noted.sql")),
            lead: of(include_str!("../../sql/failure/lead.sql")),
            leader: of(include_str!("../../sql/failure/leader.sql")),
            lead_first: of(include_str!("../../sql/failure/lead_first.sql")),
        }
    }
}

impl Failures {
    /// The store in a database.
    ///
    /// **Errors**: [`StoreError::TableMissing`] with the way to make it; [`StoreError::SchemaNewer`]; [`StoreError::ShapeWrong`] where the server is too old; a database that is down.
    ///
    /// **Cancel**: no effect.
    pub async fn open(database: &Database) -> Result<Self, StoreError> {
        schema::installed(database, Part::Failure).await?;
        let failures = Self {
            inner: Arc::new(Inner {
                database: database.clone(),
                statements: Statements::new(database.dialect()),
            }),
            outbox: None,
        };
        failures.due("", 1).await?;
        if database.kind() != crate::Kind::Sqlite {
            // Tables of an older version would do until something is due, and then for nothing.
            let access = Access {
                table: "tidings_leader",
                ..access()
            };
            let probe = "SELECT epoch FROM tidings_leader WHERE 1 = 0";
            database.fetch(probe, &[], &access).await?;
        }
        Ok(failures)
    }

    /// Puts facts into this outbox, which must be in the same database, and tells its relays after the commit. Without it the table is `outbox`, and a relay
    /// finds the facts at its next poll.
    #[must_use]
    pub fn with_outbox(mut self, outbox: Outbox) -> Self {
        self.outbox = Some(outbox);
        self
    }

    /// What persons did, the newest ones at most, in the order in which they did it: to one group, or to all and to scheduled events. What was decided about a dead letter has its event as the target.
    ///
    /// **Errors**: a database that does not answer.
    ///
    /// **Cancel**: no effect.
    pub async fn newest_actions(
        &self,
        group: Option<&str>,
        limit: u32,
    ) -> Result<Vec<OperatorAction>, StoreError> {
        self.read_newest_actions(group, limit).await
    }

    /// Records what a person did elsewhere: to a group on its broker, for example. The time is that of the store.
    ///
    /// **Errors**: a database that does not take it; an [ambiguous](StoreError::may_have_happened) one may have.
    ///
    /// **Cancel**: it may be recorded.
    pub async fn record_action(&self, action: &ActionRecord<'_>) -> Result<(), StoreError> {
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        action.write(&mut changing).await?;
        changing.commit().await
    }

    /// The outbox that facts go into, where one was [given](Self::with_outbox).
    pub fn outbox(&self) -> Option<&Outbox> {
        self.outbox.as_ref()
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.inner.database
    }

    fn statements(&self) -> &Statements {
        &self.inner.statements
    }
}

impl fmt::Debug for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failures")
            .field(&self.inner.database.name())
            .finish()
    }
}

impl FailureStore for Failures {
    fn name(&self) -> &str {
        self.inner.database.name()
    }

    fn is_shared(&self) -> bool {
        self.inner.database.kind() != crate::Kind::Sqlite
    }

    fn state<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<FailureState, StoreError>> {
        Box::pin(self.read_state(group))
    }

    fn apply<'a>(
        &'a self,
        group: &'a str,
        changes: &'a [FailureChange],
    ) -> BoxFuture<'a, Result<Vec<usize>, StoreError>> {
        Box::pin(self.make(group, changes))
    }

    fn decisions<'a>(
        &'a self,
        group: &'a str,
    ) -> BoxFuture<'a, Result<HashMap<DedupeKey, Decision>, StoreError>> {
        Box::pin(self.read_decisions(group))
    }

    fn due<'a>(&'a self, group: &'a str, limit: u32) -> BoxFuture<'a, Result<Due, StoreError>> {
        Box::pin(self.read_due(group, limit))
    }

    fn rows<'a>(
        &'a self,
        group: &'a str,
        lane: LaneId,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<ParkedDelivery>, StoreError>> {
        Box::pin(self.read_rows(group, lane, limit))
    }

    fn tell_circuit<'a>(
        &'a self,
        group: &'a str,
        circuit: Option<&'a OpenCircuit>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.note_circuit(group, circuit))
    }

    fn tell_attempts_max<'a>(
        &'a self,
        group: &'a str,
        attempts: u32,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.note_attempts_max(group, attempts))
    }

    fn deaths<'a>(
        &'a self,
        group: &'a str,
        events: &'a [DedupeKey],
    ) -> BoxFuture<'a, Result<Vec<u32>, StoreError>> {
        Box::pin(self.read_deaths(group, events))
    }

    fn lead<'a>(
        &'a self,
        group: &'a str,
        owner: &'a str,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        Box::pin(self.take_lead(group, owner, lease))
    }
}

impl DeadLetterStore for Failures {
    fn name(&self) -> &str {
        self.inner.database.name()
    }

    fn letters<'a>(
        &'a self,
        filter: &'a LetterFilter,
        after: i64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Letter>, StoreError>> {
        Box::pin(self.read_letters(filter, after, limit))
    }

    fn clusters<'a>(
        &'a self,
        filter: &'a LetterFilter,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<LetterCluster>, StoreError>> {
        Box::pin(self.read_clusters(filter, limit))
    }

    fn tally<'a>(
        &'a self,
        filter: &'a LetterFilter,
        after: i64,
    ) -> BoxFuture<'a, Result<Vec<LetterTally>, StoreError>> {
        Box::pin(self.read_tally(filter, after))
    }

    fn redrive<'a>(
        &'a self,
        verdicts: &'a [Verdict],
        run: &'a str,
        operator: &'a Operator,
    ) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        Box::pin(whoever_is_in_the_way(move || {
            self.hand_back(verdicts, run, operator)
        }))
    }

    fn outcome<'a>(&'a self, run: &'a str) -> BoxFuture<'a, Result<RedriveOutcome, StoreError>> {
        Box::pin(self.read_outcome(run))
    }

    fn discard<'a>(
        &'a self,
        verdicts: &'a [Verdict],
        operator: &'a Operator,
    ) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        Box::pin(whoever_is_in_the_way(move || {
            self.give_up(verdicts, operator)
        }))
    }

    fn edit<'a>(
        &'a self,
        verdict: &'a Verdict,
        copy: &'a Envelope,
        operator: &'a Operator,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(whoever_is_in_the_way(move || {
            self.put_copy(verdict, copy, operator)
        }))
    }

    fn take_over<'a>(
        &'a self,
        letters: &'a [ForeignLetter],
        operator: &'a Operator,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(whoever_is_in_the_way(move || self.take(letters, operator)))
    }

    fn taken_up_to<'a>(
        &'a self,
        source: &'a str,
    ) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        Box::pin(self.read_taken(source))
    }

    fn note_taken<'a>(
        &'a self,
        source: &'a str,
        up_to: u64,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.keep_taken(source, up_to))
    }

    fn actions<'a>(
        &'a self,
        target: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<OperatorAction>, StoreError>> {
        Box::pin(self.read_actions(target, limit))
    }

    fn waiting<'a>(
        &'a self,
        filter: &'a WaitingFilter,
        after: i64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Waiting>, StoreError>> {
        Box::pin(self.read_waiting(filter, after, limit))
    }

    fn retry_now<'a>(
        &'a self,
        filter: &'a WaitingFilter,
        operator: &'a Operator,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(self.make_due(filter, operator))
    }

    fn paused(&self) -> BoxFuture<'_, Result<Vec<PausedGroup>, StoreError>> {
        Box::pin(self.read_paused())
    }

    fn circuit<'a>(
        &'a self,
        group: &'a str,
    ) -> BoxFuture<'a, Result<Option<OpenCircuit>, StoreError>> {
        Box::pin(self.read_circuit(group))
    }

    fn set_paused<'a>(
        &'a self,
        group: &'a str,
        paused: bool,
        operator: &'a Operator,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(whoever_is_in_the_way(move || {
            self.pause(group, paused, operator)
        }))
    }
}

fn hex(key: DedupeKey) -> String {
    uuid::Uuid::from_bytes(*key.as_bytes()).simple().to_string()
}

fn access() -> Access<'static> {
    Access {
        table: "tidings_parked",
        privileges: "SELECT, INSERT, UPDATE, DELETE",
        remedy: "tidings dlq migrate",
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;
    use crate::dialect::{Kind, SQLITE};

    use sqlx::{AssertSqlSafe, Connection as _, Row as _};

    /// With a hundred thousand rows each change walked through all of them, and through the list of changes for each: nine events a second.
    #[tokio::test]
    async fn a_parked_row_is_changed_by_its_id() {
        let mut connection = sqlx::SqliteConnection::connect("sqlite::memory:")
            .await
            .unwrap();
        let ddl = schema::ddl(Kind::Sqlite, Part::Failure).unwrap();
        sqlx::raw_sql(AssertSqlSafe(ddl))
            .execute(&mut connection)
            .await
            .unwrap();
        let statement = Statement::new(&SQLITE, SQLITE.parked_change, &[]);
        let explain = format!("EXPLAIN QUERY PLAN {}", statement.sql());

        let steps = sqlx::query(AssertSqlSafe(explain))
            .fetch_all(&mut connection)
            .await
            .unwrap();

        let steps: Vec<String> = steps.iter().map(|step| step.get("detail")).collect();
        let by_id = "SEARCH tidings_parked USING INTEGER PRIMARY KEY (rowid=?)";
        assert_eq!(steps.last().map(String::as_str), Some(by_id), "{steps:?}");
    }
}
