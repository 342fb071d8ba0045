//! The bounded queue between publishers, which wait as futures, and the one thread that writes, which waits as a thread.

use super::outcome::Place;
use super::pending::PendingFrame;
use super::pieces::Piece;
use super::spare::Spare;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tidings_core::limits::{APPEND_QUEUE_BYTES_MAX, APPEND_QUEUE_EVENTS_MAX};

/// How long the writer waits for publishers that are likely to come: less than a flush takes.
const GATHER: Duration = Duration::from_micros(50);

/// So often a spinning writer looks: 20 to 100 microseconds on the processors of today.
const SPINS_MAX: usize = 1_500;

/// What waits to be written.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Guards what waits: held to add a piece, and by the writer to take everything at once.
    state: Mutex<State>,
    work: Condvar,
    /// Set once what a spinning writer wants is there.
    ready: AtomicBool,
    /// Buffers for what is to be added.
    pub spare: Spare,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<PendingFrame>,
    /// Pieces in these frames.
    pieces: usize,
    events: usize,
    bytes: usize,
    closing: bool,
    closed: bool,
    writer_sleeps: bool,
    writer_spins: bool,
    /// The writer sleeps or spins until so many pieces are there.
    wanted: usize,
    wait_for_room: Vec<Waker>,
    wait_for_close: Vec<Waker>,
}

/// What the writer is to do next.
#[derive(Debug)]
pub(crate) enum Work {
    /// Write these frames, which are made of so many pieces.
    Write(VecDeque<PendingFrame>, usize),
    /// Nothing came for a while.
    Idle,
    /// Nothing more will come.
    Close,
}

impl Queue {
    /// Adds a piece once there is room for it and tells its place; `None` if the queue is closed. Once it is added, whoever polls is woken when there is an answer.
    pub(crate) fn poll_push(
        &self,
        piece: &mut Option<Piece>,
        context: &Context<'_>,
    ) -> Poll<Option<Place>> {
        let waker = context.waker().clone();
        let mut state = self.state();
        let Some(given) = piece.take_if(|_| !state.closing) else {
            return Poll::Ready(None);
        };
        // A piece that is larger than the whole queue has its turn when the queue is empty.
        if !state.has_room_for(&given) && !state.frames.is_empty() {
            *piece = Some(given);
            state.wait_for_room.push(waker);
            return Poll::Pending;
        }
        let place = state.add(given, waker, &self.spare);
        if state.writer_spins && state.pieces >= state.wanted {
            self.ready.store(true, Ordering::Release);
        }
        let wake = state.writer_sleeps && state.pieces >= state.wanted;
        if wake {
            state.writer_sleeps = false;
        }
        drop(state);
        if wake {
            self.work.notify_one();
        }
        Poll::Ready(Some(place))
    }

    /// Waits for work, at most for `idle`. `spare` is an empty queue whose memory is used again.
    ///
    /// Publishers that were acknowledged together are likely to come back together: so the writer waits a moment for as many pieces as it wrote last (`wanted`), because each flush that carries half of them costs as much as one that carries all.
    ///
    /// `soon` says that one came back alone, and at once: then it is waited for awake, a moment, since waking a thread takes longer than such a publisher needs.
    pub(crate) fn take(
        &self,
        idle: Duration,
        wanted: usize,
        soon: bool,
        spare: VecDeque<PendingFrame>,
    ) -> Work {
        let mut state = self.state();
        if soon && state.pieces < wanted && !state.closing {
            state = self.spin(state, wanted);
        }
        let mut gathered = false;
        loop {
            if !state.frames.is_empty() && !gathered && state.pieces < wanted && !state.closing {
                gathered = true;
                state.writer_sleeps = true;
                state.wanted = wanted;
                let slept = self.work.wait_timeout_while(state, GATHER, |state| {
                    state.pieces < wanted && !state.closing
                });
                state = slept.unwrap_or_else(PoisonError::into_inner).0;
                state.writer_sleeps = false;
            }
            state.wanted = 0;
            if !state.frames.is_empty() {
                let frames = std::mem::replace(&mut state.frames, spare);
                let pieces = std::mem::take(&mut state.pieces);
                (state.events, state.bytes) = (0, 0);
                let waiting = std::mem::take(&mut state.wait_for_room);
                drop(state);
                waiting.into_iter().for_each(Waker::wake);
                return Work::Write(frames, pieces);
            }
            if state.closing {
                return Work::Close;
            }
            state.writer_sleeps = true;
            let (woken, timeout) = self
                .work
                .wait_timeout(state, idle)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if timeout.timed_out() && state.frames.is_empty() && !state.closing {
                state.writer_sleeps = false;
                return Work::Idle;
            }
        }
    }

    /// Waits a moment without going to sleep. Many publishers need the processor more than the writer does, so that this is for one alone.
    fn spin<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        wanted: usize,
    ) -> MutexGuard<'a, State> {
        self.ready.store(false, Ordering::Relaxed);
        (state.writer_spins, state.wanted) = (true, wanted);
        drop(state);
        for _ in 0..SPINS_MAX {
            if self.ready.load(Ordering::Acquire) {
                break;
            }
            std::hint::spin_loop();
        }
        let mut state = self.state();
        (state.writer_spins, state.wanted) = (false, 0);
        state
    }

    /// Takes no more pieces; the writer finishes what is there.
    pub(crate) fn close(&self) {
        let waiting = {
            let mut state = self.state();
            state.closing = true;
            self.ready.store(true, Ordering::Release);
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
            (std::mem::take(&mut state.frames), waiting)
        };
        // Each answers its publishers as it is dropped.
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

impl State {
    fn has_room_for(&self, piece: &Piece) -> bool {
        self.events + piece.count as usize <= APPEND_QUEUE_EVENTS_MAX
            && self.bytes + piece.frame.len() <= APPEND_QUEUE_BYTES_MAX
    }

    /// Adds a piece to the last frame if it takes it, else in a frame of its own.
    fn add(&mut self, piece: Piece, waker: Waker, spare: &Spare) -> Place {
        self.pieces += 1;
        self.events += piece.count as usize;
        self.bytes += piece.frame.len();
        if piece.is_alone() {
            let (frame, place) = PendingFrame::alone(piece, waker);
            self.frames.push_back(frame);
            return place;
        }
        match self.frames.back_mut() {
            Some(last) if last.has_room_for(&piece) => last.add(&piece, waker),
            _ => {
                let mut frame = PendingFrame::shared(spare.take());
                let place = frame.add(&piece, waker);
                self.frames.push_back(frame);
                place
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Codec;
    use crate::append::pieces::{ALONE_BYTES_MIN, Pieces};
    use tidings_core::{Envelope, EnvelopeParts, Payload};

    fn push(queue: &Queue, payload_bytes: usize) -> Place {
        let mut parts = EnvelopeParts::new("id", "order.placed");
        parts.payload = Some(Payload::binary(vec![7; payload_bytes]));
        let batch = [Envelope::trusted(parts)];
        let mut piece = Pieces::new(&batch, Codec::None, &queue.spare).next();
        let context = Context::from_waker(Waker::noop());
        match queue.poll_push(&mut piece, &context) {
            Poll::Ready(Some(place)) => place,
            other => panic!("there is room: {other:?}"),
        }
    }

    #[test]
    fn short_pieces_share_a_frame_and_no_piece_passes_one_that_came_before() {
        let queue = Queue::default();
        let places = [10, 10, ALONE_BYTES_MIN, 10, 10].map(|bytes| push(&queue, bytes));

        let idle = Duration::from_secs(1);
        let Work::Write(frames, pieces) = queue.take(idle, 0, false, VecDeque::new()) else {
            panic!("there is work");
        };

        assert_eq!((frames.len(), pieces), (3, 5));
        let (mut next, mut wakers) = (100, Vec::new());
        for (mut frame, count) in frames.into_iter().zip([2, 1, 2]) {
            frame.answer(Ok(next), &mut wakers);
            next += count;
        }
        assert_eq!(wakers.len(), 5);
        let context = Context::from_waker(Waker::noop());
        let positions = places.map(|mut place| match place.poll(&context) {
            Poll::Ready(answer) => answer.unwrap(),
            Poll::Pending => panic!("it was answered"),
        });
        assert_eq!(positions, [100, 101, 102, 103, 104]);
    }
}
