//! Events that are published later, in a database: taken in the caller's own transaction where that is wanted, fired into the outbox.

use crate::changing::Changing;
use crate::database::{Database, answered};
use crate::driver::{Bind, Connection, Row};
use crate::error::{Access, Moment, is_duplicate, nameless_error, store_error};
use crate::failure::ActionRecord;
use crate::publish::Outbox;
use crate::schema::{self, Part};
use crate::statement::Statement;
use crate::transaction::InTransaction;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::store::{
    DueEvents, Firing, Operator, Recurrence, ScheduleStore, ScheduledEvent, StoreError,
};
use tidings_core::{BoxFuture, Timestamp, envelope_json};

/// Scheduled events in a database. Clones are the same store.
///
/// **Guarantee**: an event that is due goes into the outbox once, whatever crashes and however many instances look; a relay carries it on from there.
///
/// **Source**: seed concept *temporal decoupling*.
#[derive(Clone)]
pub struct Schedules {
    inner: Arc<Inner>,
    /// Where fired events go; `None` is the table `outbox` without special settings.
    outbox: Option<Outbox>,
}

struct Inner {
    database: Database,
    add: Statement,
    cancel: Statement,
    reschedule: Statement,
    list: Statement,
    due: Statement,
    next: Statement,
    forget: Statement,
    advance: Statement,
}

impl Schedules {
    /// The scheduled events of a database.
    ///
    /// **Errors**: [`StoreError::TableMissing`] with the way to make it; [`StoreError::SchemaNewer`]; [`StoreError::ShapeWrong`] where the server is too old; a database that is down.
    ///
    /// **Cancel**: no effect.
    pub async fn open(database: &Database) -> Result<Self, StoreError> {
        schema::installed(database, Part::Schedule).await?;
        let of = |template| Statement::new(database.dialect(), template, &[]);
        let schedules = Self {
            inner: Arc::new(Inner {
                database: database.clone(),
                add: of(include_str!("../sql/schedule/add.sql")),
                cancel: of(include_str!("../sql/schedule/cancel.sql")),
                reschedule: of(include_str!("../sql/schedule/reschedule.sql")),
                list: of(include_str!("../sql/schedule/list.sql")),
                due: of(include_str!("../sql/schedule/due.sql")),
                next: of(include_str!("../sql/schedule/next.sql")),
                forget: of(include_str!("../sql/schedule/forget.sql")),
                advance: of(include_str!("../sql/schedule/advance.sql")),
            }),
            outbox: None,
        };
        schedules.due(0).await?;
        Ok(schedules)
    }

    /// Puts what fires into this outbox, which must be in the same database, and tells its relays after the commit. Without it the table is `outbox`, and a relay
    /// finds the events at its next poll.
    #[must_use]
    pub fn with_outbox(mut self, outbox: Outbox) -> Self {
        self.outbox = Some(outbox);
        self
    }

    /// Takes an event in the caller's own transaction: it fires if that is committed; `false` if one with this id is there already.
    ///
    /// **Errors**: as every statement of the transaction.
    ///
    /// **Cancel**: the row may be in the transaction.
    pub async fn add_in(
        &self,
        tx: &mut impl InTransaction,
        scheduled: &ScheduledEvent,
    ) -> Result<bool, StoreError> {
        let added = self.insert(&mut tx.connection(), scheduled).await;
        added.map_err(|error| nameless_error(self.name(), &error, Moment::InTransaction, &access()))
    }

    /// As [`cancel`](ScheduleStore::cancel), with a record of who did it and why in the table that [`Failures`](crate::Failures) keeps for such.
    ///
    /// **Errors**: as every change; [`StoreError::TableMissing`] where there is no such table, and then nothing is cancelled.
    ///
    /// **Cancel**: it may be cancelled.
    pub async fn cancel_by(&self, id: &str, operator: &Operator) -> Result<bool, StoreError> {
        let action = ActionRecord {
            action: "schedule_cancel",
            group: None,
            target: id,
            operator,
            detail: "{}",
        };
        let values = [("id", Bind::text(id))];
        self.change_by(&self.inner.cancel, &values, &action).await
    }

    /// As [`reschedule`](ScheduleStore::reschedule), with a record as of [`cancel_by`](Self::cancel_by).
    ///
    /// **Errors**, **Cancel**: as [`cancel_by`](Self::cancel_by).
    pub async fn reschedule_by(
        &self,
        id: &str,
        due: Timestamp,
        operator: &Operator,
    ) -> Result<bool, StoreError> {
        let detail = serde_json::json!({ "due": due.to_string() }).to_string();
        let action = ActionRecord {
            action: "schedule_move",
            group: None,
            target: id,
            operator,
            detail: &detail,
        };
        let values = [("id", Bind::text(id)), ("due", Bind::Int(due.as_micros()))];
        self.change_by(&self.inner.reschedule, &values, &action)
            .await
    }

    async fn change_by(
        &self,
        statement: &Statement,
        values: &[(&str, Bind)],
        action: &ActionRecord<'_>,
    ) -> Result<bool, StoreError> {
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        if changing.execute(statement, values).await? == 0 {
            return Ok(false);
        }
        action.write(&mut changing).await?;
        changing.commit().await?;
        Ok(true)
    }

    async fn insert(
        &self,
        connection: &mut Connection<'_>,
        scheduled: &ScheduledEvent,
    ) -> Result<bool, sqlx::Error> {
        let recurrence = scheduled.recurrence.as_ref();
        let binds = self.inner.add.binds(&[
            ("id", Bind::text(scheduled.id.clone())),
            ("due", Bind::Int(scheduled.due.as_micros())),
            ("cron", Bind::Text(recurrence.map(|r| r.cron.clone()))),
            (
                "time_zone",
                Bind::Text(recurrence.map(|r| r.time_zone.clone())),
            ),
            (
                "envelope",
                Bind::text(envelope_json::to_json(&scheduled.event)),
            ),
        ]);
        match connection.execute(self.inner.add.sql(), &binds).await {
            Ok(rows) => Ok(rows > 0),
            // MySQL has no insert that is silent about this and about nothing else.
            Err(error) if is_duplicate(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn ask(
        &self,
        statement: &Statement,
        values: &[(&str, Bind)],
    ) -> Result<Vec<Row>, StoreError> {
        let binds = statement.binds(values);
        let database = &self.inner.database;
        database.fetch(statement.sql(), &binds, &access()).await
    }

    async fn change(
        &self,
        statement: &Statement,
        values: &[(&str, Bind)],
    ) -> Result<bool, StoreError> {
        let binds = statement.binds(values);
        let database = &self.inner.database;
        let changed = database.change(statement.sql(), &binds, &access()).await?;
        Ok(changed > 0)
    }

    async fn read_due(&self, limit: u32) -> Result<DueEvents, StoreError> {
        let clock = self.ask(&self.inner.next, &[]).await?;
        let clock = clock.first();
        let now = clock.and_then(|row| row.int(0)).unwrap_or(0);
        let next = clock.and_then(|row| row.int(1));
        let events = match next {
            Some(next) if next <= now => {
                let values = [("now", Bind::Int(now)), ("limit", Bind::Int(limit.into()))];
                let rows = self.ask(&self.inner.due, &values).await?;
                rows.into_iter().map(read).collect::<Result<_, _>>()?
            }
            _ => Vec::new(),
        };
        let wait = |next: i64| Duration::from_micros(u64::try_from(next - now).unwrap_or(0));
        Ok(DueEvents {
            now: Timestamp::from_micros(now),
            events,
            next_in: next.map(wait),
        })
    }

    async fn make_fire(&self, firing: &Firing<'_>) -> Result<bool, StoreError> {
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        let scheduled = firing.scheduled;
        let mut values = vec![
            ("id", Bind::text(scheduled.id.clone())),
            ("due", Bind::Int(scheduled.due.as_micros())),
            (
                "fired",
                Bind::Int(i64::try_from(scheduled.fired).unwrap_or(i64::MAX)),
            ),
        ];
        let statement = match firing.next {
            None => &self.inner.forget,
            Some(next) => {
                values.push(("next", Bind::Int(next.as_micros())));
                &self.inner.advance
            }
        };
        if changing.execute(statement, &values).await? == 0 {
            return Ok(false);
        }
        let events = std::slice::from_ref(firing.event);
        changing.publish(self.outbox.as_ref(), events).await?;
        changing.commit().await?;
        if let Some(outbox) = &self.outbox {
            outbox.wake();
        }
        Ok(true)
    }
}

fn read(mut row: Row) -> Result<ScheduledEvent, StoreError> {
    let id = row.text(0).unwrap_or_default();
    let json = row.text(4).unwrap_or_default();
    let event =
        envelope_json::from_json(json.as_bytes()).map_err(|error| StoreError::ShapeWrong {
            subject: format!("the row {id:?} of tidings_schedule"),
            fault: format!("its envelope cannot be read: {error}"),
            remedy: format!("it was changed by somebody else; run: tidings schedule cancel {id}"),
        })?;
    let (fired, fired_last) = (row.count(5), row.int(6));
    let recurrence = match (row.text(2), row.text(3)) {
        (Some(cron), time_zone) => Some(Recurrence {
            cron,
            time_zone: time_zone.unwrap_or_else(|| "UTC".to_owned()),
        }),
        (None, _) => None,
    };
    Ok(ScheduledEvent {
        id,
        due: Timestamp::from_micros(row.int(1).unwrap_or(0)),
        recurrence,
        event,
        fired,
        fired_last: fired_last.map(Timestamp::from_micros),
    })
}

impl fmt::Debug for Schedules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schedules").field(&self.name()).finish()
    }
}

impl ScheduleStore for Schedules {
    fn name(&self) -> &str {
        self.inner.database.name()
    }

    fn add<'a>(&'a self, scheduled: &'a ScheduledEvent) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let database = &self.inner.database;
            let _turn = database.turn_in_time().await;
            let mut held = database.acquire().await?;
            let limit = database.answer_timeout();
            let added = answered(limit, self.insert(&mut held.connection(), scheduled)).await;
            held.used(added.as_ref().err());
            added.map_err(|error| store_error(database, &error, Moment::Changing, &access()))
        })
    }

    fn cancel<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            self.change(&self.inner.cancel, &[("id", Bind::text(id))])
                .await
        })
    }

    fn reschedule<'a>(
        &'a self,
        id: &'a str,
        due: Timestamp,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let values = [("id", Bind::text(id)), ("due", Bind::Int(due.as_micros()))];
            self.change(&self.inner.reschedule, &values).await
        })
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<ScheduledEvent>, StoreError>> {
        Box::pin(async move {
            let values = [
                ("after", Bind::text(after.unwrap_or_default())),
                ("limit", Bind::Int(limit.into())),
            ];
            let rows = self.ask(&self.inner.list, &values).await?;
            rows.into_iter().map(read).collect()
        })
    }

    fn due(&self, limit: u32) -> BoxFuture<'_, Result<DueEvents, StoreError>> {
        Box::pin(self.read_due(limit))
    }

    fn fire<'a>(&'a self, firing: &'a Firing<'a>) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.make_fire(firing))
    }
}

fn access() -> Access<'static> {
    Access {
        table: "tidings_schedule",
        privileges: "SELECT, INSERT, UPDATE, DELETE",
        remedy: "tidings schedule migrate",
    }
}
