//! Dead letters as persons see them.

use super::filter::{self, Conditions};
use super::{Failures, access, delivery};
use crate::driver::{Bind, Row};
use crate::statement::Statement;
use std::collections::HashMap;
use tidings_core::store::{
    LaneId, Letter, LetterCluster, LetterFilter, LetterStatus, LetterTally, OperatorAction,
    RedriveOutcome, StoreError,
};
use tidings_core::{Envelope, Timestamp, envelope_json};

impl Failures {
    /// A statement of `sql/failure/`, with its conditions.
    pub(super) fn statement(&self, template: &str, fragments: &[(&str, &str)]) -> Statement {
        Statement::new(self.inner.database.dialect(), template, fragments)
    }

    /// Asks once, outside of a transaction.
    pub(super) async fn look(
        &self,
        template: &str,
        conditions: Conditions,
        values: &[(&'static str, Bind)],
    ) -> Result<Vec<Row>, StoreError> {
        let statement = self.statement(template, &[("where", &conditions.sql)]);
        let mut given = conditions.values;
        given.extend(values.iter().cloned());
        let binds = statement.binds(&given);
        let database = &self.inner.database;
        database.fetch(statement.sql(), &binds, &access()).await
    }

    /// The conditions of a filter; patterns are matched here, because no database knows them.
    async fn conditions(&self, wanted: &LetterFilter) -> Result<Conditions, StoreError> {
        let dialect = self.inner.database.dialect();
        if wanted.types.is_empty() {
            return Ok(filter::letters(dialect, wanted, None));
        }
        let known = include_str!("../../sql/failure/types.sql");
        let known = self.look(known, Conditions::default(), &[]).await?;
        let known = known.into_iter().filter_map(|mut row| row.text(0));
        let types = filter::matching(&wanted.types, known.collect());
        Ok(filter::letters(dialect, wanted, Some(&types)))
    }

    pub(super) async fn read_letters(
        &self,
        wanted: &LetterFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Letter>, StoreError> {
        let conditions = self.conditions(wanted).await?;
        let values = [
            ("after", Bind::Int(after)),
            ("limit", Bind::Int(limit.into())),
        ];
        let template = include_str!("../../sql/failure/letters.sql");
        let rows = self.look(template, conditions, &values).await?;
        rows.into_iter().map(letter).collect()
    }

    pub(super) async fn read_clusters(
        &self,
        wanted: &LetterFilter,
        limit: u32,
    ) -> Result<Vec<LetterCluster>, StoreError> {
        let conditions = self.conditions(wanted).await?;
        let values = [("limit", Bind::Int(limit.into()))];
        let template = include_str!("../../sql/failure/clusters.sql");
        let rows = self.look(template, conditions, &values).await?;
        let newest: Vec<i64> = rows.iter().filter_map(|row| row.int(7)).collect();
        let values = [("newest", filter::numbers(&newest))];
        let template = include_str!("../../sql/failure/cluster_reasons.sql");
        let template = template.replace("{numbers}", &self.numbers("newest"));
        let reasons = self.look(&template, Conditions::default(), &values).await?;
        let mut reasons: HashMap<i64, String> = reasons
            .into_iter()
            .filter_map(|mut row| Some((row.int(0)?, row.text(1)?)))
            .collect();
        let clusters = rows.into_iter().map(|mut row| LetterCluster {
            fingerprint: row.text(0).unwrap_or_default(),
            group: row.text(1).unwrap_or_default(),
            event_type: row.text(2).unwrap_or_default(),
            reason: row
                .int(7)
                .and_then(|number| reasons.remove(&number))
                .unwrap_or_default(),
            count: row.count(3),
            first: time(&row, 4),
            last: time(&row, 5),
            redrives: small(&row, 6),
        });
        Ok(clusters.collect())
    }

    pub(super) async fn read_tally(
        &self,
        wanted: &LetterFilter,
        after: i64,
    ) -> Result<Vec<LetterTally>, StoreError> {
        let mut conditions = self.conditions(wanted).await?;
        // Without it the index by status answers alone.
        if after > i64::MIN {
            conditions.add("number > :after", "after", Bind::Int(after));
        }
        let template = include_str!("../../sql/failure/tally.sql");
        let rows = self.look(template, conditions, &[]).await?;
        rows.into_iter()
            .map(|mut row| {
                Ok(LetterTally {
                    group: row.text(0).unwrap_or_default(),
                    status: status(&mut row, 1)?,
                    redrives: small(&row, 2),
                    count: row.count(3),
                    oldest: time(&row, 4),
                    newest: time(&row, 5),
                })
            })
            .collect()
    }

    pub(super) async fn read_outcome(&self, run: &str) -> Result<RedriveOutcome, StoreError> {
        let template = include_str!("../../sql/failure/outcome.sql");
        let values = [("run", Bind::text(run))];
        let rows = self.look(template, Conditions::default(), &values).await?;
        let mut outcome = RedriveOutcome::default();
        for mut row in rows {
            let count = row.count(1);
            match status(&mut row, 0)? {
                LetterStatus::Redriven => outcome.waiting += count,
                LetterStatus::Resolved => outcome.resolved += count,
                LetterStatus::Open => outcome.failed += count,
                // A person decided otherwise meanwhile.
                _ => {}
            }
        }
        Ok(outcome)
    }

    pub(super) async fn read_actions(
        &self,
        target: &str,
        limit: u32,
    ) -> Result<Vec<OperatorAction>, StoreError> {
        let template = include_str!("../../sql/failure/actions.sql");
        let values = [
            ("target", Bind::text(target)),
            ("limit", Bind::Int(limit.into())),
        ];
        let rows = self.look(template, Conditions::default(), &values).await?;
        Ok(rows.into_iter().map(action).collect())
    }

    pub(super) async fn read_newest_actions(
        &self,
        group: Option<&str>,
        limit: u32,
    ) -> Result<Vec<OperatorAction>, StoreError> {
        let template = include_str!("../../sql/failure/actions_newest.sql");
        let values = [
            ("consumer", Bind::text(group.unwrap_or_default())),
            ("limit", Bind::Int(limit.into())),
        ];
        let rows = self.look(template, Conditions::default(), &values).await?;
        Ok(rows.into_iter().map(action).collect())
    }

    pub(super) async fn read_taken(&self, source: &str) -> Result<Option<u64>, StoreError> {
        let template = include_str!("../../sql/failure/taken_up_to.sql");
        let values = [("source", Bind::text(source))];
        let rows = self.look(template, Conditions::default(), &values).await?;
        Ok(rows.first().map(|row| row.count(0)))
    }

    /// The select that answers numbers by the name of their list.
    pub(super) fn numbers(&self, name: &str) -> String {
        filter::listed(self.inner.database.dialect(), "numbers", name)
    }

    /// The select that answers texts by the name of their list.
    pub(super) fn texts(&self, name: &str) -> String {
        filter::listed(self.inner.database.dialect(), "texts", name)
    }
}

pub(super) fn time(row: &Row, index: usize) -> Timestamp {
    Timestamp::from_micros(row.int(index).unwrap_or(0))
}

fn small(row: &Row, index: usize) -> u32 {
    u32::try_from(row.count(index)).unwrap_or(u32::MAX)
}

pub(super) fn status(row: &mut Row, index: usize) -> Result<LetterStatus, StoreError> {
    let word = row.text(index).unwrap_or_default();
    word.parse().map_err(|fault| StoreError::ShapeWrong {
        subject: "the column status of tidings_dead_letter".to_owned(),
        fault,
        remedy: "it was changed by somebody else, or by a newer program".to_owned(),
    })
}

fn letter(mut row: Row) -> Result<Letter, StoreError> {
    let number = row.int(0).unwrap_or(0);
    let wrong = |column: &str, fault: String| StoreError::ShapeWrong {
        subject: format!("the column {column} of the row {number} of tidings_dead_letter"),
        fault,
        remedy: "it was changed by somebody else; correct it or delete the row".to_owned(),
    };
    let event = |json: String, column: &str| -> Result<Envelope, StoreError> {
        let read = envelope_json::from_json(json.as_bytes());
        read.map_err(|error| wrong(column, format!("it is no event: {error}")))
    };
    let lane = row.text(3).unwrap_or_default();
    let lane = LaneId::parse(&lane).ok_or_else(|| wrong("lane", "it is no lane".to_owned()))?;
    let reasons = row.text(10).unwrap_or_default();
    let edited = row.text(23);
    Ok(Letter {
        number,
        id: row.text(1).unwrap_or_default(),
        group: row.text(2).unwrap_or_default(),
        lane,
        envelope: event(row.text(4).unwrap_or_default(), "envelope")?,
        problem: row.text(5),
        position: row.int(6).and_then(|position| u64::try_from(position).ok()),
        handler: row.text(7).unwrap_or_default(),
        code_version: row.text(8).unwrap_or_default(),
        cause: row.text(9).unwrap_or_default(),
        reasons: serde_json::from_str(&reasons).unwrap_or_default(),
        fingerprint: row.text(11).unwrap_or_default(),
        attempts: small(&row, 12),
        rounds: small(&row, 13),
        deaths: small(&row, 14),
        history: delivery::history_of(&row.text(15).unwrap_or_default()),
        holds: row.count(16) > 0,
        status: status(&mut row, 17)?,
        redrives: small(&row, 18),
        first_failed: row.int(19).map(Timestamp::from_micros),
        first_died: time(&row, 20),
        died: time(&row, 21),
        changed: time(&row, 22),
        edited: edited.map(|json| event(json, "edited")).transpose()?,
        decided_by: row.text(24),
        decided_why: row.text(25),
    })
}

/// A row as `actions.sql` answers it.
fn action(mut row: Row) -> OperatorAction {
    OperatorAction {
        at: time(&row, 0),
        actor: row.text(1).unwrap_or_default(),
        action: row.text(2).unwrap_or_default(),
        group: row.text(3),
        target: row.text(4).unwrap_or_default(),
        reason: row.text(5).unwrap_or_default(),
        detail: row.text(6).unwrap_or_default(),
    }
}
