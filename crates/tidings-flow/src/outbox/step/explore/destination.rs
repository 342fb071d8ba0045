//! The destinations behind the relays: what arrives there, and what they say of it.

use super::super::{Effect, Verdict};
use super::act::Luck;
use super::world::{World, index};

impl World {
    pub(super) fn arrive(&mut self, number: usize) {
        match &mut self.adrift[number] {
            Effect::Publish { rows, .. } if rows.len() > 1 => {
                let row = rows.remove(0);
                self.log.push(index(row));
            }
            _ => match self.adrift.remove(number) {
                Effect::Publish { rows, .. } => self.log.extend(rows.into_iter().map(index)),
                effect => self.change(&effect),
            },
        }
    }

    pub(super) fn publish(&mut self, rows: &[usize], luck: Luck) -> Vec<Verdict> {
        let reason = String::new;
        match luck {
            Luck::Down => return vec![Verdict::Down(reason()); rows.len()],
            Luck::Lost | Luck::Late => {
                self.excused = true;
                return vec![Verdict::Unclear(reason()); rows.len()];
            }
            Luck::AnswerLost => {
                self.excused = true;
                self.log.extend(rows);
                return vec![Verdict::Unclear(reason()); rows.len()];
            }
            Luck::Good | Luck::Failed(_) | Luck::Rejected(_) => {}
        }
        let mut stopped = None;
        let mut verdicts = Vec::new();
        for (place, row) in rows.iter().enumerate() {
            let key = self.left.keys[*row];
            let verdict = match luck {
                _ if stopped == Some(key) => Verdict::NotAttempted,
                Luck::Failed(bad) if bad == place => Verdict::Failed(reason()),
                Luck::Rejected(bad) if bad == place => Verdict::Rejected(reason()),
                _ => Verdict::Accepted,
            };
            match verdict {
                Verdict::Accepted => self.log.push(*row),
                _ => stopped = Some(key),
            }
            verdicts.push(verdict);
        }
        verdicts
    }
}
