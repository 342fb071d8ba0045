//! What a person did, as it is recorded in the transaction that does it.

use super::decide::words;
use crate::changing::Changing;
use crate::driver::Bind;
use crate::statement::Statement;
use tidings_core::store::{Operator, StoreError};

/// An action of a person, about to be recorded.
#[derive(Debug, Clone, Copy)]
pub struct ActionRecord<'a> {
    /// What, in one word.
    pub action: &'a str,
    /// The group, where it was about one.
    pub group: Option<&'a str>,
    /// Which group, event or schedule.
    pub target: &'a str,
    /// Who, and why.
    pub operator: &'a Operator,
    /// What else is known, as JSON.
    pub detail: &'a str,
}

impl ActionRecord<'_> {
    /// Makes it part of a transaction.
    pub(crate) async fn write(&self, changing: &mut Changing<'_>) -> Result<(), StoreError> {
        let template = include_str!("../../sql/failure/act.sql");
        let act = Statement::new(changing.database().dialect(), template, &[]);
        let mut values = words(self.operator);
        values.extend([
            ("action", Bind::text(self.action)),
            ("consumer", Bind::Text(self.group.map(str::to_owned))),
            ("target", Bind::text(self.target)),
            ("detail", Bind::text(self.detail)),
        ]);
        changing.execute(&act, &values).await.map(drop)
    }
}
