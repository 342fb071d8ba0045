//! What is there for a group, and what is due.

use super::{Failures, access, delivery, hex};
use crate::driver::{Bind, Row};
use crate::statement::Statement;
use std::time::Duration;
use tidings_core::store::{
    Decision, Due, FailureState, LaneId, ParkedDelivery, ParkedLane, StoreError,
};
use tidings_core::{DedupeKey, envelope_json};

impl Failures {
    async fn ask(
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
        let decisions = self.ask(&statements.decisions, &consumer).await?;
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
        Ok(FailureState {
            lanes: lanes.into_iter().filter_map(lane_of).collect(),
            attempts: attempts
                .into_iter()
                .filter_map(|mut row| {
                    let attempts = u32::try_from(row.count(1)).unwrap_or(u32::MAX);
                    Some((event_of(&mut row)?, attempts))
                })
                .collect(),
            decisions: decided.collect(),
        })
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
        let mut numbers = Vec::with_capacity(events.len());
        for event in events {
            let values = [
                ("consumer", Bind::text(group)),
                ("event_key", Bind::text(hex(*event))),
            ];
            let rows = self.ask(&self.statements().deaths, &values).await?;
            let deaths = rows.first().map_or(0, |row| row.count(0));
            numbers.push(u32::try_from(deaths).unwrap_or(u32::MAX));
        }
        Ok(numbers)
    }
}

fn event_of(row: &mut Row) -> Option<DedupeKey> {
    let key = uuid::Uuid::try_parse(&row.text(0)?).ok()?;
    Some(DedupeKey::from_bytes(key.into_bytes()))
}

fn lane_of(mut row: Row) -> Option<ParkedLane> {
    let rows = row.count(1);
    let lane = LaneId::parse(&row.text(0)?)?;
    Some(ParkedLane { lane, rows })
}
