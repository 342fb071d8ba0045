//! The settler, which tells outcomes to the broker in batches, and the timer, which ends back-offs.

use super::observer::Notice;
use super::pipeline::{Pipeline, TaskWatch};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{SettleAction, SettleError, Token};
use tidings_core::limits::PAUSE_RETRY_INTERVAL;

/// Settles until the consumer is closing, its store is told everything, and nothing is left.
pub(super) async fn settle(pipeline: Arc<Pipeline>) {
    let _watch = TaskWatch {
        pipeline: Arc::clone(&pipeline),
        task: "settler",
    };
    let mut batch = Vec::new();
    loop {
        let last = {
            let mut state = pipeline.lock();
            std::mem::swap(&mut batch, &mut state.outcomes);
            state.settling = batch.len();
            state.settler_awake = !batch.is_empty();
            state.all_told
        };
        if batch.is_empty() {
            if last {
                return;
            }
            pipeline.settler.notified().await;
            continue;
        }
        let answers = pipeline.settle.settle(&batch).await;
        let again = unsettled(&pipeline, &batch, answers);
        batch.clear();
        let failed = !again.is_empty();
        finish(&pipeline, again, last);
        if failed && !last {
            pipeline.clock.sleep(PAUSE_RETRY_INTERVAL).await;
        }
    }
}

/// Outcomes that the broker did not take for reasons of its own. A stale token needs nothing: another instance handles the event.
fn unsettled(
    pipeline: &Pipeline,
    batch: &[(Token, SettleAction)],
    answers: Vec<Result<(), SettleError>>,
) -> Vec<(Token, SettleAction)> {
    let mut again = Vec::new();
    for (outcome, answer) in batch.iter().zip(answers) {
        if let Err(SettleError::Broker(error)) = answer {
            if again.is_empty() {
                let delay = PAUSE_RETRY_INTERVAL;
                let error = &error;
                pipeline.notice(Notice::BrokerFailed { error, delay });
            }
            again.push(*outcome);
        }
    }
    again
}

fn finish(pipeline: &Pipeline, mut again: Vec<(Token, SettleAction)>, last: bool) {
    let mut state = pipeline.lock();
    state.settling = 0;
    // What the broker does not take in the end is left: those events are handled again.
    if !again.is_empty() && !last {
        again.append(&mut state.outcomes);
        state.outcomes = again;
    }
    pipeline.wake_idle_waiter(&state);
    pipeline.wake_after(state);
}

/// Ends back-offs when their time has come.
pub(super) async fn keep_time(pipeline: Arc<Pipeline>) {
    let _watch = TaskWatch {
        pipeline: Arc::clone(&pipeline),
        task: "timer",
    };
    loop {
        let wait = due_in(&pipeline);
        match wait {
            None => pipeline.timer.notified().await,
            Some(wait) => {
                tokio::select! {
                    biased;
                    () = pipeline.timer.notified() => {}
                    () = pipeline.clock.sleep(wait) => {}
                }
            }
        }
    }
}

/// Lets lanes go on that have waited long enough; how long the next one has to wait.
fn due_in(pipeline: &Pipeline) -> Option<Duration> {
    let now = pipeline.clock.elapsed();
    let mut state = pipeline.lock();
    state.table.advance_to(now);
    pipeline.advance_circuit(&mut state, now);
    let mut due = earliest(state.table.due_next(), state.circuit.due_next());
    if let Some(ration) = &mut state.ration {
        let used_up = ration.allows(now) == 0;
        let next = now + ration.next_in();
        state.table.set_rationed(used_up);
        if used_up {
            due = earliest(due, Some(next));
        }
    }
    pipeline.wake_after(state);
    due.map(|due| due.saturating_sub(now))
}

fn earliest(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}
