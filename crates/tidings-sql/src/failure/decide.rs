//! What persons decide of dead letters: each decision with its record and its fact in one transaction.

use super::apply::ids;
use super::delivery::{self, columns, plain};
use super::filter::{list, numbers};
use super::letters::status;
use super::{Failures, access, hex};
use crate::changing::Changing;
use crate::driver::Bind;
use std::collections::{BTreeSet, HashMap};
use tidings_core::store::{ForeignLetter, Operator, StoreError, Verdict};
use tidings_core::{DedupeKey, Envelope, envelope_json};

/// How often a decision is made at most that the database takes back because others are in its way.
const TRIES_MAX: u32 = 5;

/// Makes the decision of a person again when the database took it back because of others, such as the group itself: nothing was changed, and a person should not have to type it again.
pub(super) async fn whoever_is_in_the_way<T, Making>(
    make: impl Fn() -> Making,
) -> Result<T, StoreError>
where
    Making: Future<Output = Result<T, StoreError>>,
{
    for _ in 1..TRIES_MAX {
        match make().await {
            Err(StoreError::Conflict { .. }) => {}
            made => return made,
        }
    }
    make().await
}

impl Failures {
    pub(super) async fn hand_back(
        &self,
        verdicts: &[Verdict],
        run: &str,
        operator: &Operator,
    ) -> Result<Vec<String>, StoreError> {
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        let standing = self.standing(&mut changing, verdicts).await?;
        if standing.is_empty() {
            return Ok(standing);
        }
        let letters = list(&standing);
        let mark = "status = 'redriven', redrives = redrives + 1, redrive_run = :run, decided_by = :actor, decided_why = :reason, changed_us = {now}";
        let mut values = words(operator);
        values.extend([("run", Bind::text(run)), ("letters", letters.clone())]);
        self.mark_letters(&mut changing, mark, &values).await?;
        let rows = self.rows_of(&mut changing, &letters).await?;
        // What waited for the decision begins anew; its lane is told the letter by which it came back.
        let mark = "attempts = 0, rounds = 0, history = '[]', letter = (SELECT d.id FROM tidings_dead_letter AS d WHERE d.consumer = {row}.consumer AND d.event_key = {row}.event_key)";
        self.mark_rows(&mut changing, mark, &rows).await?;
        let park = include_str!("../../sql/failure/park_letters.sql");
        self.by_letters(&mut changing, park, &letters, &[]).await?;
        self.release(&mut changing, &letters).await?;
        let detail = serde_json::json!({ "run": run }).to_string();
        self.act(&mut changing, "redrive", &letters, operator, &detail)
            .await?;
        self.close(changing, verdicts, &standing).await?;
        Ok(standing)
    }

    pub(super) async fn give_up(
        &self,
        verdicts: &[Verdict],
        operator: &Operator,
    ) -> Result<Vec<String>, StoreError> {
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        let standing = self.standing(&mut changing, verdicts).await?;
        if standing.is_empty() {
            return Ok(standing);
        }
        let letters = list(&standing);
        let mark =
            "status = 'discarded', decided_by = :actor, decided_why = :reason, changed_us = {now}";
        let mut values = words(operator);
        values.push(("letters", letters.clone()));
        self.mark_letters(&mut changing, mark, &values).await?;
        let rows = self.rows_of(&mut changing, &letters).await?;
        let dialect = self.inner.database.dialect();
        let delete = self.statement(dialect.settle_delete, &self.parked(&self.numbers("rows")));
        let values = [("rows", numbers(&rows))];
        changing.execute(&delete, &values).await?;
        self.release(&mut changing, &letters).await?;
        self.act(&mut changing, "discard", &letters, operator, "{}")
            .await?;
        self.close(changing, verdicts, &standing).await?;
        Ok(standing)
    }

    pub(super) async fn put_copy(
        &self,
        verdict: &Verdict,
        copy: &Envelope,
        operator: &Operator,
    ) -> Result<bool, StoreError> {
        let verdicts = std::slice::from_ref(verdict);
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        let standing = self.standing(&mut changing, verdicts).await?;
        if standing.is_empty() {
            return Ok(false);
        }
        let letters = list(&standing);
        let json = envelope_json::to_json(copy);
        let mut values = words(operator);
        values.extend([
            ("letter", Bind::text(&verdict.letter)),
            ("edited", Bind::text(&json)),
            ("envelope", Bind::text(json)),
            ("event_key", Bind::text(hex(DedupeKey::of(copy)))),
            ("event_id", Bind::text(copy.event_id())),
            ("event_type", Bind::text(copy.event_type().to_string())),
        ]);
        let rows = self.rows_of(&mut changing, &letters).await?;
        let edit = include_str!("../../sql/failure/edit_letter.sql");
        changing
            .execute(&self.statement(edit, &[]), &values)
            .await?;
        let mut edited = 0;
        if let Some(row) = rows.first() {
            values.push(("id", Bind::Int(*row)));
            let edit = include_str!("../../sql/failure/edit_row.sql");
            let edit = self.statement(edit, &[]);
            edited = changing.execute(&edit, &values).await?;
        }
        // The group may have been done with the row since it was looked for.
        if edited == 0 {
            let park = include_str!("../../sql/failure/park_copy.sql");
            changing
                .execute(&self.statement(park, &[]), &values)
                .await?;
        }
        self.release(&mut changing, &letters).await?;
        let detail = serde_json::json!({ "copy": copy.event_id() }).to_string();
        self.act(&mut changing, "edit", &letters, operator, &detail)
            .await?;
        self.close(changing, verdicts, &standing).await?;
        Ok(true)
    }

    pub(super) async fn take(
        &self,
        letters: &[ForeignLetter],
        operator: &Operator,
    ) -> Result<u64, StoreError> {
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        let mut taken = Vec::new();
        for letter in letters {
            if self.take_one(&mut changing, letter).await? {
                taken.push(letter.id.clone());
            }
        }
        self.act(&mut changing, "take_over", &list(&taken), operator, "{}")
            .await?;
        changing.commit().await?;
        Ok(u64::try_from(taken.len()).unwrap_or(u64::MAX))
    }

    pub(super) async fn keep_taken(&self, source: &str, up_to: u64) -> Result<(), StoreError> {
        let note = include_str!("../../sql/failure/note_taken.sql");
        let values = [
            ("source", Bind::text(source)),
            ("up_to", delivery::number(Some(up_to))),
        ];
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        changing
            .execute(&self.statement(note, &[]), &values)
            .await?;
        changing.commit().await
    }

    async fn take_one(
        &self,
        changing: &mut Changing<'_>,
        letter: &ForeignLetter,
    ) -> Result<bool, StoreError> {
        let values = foreign(letter);
        let deaths = include_str!("../../sql/failure/deaths_locked.sql");
        let known = changing
            .fetch(&self.statement(deaths, &[]), &values)
            .await?;
        let template = match known.first().map(|row| row.count(0)) {
            None => include_str!("../../sql/failure/letter_taken.sql"),
            Some(known) if known <= u64::from(letter.delivery.deaths) => {
                include_str!("../../sql/failure/letter_taken_again.sql")
            }
            Some(_) => return Ok(false),
        };
        changing
            .execute(&self.statement(template, &[]), &values)
            .await?;
        Ok(true)
    }

    /// Those that still stand as they were found; nobody else decides on them until the transaction ends.
    async fn standing(
        &self,
        changing: &mut Changing<'_>,
        verdicts: &[Verdict],
    ) -> Result<Vec<String>, StoreError> {
        let wanted: HashMap<&str, &Verdict> = verdicts
            .iter()
            .map(|verdict| (verdict.letter.as_str(), verdict))
            .collect();
        let ids: Vec<String> = wanted.keys().map(|id| (*id).to_owned()).collect();
        let lock = include_str!("../../sql/failure/lock_letters.sql");
        let lock = lock.replace("{texts}", &self.texts("letters"));
        let lock = self.statement(&lock, &[]);
        let rows = changing.fetch(&lock, &[("letters", list(&ids))]).await?;
        let mut standing = Vec::new();
        for mut row in rows {
            let id = row.text(0).unwrap_or_default();
            let redrives = row.count(2);
            let status = status(&mut row, 1)?;
            let is_as_found = wanted.get(id.as_str()).is_some_and(|found| {
                found.status == status && u64::from(found.redrives) == redrives
            });
            if is_as_found {
                standing.push(id);
            }
        }
        Ok(standing)
    }

    /// The parked rows of letters.
    async fn rows_of(
        &self,
        changing: &mut Changing<'_>,
        letters: &Bind,
    ) -> Result<Vec<i64>, StoreError> {
        let find = include_str!("../../sql/failure/rows_of_letters.sql");
        let find = find.replace("{texts}", &self.texts("letters"));
        let values = [("letters", letters.clone())];
        let rows = changing.fetch(&self.statement(&find, &[]), &values).await?;
        Ok(ids(&rows))
    }

    /// Makes the heads of the lanes of letters due, unless they wait for a time or are held by a letter that waits for its own decision. One that somebody else was taking away is looked for again.
    async fn release(&self, changing: &mut Changing<'_>, letters: &Bind) -> Result<(), StoreError> {
        let find = include_str!("../../sql/failure/heads_of_letters.sql");
        let find = find.replace("{texts}", &self.texts("letters"));
        let find = self.statement(&find, &[]);
        let values = [("letters", letters.clone())];
        let mark = "due_us = CASE WHEN due_us IS NULL AND (letter IS NULL OR EXISTS (SELECT 1 FROM tidings_dead_letter AS d WHERE d.id = {row}.letter AND d.status = 'redriven')) THEN {now} ELSE due_us END";
        loop {
            let heads = changing.fetch(&find, &values).await?;
            let heads: BTreeSet<i64> = ids(&heads).into_iter().collect();
            let heads: Vec<i64> = heads.into_iter().collect();
            let met = self.mark_rows(changing, mark, &heads).await?;
            if met >= heads.len() as u64 {
                return Ok(());
            }
        }
    }

    async fn mark_letters(
        &self,
        changing: &mut Changing<'_>,
        mark: &str,
        values: &[(&'static str, Bind)],
    ) -> Result<(), StoreError> {
        let template = self.inner.database.dialect().settle_mark;
        let ids = self.texts("letters");
        let fragments = [
            ("table", "tidings_dead_letter"),
            ("id_column", "id"),
            ("ids", ids.as_str()),
            ("mark", mark),
        ];
        let statement = self.statement(template, &fragments);
        changing.execute(&statement, values).await?;
        Ok(())
    }

    async fn mark_rows(
        &self,
        changing: &mut Changing<'_>,
        mark: &str,
        rows: &[i64],
    ) -> Result<u64, StoreError> {
        if rows.is_empty() {
            return Ok(0);
        }
        let dialect = self.inner.database.dialect();
        let ids = self.numbers("rows");
        let mut fragments = self.parked(&ids).to_vec();
        fragments.push(("mark", mark));
        let statement = self.statement(dialect.settle_mark, &fragments);
        let values = [("rows", numbers(rows))];
        changing.execute(&statement, &values).await
    }

    /// The fragments that make a statement of one about parked rows. What a row is called differs: MySQL joins it under another name.
    fn parked<'a>(&self, ids: &'a str) -> [(&'a str, &'a str); 4] {
        let row = if self.inner.database.kind() == crate::Kind::MySql {
            "o"
        } else {
            "tidings_parked"
        };
        [
            ("table", "tidings_parked"),
            ("id_column", "id"),
            ("ids", ids),
            ("row", row),
        ]
    }

    async fn by_letters(
        &self,
        changing: &mut Changing<'_>,
        template: &str,
        letters: &Bind,
        values: &[(&'static str, Bind)],
    ) -> Result<(), StoreError> {
        let template = template.replace("{texts}", &self.texts("letters"));
        let mut given = values.to_vec();
        given.push(("letters", letters.clone()));
        let statement = self.statement(&template, &[]);
        changing.execute(&statement, &given).await?;
        Ok(())
    }

    async fn act(
        &self,
        changing: &mut Changing<'_>,
        action: &str,
        letters: &Bind,
        operator: &Operator,
        detail: &str,
    ) -> Result<(), StoreError> {
        let mut values = words(operator);
        values.extend([
            ("action", Bind::text(action)),
            ("detail", Bind::text(detail)),
        ]);
        let act = include_str!("../../sql/failure/act_on_letters.sql");
        self.by_letters(changing, act, letters, &values).await
    }

    /// States the facts about the decisions that were made, and makes everything true.
    async fn close(
        &self,
        mut changing: Changing<'_>,
        verdicts: &[Verdict],
        standing: &[String],
    ) -> Result<(), StoreError> {
        let made: std::collections::HashSet<&String> = standing.iter().collect();
        let verdicts = verdicts.iter();
        let facts: Vec<Envelope> = verdicts
            .filter(|verdict| made.contains(&verdict.letter))
            .map(|verdict| verdict.fact.clone())
            .collect();
        self.state_facts(&mut changing, &facts).await?;
        changing.commit().await?;
        if let Some(outbox) = &self.outbox {
            outbox.wake();
        }
        Ok(())
    }
}

/// The columns that say who and why.
pub(super) fn words(operator: &Operator) -> Vec<(&'static str, Bind)> {
    vec![
        ("actor", Bind::text(plain(&operator.actor))),
        ("reason", Bind::text(plain(&operator.reason))),
    ]
}

/// The columns of a letter from elsewhere.
fn foreign(letter: &ForeignLetter) -> Vec<(&'static str, Bind)> {
    let envelope = &letter.delivery.envelope;
    let reasons: Vec<String> = letter.reasons.iter().map(|reason| plain(reason)).collect();
    let first_failed = letter.delivery.history.first();
    let first_failed = first_failed.and_then(|failed| u64::try_from(failed.at.as_micros()).ok());
    let mut values = columns(&letter.delivery);
    values.retain(|(name, _)| *name != "deaths");
    values.extend([
        ("deaths", Bind::Int(i64::from(letter.delivery.deaths) + 1)),
        ("id", Bind::text(&letter.id)),
        ("consumer", Bind::text(&letter.group)),
        (
            "aggregate_id",
            Bind::Text(envelope.aggregate_id().map(str::to_owned)),
        ),
        ("correlation_id", Bind::text(envelope.correlation_id())),
        ("handler", Bind::text(plain(&letter.handler))),
        ("cause", Bind::text(&letter.cause)),
        (
            "reason",
            Bind::text(reasons.first().cloned().unwrap_or_default()),
        ),
        (
            "reasons",
            Bind::text(serde_json::to_string(&reasons).unwrap_or_default()),
        ),
        ("fingerprint", Bind::text(&letter.fingerprint)),
        ("died_us", Bind::Int(letter.died.as_micros())),
        ("first_failed_us", delivery::number(first_failed)),
    ]);
    values
}
