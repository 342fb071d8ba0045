//! The bounded queue between publishers, which wait as futures, and the one thread that writes, which waits as a thread.

use super::pieces::Piece;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tidings_core::limits::{APPEND_QUEUE_BYTES_MAX, APPEND_QUEUE_EVENTS_MAX};

/// How long the writer waits for publishers that are likely to come: less than a flush takes.
const GATHER: Duration = Duration::from_micros(50);

/// What waits to be written.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Guards what waits: held to add a piece, and by the writer to take all of them at once.
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Piece>,
    events: usize,
    bytes: usize,
    closing: bool,
    closed: bool,
    writer_sleeps: bool,
    /// The writer sleeps until so many pieces are there.
    wanted: usize,
    wait_for_room: Vec<Waker>,
    wait_for_close: Vec<Waker>,
}

/// What the writer is to do next.
#[derive(Debug)]
pub(crate) enum Work {
    /// Write these.
    Write(VecDeque<Piece>),
    /// Nothing came for a while.
    Idle,
    /// Nothing more will come.
    Close,
}

impl Queue {
    /// Adds a piece once there is room for it; gives it back if the queue is closed.
    pub(crate) fn poll_push(&self, piece: &mut Option<Piece>, context: &Context<'_>) -> Poll<bool> {
        let mut state = self.state();
        if state.closing {
            return Poll::Ready(false);
        }
        let Some((events, bytes)) = piece
            .as_ref()
            .map(|piece| (piece.count as usize, piece.frame.len()))
        else {
            return Poll::Ready(true);
        };
        let fits = state.events + events <= APPEND_QUEUE_EVENTS_MAX
            && state.bytes + bytes <= APPEND_QUEUE_BYTES_MAX;
        // A piece that is larger than the whole queue has its turn when the queue is empty.
        if !fits && !state.pieces.is_empty() {
            state.wait_for_room.push(context.waker().clone());
            return Poll::Pending;
        }
        state.events += events;
        state.bytes += bytes;
        state.pieces.extend(piece.take());
        let wake = state.writer_sleeps && state.pieces.len() >= state.wanted;
        if wake {
            state.writer_sleeps = false;
        }
        drop(state);
        if wake {
            self.work.notify_one();
        }
        Poll::Ready(true)
    }

    /// Waits for work, at most for `idle` if it is given. `spare` is an empty queue whose memory is used again.
    ///
    /// Publishers that were acknowledged together are likely to come back together: so the writer waits a moment for as many pieces as it wrote last (`wanted`), because each flush that carries half of them costs as much as one that carries all.
    pub(crate) fn take(
        &self,
        idle: Option<Duration>,
        wanted: usize,
        spare: VecDeque<Piece>,
    ) -> Work {
        let mut state = self.state();
        let mut gathered = false;
        loop {
            if !state.pieces.is_empty()
                && !gathered
                && state.pieces.len() < wanted
                && !state.closing
            {
                gathered = true;
                state.writer_sleeps = true;
                state.wanted = wanted;
                let slept = self.work.wait_timeout_while(state, GATHER, |state| {
                    state.pieces.len() < wanted && !state.closing
                });
                state = slept.unwrap_or_else(PoisonError::into_inner).0;
                state.writer_sleeps = false;
            }
            state.wanted = 0;
            if !state.pieces.is_empty() {
                let pieces = std::mem::replace(&mut state.pieces, spare);
                (state.events, state.bytes) = (0, 0);
                let waiting = std::mem::take(&mut state.wait_for_room);
                drop(state);
                waiting.into_iter().for_each(Waker::wake);
                return Work::Write(pieces);
            }
            if state.closing {
                return Work::Close;
            }
            state.writer_sleeps = true;
            match idle {
                None => {
                    state = self
                        .work
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner)
                }
                Some(idle) => {
                    let (woken, timeout) = self
                        .work
                        .wait_timeout(state, idle)
                        .unwrap_or_else(PoisonError::into_inner);
                    state = woken;
                    if timeout.timed_out() && state.pieces.is_empty() && !state.closing {
                        state.writer_sleeps = false;
                        return Work::Idle;
                    }
                }
            }
        }
    }

    /// Takes no more pieces; the writer finishes what is there.
    pub(crate) fn close(&self) {
        let waiting = {
            let mut state = self.state();
            state.closing = true;
            std::mem::take(&mut state.wait_for_room)
        };
        self.work.notify_one();
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The writer has ended.
    pub(crate) fn finish(&self) {
        let (left, waiting) = {
            let mut state = self.state();
            state.closing = true;
            state.closed = true;
            let mut waiting = std::mem::take(&mut state.wait_for_room);
            waiting.append(&mut state.wait_for_close);
            (std::mem::take(&mut state.pieces), waiting)
        };
        // Each answers its publisher as it is dropped.
        drop(left);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Waits until the writer has ended.
    pub(crate) fn poll_closed(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.closed {
            return Poll::Ready(());
        }
        state.wait_for_close.push(context.waker().clone());
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
