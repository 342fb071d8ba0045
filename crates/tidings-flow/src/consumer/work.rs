//! The workers: as many as cores, each running many handlings at once. A handling that ends when it is first polled costs no task and no timer.

use super::batch::conclude_batch;
use super::handling::{Begun, Handling, conclude_one, panic_failure};
use super::lane::{Call, Running};
use super::pipeline::{Completion, Exchange, Handler, Pipeline, TaskWatch, Work};
use crate::handler::{BatchHandler, DeliveryHandler, HandlerResult};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tidings_core::BoxFuture;
use tidings_core::codes;
use tidings_core::extract::{DeliveryGuarantee, Emit, HandlerContext, HandlerError, HandlerShared};
use tidings_core::store::WorkSlot;

/// A worker takes about as many items at once as it begins in this time: fewer would cost a lock for each, more would keep them from a worker that is free.
const CHUNK_TIME: Duration = Duration::from_micros(100);
/// Items that a worker takes at once at most.
const CHUNK_ITEMS_MAX: usize = 256;

/// Calls that a worker begins before other tasks have their turn; tokio's own budget is twice as much.
const BEGUN_MAX: usize = 64;

/// Works until draining begins and everything that runs here has ended.
pub(super) async fn work(pipeline: Arc<Pipeline>, me: usize) {
    let _watch = TaskWatch {
        pipeline: Arc::clone(&pipeline),
        task: "worker",
    };
    let mut worker = Worker {
        shared: pipeline.handler_shared(),
        pipeline,
        exchange: Exchange {
            done: Vec::new(),
            calls_ended: 0,
            calls: Vec::new(),
            items_max: 1,
            slow: false,
        },
        handlings: FuturesUnordered::new(),
        emit: None,
        begun: 0,
    };
    while worker.turn(me).await {}
}

/// What a call came to.
enum CallEnd {
    One(Completion),
    Many(Vec<Completion>),
}

struct Worker {
    pipeline: Arc<Pipeline>,
    shared: Arc<HandlerShared>,
    exchange: Exchange,
    /// Calls that wait for something.
    handlings: FuturesUnordered<BoxFuture<'static, CallEnd>>,
    /// For the next handling, left over from one that has ended and emitted nothing.
    emit: Option<Emit>,
    /// Calls begun since other tasks had their turn.
    begun: usize,
}

impl Worker {
    /// Brings news, takes calls, begins them; without any it waits. `false` when all is done.
    async fn turn(&mut self, me: usize) -> bool {
        let goes_on = self.pipeline.exchange(me, &mut self.exchange);
        if !goes_on && self.handlings.is_empty() && self.exchange.calls.is_empty() {
            return false;
        }
        if self.exchange.calls.is_empty() {
            let pipeline = Arc::clone(&self.pipeline);
            let woken = async {
                match pipeline.workers.get(me) {
                    Some(notify) => notify.notified().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(end) = self.handlings.next(), if !self.handlings.is_empty() => self.take(end),
                () = woken => {}
            }
        } else {
            self.begun += self.exchange.calls.len();
            self.begin_all().await;
            if self.begun >= BEGUN_MAX || self.exchange.slow {
                self.begun = 0;
                // Lets other tasks run, and the handlers' own tokio resources refill their budget.
                tokio::task::yield_now().await;
            }
        }
        self.take_ended().await;
        true
    }

    async fn begin_all(&mut self) {
        let before = self.pipeline.clock.elapsed();
        let mut calls = std::mem::take(&mut self.exchange.calls);
        poll_fn(|cx| {
            for call in calls.drain(..) {
                self.begin(call, cx);
            }
            Poll::Ready(())
        })
        .await;
        self.exchange.calls = calls;
        let took = self.pipeline.clock.elapsed().saturating_sub(before);
        self.exchange.slow = took > CHUNK_TIME;
        let items_max = self.exchange.items_max;
        self.exchange.items_max = if took > CHUNK_TIME * 2 {
            (items_max / 2).max(1)
        } else if took < CHUNK_TIME {
            (items_max * 2).min(CHUNK_ITEMS_MAX)
        } else {
            items_max
        };
    }

    /// Takes what has ended in the meantime, without waiting.
    async fn take_ended(&mut self) {
        if self.handlings.is_empty() {
            return;
        }
        poll_fn(|cx| {
            while let Poll::Ready(Some(end)) = self.handlings.poll_next_unpin(cx) {
                self.take(end);
            }
            Poll::Ready(())
        })
        .await;
    }

    fn take(&mut self, end: CallEnd) {
        self.exchange.calls_ended += 1;
        match end {
            CallEnd::One(completion) => self.exchange.done.push(completion),
            CallEnd::Many(completions) => self.exchange.done.extend(completions),
        }
    }

    fn begin(&mut self, call: Call<Work>, cx: &mut Context<'_>) {
        match call {
            Call::One(running) => self.begin_one(running, cx),
            Call::Many(running) => self.begin_batch(running),
        }
    }

    fn began(&self) -> Duration {
        match self.pipeline.observer {
            Some(_) => self.pipeline.clock.elapsed(),
            None => Duration::ZERO,
        }
    }

    fn begin_one(&mut self, running: Running<Work>, cx: &mut Context<'_>) {
        if self.pipeline.is_risky(&running) {
            let pipeline = Arc::clone(&self.pipeline);
            self.handlings.push(Box::pin(async move {
                CallEnd::One(pipeline.handle_suspect(running).await)
            }));
            return;
        }
        let Some(Handler::Single(handler)) = self.pipeline.handlers.get(running.item.handler)
        else {
            unreachable!("items of the first class go to single handlers");
        };
        let handling = Handling {
            emit: self.emit.take().unwrap_or_default(),
            work: slot_for(handler.delivery()),
            began: self.began(),
            running,
        };
        let begun = match unreadable(&handling.running) {
            None => {
                let context = context_of(&handling, &self.shared);
                begin_handler(&**handler, context, cx)
            }
            Some(error) => Begun::Ended(Err(error)),
        };
        if let Begun::Ended(Ok(())) = begun
            && handling.work.is_closed()
            && handling.emit.is_empty()
            && !self.pipeline.is_noted(&handling.running)
        {
            let running = &handling.running;
            self.pipeline.tell_handled(running, &[], handling.began);
            self.exchange.done.push(Completion::Handled {
                lane: running.lane,
                token: running.item.token,
                emitted: 0,
            });
            self.exchange.calls_ended += 1;
            self.emit = Some(handling.emit).filter(Emit::is_unused);
            return;
        }
        let pipeline = Arc::clone(&self.pipeline);
        self.handlings.push(Box::pin(async move {
            CallEnd::One(conclude_one(pipeline, handling, begun).await)
        }));
    }

    fn begin_batch(&mut self, running: Vec<Running<Work>>) {
        let first = running.first().map(|first| first.item.handler);
        let Some(Handler::Batch(handler)) =
            first.and_then(|index| self.pipeline.handlers.get(index))
        else {
            unreachable!("a batch has an item, and its class belongs to a batch handler");
        };
        let began = self.began();
        let work = slot_for(handler.delivery());
        let (suspects, running): (Vec<_>, Vec<_>) = running
            .into_iter()
            .partition(|running| self.pipeline.is_risky(running));
        let handlings = running.into_iter().map(|running| Handling {
            emit: Emit::default(),
            work: work.clone(),
            began,
            running,
        });
        let (foreign, handlings): (Vec<Handling>, Vec<Handling>) =
            handlings.partition(|handling| handling.running.item.problem.is_some());
        let contexts = handlings
            .iter()
            .map(|handling| context_of(handling, &self.shared))
            .collect();
        let future = (!handlings.is_empty()).then(|| begin_batch_handler(handler, contexts));
        let pipeline = Arc::clone(&self.pipeline);
        self.handlings.push(Box::pin(async move {
            let mut completions = Vec::new();
            for running in suspects {
                completions.push(pipeline.handle_suspect(running).await);
            }
            for mut handling in foreign {
                // It has no part in the transaction of the batch.
                handling.work = WorkSlot::default();
                if let Some(error) = unreadable(&handling.running) {
                    completions.push(pipeline.conclude(handling, Err(error)).await);
                }
            }
            if let Some(future) = future {
                completions.extend(conclude_batch(pipeline, handlings, future).await);
            }
            CallEnd::Many(completions)
        }));
    }
}

/// Why no handler can see a message that is no event.
pub(super) fn unreadable(running: &Running<Work>) -> Option<HandlerError> {
    let problem = running.item.problem.as_deref()?;
    let reason = format!("{}: {problem}", codes::MESSAGE_UNREADABLE.title());
    Some(HandlerError::permanent_message(reason))
}

/// A slot for a handler that claims to take a transaction, and no room for one else.
pub(super) fn slot_for(claim: DeliveryGuarantee) -> WorkSlot {
    if claim == DeliveryGuarantee::EffectOnce {
        WorkSlot::open()
    } else {
        WorkSlot::default()
    }
}

pub(super) fn context_of(handling: &Handling, shared: &Arc<HandlerShared>) -> HandlerContext {
    let work = &handling.running.item;
    HandlerContext {
        envelope: work.envelope.clone(),
        position: work.position,
        append_time: work.append_time,
        attempt: handling.running.attempt,
        emit: handling.emit.clone(),
        work: handling.work.clone(),
        shared: Arc::clone(shared),
    }
}

/// Calls a handler and polls it once; a panic is a failure.
fn begin_handler(
    handler: &dyn DeliveryHandler,
    context: HandlerContext,
    cx: &mut Context<'_>,
) -> Begun {
    let polled = catch_unwind(AssertUnwindSafe(|| {
        let mut future = handler.handle(context);
        match future.as_mut().poll(cx) {
            Poll::Ready(result) => Begun::Ended(result),
            Poll::Pending => Begun::Waiting(future),
        }
    }));
    polled.unwrap_or_else(|panic| Begun::Ended(Err(panic_failure(&*panic))))
}

/// Calls a batch handler inside its own future, where a panic of the call itself is caught as well.
fn begin_batch_handler(
    handler: &Arc<dyn BatchHandler>,
    contexts: Vec<HandlerContext>,
) -> BoxFuture<'static, Vec<HandlerResult>> {
    let handler = Arc::clone(handler);
    Box::pin(async move { handler.handle(contexts).await })
}
