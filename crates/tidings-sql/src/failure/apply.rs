//! Changes, all of a call in one transaction.

use super::delivery::{begins_late, joined, put_first};
use super::plan::{self, Count, Known, Plan, RowChange, micros, plans};
use super::{Failures, access};
use crate::changing::Changing;
use crate::dialect::Kind;
use crate::driver::{Bind, Row};
use crate::many::{self, Values};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;
use tidings_core::limits::SQL_MANY_BYTES_MAX;
use tidings_core::store::{FailureChange, StoreError};
use tidings_core::{Envelope, Timestamp};

/// The epoch of the first who leads a group.
const FIRST_EPOCH: u64 = 1;

impl Failures {
    /// Answers the indexes of the changes that came to nothing.
    pub(super) async fn make(
        &self,
        group: &str,
        changes: &[FailureChange],
    ) -> Result<Vec<usize>, StoreError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        let epoch = self.epoch_for(&mut changing, group, changes).await?;
        let counts = |change: &FailureChange| {
            plan::needs_lead(change).is_none_or(|lead| Some(lead) == epoch)
        };
        let all = changes.iter().enumerate();
        let (counting, former): (Vec<_>, Vec<_>) = all.partition(|(_, change)| counts(change));
        let leaving = plan::leaving(counting.iter().map(|(_, change)| *change));
        let known = self.known(&mut changing, group, &leaving).await?;
        let plan::Plans { plans, mut nothing } = plans(group, counting.into_iter(), known);
        nothing.extend(former.into_iter().map(|(index, _)| index));
        let mut has_facts = false;
        for plan in plans {
            has_facts |= self.carry_out(&mut changing, group, plan).await?;
        }
        changing.commit().await?;
        if let (true, Some(outbox)) = (has_facts, &self.outbox) {
            outbox.wake();
        }
        Ok(nothing)
    }

    /// The epoch of the lead of a group, if any of the changes counts only from who leads. Nobody else takes the lead before they are made.
    async fn epoch_for(
        &self,
        changing: &mut Changing<'_>,
        group: &str,
        changes: &[FailureChange],
    ) -> Result<Option<u64>, StoreError> {
        let mut leads = changes.iter().filter_map(plan::needs_lead);
        if leads.next().is_none() {
            return Ok(None);
        }
        let consumer = [("consumer", Bind::text(group))];
        let leader = &self.statements().leader;
        let epoch = changing.fetch(leader, &consumer).await?;
        Ok(epoch.first().map(|row| row.count(0)))
    }

    /// Takes the lead of a group, or keeps it.
    pub(super) async fn take_lead(
        &self,
        group: &str,
        owner: &str,
        lease: Duration,
    ) -> Result<Option<u64>, StoreError> {
        let statements = self.statements();
        let values = [
            ("consumer", Bind::text(group)),
            ("owner", Bind::text(owner)),
            ("lease", Bind::Int(micros(lease))),
        ];
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        let leads = changing.execute(&statements.lead, &values).await? > 0;
        let known = changing.fetch(&statements.leader, &values).await?;
        let Some(epoch) = known.first().map(|row| row.count(0)) else {
            let first = changing.execute(&statements.lead_first, &values).await;
            if let Err(StoreError::Database { .. } | StoreError::Conflict { .. }) = first {
                // Another instance was quicker.
                return Ok(None);
            }
            first?;
            changing.commit().await?;
            return Ok(Some(FIRST_EPOCH));
        };
        changing.commit().await?;
        Ok(leads.then_some(epoch))
    }

    /// What there is of some rows.
    async fn known(
        &self,
        changing: &mut Changing<'_>,
        group: &str,
        rows: &[i64],
    ) -> Result<HashMap<i64, Known>, StoreError> {
        let consumer = [("consumer", Bind::text(group))];
        let lane_of = &self.statements().lane_of;
        let asked = numbers("id", rows);
        let found = changing.fetch_many(lane_of, &consumer, &asked).await?;
        let known = found.into_iter().filter_map(|mut row| {
            let known = Known {
                lane: row.text(1)?,
                event: row.text(2)?,
                letter: row.text(3),
            };
            Some((row.int(0)?, known))
        });
        Ok(known.collect())
    }

    /// Whether it states facts.
    async fn carry_out(
        &self,
        changing: &mut Changing<'_>,
        group: &str,
        mut plan: Plan,
    ) -> Result<bool, StoreError> {
        let statements = self.statements();
        let consumer = [("consumer", Bind::text(group))];
        self.tell_first(changing, &consumer, &mut plan).await?;
        // Dead letters come first: whether a head may be due depends on them.
        let letters = std::mem::take(&mut plan.letters);
        let ended = self.record(changing, &consumer, letters).await?;
        plan.end(&ended);
        let facts = plan.take_facts();
        let park = &statements.park;
        changing.execute_many(park, &[], &plan.parked).await?;
        self.change_rows(changing, group, &plan.changed).await?;
        let resolve = &statements.resolve_letter;
        let handled = texts("letter", plan.handled_letters);
        changing.execute_many(resolve, &[], &handled).await?;
        let unpark = &statements.unpark;
        let gone = texts("event_key", plan.gone);
        changing.execute_many(unpark, &consumer, &gone).await?;
        self.advance(changing, group, plan.lanes).await?;
        self.count(changing, group, plan.attempts).await?;
        self.state_facts(changing, &facts).await?;
        Ok(!facts.is_empty())
    }

    /// Puts the first attempt, of which the time was noted, before those of a process that began in the middle: how old an event is counts from there.
    async fn tell_first(
        &self,
        changing: &mut Changing<'_>,
        consumer: &[(&str, Bind)],
        plan: &mut Plan,
    ) -> Result<(), StoreError> {
        let letters = plan.letters.iter_mut().map(|(_, values)| values);
        let late = plan.parked.iter_mut().chain(letters);
        let late: Vec<(String, &mut Values)> = late.filter_map(begins_late).collect();
        if late.is_empty() {
            return Ok(());
        }
        let asked = texts("event_key", late.iter().map(|(event, _)| event.clone()));
        let first_noted = &self.statements().first_noted;
        let noted = changing.fetch_many(first_noted, consumer, &asked).await?;
        let noted: HashMap<String, i64> = noted
            .into_iter()
            .filter_map(|mut row| Some((row.text(0)?, row.int(1)?)))
            .collect();
        for (event, values) in late {
            if let Some(at) = noted.get(&event) {
                put_first(values, Timestamp::from_micros(*at));
            }
        }
        Ok(())
    }

    /// Records dead letters: those that the store has die again. Answers the events to which a person has put an end while their rows were being tried.
    async fn record(
        &self,
        changing: &mut Changing<'_>,
        consumer: &[(&str, Bind)],
        letters: Vec<(String, Values)>,
    ) -> Result<HashSet<String>, StoreError> {
        let statements = self.statements();
        let asked = texts("event_key", letters.iter().map(|(event, _)| event.clone()));
        let histories = &statements.histories;
        let known = changing.fetch_many(histories, consumer, &asked).await?;
        let known: HashMap<String, String> = known
            .into_iter()
            .filter_map(|mut row| Some((row.text(0)?, row.text(1)?)))
            .collect();
        let mut new = Vec::with_capacity(letters.len());
        let mut ended = HashSet::new();
        for (event, mut letter) in letters {
            let Some(before) = known.get(&event) else {
                new.push(letter);
                continue;
            };
            for (_, value) in letter.iter_mut().filter(|(name, _)| *name == "history") {
                if let Bind::Text(Some(since)) = value {
                    *since = joined(before, since);
                }
            }
            let again = &statements.letter_again;
            if changing.execute(again, &letter).await? == 0 {
                ended.insert(event);
            }
        }
        let letter_new = &statements.letter_new;
        changing.execute_many(letter_new, &[], &new).await?;
        Ok(ended)
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
    ///
    /// Another transaction may be taking away what is seen as the head, and does not see what this one has put behind it: then neither would make that due. So heads are locked, and looked for again
    /// where one was gone by then.
    async fn advance(
        &self,
        changing: &mut Changing<'_>,
        group: &str,
        lanes: BTreeSet<String>,
    ) -> Result<(), StoreError> {
        let statements = self.statements();
        let consumer = [("consumer", Bind::text(group))];
        let lanes = texts("lane", lanes);
        let has_one_writer = self.inner.database.kind() == Kind::Sqlite;
        loop {
            let head_of = &statements.head_of;
            let seen = ids(&changing.fetch_many(head_of, &consumer, &lanes).await?);
            let heads = if has_one_writer || seen.is_empty() {
                seen.clone()
            } else {
                let asked = numbers("id", &seen);
                let lock = &statements.lock_heads;
                ids(&changing.fetch_many(lock, &consumer, &asked).await?)
            };
            let head_due = &statements.head_due;
            changing
                .execute_many(head_due, &consumer, &numbers("id", &heads))
                .await?;
            if heads.len() >= seen.len() {
                return Ok(());
            }
        }
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
        for chunk in chunks(self.inner.database.kind(), facts) {
            changing.publish(self.outbox.as_ref(), chunk).await?;
        }
        Ok(())
    }
}

/// Facts in numbers for which there is a statement already, where its text depends on their number.
fn chunks(kind: Kind, facts: &[Envelope]) -> impl Iterator<Item = &[Envelope]> {
    let mut rest = facts;
    std::iter::from_fn(move || {
        let fits = many::sizes().find(|size| *size <= rest.len())?;
        let taken = if kind == Kind::Postgres {
            rest.len()
        } else {
            fits
        };
        let (chunk, after) = rest.split_at(taken);
        rest = after;
        Some(chunk)
    })
}

/// The numbers that rows begin with.
pub(super) fn ids(rows: &[Row]) -> Vec<i64> {
    rows.iter().filter_map(|row| row.int(0)).collect()
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
