//! A clock that moves only when the test says so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;
use tidings_core::seam::Clock;
use tidings_core::{BoxFuture, Timestamp};

/// A clock of the test's own. Clones show the same time.
///
/// ```
/// use std::time::Duration;
/// use tidings_core::seam::Clock;
/// use tidings_testkit::ManualClock;
/// let clock = ManualClock::at("2024-01-15T10:30:00Z".parse()?);
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().to_string(), "2024-01-15T10:31:00Z");
/// assert_eq!(clock.elapsed(), Duration::from_secs(60));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock {
    /// Guards the time and who sleeps: held for a look or a step.
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    now: Timestamp,
    elapsed: Duration,
    sleepers: Vec<(Duration, Waker)>,
}

impl ManualClock {
    /// A clock that shows this time.
    pub fn at(now: Timestamp) -> Self {
        let state = State {
            now,
            elapsed: Duration::ZERO,
            sleepers: Vec::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Lets time pass and wakes whoever slept that long.
    pub fn advance(&self, duration: Duration) {
        let due: Vec<Waker> = {
            let mut state = self.state();
            state.now = state.now.plus(duration);
            state.elapsed += duration;
            let elapsed = state.elapsed;
            let (due, later) = state
                .sleepers
                .drain(..)
                .partition(|(until, _)| *until <= elapsed);
            state.sleepers = later;
            due.into_iter()
                .map(|(_, waker): (Duration, Waker)| waker)
                .collect()
        };
        due.into_iter().for_each(Waker::wake);
    }

    /// Sets the wall clock, also backwards, as an operator or a time server does. No time passes by it.
    pub fn set(&self, now: Timestamp) {
        self.state().now = now;
    }

    /// How many sleep.
    pub fn sleepers(&self) -> usize {
        self.state().sleepers.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.state().now
    }

    fn elapsed(&self) -> Duration {
        self.state().elapsed
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let until = self.elapsed() + duration;
        let clock = self.clone();
        Box::pin(std::future::poll_fn(move |context| {
            let mut state = clock.state();
            if state.elapsed >= until {
                return Poll::Ready(());
            }
            let waker = context.waker();
            if !state
                .sleepers
                .iter()
                .any(|(other, known)| *other == until && known.will_wake(waker))
            {
                state.sleepers.push((until, waker.clone()));
            }
            Poll::Pending
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Context;

    #[test]
    fn a_sleeper_wakes_when_its_time_has_passed_and_not_before() {
        let clock = ManualClock::at(Timestamp::from_micros(0));
        let mut sleep = clock.sleep(Duration::from_secs(2));
        let mut context = Context::from_waker(Waker::noop());

        assert!(sleep.as_mut().poll(&mut context).is_pending());
        clock.advance(Duration::from_secs(1));
        assert!(sleep.as_mut().poll(&mut context).is_pending());
        clock.advance(Duration::from_secs(1));
        assert!(sleep.as_mut().poll(&mut context).is_ready());
        assert_eq!(clock.sleepers(), 0);
    }

    #[test]
    fn the_wall_clock_may_jump_back_while_elapsed_goes_on() {
        let clock = ManualClock::at(Timestamp::from_micros(5_000_000));

        clock.set(Timestamp::from_micros(1));
        clock.advance(Duration::from_micros(1));

        assert_eq!(clock.now(), Timestamp::from_micros(2));
        assert_eq!(clock.elapsed(), Duration::from_micros(1));
    }
}
