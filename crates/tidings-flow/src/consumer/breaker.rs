//! The circuit breaker of a group: when everything fails it is not the events' fault, and the group waits instead of giving them up. A pure step machine: it waits for nothing and reads no clock.
//!
//! A key that fails counts once, however often it is tried: retries fail more often than first attempts, so that few poison events, tried again at the end of a backlog, would look as if everything
//! failed. What is wrong with one key alone is a matter of its retries and of its dead letter.
//!
//! **Source**: Nygard, *Release It!*, the pattern *circuit breaker*.

use super::lane::LaneKey;
use super::retry::Backoff;
use std::collections::{HashSet, VecDeque};
use std::time::Duration;
use tidings_core::Timestamp;
use tidings_core::limits::{
    BREAKER_FAILURES_DEFAULT, BREAKER_KEYS_MAX, BREAKER_OUTCOMES_DEFAULT,
    BREAKER_PROBE_AFTER_DEFAULT, BREAKER_PROBE_MAX_DEFAULT,
};
use tidings_core::store::OpenCircuit;

/// Chance takes away at most this share of the wait before a probe, so that the instances of a group do not try together.
const PROBE_JITTER_PERCENT: u8 = 20;

/// When everything counts as failing, and what the group does then.
///
/// ```
/// # use std::time::Duration;
/// # use tidings_flow::consumer::Breaker;
/// let breaker = Breaker { failures: 5, of: 5, probe_after: Duration::from_secs(10), ..Breaker::default() };
/// assert_eq!(breaker.probe_max, Duration::from_secs(300));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// The circuit opens when so many of the newest outcomes are failures. Failures that the handler calls permanent are no outcome, and a key that fails counts once.
    pub failures: usize,
    /// How many of the newest outcomes are looked at.
    pub of: usize,
    /// How long after the opening one event is tried. The wait doubles while what is tried fails, and chance takes away up to a fifth.
    pub probe_after: Duration,
    /// The longest such wait; one that a handler asks for may be longer.
    pub probe_max: Duration,
    /// What the group does when the circuit opens.
    pub on_open: OnOpen,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: BREAKER_FAILURES_DEFAULT,
            of: BREAKER_OUTCOMES_DEFAULT,
            probe_after: BREAKER_PROBE_AFTER_DEFAULT,
            probe_max: BREAKER_PROBE_MAX_DEFAULT,
            on_open: OnOpen::Wait,
        }
    }
}

/// What a group does when its circuit opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnOpen {
    /// It waits and tries one event now and then; when one succeeds it goes on.
    Wait,
    /// It stops, with [`CIRCUIT_OPEN`](tidings_core::codes::CIRCUIT_OPEN): for a process whose supervisor starts it again.
    Stop,
}

/// Whether a circuit that is not closed waits or tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CircuitState {
    /// Nothing is handed out.
    Open,
    /// One event is tried, or is as soon as there is one.
    HalfOpen,
}

impl CircuitState {
    /// The word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// How a circuit stands that is not closed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitStats {
    /// Whether it waits or tries.
    pub state: CircuitState,
    /// When it opened.
    pub since: Timestamp,
    /// When the next event is tried; `None` while one is.
    pub probe_at: Option<Timestamp>,
    /// How many events were tried in vain since it opened.
    pub probes_failed: u32,
    /// The last failure.
    pub reason: String,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// The event is tried again or given up, as its policy says.
    Counts,
    /// It opens the circuit, for the first time or again, for so long; it is no attempt of its event.
    Opens { probe_in: Duration, again: bool },
    /// The circuit is open: it is no attempt of its event.
    Excused,
}

/// A failure as the circuit sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failed<'a> {
    pub(crate) lane: LaneKey,
    pub(crate) reason: &'a str,
    /// Whether its policy opens the circuit at once.
    pub(crate) pauses_group: bool,
    /// How long the handler asks to wait, within the limit of it.
    pub(crate) asked: Option<Duration>,
    pub(crate) now: Duration,
    /// The same moment for people.
    pub(crate) at: Timestamp,
    pub(crate) random: u64,
}

#[derive(Debug)]
enum Phase {
    Closed,
    Open {
        until: Duration,
    },
    /// An event is to be tried.
    HalfOpen,
    /// One is.
    Probing(LaneKey),
}

#[derive(Debug)]
struct Outcome {
    lane: LaneKey,
    failed: bool,
    /// Attempts of the event at the head of the lane that were counted because of it.
    counted: u32,
}

/// What is known since the circuit opened.
#[derive(Debug)]
struct Opened {
    since: Duration,
    since_at: Timestamp,
    probe_at: Timestamp,
    probes_failed: u32,
    reason: String,
}

/// The circuit of one group in this process.
#[derive(Debug)]
pub(crate) struct Circuit {
    rule: Breaker,
    /// Whether it opens by itself, and not only where a policy says so.
    judges: bool,
    outcomes: VecDeque<Outcome>,
    failures: usize,
    phase: Phase,
    opened: Option<Opened>,
    openings: u64,
    /// Keys that failed: others are tried first.
    failing: HashSet<LaneKey>,
}

impl Circuit {
    /// A closed circuit; without a rule it opens only where a policy says so.
    pub(crate) fn new(rule: Option<Breaker>) -> Self {
        Self {
            judges: rule.is_some(),
            rule: rule.unwrap_or_default(),
            outcomes: VecDeque::new(),
            failures: 0,
            phase: Phase::Closed,
            opened: None,
            openings: 0,
            failing: HashSet::new(),
        }
    }

    /// Whether events are handed out as ever.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Whether nothing has failed lately.
    pub(crate) fn is_untroubled(&self) -> bool {
        self.failures == 0 && self.is_closed()
    }

    /// Whether an event is to be tried.
    pub(crate) fn wants_probe(&self) -> bool {
        matches!(self.phase, Phase::HalfOpen)
    }

    /// Whether nothing may start.
    pub(crate) fn holds(&self) -> bool {
        matches!(self.phase, Phase::Open { .. } | Phase::Probing(_))
    }

    /// What the group does once the circuit is open.
    pub(crate) fn on_open(&self) -> OnOpen {
        self.rule.on_open
    }

    /// How often it has opened; events tried in vain are not counted.
    pub(crate) fn openings(&self) -> u64 {
        self.openings
    }

    /// How it stands, unless it is closed.
    pub(crate) fn stats(&self) -> Option<CircuitStats> {
        let opened = self.opened.as_ref()?;
        let is_open = matches!(self.phase, Phase::Open { .. });
        Some(CircuitStats {
            state: match is_open {
                true => CircuitState::Open,
                false => CircuitState::HalfOpen,
            },
            since: opened.since_at,
            probe_at: is_open.then_some(opened.probe_at),
            probes_failed: opened.probes_failed,
            reason: opened.reason.clone(),
        })
    }

    /// How it stands for those who look from outside, unless it is closed.
    pub(crate) fn to_tell(&self) -> Option<OpenCircuit> {
        let stats = self.stats()?;
        Some(OpenCircuit {
            since: stats.since,
            probe_at: stats.probe_at.filter(|_| self.rule.on_open == OnOpen::Wait),
            reason: stats.reason,
        })
    }

    /// An event of a lane was handled. How long the circuit was open, if that closes it.
    pub(crate) fn succeeded(&mut self, lane: LaneKey, now: Duration) -> Option<Duration> {
        match self.phase {
            Phase::Closed if self.failures > 0 => {
                let known = self.outcomes.iter_mut().find(|one| one.fails(lane));
                match known {
                    Some(known) => {
                        known.failed = false;
                        known.counted = 0;
                        self.failures -= 1;
                    }
                    None => self.note(lane, false),
                }
                None
            }
            Phase::Probing(probed) if probed == lane => {
                self.phase = Phase::Closed;
                self.outcomes.clear();
                self.failures = 0;
                self.failing.clear();
                let since = self.opened.take().map_or(now, |opened| opened.since);
                Some(now.saturating_sub(since))
            }
            // Successes alone say nothing, and what was begun before the circuit opened says nothing about now.
            _ => None,
        }
    }

    /// An attempt failed, for a reason that is not its event's alone.
    pub(crate) fn failed(&mut self, failed: Failed<'_>) -> Judgement {
        match self.phase {
            Phase::Closed => {
                if self.judges && !self.outcomes.iter().any(|one| one.fails(failed.lane)) {
                    self.note(failed.lane, true);
                }
                let all_fails = self.judges && self.failures >= self.rule.failures;
                if !all_fails && !failed.pauses_group {
                    return Judgement::Counts;
                }
                self.openings += 1;
                let failing = self.outcomes.iter().filter(|one| one.failed);
                self.failing = failing.map(|one| one.lane).collect();
                self.open(failed, false)
            }
            Phase::Probing(probed) if probed == failed.lane => self.open(failed, true),
            Phase::Open { .. } | Phase::HalfOpen | Phase::Probing(_) => {
                self.add_failing(failed.lane);
                Judgement::Excused
            }
        }
    }

    fn open(&mut self, failed: Failed<'_>, again: bool) -> Judgement {
        self.add_failing(failed.lane);
        let opened = self.opened.get_or_insert_with(|| Opened {
            since: failed.now,
            since_at: failed.at,
            probe_at: failed.at,
            probes_failed: 0,
            reason: String::new(),
        });
        opened.probes_failed += u32::from(again);
        let backoff = Backoff {
            first: self.rule.probe_after,
            max: self.rule.probe_max,
            jitter_percent: PROBE_JITTER_PERCENT,
        };
        let wait = backoff.delay(opened.probes_failed.saturating_add(1), failed.random);
        let probe_in = wait.max(failed.asked.unwrap_or_default());
        opened.probe_at = failed.at.plus(probe_in);
        failed.reason.clone_into(&mut opened.reason);
        self.phase = Phase::Open {
            until: failed.now.saturating_add(probe_in),
        };
        Judgement::Opens { probe_in, again }
    }

    /// The failed attempt at the head of a lane is counted, and another one follows.
    pub(crate) fn counted(&mut self, lane: LaneKey) {
        if let Some(outcome) = self.outcomes.iter_mut().find(|one| one.fails(lane)) {
            outcome.counted += 1;
        }
    }

    /// What failed at the head of a lane left it: its attempts are not taken back any more.
    pub(crate) fn left(&mut self, lane: LaneKey) {
        self.forgiven(lane);
    }

    /// Attempts that were counted before the circuit opened, with their lanes: they failed for the same reason as all others.
    pub(crate) fn to_forgive(&self) -> Vec<(LaneKey, u32)> {
        let counted = self.outcomes.iter().filter(|one| one.counted > 0);
        counted.map(|one| (one.lane, one.counted)).collect()
    }

    /// The attempts of a lane are taken back; how many they are.
    pub(crate) fn forgiven(&mut self, lane: LaneKey) -> u32 {
        let outcome = self.outcomes.iter_mut().find(|one| one.fails(lane));
        outcome.map_or(0, |outcome| std::mem::take(&mut outcome.counted))
    }

    /// When something is to happen by itself.
    pub(crate) fn due_next(&self) -> Option<Duration> {
        match (&self.phase, self.rule.on_open) {
            (Phase::Open { until }, OnOpen::Wait) => Some(*until),
            _ => None,
        }
    }

    /// The time is now `now`: whether an event is to be tried from now on.
    pub(crate) fn advance_to(&mut self, now: Duration) -> bool {
        let is_due = self.due_next().is_some_and(|until| until <= now);
        if is_due {
            self.phase = Phase::HalfOpen;
        }
        is_due
    }

    /// Whether others than this lane are tried first.
    pub(crate) fn is_failing(&self, lane: LaneKey) -> bool {
        self.failing.contains(&lane)
    }

    /// The head of a lane is tried.
    pub(crate) fn probe(&mut self, lane: LaneKey) {
        self.phase = Phase::Probing(lane);
    }

    /// The lane whose head is tried.
    pub(crate) fn probing(&self) -> Option<LaneKey> {
        match self.phase {
            Phase::Probing(lane) => Some(lane),
            _ => None,
        }
    }

    /// What was tried has ended without telling whether anything else would succeed, such as an event that is wrong in itself: another one is tried.
    pub(crate) fn probe_told_nothing(&mut self) {
        if self.probing().is_some() {
            self.phase = Phase::HalfOpen;
        }
    }

    fn note(&mut self, lane: LaneKey, failed: bool) {
        self.failures += usize::from(failed);
        self.outcomes.push_back(Outcome {
            lane,
            failed,
            counted: 0,
        });
        if self.outcomes.len() > self.rule.of
            && let Some(oldest) = self.outcomes.pop_front()
        {
            self.failures -= usize::from(oldest.failed);
        }
    }

    fn add_failing(&mut self, lane: LaneKey) {
        // Forgotten, keys that fail are tried before others once more: that costs time alone.
        if self.failing.len() >= BREAKER_KEYS_MAX {
            self.failing.clear();
        }
        self.failing.insert(lane);
    }
}

impl Outcome {
    fn fails(&self, lane: LaneKey) -> bool {
        self.failed && self.lane == lane
    }
}

#[cfg(test)]
mod tests;
