//! What follows from a failure: another attempt in place, a later one, or the dead letters. Pure.

use super::retry::Backoff;
use std::any::TypeId;
use std::error::Error;
use std::fmt;
use std::time::Duration;
use tidings_core::extract::{HandlerError, HandlerErrorKind};
use tidings_core::limits::{ATTEMPTS_DEFAULT, RETRY_AFTER_MAX};
use tidings_core::store::DeathCause;

/// What becomes of the later events of a key whose event was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnFailure {
    /// They wait until a person decides: order is never broken.
    Hold,
    /// They are handled.
    Continue,
}

impl OnFailure {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Continue => "continue",
        }
    }
}

/// How often an event is tried, and when.
///
/// ```
/// # use std::time::Duration;
/// # use tidings_flow::consumer::Policy;
/// let policy = Policy {
///     attempts: 3,
///     later: vec![Duration::from_secs(60), Duration::from_secs(3_600)],
///     ..Policy::default()
/// };
/// assert_eq!(policy.attempts, 3);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Attempts in place: one after the other, while the events of the key wait in memory.
    pub attempts: u32,
    /// The waits between attempts in place.
    pub backoff: Backoff,
    /// The waits before the attempts after those in place, one attempt each. Meanwhile the event and those behind it of its key are parked in the store. Empty: it becomes a dead letter.
    pub later: Vec<Duration>,
    /// How long after its first failure an event is still put off until later.
    pub age_max: Option<Duration>,
    /// Gives the event up at the first failure.
    pub permanent: bool,
    /// Opens the circuit of the group at once, and counts no attempt: the failure says that what the handlers need is down. It is stronger than `permanent`.
    pub pause_group: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            attempts: ATTEMPTS_DEFAULT,
            backoff: Backoff::default(),
            later: Vec::new(),
            age_max: None,
            permanent: false,
            pause_group: false,
        }
    }
}

/// How far a delivery has come when it fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial {
    /// Which attempt failed, from 1.
    pub(crate) attempt: u32,
    /// How often it was put off before.
    pub(crate) rounds: u32,
    /// How long ago the first attempt failed.
    pub(crate) age: Duration,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The event waits at the head of its lane, in memory.
    InPlace(Duration),
    /// The lane is parked.
    Later(Duration),
    /// It becomes a dead letter.
    Dead(DeathCause),
}

impl Policy {
    /// What follows from a failure; `random` are random bits for the jitter.
    pub(crate) fn decide(&self, trial: Trial, kind: HandlerErrorKind, random: u64) -> Decision {
        if kind == HandlerErrorKind::Permanent || self.permanent {
            return Decision::Dead(DeathCause::Permanent);
        }
        let asked = match kind {
            HandlerErrorKind::RetryAfter(delay) => Some(delay.min(RETRY_AFTER_MAX)),
            _ => None,
        };
        if trial.rounds == 0 && trial.attempt < self.attempts {
            let delay = asked.unwrap_or_else(|| self.backoff.delay(trial.attempt, random));
            return Decision::InPlace(delay);
        }
        let Some(delay) = self.later.get(trial.rounds as usize) else {
            return Decision::Dead(DeathCause::Attempts);
        };
        let delay = asked.map_or(*delay, |asked| asked.max(*delay));
        // Chance adds to a wait here, so that a retry is never before the time that was written down.
        let delay = delay.saturating_add(self.backoff.jitter(delay / 10, random));
        match self.age_max {
            Some(age_max) if trial.age.saturating_add(delay) > age_max => {
                Decision::Dead(DeathCause::Age)
            }
            _ => Decision::Later(delay),
        }
    }
}

type Matches = fn(&(dyn Error + 'static)) -> bool;

/// The policies of a group: one for all failures, and others for errors of certain types.
#[derive(Clone, Default)]
pub struct Policies {
    /// For every error without a policy of its own.
    pub(crate) otherwise: Policy,
    typed: Vec<(TypeId, Matches, Policy)>,
}

impl Policies {
    /// Sets the policy for failures in whose chain of causes an error of this type stands. The first one set counts where several fit.
    pub fn set<E: Error + 'static>(&mut self, policy: Policy) {
        let of = TypeId::of::<E>();
        let matches: Matches = |error| error.is::<E>();
        match self.typed.iter_mut().find(|(known, ..)| *known == of) {
            Some(known) => known.2 = policy,
            None => self.typed.push((of, matches, policy)),
        }
    }

    /// The policy for a failure.
    pub(crate) fn of(&self, failure: &HandlerError) -> &Policy {
        if self.typed.is_empty() {
            return &self.otherwise;
        }
        let mut next = failure
            .source()
            .map(|source| source as &(dyn Error + 'static));
        while let Some(error) = next {
            let found = self.typed.iter().find(|(_, matches, _)| matches(error));
            if let Some((.., policy)) = found {
                return policy;
            }
            next = error.source();
        }
        &self.otherwise
    }

    /// How often an event is tried at most, in place and later; nothing where that depends on its error.
    pub(crate) fn attempts_max(&self) -> Option<u32> {
        let attempts = |policy: &Policy| {
            let later = u32::try_from(policy.later.len()).unwrap_or(u32::MAX);
            policy.attempts.saturating_add(later)
        };
        let of_all = attempts(&self.otherwise);
        let typed = self.typed.iter().map(|(.., policy)| policy);
        // The others give up or wait whatever the attempt.
        let mut counting = typed.filter(|policy| !policy.permanent && !policy.pause_group);
        let agree = counting.all(|policy| attempts(policy) == of_all);
        agree.then_some(of_all)
    }

    /// Every policy, the one for all first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Policy> {
        std::iter::once(&self.otherwise).chain(self.typed.iter().map(|(.., policy)| policy))
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policies")
            .field("otherwise", &self.otherwise)
            .field("typed", &self.typed.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tidings_core::limits::LATER_DELAY_MAX;

    fn policy() -> Policy {
        Policy {
            attempts: 2,
            later: vec![Duration::from_secs(10), Duration::from_secs(60)],
            backoff: Backoff {
                jitter_percent: 0,
                ..Backoff::default()
            },
            ..Policy::default()
        }
    }

    fn trial(attempt: u32, rounds: u32) -> Trial {
        Trial {
            attempt,
            rounds,
            age: Duration::ZERO,
        }
    }

    #[test]
    fn first_in_place_then_later_then_dead() {
        let policy = policy();
        let decide =
            |attempt, rounds| policy.decide(trial(attempt, rounds), HandlerErrorKind::Transient, 0);

        assert_eq!(decide(1, 0), Decision::InPlace(Duration::from_millis(50)));
        assert_eq!(decide(2, 0), Decision::Later(Duration::from_secs(10)));
        assert_eq!(decide(3, 1), Decision::Later(Duration::from_secs(60)));
        assert_eq!(decide(4, 2), Decision::Dead(DeathCause::Attempts));
    }

    #[test]
    fn an_asked_delay_is_kept_within_its_limit_and_never_shortens_the_schedule() {
        let asked = |seconds| HandlerErrorKind::RetryAfter(Duration::from_secs(seconds));
        let policy = policy();

        assert_eq!(
            policy.decide(trial(1, 0), asked(7), 1),
            Decision::InPlace(Duration::from_secs(7))
        );
        assert_eq!(
            policy.decide(trial(1, 0), asked(99_999), 1),
            Decision::InPlace(RETRY_AFTER_MAX)
        );
        assert_eq!(
            policy.decide(trial(2, 0), asked(7), 0),
            Decision::Later(Duration::from_secs(10))
        );
        assert_eq!(
            policy.decide(trial(2, 0), asked(70), 0),
            Decision::Later(Duration::from_secs(70))
        );
    }

    proptest! {
        #[test]
        fn a_later_attempt_is_never_before_its_time_and_at_most_a_tenth_of_its_wait_behind_it(
            random: u64,
            jitter_percent in 0_u8..=100,
            wait_millis in 0..=LATER_DELAY_MAX.as_millis() as u64,
            asked_millis in proptest::option::of(0..=2 * RETRY_AFTER_MAX.as_millis() as u64),
        ) {
            let wait = Duration::from_millis(wait_millis);
            let mut policy = policy();
            policy.later = vec![wait];
            policy.backoff.jitter_percent = jitter_percent;
            let asked = asked_millis.map(Duration::from_millis);
            let kind = asked.map_or(HandlerErrorKind::Transient, HandlerErrorKind::RetryAfter);

            let decision = policy.decide(trial(2, 0), kind, random);

            let said = wait.max(asked.unwrap_or_default().min(RETRY_AFTER_MAX));
            let Decision::Later(delay) = decision else {
                return Err(TestCaseError::fail(format!("{decision:?}")));
            };
            prop_assert!(delay >= said, "{delay:?} is before {said:?}");
            prop_assert!(delay <= said + said / 10, "{delay:?} is long after {said:?}");
        }
    }

    #[test]
    fn chance_spreads_later_attempts_behind_their_time() {
        let mut policy = policy();
        policy.backoff.jitter_percent = 50;
        let decide = |random| policy.decide(trial(2, 0), HandlerErrorKind::Transient, random);

        assert_eq!(decide(0), Decision::Later(Duration::from_secs(10)));
        let half = Decision::Later(Duration::from_millis(10_250));
        assert_eq!(decide(u64::MAX / 2 + 1), half);
    }

    #[test]
    fn a_permanent_failure_and_one_that_is_too_old_are_given_up() {
        let mut policy = policy();
        policy.age_max = Some(Duration::from_secs(30));
        let old = Trial {
            age: Duration::from_secs(25),
            ..trial(2, 0)
        };

        assert_eq!(
            policy.decide(trial(1, 0), HandlerErrorKind::Permanent, 1),
            Decision::Dead(DeathCause::Permanent)
        );
        assert_eq!(
            policy.decide(old, HandlerErrorKind::Transient, 0),
            Decision::Dead(DeathCause::Age)
        );
        policy.permanent = true;
        assert_eq!(
            policy.decide(trial(1, 0), HandlerErrorKind::Transient, 0),
            Decision::Dead(DeathCause::Permanent)
        );
    }

    #[derive(Debug, thiserror::Error)]
    #[error("no money")]
    struct NoMoney;

    #[derive(Debug, thiserror::Error)]
    #[error("the bank said no")]
    struct Bank(#[source] NoMoney);

    #[test]
    fn how_often_an_event_is_tried_is_known_unless_it_depends_on_its_error() {
        let mut policies = Policies {
            otherwise: policy(),
            ..Policies::default()
        };
        assert_eq!(policies.attempts_max(), Some(4));

        policies.set::<Bank>(Policy {
            permanent: true,
            ..Policy::default()
        });
        assert_eq!(policies.attempts_max(), Some(4));
        policies.set::<NoMoney>(Policy {
            attempts: 3,
            later: vec![Duration::from_secs(1)],
            ..Policy::default()
        });
        assert_eq!(policies.attempts_max(), Some(4), "another way, as often");
        policies.set::<NoMoney>(Policy::default());
        assert_eq!(policies.attempts_max(), None);
    }

    #[test]
    fn the_type_of_an_error_or_of_its_cause_chooses_the_policy() {
        let mut policies = Policies::default();
        policies.set::<NoMoney>(policy());

        assert_eq!(policies.of(&HandlerError::from(Bank(NoMoney))), &policy());
        assert_eq!(policies.of(&HandlerError::from(NoMoney)), &policy());
        assert_eq!(
            policies.of(&HandlerError::transient_message("no money")),
            &Policy::default()
        );
        assert_eq!(
            policies.of(&HandlerError::from(std::io::Error::other("no"))),
            &Policy::default()
        );
    }
}
