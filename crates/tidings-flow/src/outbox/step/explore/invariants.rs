//! What must hold in every state.

use super::super::{KeyPolicy, RowId, Step};
use super::world::{State, World};

impl World {
    /// What must hold in every state.
    pub(super) fn check(&self) -> Result<(), String> {
        for (row, (state, _)) in self.rows.iter().enumerate() {
            let count = self.log.iter().filter(|sent| **sent == row).count();
            if *state == State::Sent && count == 0 {
                return Err(format!("I2: row {row} is settled and was never sent"));
            }
            if *state == State::Hidden && count > 0 {
                return Err(format!("I4: row {row} was sent before it was committed"));
            }
            if !self.excused && count > 1 {
                return Err(format!(
                    "I5: row {row} was sent {count} times, and nothing had happened"
                ));
            }
            let first = self.log.iter().position(|sent| *sent == row);
            for earlier in 0..row {
                let before = self.log.iter().position(|sent| *sent == earlier);
                let inverted = first.is_some() && before.is_none_or(|before| Some(before) > first);
                if self.left.lane(earlier) == self.left.lane(row)
                    && inverted
                    && !self.is_skipped(earlier)
                {
                    return Err(format!(
                        "I3: row {row} stands before row {earlier} of its key: {:?}",
                        self.log
                    ));
                }
            }
        }
        self.check_lag()?;
        for node in self.nodes.iter().flatten() {
            node.step.check_batches()?;
            let floor = node.step.floor.proven;
            let below = |row: &usize| {
                self.rows[*row].0 == State::Unsent && Some(RowId(*row as u128 + 1)) <= floor
            };
            if let Some(row) = (0..self.rows.len()).find(below) {
                return Err(format!(
                    "I8: row {row} is unsent and not above the floor {floor:?}"
                ));
            }
        }
        Ok(())
    }

    /// Whether others of its lane may go on without a row that was given up. It is so before they go: an event that may still be sent is not skipped.
    fn is_skipped(&self, row: usize) -> bool {
        self.left.policy == KeyPolicy::Skip && self.rows[row].0 == State::Dead
    }

    /// The oldest row of which a database would say that it waits, which is what the lag is measured by, is not younger than any that waits.
    fn check_lag(&self) -> Result<(), String> {
        let oldest = self.oldest_unsent().unwrap_or(self.rows.len());
        let waits = |row: &usize| match self.rows[*row].0 {
            State::Hidden | State::Dead => false,
            State::Unsent | State::Sent => !self.log.contains(row),
        };
        match (0..oldest).find(waits) {
            Some(row) => Err(format!(
                "I9: row {row} waits, and the lag is that of row {oldest}"
            )),
            None => Ok(()),
        }
    }
}

impl Step {
    /// No lane is in two batches, and nothing on its way is settled.
    fn check_batches(&self) -> Result<(), String> {
        let mut lanes = Vec::new();
        for batch in self.batches.values() {
            for row in &batch.rows {
                if lanes.contains(&&row.lane) {
                    return Err(format!("{:?} is in two batches", row.lane));
                }
                if self.acked.contains(&row.id) || self.settling.contains(&row.id) {
                    return Err(format!(
                        "I2: row {} is settled while it is on its way",
                        row.id
                    ));
                }
            }
            lanes.extend(batch.rows.iter().map(|row| &row.lane));
        }
        Ok(())
    }
}
