//! Changes, all of a call in one transaction.

use super::delivery::{self, columns, number, plain};
use super::{Failures, access, hex};
use crate::changing::Changing;
use crate::driver::Bind;
use crate::publish::publish_plainly;
use std::time::Duration;
use tidings_core::store::{DeathRecord, FailureChange, ParkedDelivery, ParkedId, StoreError};
use tidings_core::{DedupeKey, Envelope};

impl Failures {
    pub(super) async fn make(
        &self,
        group: &str,
        changes: &[FailureChange],
    ) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        for change in changes {
            self.change(&mut changing, group, change).await?;
        }
        changing.commit().await?;
        let facts = changes
            .iter()
            .any(|change| matches!(change, FailureChange::Bury(_)));
        if let (true, Some(outbox)) = (facts, &self.outbox) {
            outbox.wake();
        }
        Ok(())
    }

    /// Takes the lead of a group, or keeps it.
    pub(super) async fn take_lead(
        &self,
        group: &str,
        owner: &str,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        let statements = self.statements();
        let values = [
            ("consumer", Bind::text(group)),
            ("owner", Bind::text(owner)),
            ("lease", micros(lease)),
        ];
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        if changing.execute(&statements.lead, &values).await? == 0 {
            let known = changing.fetch(&statements.leader, &values).await?;
            if !known.is_empty() {
                changing.commit().await?;
                return Ok(false);
            }
            let first = changing.execute(&statements.lead_first, &values).await;
            if let Err(StoreError::Database { .. } | StoreError::Conflict { .. }) = first {
                // Another instance was quicker.
                return Ok(false);
            }
            first?;
        }
        changing.commit().await?;
        Ok(true)
    }

    async fn change(
        &self,
        changing: &mut Changing<'_>,
        group: &str,
        change: &FailureChange,
    ) -> Result<(), StoreError> {
        let statements = self.statements();
        match change {
            FailureChange::Attempted { event, attempts } => {
                let values = [
                    ("consumer", Bind::text(group)),
                    ("event_key", Bind::text(hex(*event))),
                    ("attempts", Bind::Int((*attempts).into())),
                ];
                changing.execute(&statements.attempt, &values).await?;
            }
            FailureChange::Succeeded { event } => self.forget(changing, group, *event).await?,
            FailureChange::Park { deliveries, due_in } => {
                for (index, delivery) in deliveries.iter().enumerate() {
                    let due_in = due_in.filter(|_| index == 0);
                    self.park(changing, group, delivery, due_in, None).await?;
                    let event = DedupeKey::of(&delivery.envelope);
                    self.forget(changing, group, event).await?;
                }
                // Behind nothing, because a person took away what was there, it is next.
                if let (None, Some(first)) = (due_in, deliveries.first()) {
                    self.advance(changing, group, first.lane.to_string())
                        .await?;
                }
            }
            FailureChange::Postpone {
                id,
                attempts,
                rounds,
                history,
                due_in,
            } => {
                let values = [
                    ("consumer", Bind::text(group)),
                    ("id", Bind::Int(id.0)),
                    ("attempts", Bind::Int((*attempts).into())),
                    ("rounds", Bind::Int((*rounds).into())),
                    ("history", delivery::history(history)),
                    ("due_in", micros(*due_in)),
                ];
                changing.execute(&statements.postpone, &values).await?;
            }
            FailureChange::Finish { id } => self.finish(changing, group, *id).await?,
            FailureChange::Bury(record) => self.bury(changing, group, record).await?,
        }
        Ok(())
    }

    async fn forget(
        &self,
        changing: &mut Changing<'_>,
        group: &str,
        event: DedupeKey,
    ) -> Result<(), StoreError> {
        let values = [
            ("consumer", Bind::text(group)),
            ("event_key", Bind::text(hex(event))),
        ];
        let forget = &self.statements().forget_attempt;
        changing.execute(forget, &values).await?;
        Ok(())
    }

    async fn park(
        &self,
        changing: &mut Changing<'_>,
        group: &str,
        delivery: &ParkedDelivery,
        due_in: Option<Duration>,
        letter: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut values = columns(delivery);
        values.push(("consumer", Bind::text(group)));
        values.push(("due_in", Bind::IntOrNull(due_in.map(count))));
        values.push(("letter", Bind::Text(letter.map(str::to_owned))));
        changing.execute(&self.statements().park, &values).await?;
        Ok(())
    }

    /// Takes a row away, and lets the next one of its lane be due.
    async fn finish(
        &self,
        changing: &mut Changing<'_>,
        group: &str,
        id: ParkedId,
    ) -> Result<(), StoreError> {
        let statements = self.statements();
        let row = [("consumer", Bind::text(group)), ("id", Bind::Int(id.0))];
        let found = changing.fetch(&statements.lane_of, &row).await?;
        // Finished before, by the same changes whose answer was lost.
        let Some(mut found) = found.into_iter().next() else {
            return Ok(());
        };
        let lane = found.text(0).unwrap_or_default();
        if let Some(letter) = found.text(2) {
            let values = [("letter", Bind::text(letter))];
            changing
                .execute(&statements.resolve_letter, &values)
                .await?;
        }
        changing.execute(&statements.unpark, &row).await?;
        self.advance(changing, group, lane).await
    }

    async fn advance(
        &self,
        changing: &mut Changing<'_>,
        group: &str,
        lane: String,
    ) -> Result<(), StoreError> {
        let statements = self.statements();
        let values = [("consumer", Bind::text(group)), ("lane", Bind::text(lane))];
        let head = changing.fetch(&statements.head_of, &values).await?;
        if let Some(head) = head.first().and_then(|row| row.int(0)) {
            let values = [("consumer", Bind::text(group)), ("id", Bind::Int(head))];
            changing.execute(&statements.head_due, &values).await?;
        }
        Ok(())
    }

    async fn bury(
        &self,
        changing: &mut Changing<'_>,
        group: &str,
        record: &DeathRecord,
    ) -> Result<(), StoreError> {
        let statements = self.statements();
        let delivery = &record.delivery;
        let letter = letter(group, record);
        if changing.execute(&statements.letter_again, &letter).await? == 0 {
            changing.execute(&statements.letter_new, &letter).await?;
        }
        self.forget(changing, group, DedupeKey::of(&delivery.envelope))
            .await?;
        let is_parked = delivery.id != ParkedId(0);
        match (is_parked, record.holds) {
            (true, true) => {
                let values = [
                    ("consumer", Bind::text(group)),
                    ("id", Bind::Int(delivery.id.0)),
                    ("attempts", Bind::Int(delivery.attempts.into())),
                    ("rounds", Bind::Int(delivery.rounds.into())),
                    ("deaths", Bind::Int(i64::from(delivery.deaths) + 1)),
                    ("history", delivery::history(&delivery.history)),
                    ("letter", Bind::text(record.id.clone())),
                ];
                changing.execute(&statements.hold, &values).await?;
            }
            (false, true) => {
                let mut held = delivery.clone();
                held.deaths = held.deaths.saturating_add(1);
                self.park(changing, group, &held, None, Some(&record.id))
                    .await?;
            }
            (true, false) => {
                let row = [
                    ("consumer", Bind::text(group)),
                    ("id", Bind::Int(delivery.id.0)),
                ];
                changing.execute(&statements.unpark, &row).await?;
                self.advance(changing, group, delivery.lane.to_string())
                    .await?;
            }
            (false, false) => {}
        }
        let facts = std::slice::from_ref(&record.fact);
        self.state_facts(changing, facts).await
    }

    /// Puts facts into the outbox of the transaction.
    pub(super) async fn state_facts(
        &self,
        changing: &mut Changing<'_>,
        facts: &[Envelope],
    ) -> Result<(), StoreError> {
        match &self.outbox {
            Some(outbox) => outbox.publish_on(&mut changing.connection(), facts).await,
            None => publish_plainly(&mut changing.connection(), facts).await,
        }
    }
}

fn micros(span: Duration) -> Bind {
    Bind::Int(count(span))
}

fn count(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 2)
}

/// The columns of a dead letter.
fn letter(group: &str, record: &DeathRecord) -> Vec<(&'static str, Bind)> {
    let delivery = &record.delivery;
    let envelope = &delivery.envelope;
    let reasons: Vec<String> = record.reasons.iter().map(|reason| plain(reason)).collect();
    let first_failed = delivery.history.first();
    let first_failed = first_failed.map(|failed| u64::try_from(failed.at.as_micros()).unwrap_or(0));
    let mut values = columns(delivery);
    // The first death counts as one.
    values.retain(|(name, _)| *name != "deaths");
    values.extend([
        ("deaths", Bind::Int(i64::from(delivery.deaths) + 1)),
        ("id", Bind::text(record.id.clone())),
        ("consumer", Bind::text(group)),
        (
            "aggregate_id",
            Bind::Text(envelope.aggregate_id().map(str::to_owned)),
        ),
        ("correlation_id", Bind::text(envelope.correlation_id())),
        ("handler", Bind::text(record.handler.clone())),
        ("code_version", Bind::text(record.code_version.clone())),
        ("cause", Bind::text(record.cause.as_str())),
        (
            "reason",
            Bind::text(reasons.first().cloned().unwrap_or_default()),
        ),
        (
            "reasons",
            Bind::text(serde_json::to_string(&reasons).unwrap_or_default()),
        ),
        ("fingerprint", Bind::text(record.fingerprint.clone())),
        ("holds", Bind::Int(record.holds.into())),
        ("first_failed_us", number(first_failed)),
    ]);
    values
}
