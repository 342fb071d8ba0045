//! Batches on their way, and what follows from their outcomes.

use super::{BatchId, Effect, Lane, RowId, Step, Told, Verdict};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A row that is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Taken {
    pub(super) id: RowId,
    pub(super) lane: Lane,
    pub(super) attempts: u32,
}

/// Rows of one destination that are on their way together; of each lane, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Batch {
    pub(super) destination: Arc<str>,
    pub(super) rows: Vec<Taken>,
}

impl Step {
    /// Sends a batch. No other batch on its way has a row of its lanes.
    pub(super) fn send(&mut self, batch: Batch, effects: &mut Vec<Effect>) {
        // Every batch is answered once, so that the number of one that has ended may be used again.
        let free = |number: &u32| !self.batches.contains_key(&BatchId(*number));
        let id = BatchId((0..).find(free).unwrap_or(u32::MAX));
        for row in &batch.rows {
            if self.unclear.contains(&row.id) {
                effects.push(Effect::Tell(Told::SuspectedDuplicate));
            }
        }
        effects.push(Effect::Publish {
            batch: id,
            destination: Arc::clone(&batch.destination),
            rows: batch.rows.iter().map(|row| row.id).collect(),
        });
        self.batches.insert(id, batch);
    }

    pub(super) fn published(
        &mut self,
        now: Duration,
        random: u64,
        batch: BatchId,
        verdicts: &[Verdict],
        effects: &mut Vec<Effect>,
    ) {
        let Some(batch) = self.batches.remove(&batch) else {
            return;
        };
        let mut failed: Vec<(Taken, Verdict)> = Vec::new();
        let mut stopped: BTreeSet<Lane> = BTreeSet::new();
        let mut accepted = false;
        let unanswered = Verdict::Unclear("the destination gave no outcome".to_owned());
        for (index, row) in batch.rows.into_iter().enumerate() {
            let verdict = verdicts.get(index).unwrap_or(&unanswered);
            match verdict {
                Verdict::Accepted => {
                    accepted = true;
                    self.accept(row, effects);
                    continue;
                }
                Verdict::Unclear(_) if self.unclear.len() < self.bounds.failing_rows => {
                    self.unclear.insert(row.id);
                }
                _ => {}
            }
            if row.lane.key.is_none() || stopped.insert(row.lane.clone()) {
                failed.push((row, verdict.clone()));
            }
        }
        // Some key may go on at once.
        self.read_at = now;
        if accepted {
            self.destination_accepts(&batch.destination, effects);
        } else if let Some(reason) = trouble(&failed) {
            self.destination_is_down(now, random, &batch.destination, reason, effects);
            return;
        } else if failed.iter().any(|(_, verdict)| speaks_of_event(verdict)) {
            self.destination_is_up(&batch.destination, effects);
        }
        for (index, (row, mut verdict)) in failed.into_iter().enumerate() {
            if accepted && let Some(failing) = self.failing.get_mut(&row.id) {
                failing.others_accepted = true;
            }
            if accepted && let Verdict::Unclear(reason) = verdict {
                // Others of the same batch were accepted.
                verdict = Verdict::Failed(reason);
            }
            // Distinct for each row, and without jitter where the bits are zero.
            let random = random.wrapping_mul(2 * index as u64 + 1);
            self.row_failed(now, random, row, verdict, effects);
        }
    }

    fn accept(&mut self, row: Taken, effects: &mut Vec<Effect>) {
        self.unclear.remove(&row.id);
        self.failing.remove(&row.id);
        self.notes.remove(&row.id);
        if row.lane.key.is_some()
            && self
                .recent
                .accepted(row.lane, row.id, self.bounds.recent_keys)
        {
            effects.push(Effect::Tell(Told::OrderRace));
        }
        self.acked.insert(row.id);
    }
}

/// Whether the destination looked at the event, and so works.
fn speaks_of_event(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Rejected(_) | Verdict::Failed(_))
}

/// Why the destination as a whole is taken to be in trouble: it spoke of no event, and it says so itself or was silent about several lanes.
fn trouble(failed: &[(Taken, Verdict)]) -> Option<String> {
    let mut reason = None;
    let mut silent = 0;
    let mut down = false;
    for (_, verdict) in failed {
        match verdict {
            Verdict::Accepted | Verdict::Rejected(_) | Verdict::Failed(_) => return None,
            Verdict::Unclear(said) => {
                silent += 1;
                reason.get_or_insert(said);
            }
            Verdict::Down(said) => {
                down = true;
                reason.get_or_insert(said);
            }
            Verdict::NotAttempted => {}
        }
    }
    match reason {
        Some(reason) if down || silent > 1 => Some(reason.clone()),
        Some(_) => None,
        None => Some("it attempted nothing".to_owned()),
    }
}
