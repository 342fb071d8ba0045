//! What the publishers of one frame wait for: one answer that they share.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use tidings_core::broker::PublishError;

/// The position of the first event, or why the events were not accepted.
pub(crate) type Answer = Result<u64, PublishError>;

/// The answer for one frame. Who waits for it is known to the frame, as long as nothing changes.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    answer: OnceLock<Answer>,
    /// Guards who looked again before the answer and may be somebody else now: held to note it, and once the answer is there.
    late: Mutex<Vec<Waker>>,
}

impl Outcome {
    /// Gives the answer. Those that looked again are to be woken outside every lock.
    #[must_use]
    pub(crate) fn answer(&self, answer: Answer) -> Vec<Waker> {
        let _given_once = self.answer.set(answer);
        std::mem::take(&mut self.late())
    }

    /// Whether the frame was not accepted; then nothing that follows in the same batch may be.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.answer.get(), Some(Err(_)))
    }

    fn late(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one publisher's events in a frame.
#[derive(Debug)]
pub(crate) struct Place {
    outcome: Arc<Outcome>,
    /// Events of the frame that stand before.
    before: u64,
    /// Which of those that looked again it is.
    late_at: Option<usize>,
}

impl Place {
    pub(crate) fn new(outcome: Arc<Outcome>, before: u64) -> Self {
        Self {
            outcome,
            before,
            late_at: None,
        }
    }

    /// The outcome of the whole frame.
    pub(crate) fn outcome(&self) -> &Arc<Outcome> {
        &self.outcome
    }

    /// Waits for the answer. Whoever was noted when it added its piece need not look before it is woken.
    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<Answer> {
        if let Some(answer) = self.answer() {
            return Poll::Ready(answer);
        }
        let mut late = self.outcome.late();
        if let Some(answer) = self.answer() {
            return Poll::Ready(answer);
        }
        match self.late_at.and_then(|at| late.get_mut(at)) {
            Some(waker) => waker.clone_from(context.waker()),
            None => {
                self.late_at = Some(late.len());
                late.push(context.waker().clone());
            }
        }
        Poll::Pending
    }

    fn answer(&self) -> Option<Answer> {
        let answer = self.outcome.answer.get()?;
        Some(answer.clone().map(|first| first + self.before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_of_one_frame_share_its_answer_each_from_its_own_place() {
        let outcome = Arc::new(Outcome::default());
        let mut places = [0, 3].map(|before| Place::new(outcome.clone(), before));
        let context = Context::from_waker(Waker::noop());

        for place in &mut places {
            assert!(place.poll(&context).is_pending());
            assert!(place.poll(&context).is_pending());
        }
        assert_eq!(outcome.answer(Ok(7)).len(), 2, "each is noted once");

        assert!(!outcome.has_failed());
        let answers = places.map(|mut place| match place.poll(&context) {
            Poll::Ready(answer) => answer.unwrap(),
            Poll::Pending => panic!("it was answered"),
        });
        assert_eq!(answers, [7, 10]);
    }

    #[test]
    fn a_refusal_is_remembered() {
        let outcome = Arc::new(Outcome::default());

        assert!(outcome.answer(Err(PublishError::NotAttempted)).is_empty());

        assert!(outcome.has_failed());
    }
}
