//! Two relays, the database between them and the destinations behind them: what there is, what can happen next, and how it happens.

use super::super::{Effect, Input, KeyPolicy, RowId, Step};
use super::act::{Act, Goal, Luck, Trouble};
use super::scope::Scope;
use std::time::Duration;

/// The clock stands still.
pub(super) const NOW: Duration = Duration::from_secs(1_000);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum State {
    Hidden,
    Unsent,
    Sent,
    Dead,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Call {
    Do(Effect),
    Answer(Input),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) step: Step,
    pub(super) calls: Vec<Call>,
    /// A row could have been sent when the database was read last; known of relays that end by themselves.
    pub(super) saw_work: bool,
}

/// Everything that there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    /// What may still happen.
    pub(super) left: Scope,
    pub(super) nodes: Vec<Option<Node>>,
    pub(super) rows: Vec<(State, u32)>,
    /// Who has the lease, and for how long.
    pub(super) lease: Option<(usize, Duration)>,
    pub(super) epoch: u64,
    /// Rows as the destination got them.
    pub(super) log: Vec<usize>,
    /// Sent and not arrived, of calls that nobody waits for any more.
    pub(super) adrift: Vec<Effect>,
    /// Something happened after which an event may be there twice.
    pub(super) excused: bool,
    /// The database took a lease away before its time.
    pub(super) jumped: bool,
}

/// Where a call stands among those of its relay; there is one of each kind at a time, but for publishes.
fn place(call: &Call) -> (u8, u32) {
    let of_input = |input: &Input| match input {
        Input::Leased(_) => (0, 0),
        Input::Read(_) => (1, 0),
        Input::Published(batch, _) => (2, batch.0),
        _ => (7, 0),
    };
    match call {
        Call::Answer(input) => of_input(input),
        Call::Do(effect) => match effect {
            Effect::Lease => (0, 0),
            Effect::Read(_) => (1, 0),
            Effect::Publish { batch, .. } => (2, batch.0),
            Effect::Settle(_) => (3, 0),
            Effect::Note(_) => (4, 0),
            Effect::Bury(_) => (5, 0),
            Effect::Release => (6, 0),
            Effect::Tell(_) | Effect::End => (7, 0),
        },
    }
}

pub(super) fn index(id: RowId) -> usize {
    id.0 as usize - 1
}

impl World {
    pub(super) fn new(scope: Scope) -> Self {
        let rows = scope.keys.len();
        let state = |row| {
            if scope.hidden.contains(&row) {
                State::Hidden
            } else {
                State::Unsent
            }
        };
        let mut world = Self {
            left: scope,
            nodes: vec![None; scope.relays],
            rows: (0..rows).map(|row| (state(row), 0)).collect(),
            lease: None,
            epoch: 0,
            log: Vec::new(),
            adrift: Vec::new(),
            excused: false,
            jumped: false,
        };
        for relay in 0..scope.relays {
            world.begin(relay);
        }
        world
    }

    fn begin(&mut self, relay: usize) {
        self.nodes[relay] = Some(Node {
            step: Step::new(self.left.bounds(), NOW),
            calls: Vec::new(),
            saw_work: false,
        });
        // The first step asks for the lease only, which breaks nothing.
        let _ = self.tell(relay, Input::Tick);
    }

    /// What is left to do: rows, or relays that have not ended although there is nothing to send.
    pub(super) fn measure(&self, goal: Goal) -> usize {
        match goal {
            Goal::Sent(trouble) => self.rows_left(trouble),
            Goal::Ended if self.rows_left(None) > 0 => 0,
            Goal::Ended => self.nodes.iter().flatten().count(),
        }
    }

    /// Rows that are neither sent nor given up nor behind one that is. Those to a destination in trouble do not count.
    fn rows_left(&self, trouble: Option<Trouble>) -> usize {
        let counts = |row: &usize| {
            let state = self.rows[*row].0;
            matches!(state, State::Hidden | State::Unsent)
                && !self.is_held(*row)
                && trouble.is_none_or(|trouble| trouble.destination != self.left.destination(*row))
        };
        (0..self.rows.len()).filter(counts).count()
    }

    /// Whether a row waits behind one of its lane that was given up.
    pub(super) fn is_held(&self, row: usize) -> bool {
        if self.left.policy == KeyPolicy::Skip {
            return false;
        }
        let lane = self.left.lane(row);
        (0..self.rows.len())
            .any(|other| self.left.lane(other) == lane && self.rows[other].0 == State::Dead)
    }

    pub(super) fn acts(&self) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.may_pass() {
            acts.push(Act::Pass);
        }
        for (relay, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else {
                if !self.left.until_empty || self.left.restarts > 0 {
                    acts.push(Act::Start(relay));
                }
                continue;
            };
            if self.left.crashes > 0 {
                acts.push(Act::Crash(relay));
            }
            if self.left.drains > 0 {
                acts.push(Act::Drain(relay));
            }
            for (number, call) in node.calls.iter().enumerate() {
                match call {
                    Call::Answer(_) => acts.push(Act::Deliver(relay, number)),
                    Call::Do(effect) => {
                        let lucks = self.lucks(effect).into_iter();
                        acts.extend(lucks.map(|luck| Act::Do(relay, number, luck)));
                    }
                }
            }
        }
        let hidden = |row: &usize| self.rows[*row].0 == State::Hidden && self.may_commit(*row);
        acts.extend((0..self.rows.len()).filter(hidden).map(Act::Commit));
        if self.left.jumps > 0 && self.lease.is_some() {
            acts.push(Act::LeaseEnds);
        }
        acts.extend((0..self.adrift.len()).map(Act::Arrive));
        acts
    }

    /// Writers of one key come one after the other.
    fn may_commit(&self, row: usize) -> bool {
        let key = self.left.keys[row];
        (0..row).all(|other| self.left.keys[other] != key || self.rows[other].0 != State::Hidden)
    }

    fn lucks(&self, effect: &Effect) -> Vec<Luck> {
        let mut lucks = vec![Luck::Good];
        if let Effect::Publish { rows, .. } = effect {
            if self.left.publish_faults > 0 {
                lucks.extend([Luck::AnswerLost, Luck::Lost, Luck::Late, Luck::Down]);
                for place in 0..rows.len() {
                    lucks.extend([Luck::Failed(place), Luck::Rejected(place)]);
                }
            }
        } else if self.left.store_faults > 0 {
            lucks.push(Luck::Lost);
            if !matches!(effect, Effect::Read(_)) {
                lucks.push(Luck::AnswerLost);
            }
        }
        lucks
    }

    /// The next step of a round in which nothing goes wrong, but for a destination in trouble.
    pub(super) fn fair_act(&self, goal: Goal) -> Act {
        let hidden = |row: &usize| self.rows[*row].0 == State::Hidden;
        if let Some(row) = (0..self.rows.len()).find(hidden) {
            return Act::Commit(row);
        }
        for (relay, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else {
                if goal == Goal::Ended {
                    continue;
                }
                return Act::Start(relay);
            };
            for (number, call) in node.calls.iter().enumerate() {
                let Call::Do(effect) = call else {
                    return Act::Deliver(relay, number);
                };
                let luck = match (effect, goal) {
                    (Effect::Publish { destination, .. }, Goal::Sent(Some(trouble)))
                        if **destination == *trouble.destination =>
                    {
                        trouble.luck
                    }
                    _ => Some(Luck::Good),
                };
                if let Some(luck) = luck {
                    return Act::Do(relay, number, luck);
                }
            }
        }
        Act::Pass
    }

    pub(super) fn act(&mut self, act: Act) -> Result<(), String> {
        match act {
            Act::Pass => self.pass()?,
            Act::Do(relay, number, luck) => self.carry_out(relay, number, luck)?,
            Act::Deliver(relay, number) => {
                let Some(node) = &mut self.nodes[relay] else {
                    return Ok(());
                };
                if let Call::Answer(input) = node.calls.remove(number) {
                    self.tell(relay, input)?;
                }
            }
            Act::Crash(relay) => self.crash(relay),
            Act::Start(relay) => {
                self.left.restarts = self.left.restarts.saturating_sub(1);
                self.begin(relay);
            }
            Act::Drain(relay) => {
                self.left.drains -= 1;
                self.tell(relay, Input::Drain)?;
            }
            Act::Commit(row) => self.rows[row].0 = State::Unsent,
            Act::LeaseEnds => {
                self.left.jumps -= 1;
                self.lease = None;
                self.excused = true;
                self.jumped = true;
            }
            Act::Arrive(number) => self.arrive(number),
        }
        // Who has ended begins anew: a supervisor would see to it.
        for node in &mut self.nodes {
            node.take_if(|node| node.step.ended);
        }
        // Calls have no order among themselves.
        for node in self.nodes.iter_mut().flatten() {
            node.calls.sort_by_key(place);
        }
        Ok(())
    }

    pub(super) fn tell(&mut self, relay: usize, input: Input) -> Result<(), String> {
        let Some(node) = &mut self.nodes[relay] else {
            return Ok(());
        };
        let mut effects = Vec::new();
        node.step.step(NOW, 0, input, &mut effects);
        for effect in effects {
            if effect == Effect::End && node.saw_work {
                return Err(format!("I2: relay {relay} ends by itself while rows wait"));
            }
            if matches!(effect, Effect::Tell(_) | Effect::End) {
                continue;
            }
            if matches!(effect, Effect::Publish { .. }) {
                let owner = self.lease.map(|(owner, _)| owner);
                if !self.jumped && owner != Some(relay) {
                    return Err(format!(
                        "I7: relay {relay} starts a publish, the owner is {owner:?}"
                    ));
                }
                if !node.step.lease.is_held() {
                    return Err(format!(
                        "I7: relay {relay} starts a publish without a lease"
                    ));
                }
            }
            node.calls.push(Call::Do(effect));
        }
        Ok(())
    }

    fn crash(&mut self, relay: usize) {
        self.left.crashes -= 1;
        self.excused = true;
        let Some(node) = self.nodes[relay].take() else {
            return;
        };
        let calls = node.calls.into_iter();
        // Of what the dead one had sent, these matter to others.
        self.adrift.extend(calls.filter_map(|call| match call {
            Call::Do(effect @ (Effect::Publish { .. } | Effect::Settle(_) | Effect::Bury(_))) => {
                Some(effect)
            }
            _ => None,
        }));
    }

    /// What a relay that ends by itself must have seen: nothing that could be sent.
    fn look_at_work(&mut self, relay: usize, effect: &Effect) {
        if !self.left.until_empty || !matches!(effect, Effect::Read(_)) {
            return;
        }
        let waits = |row: usize| self.rows[row].0 == State::Unsent && !self.is_held(row);
        let saw_work = (0..self.rows.len()).any(waits);
        if let Some(node) = &mut self.nodes[relay] {
            node.saw_work = saw_work;
        }
    }

    fn carry_out(&mut self, relay: usize, number: usize, luck: Luck) -> Result<(), String> {
        let Some(node) = &mut self.nodes[relay] else {
            return Ok(());
        };
        let Call::Do(effect) = node.calls.remove(number) else {
            return Ok(());
        };
        let answer = if let Effect::Publish { rows, .. } = &effect {
            if luck != Luck::Good {
                self.left.publish_faults = self.left.publish_faults.saturating_sub(1);
            }
            let rows: Vec<usize> = rows.iter().copied().map(index).collect();
            let (batch, verdicts) = (&effect, self.publish(&rows, luck));
            let Effect::Publish { batch, .. } = batch else {
                return Ok(());
            };
            if luck == Luck::Late {
                self.adrift.push(effect.clone());
            }
            Input::Published(*batch, verdicts)
        } else {
            if luck != Luck::Good {
                self.left.store_faults -= 1;
            }
            self.store_answer(relay, &effect, luck)?
        };
        self.look_at_work(relay, &effect);
        let waits = matches!(
            answer,
            Input::Leased(_) | Input::Read(_) | Input::Published(..)
        );
        if !waits {
            return self.tell(relay, answer);
        }
        if let Some(node) = &mut self.nodes[relay] {
            node.calls.push(Call::Answer(answer));
        }
        Ok(())
    }
}
