//! Scheduling through the front door: a typed event and a time in, a name out by which it is cancelled or moved.

use crate::{Error, Tidings};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tidings_core::extract::Draft;
use tidings_core::store::{Recurrence, ScheduleStore, ScheduledEvent, StoreError};
use tidings_core::{Event, Timestamp};
use tidings_flow::producer::Stamp;
use tidings_flow::schedule::{Scheduler, check, first_due};
use tidings_sql::{InTransaction, Schedules};

/// Events that are published later, kept in `state.db`. Whoever owns the data folder fires them; after a time without an owner, what is overdue fires at once.
///
/// **Guarantee**: what was taken fires once, not before its time, whatever crashes; unless it is cancelled before.
///
/// **Source**: seed concept *temporal decoupling*.
///
/// ```
/// use std::time::Duration;
/// use tidings::prelude::*;
///
/// #[derive(Event, Serialize, Deserialize)]
/// #[event(type = "payment.missed", key = "order_id")]
/// struct PaymentMissed { order_id: String }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let tidings = Tidings::open(folder.path()).await?;
/// let schedule = tidings.schedule().await?;
/// let event = PaymentMissed { order_id: "order-123".into() };
/// let reminder = schedule.after(Duration::from_secs(14 * 86_400), &event).await?;
/// // It was paid in time.
/// assert!(schedule.cancel(&reminder).await?);
/// # tidings.drain().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Schedule {
    tidings: Tidings,
    store: Schedules,
    /// Who fires here, if this process does.
    scheduler: Option<Weak<Scheduler>>,
}

impl Schedule {
    pub(crate) fn new(
        tidings: Tidings,
        store: Schedules,
        scheduler: Option<&Arc<Scheduler>>,
    ) -> Self {
        Self {
            tidings,
            store,
            scheduler: scheduler.map(Arc::downgrade),
        }
    }

    /// Publishes an event at a time, which may be past, and answers the name by which it is cancelled or moved: the id of the event.
    ///
    /// **Errors**: a value over its limit; a database that does not take it.
    ///
    /// **Cancel**: it may be scheduled.
    pub async fn at<E: Event>(&self, due: Timestamp, event: &E) -> Result<String, Error> {
        let scheduled = self.stamped(due, event)?;
        self.add(&scheduled).await?;
        Ok(scheduled.id)
    }

    /// Publishes an event after a time, counted by the clock of the store.
    ///
    /// **Errors**, **Cancel**: as [`at`](Self::at).
    pub async fn after<E: Event>(&self, wait: Duration, event: &E) -> Result<String, Error> {
        let now = self.store.due(1).await?.now;
        self.at(now.plus(wait), event).await
    }

    /// As [`at`](Self::at), in a transaction of the same database: it is scheduled if that is committed.
    ///
    /// **Errors**: as [`at`](Self::at).
    ///
    /// **Cancel**: the row may be in the transaction.
    pub async fn at_in<E: Event>(
        &self,
        tx: &mut impl InTransaction,
        due: Timestamp,
        event: &E,
    ) -> Result<String, Error> {
        let scheduled = self.stamped(due, event)?;
        self.store.add_in(tx, &scheduled).await?;
        Ok(scheduled.id)
    }

    /// Publishes an event again and again, under a name of your own: by a cron expression of five fields, or six with seconds first, in a time zone such as
    /// `Europe/Berlin` or `UTC`. `false` if that name is taken; then nothing changes, so that a program may say it at each start.
    ///
    /// What falls into a time in which nobody fires is made up for once. Each time has an id of its own, which repeats.
    ///
    /// **Errors**: an expression or a time zone that is none; else as [`at`](Self::at).
    ///
    /// **Cancel**: it may be scheduled.
    pub async fn every<E: Event>(
        &self,
        id: &str,
        cron: &str,
        time_zone: &str,
        event: &E,
    ) -> Result<bool, Error> {
        let recurrence = Recurrence {
            cron: cron.to_owned(),
            time_zone: time_zone.to_owned(),
        };
        let now = self.store.due(1).await?.now;
        let scheduled = ScheduledEvent {
            id: id.to_owned(),
            recurrence: Some(recurrence.clone()),
            ..self.stamped(first_due(&recurrence, now)?, event)?
        };
        self.add(&scheduled).await
    }

    /// Takes an event as it is; `false` if its name is taken.
    ///
    /// **Errors**: a name or an expression that breaks a rule; a database that does not take it.
    ///
    /// **Cancel**: it may be scheduled.
    pub async fn add(&self, scheduled: &ScheduledEvent) -> Result<bool, Error> {
        check(scheduled)?;
        let added = self.store.add(scheduled).await?;
        if let Some(scheduler) = self.scheduler.as_ref().and_then(Weak::upgrade) {
            scheduler.wake();
        }
        Ok(added)
    }

    /// Forgets an event; `false` if none of this name waits, or it has fired.
    ///
    /// **Errors**: a database that does not answer.
    ///
    /// **Cancel**: it may be cancelled.
    pub async fn cancel(&self, id: &str) -> Result<bool, Error> {
        Ok(self.store.cancel(id).await?)
    }

    /// Changes when an event is published next; `false` if none of this name waits, or it has fired.
    ///
    /// **Errors**, **Cancel**: as [`cancel`](Self::cancel).
    pub async fn reschedule(&self, id: &str, due: Timestamp) -> Result<bool, Error> {
        let moved = self.store.reschedule(id, due).await?;
        if let Some(scheduler) = self.scheduler.as_ref().and_then(Weak::upgrade) {
            scheduler.wake();
        }
        Ok(moved)
    }

    /// What waits, by name, behind a given one.
    ///
    /// **Errors**: a database that does not answer.
    ///
    /// **Cancel**: no effect.
    pub async fn list(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ScheduledEvent>, Error> {
        Ok(self.store.list(after, limit).await?)
    }

    fn stamped<E: Event>(&self, due: Timestamp, event: &E) -> Result<ScheduledEvent, Error> {
        let draft = Draft::of(event).map_err(|error| StoreError::Refused {
            reason: format!(
                "the payload of {} cannot be written as JSON: {error}",
                E::TYPE
            ),
        })?;
        let event = self.tidings.producer().stamp(draft, Stamp::default())?;
        Ok(ScheduledEvent {
            id: event.event_id().to_owned(),
            due,
            recurrence: None,
            event,
            fired: 0,
            fired_last: None,
        })
    }
}
