//! How time passes: the clock stands still, and due times move towards it instead, so that states that differ in their age only are one state.

use super::super::{Input, Step};
use super::scope::SECOND;
use super::world::{NOW, World};
use std::time::Duration;

impl World {
    /// Whether time may pass: at any moment when nothing is on its way, and otherwise so often as the scope says.
    pub(super) fn may_pass(&self) -> bool {
        self.left.waits > 0 || self.is_silent()
    }

    fn is_silent(&self) -> bool {
        let mut nodes = self.nodes.iter().flatten();
        nodes.all(|node| node.calls.is_empty())
    }

    pub(super) fn pass(&mut self) -> Result<(), String> {
        if !self.is_silent() {
            self.left.waits = self.left.waits.saturating_sub(1);
        }
        for node in self.nodes.iter_mut().flatten() {
            node.step.come_closer(NOW, SECOND);
        }
        self.lease = self.lease.and_then(|(owner, left)| {
            let left = left.saturating_sub(SECOND);
            (!left.is_zero()).then_some((owner, left))
        });
        (0..self.nodes.len()).try_for_each(|relay| self.tell(relay, Input::Tick))
    }
}

impl Step {
    /// Time passes; due times that are past are due now.
    fn come_closer(&mut self, now: Duration, by: Duration) {
        let closer = |due: &mut Duration| *due = due.saturating_sub(by).max(now);
        if let Some(held) = &mut self.lease.held {
            closer(&mut held.publish_until);
        }
        closer(&mut self.lease.ask_at);
        closer(&mut self.lease.asked.0);
        closer(&mut self.lease.asked.1);
        closer(&mut self.read_at);
        closer(&mut self.read_not_before);
        closer(&mut self.floor.look_at);
        closer(&mut self.floor.sweep_at);
        let calls = &mut self.calls;
        for call in [
            &mut calls.lease,
            &mut calls.release,
            &mut calls.read,
            &mut calls.settle,
            &mut calls.note,
            &mut calls.bury,
        ] {
            closer(&mut call.not_before);
        }
        self.failing
            .values_mut()
            .for_each(|failing| closer(&mut failing.until));
        self.breakers
            .values_mut()
            .for_each(|breaker| closer(&mut breaker.open_until));
    }
}
