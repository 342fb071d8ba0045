//! Changes, all of a call in one transaction.

use super::plan::{Count, Plan, RowChange, micros, plans};
use super::{Failures, access};
use crate::changing::Changing;
use crate::driver::Bind;
use crate::many::Values;
use crate::publish::publish_plainly;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;
use tidings_core::Envelope;
use tidings_core::limits::SQL_MANY_BYTES_MAX;
use tidings_core::store::{FailureChange, StoreError};

impl Failures {
    pub(super) async fn make(
        &self,
        group: &str,
        changes: &[FailureChange],
    ) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        // Before the transaction, for which others may wait.
        let plans = plans(group, changes);
        let facts = plans.iter().any(|plan| !plan.facts.is_empty());
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        for plan in plans {
            self.carry_out(&mut changing, group, plan).await?;
        }
        changing.commit().await?;
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
            ("lease", Bind::Int(micros(lease))),
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

    async fn carry_out(
        &self,
        changing: &mut Changing<'_>,
        group: &str,
        plan: Plan,
    ) -> Result<(), StoreError> {
        let statements = self.statements();
        let consumer = [("consumer", Bind::text(group))];
        // Dead letters come first: whether a head may be due depends on them.
        self.record(changing, &consumer, plan.letters).await?;
        let park = &statements.park;
        changing.execute_many(park, &[], &plan.parked).await?;
        self.change_rows(changing, group, &plan.changed).await?;
        let mut lanes = plan.lanes;
        let finished = numbers("id", &plan.finished);
        let found = changing
            .fetch_many(&statements.lane_of, &consumer, &finished)
            .await?;
        let mut handed_back = Vec::new();
        // What is not there was finished before, by the same changes whose answer was lost.
        for mut row in found {
            lanes.extend(row.text(0));
            handed_back.extend(row.text(1));
        }
        let handed_back = texts("letter", handed_back);
        let resolve = &statements.resolve_letter;
        changing.execute_many(resolve, &[], &handed_back).await?;
        let unpark = &statements.unpark;
        changing.execute_many(unpark, &consumer, &finished).await?;
        let given_up = numbers("id", &plan.given_up);
        changing.execute_many(unpark, &consumer, &given_up).await?;
        self.advance(changing, group, lanes).await?;
        self.count(changing, group, plan.attempts).await?;
        self.state_facts(changing, &plan.facts).await
    }

    /// Records dead letters: those that the store has die again.
    async fn record(
        &self,
        changing: &mut Changing<'_>,
        consumer: &[(&str, Bind)],
        letters: Vec<(String, Values)>,
    ) -> Result<(), StoreError> {
        let statements = self.statements();
        let asked = texts("event_key", letters.iter().map(|(event, _)| event.clone()));
        let deaths = &statements.deaths;
        let known = changing.fetch_many(deaths, consumer, &asked).await?;
        let known: HashSet<String> = known
            .into_iter()
            .filter_map(|mut row| row.text(0))
            .collect();
        let mut new = Vec::with_capacity(letters.len());
        for (event, letter) in letters {
            if known.contains(&event) {
                changing.execute(&statements.letter_again, &letter).await?;
            } else {
                new.push(letter);
            }
        }
        let letter_new = &statements.letter_new;
        changing.execute_many(letter_new, &[], &new).await
    }

    async fn change_rows(
        &self,
        changing: &mut Changing<'_>,
        group: &str,
        changes: &[RowChange],
    ) -> Result<(), StoreError> {
        let mut rest = changes;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|change| {
                bytes += change.bytes();
                bytes <= SQL_MANY_BYTES_MAX
            });
            // A single row that is larger goes alone.
            let (chunk, after) = rest.split_at(fits.count().max(1));
            rest = after;
            let rows: Vec<serde_json::Value> = chunk.iter().map(RowChange::json).collect();
            let values = [
                ("consumer", Bind::text(group)),
                (
                    "rows",
                    Bind::text(serde_json::Value::Array(rows).to_string()),
                ),
            ];
            let statement = &self.statements().parked_change;
            changing.execute(statement, &values).await?;
        }
        Ok(())
    }

    /// Lets the heads of lanes be due that nothing holds and that wait for no time of their own.
    async fn advance(
        &self,
        changing: &mut Changing<'_>,
        group: &str,
        lanes: BTreeSet<String>,
    ) -> Result<(), StoreError> {
        let statements = self.statements();
        let consumer = [("consumer", Bind::text(group))];
        let lanes = texts("lane", lanes);
        let heads = changing
            .fetch_many(&statements.head_of, &consumer, &lanes)
            .await?;
        let heads: Vec<i64> = heads.iter().filter_map(|row| row.int(0)).collect();
        let head_due = &statements.head_due;
        changing
            .execute_many(head_due, &consumer, &numbers("id", &heads))
            .await
    }

    async fn count(
        &self,
        changing: &mut Changing<'_>,
        group: &str,
        counts: BTreeMap<String, Count>,
    ) -> Result<(), StoreError> {
        let statements = self.statements();
        let consumer = [("consumer", Bind::text(group))];
        let forgotten = counts.iter().filter(|(_, count)| count.forgotten);
        let forgotten = texts("event_key", forgotten.map(|(event, _)| event.clone()));
        let forget = &statements.forget_attempt;
        changing.execute_many(forget, &consumer, &forgotten).await?;
        let noted = counts.into_iter().filter_map(|(event, count)| {
            Some(vec![
                ("consumer", Bind::text(group)),
                ("event_key", Bind::text(event)),
                ("attempts", Bind::Int(count.noted?.into())),
            ])
        });
        let noted: Vec<Values> = noted.collect();
        let attempt = &statements.attempt;
        changing.execute_many(attempt, &[], &noted).await
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

/// Rows of one number each.
fn numbers(name: &'static str, of: &[i64]) -> Vec<Values> {
    of.iter()
        .map(|number| vec![(name, Bind::Int(*number))])
        .collect()
}

/// Rows of one text each.
pub(super) fn texts(name: &'static str, of: impl IntoIterator<Item = String>) -> Vec<Values> {
    of.into_iter()
        .map(|text| vec![(name, Bind::text(text))])
        .collect()
}
