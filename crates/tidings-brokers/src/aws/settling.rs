//! Settling by token: what is done is deleted, what is released is shown to others or waits here, what needs longer is kept from them.

use super::error::{Failure, Fault};
use super::open::Standing;
use super::subscription::Shared;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tidings_core::BoxFuture;
use tidings_core::broker::{BrokerError, Settle, SettleAction, SettleError, Token};
use tidings_core::limits::SQS_HELD_MAX;

pub(super) struct Settling(pub(super) Arc<Shared>);

/// A delivery that is open: its place among the outcomes, its token, its receipt, and for how long it is to be kept from others.
struct Due {
    place: usize,
    token: Token,
    receipt: String,
    time: Option<Duration>,
}

impl Settle for Settling {
    fn settle<'a>(
        &'a self,
        outcomes: &'a [(Token, SettleAction)],
    ) -> BoxFuture<'a, Vec<Result<(), SettleError>>> {
        Box::pin(async move {
            let shared = &self.0;
            let mut answers: Vec<_> = outcomes.iter().map(|_| Ok(())).collect();
            let (done, hidden) = shared.sort(outcomes, &mut answers);
            let _ending = Ending::begin(shared, done.iter().chain(&hidden));
            let receipts: Vec<_> = done.iter().map(|due| due.receipt.clone()).collect();
            let deleted = shared.parts.queue.delete(&receipts).await;
            for (due, outcome) in done.into_iter().zip(deleted) {
                let answer = shared.settled(&due, outcome, "delete a message");
                put(&mut answers, due.place, answer);
            }
            if hidden.iter().any(|due| due.time.is_none()) {
                drop(shared.extending.lock().await);
            }
            let asked = shared.parts.clock.elapsed();
            let receipts: Vec<_> = hidden
                .iter()
                .map(|due| (due.receipt.clone(), due.time.unwrap_or_default()))
                .collect();
            let kept = shared.parts.queue.hide(&receipts).await;
            let answered = shared.parts.clock.elapsed();
            for (due, outcome) in hidden.into_iter().zip(kept) {
                let answer = match (due.time, outcome) {
                    (Some(time), Ok(())) => {
                        let mut state = shared.lock();
                        if let Some(place) = state.open.place(due.token) {
                            state.open.extended(place, answered, asked + time);
                        }
                        Ok(())
                    }
                    (_, outcome) => {
                        shared.settled(&due, outcome, "change how long a message is hidden")
                    }
                };
                put(&mut answers, due.place, answer);
            }
            shared.room.notify_waiters();
            answers
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        // What was settled is deleted already.
        Box::pin(std::future::ready(Ok(())))
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async move {
            let shared = &self.0;
            shared.stop();
            let now = shared.parts.clock.elapsed();
            let receipts = shared.lock().open.let_go(now);
            let returned = shared.give_back(receipts).await;
            let tasks = {
                let mut tasks = shared.tasks.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *tasks)
            };
            for task in tasks {
                // A task that panicked has nothing left to end.
                drop(task.await);
            }
            let failure = returned.into_iter().filter_map(Result::err);
            let mut failure = failure
                .filter(|failure| failure.fault.is_trouble() && failure.fault != Fault::Missing);
            match failure.next_back() {
                Some(failure) => {
                    Err(failure.into_error(&shared.parts.speaker, "give messages back"))
                }
                None => Ok(()),
            }
        })
    }
}

/// Deliveries that requests are about to end. Those that are still open when it is dropped were not ended after all.
struct Ending<'a> {
    shared: &'a Shared,
    tokens: Vec<Token>,
}

impl<'a> Ending<'a> {
    /// What is only extended is not ended.
    fn begin<'b>(shared: &'a Shared, due: impl Iterator<Item = &'b Due>) -> Self {
        let ended = due.filter(|due| due.time.is_none());
        let tokens: Vec<_> = ended.map(|due| due.token).collect();
        let ending = Self { shared, tokens };
        ending.mark(true);
        ending
    }

    fn mark(&self, is_ending: bool) {
        let mut state = self.shared.lock();
        for token in &self.tokens {
            state.open.is_ending(*token, is_ending);
        }
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.mark(false);
    }
}

impl Shared {
    /// Those to delete, and those to hide or to show; what needs no request is answered at once.
    fn sort(
        &self,
        outcomes: &[(Token, SettleAction)],
        answers: &mut [Result<(), SettleError>],
    ) -> (Vec<Due>, Vec<Due>) {
        let now = self.parts.clock.elapsed();
        let mut state = self.lock();
        state.settled += 1;
        state.quiet &= !self.parts.queue.fifo;
        let (mut done, mut hidden) = (Vec::new(), Vec::new());
        for (place, &(token, action)) in outcomes.iter().enumerate() {
            let receipt = match state.open.standing(token, now) {
                Standing::Open(receipt) => receipt,
                Standing::Stale => {
                    put(answers, place, Err(SettleError::Stale));
                    continue;
                }
                Standing::Unknown => {
                    put(answers, place, Err(SettleError::Unknown));
                    continue;
                }
            };
            let mut due = Due {
                place,
                token,
                receipt,
                time: None,
            };
            match action {
                SettleAction::Ack => done.push(due),
                // Shown to others it could come behind later ones of its key that we have already: it waits here, and they behind it.
                SettleAction::Release if self.parts.queue.fifo => {
                    state.open.put_back(token);
                    self.changed.notify_waiters();
                }
                SettleAction::Release => hidden.push(due),
                SettleAction::Extend(time) => {
                    due.time = Some(time.clamp(self.parts.reading.visibility, SQS_HELD_MAX));
                    hidden.push(due);
                }
            }
        }
        (done, hidden)
    }

    fn settled(
        &self,
        due: &Due,
        outcome: Result<(), Failure>,
        action: &'static str,
    ) -> Result<(), SettleError> {
        match outcome {
            Ok(()) => {
                self.lock().open.forget(due.token);
                Ok(())
            }
            Err(failure) if matches!(failure.fault, Fault::Receipt | Fault::Missing) => {
                self.lock().open.forget(due.token);
                Err(SettleError::Stale)
            }
            Err(failure) => Err(failure.into_error(&self.parts.speaker, action).into()),
        }
    }
}

fn put(answers: &mut [Result<(), SettleError>], place: usize, answer: Result<(), SettleError>) {
    if let Some(slot) = answers.get_mut(place) {
        *slot = answer;
    }
}
