//! Every row of an outbox and what became of it, for a comparison with its destination.

use super::SqlOutbox;
use super::columns::{row_id, row_text};
use super::notes::{DEAD, DISCARDED, FAILING, SENT};
use crate::driver::{Bind, Row};
use crate::outbox_row::{self, Read};
use std::collections::HashMap;
use tidings_core::store::{RowId, RowSeen, RowState, StoreError};

impl SqlOutbox {
    pub(super) async fn each_row(
        &self,
        take: &mut (dyn FnMut(RowSeen) + Send),
    ) -> Result<u64, StoreError> {
        let noted = self.states_elsewhere().await?;
        let statement = &self.statements.rows;
        let binds = statement.binds(&[self.outbox()]);
        let mut rows = 0;
        let mut each = |row: Row| {
            rows += 1;
            take(self.seen(row, &noted));
        };
        self.database
            .each(statement.sql(), &binds, &self.access(), &mut each)
            .await?;
        Ok(rows)
    }

    fn seen(&self, mut row: Row, noted: &HashMap<RowId, i64>) -> RowSeen {
        let state = row.int(6).unwrap_or(FAILING);
        let id = row.text(0).as_deref().and_then(row_id);
        let elsewhere = id.and_then(|id| noted.get(&id).copied());
        let key = row.text(2);
        let read = Read {
            // As the relay calls it, whose ids for nameless rows these must be.
            row_id: id.map_or_else(String::new, |id| row_text(self.id_kind, id)),
            event_id: row.text(1),
            payload: row.text(3),
            payload_bytes: row.bytes(4),
            created_at: row.instant(5),
            ..Read::default()
        };
        RowSeen {
            event_id: outbox_row::event_id_of(&read, &self.identity),
            key,
            state: match state.max(elsewhere.unwrap_or(FAILING)) {
                SENT => RowState::Sent,
                DEAD | DISCARDED => RowState::Dead,
                _ => RowState::Unsent,
            },
        }
    }

    /// What another database says of rows, where the notes are in one.
    async fn states_elsewhere(&self) -> Result<HashMap<RowId, i64>, StoreError> {
        let mut noted = HashMap::new();
        if self.is_state_beside || !self.is_relayed {
            return Ok(noted);
        }
        let statement = &self.statements.notes.withheld;
        let binds = statement.binds(&[self.outbox(), ("limit", Bind::Int(i64::MAX))]);
        let mut each = |mut row: Row| {
            let id = row.text(0).as_deref().and_then(row_id);
            if let (Some(id), Some(state)) = (id, row.int(1)) {
                noted.insert(id, state);
            }
        };
        self.state
            .each(statement.sql(), &binds, &self.note_access(), &mut each)
            .await?;
        Ok(noted)
    }
}
