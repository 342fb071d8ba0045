//! The database between the relays: the lease, the rows, and what its answers may be.

use super::super::{Effect, Found, Horizon, Input, Lane, Leased, Query, Row, RowId};
use super::act::Luck;
use super::scope::LEASE;
use super::world::{State, World, index};
use std::sync::Arc;

impl World {
    pub(super) fn store_answer(
        &mut self,
        relay: usize,
        effect: &Effect,
        luck: Luck,
    ) -> Result<Input, String> {
        let fails = luck != Luck::Good;
        let failure = || Err("x".to_owned());
        let done = || if fails { failure() } else { Ok(()) };
        let happens = luck != Luck::Lost;
        Ok(match effect {
            Effect::Lease => {
                let answer = if happens {
                    self.grant(relay)
                } else {
                    Leased::Held { epoch: 0 }
                };
                Input::Leased(if fails {
                    Err("x".to_owned())
                } else {
                    Ok(answer)
                })
            }
            Effect::Release => {
                if happens {
                    self.lease = self.lease.filter(|(owner, _)| *owner != relay);
                }
                Input::Released(done())
            }
            Effect::Read(query) => {
                let found = self.find(query)?;
                Input::Read(if fails {
                    Err("x".to_owned())
                } else {
                    Ok(found)
                })
            }
            Effect::Settle(_) | Effect::Note(_) | Effect::Bury(_) => {
                if happens {
                    self.change(effect);
                }
                match effect {
                    Effect::Settle(_) => Input::Settled(done()),
                    Effect::Note(_) => Input::Noted(done()),
                    _ => Input::Buried(done()),
                }
            }
            Effect::Publish { .. } | Effect::Tell(_) | Effect::End => Input::Tick,
        })
    }

    fn grant(&mut self, relay: usize) -> Leased {
        if let Some((owner, left)) = self.lease.filter(|(owner, _)| *owner != relay) {
            let owner = owner.to_string();
            return Leased::Other {
                owner,
                expires_in: left,
            };
        }
        if self.lease.is_none() {
            self.epoch += 1;
            self.excused |= self.epoch > 1;
        }
        self.lease = Some((relay, LEASE));
        Leased::Held { epoch: self.epoch }
    }

    pub(super) fn change(&mut self, effect: &Effect) {
        match effect {
            Effect::Settle(rows) => {
                for id in rows {
                    let row = &mut self.rows[index(*id)];
                    // What was given up meanwhile stays given up.
                    if row.0 == State::Unsent {
                        row.0 = State::Sent;
                    }
                }
            }
            Effect::Note(failures) => {
                for failure in failures {
                    self.rows[index(failure.row)].1 = failure.attempts;
                }
            }
            Effect::Bury(burials) => {
                for burial in burials {
                    let row = &mut self.rows[index(burial.row)];
                    // What is sent already is not there to be given up.
                    if row.0 == State::Unsent {
                        row.0 = State::Dead;
                    }
                }
            }
            _ => {}
        }
    }

    fn find(&self, query: &Query) -> Result<Found, String> {
        let mut rows = Vec::new();
        let mut cut = false;
        for (row, (state, attempts)) in self.rows.iter().enumerate() {
            let (id, key) = (RowId(row as u128 + 1), self.left.keys[row]);
            if *state != State::Unsent {
                continue;
            }
            if query.floor.is_some_and(|floor| id <= floor) {
                return Err(format!(
                    "I8: row {id} is unsent and not above the floor {:?}",
                    query.floor
                ));
            }
            let destination = self.left.destination(row);
            let blocked = query
                .blocked_keys
                .iter()
                .any(|blocked| *blocked.destination == *destination && *blocked.key == *key);
            let mut closed = query.excluded_destinations.iter();
            let closed = closed.any(|closed| **closed == *destination);
            let held = query.hold_behind_dead && self.is_held(row);
            if blocked || closed || held || query.excluded_rows.contains(&id) {
                continue;
            }
            if rows.len() >= query.limit {
                cut = true;
                break;
            }
            rows.push(Row {
                id,
                lane: Lane {
                    destination: Arc::from(destination),
                    key: Some(Arc::from(key)),
                },
                attempts: *attempts,
                bytes: 1,
                fault: None,
            });
        }
        Ok(Found {
            rows,
            cut,
            horizon: self.left.horizon.then(|| self.horizon()),
        })
    }

    /// The oldest row that is not settled, as the status of an outbox tells it.
    pub(super) fn oldest_unsent(&self) -> Option<usize> {
        let mut rows = self.rows.iter();
        rows.position(|(state, _)| *state == State::Unsent)
    }

    /// Transactions draw their number before their row's id: row n is written by transaction n.
    fn horizon(&self) -> Horizon {
        let hidden = self
            .rows
            .iter()
            .position(|(state, _)| *state == State::Hidden);
        let end = self.rows.len() as u64;
        Horizon {
            oldest_open: hidden.map_or(end, |row| row as u64),
            first_future: end,
        }
    }
}
