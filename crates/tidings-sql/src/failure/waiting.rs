//! Deliveries that wait, and groups that are paused, as persons see them and decide.

use super::apply::ids;
use super::decide::{whoever_is_in_the_way, words};
use super::filter::{self, Conditions, numbers};
use super::letters::time;
use super::{ActionRecord, Failures, access, delivery};
use crate::changing::Changing;
use crate::driver::{Bind, Row};
use tidings_core::store::{LaneId, Operator, PausedGroup, StoreError, Waiting, WaitingFilter};

/// Rows that one transaction makes due, so that none is long.
const ROWS_MAX: i64 = 1_000;

impl Failures {
    pub(super) async fn read_waiting(
        &self,
        wanted: &WaitingFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Waiting>, StoreError> {
        let conditions = filter::waiting(self.inner.database.dialect(), wanted);
        let values = [
            ("after", Bind::Int(after)),
            ("limit", Bind::Int(limit.into())),
        ];
        let template = include_str!("../../sql/failure/waiting.sql");
        let rows = self.look(template, conditions, &values).await?;
        rows.into_iter().map(row).collect()
    }

    pub(super) async fn make_due(
        &self,
        wanted: &WaitingFilter,
        operator: &Operator,
    ) -> Result<u64, StoreError> {
        let mut made = 0;
        loop {
            let making = || self.make_some_due(wanted, operator);
            let some = whoever_is_in_the_way(making).await?;
            made += some;
            if some < ROWS_MAX.unsigned_abs() {
                return Ok(made);
            }
        }
    }

    async fn make_some_due(
        &self,
        wanted: &WaitingFilter,
        operator: &Operator,
    ) -> Result<u64, StoreError> {
        let dialect = self.inner.database.dialect();
        let conditions = filter::waiting(dialect, wanted);
        let find = include_str!("../../sql/failure/waiting_locked.sql");
        let find = self.statement(find, &[("where", &conditions.sql)]);
        let mut values = conditions.values;
        values.push(("limit", Bind::Int(ROWS_MAX)));
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        let rows = changing.fetch(&find, &values).await?;
        let rows = ids(&rows);
        if rows.is_empty() {
            return Ok(0);
        }
        let ids = self.numbers("rows");
        let mut values = words(operator);
        values.extend([
            ("rows", numbers(&rows)),
            ("action", Bind::text("retry_now")),
            ("detail", Bind::text("{}")),
        ]);
        let fragments = [
            ("table", "tidings_parked"),
            ("id_column", "id"),
            ("ids", ids.as_str()),
            ("mark", "due_us = {now}"),
        ];
        let mark = self.statement(dialect.settle_mark, &fragments);
        changing.execute(&mark, &values).await?;
        let act = include_str!("../../sql/failure/act_on_waiting.sql");
        let act = self.statement(&act.replace("{numbers}", &ids), &[]);
        changing.execute(&act, &values).await?;
        changing.commit().await?;
        Ok(u64::try_from(rows.len()).unwrap_or(u64::MAX))
    }

    pub(super) async fn read_paused(&self) -> Result<Vec<PausedGroup>, StoreError> {
        let template = include_str!("../../sql/failure/groups_paused.sql");
        let rows = self.look(template, Conditions::default(), &[]).await?;
        let groups = rows.into_iter().map(|mut row| PausedGroup {
            group: row.text(0).unwrap_or_default(),
            reason: row.text(1).unwrap_or_default(),
            since: time(&row, 2),
        });
        Ok(groups.collect())
    }

    pub(super) async fn pause(
        &self,
        group: &str,
        paused: bool,
        operator: &Operator,
    ) -> Result<bool, StoreError> {
        let template = if paused {
            include_str!("../../sql/failure/pause.sql")
        } else {
            include_str!("../../sql/failure/resume.sql")
        };
        let mut values = words(operator);
        values.push(("consumer", Bind::text(group)));
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        let statement = self.statement(template, &[]);
        if changing.execute(&statement, &values).await? == 0 {
            return Ok(false);
        }
        let action = ActionRecord {
            action: if paused { "pause" } else { "resume" },
            group: Some(group),
            target: group,
            operator,
            detail: "{}",
        };
        action.write(&mut changing).await?;
        changing.commit().await?;
        Ok(true)
    }
}

/// A row as `waiting.sql` answers it.
fn row(mut row: Row) -> Result<Waiting, StoreError> {
    let group = row.text(10).unwrap_or_default();
    let lane = row.text(11).unwrap_or_default();
    let parked = time(&row, 12);
    let lane = LaneId::parse(&lane).ok_or_else(|| StoreError::ShapeWrong {
        subject: "the column lane of tidings_parked".to_owned(),
        fault: format!("{lane:?} is no lane"),
        remedy: "it was changed by somebody else; correct it or delete the row".to_owned(),
    })?;
    Ok(Waiting {
        group,
        delivery: delivery::read(lane, row)?,
        parked,
    })
}
