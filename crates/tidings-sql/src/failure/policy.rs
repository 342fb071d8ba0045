//! How often groups try an event, and how often they have tried one: for persons who ask where it is.

use super::letters::time;
use super::{Failures, access, hex};
use crate::changing::Changing;
use crate::driver::Bind;
use tidings_core::store::StoreError;
use tidings_core::{DedupeKey, Timestamp};

impl Failures {
    /// How often a group tries an event at most, in place and later, as an instance of it told last; `None` if nobody told, or if it depends on the error.
    ///
    /// **Errors**: [`StoreError::TableMissing`] in a database of an older version; a database that does not answer.
    ///
    /// **Cancel**: no effect.
    pub async fn attempts_max(&self, group: &str) -> Result<Option<u32>, StoreError> {
        let read = self.statement(include_str!("../../sql/failure/policy.sql"), &[]);
        let rows = self.ask(&read, &[("consumer", Bind::text(group))]).await?;
        let max = rows.first().map(|row| row.count(0));
        let max = max.map(|max| u32::try_from(max).unwrap_or(u32::MAX));
        Ok(max.filter(|max| *max > 0))
    }

    /// Attempts that a group noted of an event that it has neither parked nor settled, and when it noted the first of them, by the store's clock.
    ///
    /// **Errors**: a database that does not answer.
    ///
    /// **Cancel**: no effect.
    pub async fn noted_attempts(
        &self,
        group: &str,
        event: DedupeKey,
    ) -> Result<Option<(u32, Timestamp)>, StoreError> {
        let read = self.statement(include_str!("../../sql/failure/attempts_of.sql"), &[]);
        let values = [
            ("consumer", Bind::text(group)),
            ("event_key", Bind::text(hex(event))),
        ];
        let rows = self.ask(&read, &values).await?;
        Ok(rows.first().map(|row| {
            let attempts = u32::try_from(row.count(0)).unwrap_or(u32::MAX);
            (attempts, time(row, 1))
        }))
    }

    pub(super) async fn note_attempts_max(
        &self,
        group: &str,
        attempts: u32,
    ) -> Result<(), StoreError> {
        let values = [
            ("consumer", Bind::text(group)),
            ("attempts", Bind::Int(attempts.into())),
        ];
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        let forget = self.statement(include_str!("../../sql/failure/policy_forget.sql"), &[]);
        changing.execute(&forget, &values).await?;
        let note = self.statement(include_str!("../../sql/failure/policy_note.sql"), &[]);
        changing.execute(&note, &values).await?;
        changing.commit().await
    }
}
