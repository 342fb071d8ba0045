//! What is written back: accepted rows, failed attempts, rows given up. Each kind is one call at a time, which gathers what came meanwhile.

use super::{Done, Effect, Step, Told};
use std::time::Duration;

impl Step {
    pub(super) fn plan_settle(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if !self.acked.is_empty() && self.calls.settle.may_start(now) {
            let mut rows = std::mem::take(&mut self.acked);
            if let Some(first_left) = rows.iter().nth(self.bounds.settle_rows).copied() {
                self.acked = rows.split_off(&first_left);
            }
            self.settling = rows.into_iter().collect();
            self.calls.settle.busy = true;
            effects.push(Effect::Settle(self.settling.clone()));
        }
        if !self.notes.is_empty() && self.calls.note.may_start(now) {
            self.noting = std::mem::take(&mut self.notes).into_values().collect();
            self.calls.note.busy = true;
            effects.push(Effect::Note(self.noting.clone()));
        }
        if !self.burials.is_empty() && self.calls.bury.may_start(now) {
            self.burying = std::mem::take(&mut self.burials);
            self.calls.bury.busy = true;
            let burials = self.burying.values().map(|(_, burial)| burial.clone());
            effects.push(Effect::Bury(burials.collect()));
        }
    }

    pub(super) fn settled(
        &mut self,
        now: Duration,
        random: u64,
        answer: Done<()>,
        effects: &mut Vec<Effect>,
    ) {
        let wait = self.calls.settle.wait(self.bounds.store_backoff, random);
        let answered = self.calls.settle.answered(now, wait, answer, effects);
        let rows = std::mem::take(&mut self.settling);
        if answered.is_some() {
            self.floor.settled();
        } else {
            // Settling again what may be settled already changes nothing.
            self.acked.extend(rows);
        }
    }

    pub(super) fn noted(
        &mut self,
        now: Duration,
        random: u64,
        answer: Done<()>,
        effects: &mut Vec<Effect>,
    ) {
        let wait = self.calls.note.wait(self.bounds.store_backoff, random);
        let answered = self.calls.note.answered(now, wait, answer, effects);
        let failures = std::mem::take(&mut self.noting);
        if answered.is_some() || !self.lease.is_held() {
            return;
        }
        for failure in failures {
            // What was accepted or given up meanwhile needs no note, a newer one counts more.
            if self.failing.contains_key(&failure.row) {
                self.notes.entry(failure.row).or_insert(failure);
            }
        }
    }

    pub(super) fn buried(
        &mut self,
        now: Duration,
        random: u64,
        answer: Done<()>,
        effects: &mut Vec<Effect>,
    ) {
        let wait = self.calls.bury.wait(self.bounds.store_backoff, random);
        let answered = self.calls.bury.answered(now, wait, answer, effects);
        let burials = std::mem::take(&mut self.burying);
        if answered.is_some() {
            for (row, (_, burial)) in burials {
                let reason = burial.reason;
                effects.push(Effect::Tell(Told::Dead { row, reason }));
            }
            self.read_at = now;
        } else if self.lease.is_held() {
            self.burials.extend(burials);
        }
    }
}
