//! Where groups stand, as retention needs it: how far each is durably, whether it is abandoned, whether it keeps segments.

use super::cursor_file::{CursorFile, CursorRead};
use super::definition::Definition;
use super::{Groups, state::GroupState};
use crate::files::failed;
use crate::format::cursor::{CursorSlot, group_hash};
use crate::retention::decide::{Kept, Standing, loss_ahead};
use crate::retention::kept;
use crate::retention::rule::{self, HeldBy, Retention};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tidings_core::Timestamp;
use tidings_core::broker::{BrokerError, GroupName, LossAhead};

impl Groups {
    /// Where all groups stand. With `durably`, what their cursors say is on the disk when this returns, and stays there.
    pub(crate) fn standings(
        &self,
        rule: &Retention,
        now: Timestamp,
        durably: bool,
    ) -> Result<Vec<Standing>, BrokerError> {
        let newest = self.newest(now)?;
        let mut standings = Vec::new();
        for name in self.names()? {
            let definition = self.known(&name)?;
            let slot = if durably {
                self.durable_slot(&name, &definition)?
            } else {
                self.slot(&name, &definition)?
            };
            let holds = match rule.held_by {
                HeldBy::AllGroups => true,
                HeldBy::ActiveGroups => {
                    self.idle(&name, &definition, slot, newest) <= rule.abandoned_after
                }
                HeldBy::NoGroup => false,
            };
            standings.push(Standing {
                name: name.to_string(),
                position: slot.position,
                holds,
            });
        }
        Ok(standings)
    }

    /// Whether a group is abandoned by the rule of the folder.
    pub(super) fn is_abandoned(
        &self,
        group: &GroupName,
        definition: &Definition,
        slot: CursorSlot,
    ) -> Result<bool, BrokerError> {
        // Without a rule that can be read, the usual limit does for a name.
        let rule = rule::load(&self.log.folder).unwrap_or_default();
        let newest = self.newest(self.log.clock.now())?;
        Ok(self.idle(group, definition, slot, newest) > rule.abandoned_after)
    }

    /// How near retention is to what a group has not settled, and how many positions it has removed already.
    pub(super) fn loss(
        &self,
        group: &GroupName,
        definition: &Definition,
        slot: CursorSlot,
    ) -> Result<(u64, Option<LossAhead>), BrokerError> {
        let lost = self.log.recorded_first().saturating_sub(slot.position);
        let Ok(rule) = rule::load(&self.log.folder) else {
            return Ok((lost, None));
        };
        let end = self.log.end_known();
        if !rule.may_pass_groups() || slot.position >= end.visible {
            return Ok((lost, None));
        }
        let now = self.log.clock.now();
        let not_before = match rule.held_by {
            HeldBy::AllGroups | HeldBy::NoGroup => Duration::ZERO,
            // A group that somebody works for is not abandoned.
            HeldBy::ActiveGroups if self.holder(group).is_some() => return Ok((lost, None)),
            HeldBy::ActiveGroups => {
                let idle = self.idle(group, definition, slot, self.newest(now)?);
                rule.abandoned_after.saturating_sub(idle)
            }
        };
        let segments: Vec<Kept> = kept(&self.log)?;
        let begin = segments.first().map_or(0, |segment| segment.first);
        let position = slot.position.max(begin);
        Ok((
            lost,
            loss_ahead(&rule, &segments, position, now, not_before),
        ))
    }

    /// The time of the log: nothing that happened is later. A group is idle only while events come.
    fn newest(&self, now: Timestamp) -> Result<Timestamp, BrokerError> {
        let newest = self.log.newest_append_time()?;
        Ok(newest.map_or(now, |newest| Timestamp::from_micros(newest).min(now)))
    }

    /// For how long nobody has worked for a group while events came; zero while somebody does.
    fn idle(
        &self,
        group: &GroupName,
        definition: &Definition,
        slot: CursorSlot,
        newest: Timestamp,
    ) -> Duration {
        if self.holder(group).is_some() {
            return Duration::ZERO;
        }
        let noted = [slot.moved_at, slot.worked_at].into_iter().max();
        let worked_at = noted
            .filter(|micros| *micros != 0)
            .map(Timestamp::from_micros)
            .or_else(|| definition.created());
        worked_at.map_or(Duration::ZERO, |worked_at| newest.since(worked_at))
    }

    /// What the cursor says, once that is on the disk in a slot that is not written next.
    fn durable_slot(
        &self,
        group: &GroupName,
        definition: &Definition,
    ) -> Result<CursorSlot, BrokerError> {
        let working = {
            let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
            active.get(group).and_then(std::sync::Weak::upgrade)
        };
        if let Some(state) = working.filter(|state| !state.progress().has_left()) {
            state.flush_now()?;
            return Ok(state.slot());
        }
        let path = self.log.folder.group_file(group, "cursor");
        let disk = &*self.log.folder.disk;
        // Opening flushes it. Whoever works for the group later opens it too, and goes on in the other slot; a process that works for it beside this one may write
        // the same slot again, of which a power cut leaves the old one or the new one: both say at least this.
        let opened = CursorFile::open(disk, &path, self.log.number, group_hash(group.as_str()))
            .map_err(|error| failed("flushing", &path, error))?;
        match opened {
            CursorRead::Held(slot, _) => Ok(slot),
            CursorRead::Lost(_) => self.slot(group, definition),
        }
    }

    /// Notes that this process works for a group.
    pub(super) fn works_for(&self, group: &GroupName, state: &Arc<GroupState>) {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.retain(|_, state| state.strong_count() > 0);
        active.insert(group.clone(), Arc::downgrade(state));
    }
}
