//! Whether the store has heard of a group: for persons, who mistype names.

use super::Failures;
use crate::driver::Bind;
use tidings_core::store::StoreError;

/// Where a group leaves its name, what is there in tables of every version first.
const TABLES: [&str; 7] = [
    "tidings_group",
    "tidings_parked",
    "tidings_dead_letter",
    "tidings_attempt",
    "tidings_policy",
    "tidings_circuit",
    "tidings_leader",
];

impl Failures {
    /// Whether the store has heard of a group: something of it failed, a person paused it once, or an instance of it looked for what is due. In SQLite, which no
    /// instances share, a group of which nothing ever failed leaves nothing.
    ///
    /// **Errors**: a database that does not answer.
    ///
    /// **Cancel**: no effect.
    pub async fn knows(&self, group: &str) -> Result<bool, StoreError> {
        let consumer = [("consumer", Bind::text(group))];
        let template = include_str!("../../sql/failure/group_known.sql");
        for table in TABLES {
            let known = self.statement(template, &[("table", table)]);
            let rows = match self.ask(&known, &consumer).await {
                // The tables are of an older version.
                Err(StoreError::TableMissing { .. }) => continue,
                rows => rows?,
            };
            if !rows.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
