//! What is there for a group, and what is due.

use super::apply::texts;
use super::{Failures, access, delivery, hex};
use crate::driver::{Bind, Row};
use crate::statement::Statement;
use std::collections::HashMap;
use std::time::Duration;
use tidings_core::store::{
    Decision, Due, FailureState, LaneId, ParkedDelivery, ParkedLane, StoreError,
};
use tidings_core::{DedupeKey, envelope_json};

impl Failures {
    pub(super) async fn ask(
        &self,
        statement: &Statement,
        values: &[(&str, Bind)],
    ) -> Result<Vec<Row>, StoreError> {
        let binds = statement.binds(values);
        let database = &self.inner.database;
        database.fetch(statement.sql(), &binds, &access()).await
    }

    pub(super) async fn read_state(&self, group: &str) -> Result<FailureState, StoreError> {
        let consumer = [("consumer", Bind::text(group))];
        let statements = self.statements();
        let lanes = self.ask(&statements.lanes, &consumer).await?;
        let attempts = self.ask(&statements.attempts, &consumer).await?;
        let decided = self.read_decided().await?;
        Ok(FailureState {
            lanes: lanes.into_iter().filter_map(lane_of).collect(),
            attempts: attempts
                .into_iter()
                .filter_map(|mut row| {
                    let attempts = u32::try_from(row.count(1)).unwrap_or(u32::MAX);
                    Some((event_of(&mut row)?, attempts))
                })
                .collect(),
            decisions: self.read_decisions(group).await?,
            decided,
        })
    }

    pub(super) async fn read_decisions(
        &self,
        group: &str,
    ) -> Result<HashMap<DedupeKey, Decision>, StoreError> {
        let consumer = [("consumer", Bind::text(group))];
        let decisions = self.ask(&self.statements().decisions, &consumer).await?;
        let decided = decisions.into_iter().filter_map(|mut row| {
            let event = event_of(&mut row)?;
            let decision = match row.text(1) {
                None => Decision::Discarded,
                Some(edited) => {
                    let copy = envelope_json::from_json(edited.as_bytes()).ok()?;
                    Decision::Edited(Box::new(copy))
                }
            };
            Some((event, decision))
        });
        Ok(decided.collect())
    }

    /// Looks at the newest actions rather than at the newest one: of two transactions the one with the lower number may be the last to commit.
    async fn read_decided(&self) -> Result<String, StoreError> {
        let rows = self.ask(&self.statements().decided, &[]).await?;
        let decided = rows.first().map(|row| {
            let ends = (row.int(1).unwrap_or(0), row.int(2).unwrap_or(0));
            format!("{} from {} to {}", row.count(0), ends.0, ends.1)
        });
        Ok(decided.unwrap_or_default())
    }

    pub(super) async fn read_due(&self, group: &str, limit: u32) -> Result<Due, StoreError> {
        let values = [
            ("consumer", Bind::text(group)),
            ("limit", Bind::Int(limit.into())),
        ];
        let statements = self.statements();
        let lanes = self.ask(&statements.due, &values).await?;
        let next = self.ask(&statements.due_next, &values).await?;
        let paused = self.ask(&statements.paused, &values).await?;
        Ok(Due {
            lanes: lanes.into_iter().filter_map(lane_of).collect(),
            next_in: next
                .first()
                .and_then(|row| row.int(0))
                .map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0))),
            paused: paused.into_iter().next().and_then(|mut row| row.text(0)),
            decided: self.read_decided().await?,
        })
    }

    pub(super) async fn read_rows(
        &self,
        group: &str,
        lane: LaneId,
        limit: u32,
    ) -> Result<Vec<ParkedDelivery>, StoreError> {
        let values = [
            ("consumer", Bind::text(group)),
            ("lane", Bind::text(lane.to_string())),
            ("limit", Bind::Int(limit.into())),
        ];
        let rows = self.ask(&self.statements().rows, &values).await?;
        rows.into_iter()
            .map(|row| delivery::read(lane, row))
            .collect()
    }

    pub(super) async fn read_deaths(
        &self,
        group: &str,
        events: &[DedupeKey],
    ) -> Result<Vec<u32>, StoreError> {
        let consumer = [("consumer", Bind::text(group))];
        let asked = texts("event_key", events.iter().map(|event| hex(*event)));
        let database = &self.inner.database;
        let mut known = HashMap::new();
        for part in self.statements().deaths.parts(&consumer, &asked) {
            let rows = database.fetch(part.sql, &part.binds, &access()).await?;
            known.extend(rows.into_iter().filter_map(|mut row| {
                let deaths = u32::try_from(row.count(1)).unwrap_or(u32::MAX);
                Some((event_of(&mut row)?, deaths))
            }));
        }
        let numbers = events.iter().map(|event| known.get(event));
        Ok(numbers.map(|deaths| deaths.copied().unwrap_or(0)).collect())
    }
}

fn event_of(row: &mut Row) -> Option<DedupeKey> {
    let key = uuid::Uuid::try_parse(&row.text(0)?).ok()?;
    Some(DedupeKey::from_bytes(key.into_bytes()))
}

fn lane_of(mut row: Row) -> Option<ParkedLane> {
    let rows = row.count(1);
    let held = row.count(2) > 0;
    let oldest = row.int(3).map(|micros| u64::try_from(micros).unwrap_or(0));
    let lane = LaneId::parse(&row.text(0)?)?;
    Some(ParkedLane {
        lane,
        rows,
        held,
        oldest: oldest.map(Duration::from_micros),
    })
}
