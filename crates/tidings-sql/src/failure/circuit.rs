//! How the circuits of groups stand, as their instances told last.

use super::letters::time;
use super::{Failures, access};
use crate::changing::Changing;
use crate::driver::Bind;
use tidings_core::Timestamp;
use tidings_core::store::{OpenCircuit, StoreError};

impl Failures {
    pub(super) async fn note_circuit(
        &self,
        group: &str,
        circuit: Option<&OpenCircuit>,
    ) -> Result<(), StoreError> {
        let mut values = vec![("consumer", Bind::text(group))];
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        let closed = include_str!("../../sql/failure/circuit_closed.sql");
        let closed = self.statement(closed, &[]);
        changing.execute(&closed, &values).await?;
        if let Some(circuit) = circuit {
            let probe = circuit.probe_at.map(Timestamp::as_micros);
            values.extend([
                ("since", Bind::Int(circuit.since.as_micros())),
                ("probe", Bind::IntOrNull(probe)),
                ("reason", Bind::text(&circuit.reason)),
            ]);
            let open = include_str!("../../sql/failure/circuit_open.sql");
            let open = self.statement(open, &[]);
            changing.execute(&open, &values).await?;
        }
        changing.commit().await
    }

    pub(super) async fn read_circuit(
        &self,
        group: &str,
    ) -> Result<Option<OpenCircuit>, StoreError> {
        let read = include_str!("../../sql/failure/circuit.sql");
        let read = self.statement(read, &[]);
        let rows = self.ask(&read, &[("consumer", Bind::text(group))]).await?;
        Ok(rows.into_iter().next().map(|mut row| OpenCircuit {
            since: time(&row, 0),
            probe_at: row.int(1).map(Timestamp::from_micros),
            reason: row.text(2).unwrap_or_default(),
        }))
    }
}
