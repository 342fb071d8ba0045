//! What one call of `publish` waits for: an answer for each piece of its batch.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tidings_core::broker::PublishError;

/// The position of a piece's first event, or why the piece was not accepted.
pub(crate) type Answer = Result<u64, PublishError>;

/// Answers for the pieces of one batch, in order.
#[derive(Debug, Default)]
pub(crate) struct Ticket {
    /// Guards the answers and who waits for them: held to add one or to look.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    answers: Vec<Answer>,
    failed: bool,
    waiting: Option<(usize, Waker)>,
}

impl Ticket {
    /// Adds the answer for the next piece. The waker, if it is the last one waited for, is to be woken outside every lock.
    #[must_use]
    pub(crate) fn answer(&self, answer: Answer) -> Option<Waker> {
        let mut state = self.state();
        state.failed |= answer.is_err();
        state.answers.push(answer);
        let done = state
            .waiting
            .as_ref()
            .is_some_and(|(count, _)| state.answers.len() >= *count);
        if done {
            state.waiting.take().map(|(_, waker)| waker)
        } else {
            None
        }
    }

    /// Whether a piece was not accepted; then no later piece of the batch may be.
    pub(crate) fn has_failed(&self) -> bool {
        self.state().failed
    }

    /// Waits until there are `count` answers and takes them.
    pub(crate) fn poll_answers(&self, count: usize, context: &Context<'_>) -> Poll<Vec<Answer>> {
        let mut state = self.state();
        if state.answers.len() >= count {
            return Poll::Ready(std::mem::take(&mut state.answers));
        }
        state.waiting = Some((count, context.waker().clone()));
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_once_every_piece_is_answered() {
        let ticket = Ticket::default();
        let context = Context::from_waker(Waker::noop());

        assert!(ticket.poll_answers(2, &context).is_pending());
        assert!(ticket.answer(Ok(7)).is_none());
        assert!(!ticket.has_failed());
        assert!(ticket.answer(Err(PublishError::NotAttempted)).is_some());
        assert!(ticket.has_failed());
        assert!(
            matches!(ticket.poll_answers(2, &context), Poll::Ready(answers) if answers.len() == 2)
        );
    }
}
