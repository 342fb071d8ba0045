//! What the two halves of a subscription share: what is handed out, what is settled, and the cursor that follows.

use super::cursor_file::CursorFile;
use crate::files::failed;
use crate::format::cursor::CursorSlot;
use crate::log::Log;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;
use tidings_core::broker::{BrokerError, LowWatermark, SettleAction, SettleError};
use tidings_core::limits::{CURSOR_SYNC_INTERVAL, HANDED_OUT_STEP, HANDED_OUT_STEP_MAX};
use tidings_core::seam::DiskLock;

/// The state of a joined group.
pub(crate) struct GroupState {
    log: Arc<Log>,
    /// Guards what is handed out and the cursor: held while one batch is noted or settled, and while the cursor is flushed, because a flush must not be overtaken.
    progress: Mutex<Progress>,
}

/// What is handed out and settled.
pub(crate) struct Progress {
    watermark: LowWatermark,
    released: BTreeSet<u64>,
    cursor: CursorFile,
    flushed_at: Duration,
    /// How far the mark of what may have been handled was raised last, and when.
    raised_by: u64,
    raised_at: Duration,
    lease: Option<Box<dyn DiskLock>>,
    /// The receive half, if it waits.
    waiting: Option<Waker>,
}

impl GroupState {
    pub(crate) fn new(log: Arc<Log>, cursor: CursorFile, lease: Box<dyn DiskLock>) -> Self {
        let flushed_at = log.clock.elapsed();
        let watermark = LowWatermark::new(cursor.slot().position);
        let progress = Progress {
            watermark,
            released: BTreeSet::new(),
            cursor,
            flushed_at,
            raised_by: HANDED_OUT_STEP,
            raised_at: flushed_at,
            lease: Some(lease),
            waiting: None,
        };
        Self {
            log,
            progress: Mutex::new(progress),
        }
    }

    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that these positions are handed out and everything below `scanned` was looked at. The mark of what may have been handled is durable before this returns.
    pub(crate) fn hand_out(
        &self,
        positions: impl Iterator<Item = u64>,
        scanned: u64,
    ) -> Result<(), BrokerError> {
        let mut progress = self.progress();
        let positions: Vec<u64> = positions.collect();
        let behind = positions
            .iter()
            .max()
            .map_or(0, |last| last.saturating_add(1));
        let slot = progress.cursor.slot();
        if behind > slot.handed_out_before {
            let raised = CursorSlot {
                handed_out_before: behind.saturating_add(progress.step(self.log.clock.elapsed())),
                ..slot
            };
            self.write(&mut progress, raised)?;
            self.flush(&mut progress)?;
        }
        for position in positions {
            progress.watermark.hand_out(position);
        }
        progress.watermark.scan_to(scanned);
        self.follow(&mut progress)
    }

    /// Takes outcomes and lets the cursor follow.
    pub(crate) fn settle(
        &self,
        outcomes: impl Iterator<Item = (u64, SettleAction)>,
    ) -> Vec<Result<(), SettleError>> {
        let mut progress = self.progress();
        if progress.lease.is_none() {
            return outcomes.map(|_| Err(SettleError::Stale)).collect();
        }
        let mut answers: Vec<_> = outcomes
            .map(|(position, action)| progress.settle_one(position, action))
            .collect();
        let waiting = if progress.released.is_empty() {
            None
        } else {
            progress.waiting.take()
        };
        let mut followed = self.follow(&mut progress);
        let now = self.log.clock.elapsed();
        if followed.is_ok() && now.saturating_sub(progress.flushed_at) >= CURSOR_SYNC_INTERVAL {
            followed = self.flush(&mut progress);
        }
        drop(progress);
        if let Some(waker) = waiting {
            waker.wake();
        }
        if let (Err(error), Some(last)) = (followed, answers.last_mut()) {
            *last = Err(SettleError::Broker(error));
        }
        answers
    }

    /// What the cursor says.
    pub(crate) fn slot(&self) -> CursorSlot {
        self.progress().cursor.slot()
    }

    /// Makes the cursor durable.
    pub(crate) fn flush_now(&self) -> Result<(), BrokerError> {
        let mut progress = self.progress();
        self.follow(&mut progress)?;
        self.flush(&mut progress)
    }

    /// Gives up the lease. What was handed out and not settled is not under way any more, so that nothing is suspected after a restart.
    pub(crate) fn leave(&self) -> Result<(), BrokerError> {
        let mut progress = self.progress();
        if progress.lease.is_none() {
            return Ok(());
        }
        self.follow(&mut progress)?;
        let slot = progress.cursor.slot();
        // With events left open, some behind them may be settled; they come again and are to be known as suspects.
        let handed_out_before = if progress.watermark.open_count() == 0 {
            slot.position
        } else {
            slot.handed_out_before
        };
        let left = CursorSlot {
            handed_out_before,
            ..slot
        };
        // Also when nothing moved: until now somebody worked for the group.
        self.write(&mut progress, left)?;
        self.flush(&mut progress)?;
        if let Some(lease) = progress.lease.take()
            && let Err(error) = lease.write_owner("")
        {
            tracing::debug!(%error, "the holder of a lease was not wiped out");
        }
        let waiting = progress.waiting.take();
        drop(progress);
        if let Some(waker) = waiting {
            waker.wake();
        }
        Ok(())
    }

    /// Writes the cursor if the watermark has moved.
    fn follow(&self, progress: &mut Progress) -> Result<(), BrokerError> {
        let slot = progress.cursor.slot();
        let position = progress.watermark.position();
        if position <= slot.position {
            return Ok(());
        }
        let moved_at = self.log.clock.now().as_micros();
        let handed_out_before = slot.handed_out_before.max(position);
        self.write(
            progress,
            CursorSlot {
                position,
                handed_out_before,
                moved_at,
                ..slot
            },
        )
    }

    fn write(&self, progress: &mut Progress, slot: CursorSlot) -> Result<(), BrokerError> {
        let worked_at = self.log.clock.now().as_micros();
        let slot = CursorSlot { worked_at, ..slot };
        progress
            .cursor
            .write(slot)
            .map_err(|error| failed("writing", progress.cursor.path(), error))
    }

    fn flush(&self, progress: &mut Progress) -> Result<(), BrokerError> {
        progress.flushed_at = self.log.clock.elapsed();
        progress
            .cursor
            .sync()
            .map_err(|error| failed("flushing", progress.cursor.path(), error))
    }
}

impl Progress {
    /// How far to raise the mark of what may have been handled. Each time costs a flush that the group waits for: who used up the last step within moments gets twice as much, who took longer the least again.
    fn step(&mut self, now: Duration) -> u64 {
        let soon = now.saturating_sub(self.raised_at) < CURSOR_SYNC_INTERVAL;
        self.raised_at = now;
        self.raised_by = if soon {
            (self.raised_by * 2).min(HANDED_OUT_STEP_MAX)
        } else {
            HANDED_OUT_STEP
        };
        self.raised_by
    }

    /// Whether the lease was given up.
    pub(crate) fn has_left(&self) -> bool {
        self.lease.is_none()
    }

    /// Whether events wait to be handed out again.
    pub(crate) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// Takes positions that are to be handed out again, oldest first.
    pub(crate) fn take_released(&mut self, count: usize) -> Vec<u64> {
        let taken: Vec<u64> = self.released.iter().take(count).copied().collect();
        for position in &taken {
            self.released.remove(position);
        }
        taken
    }

    /// Puts a position back that could not be handed out again yet.
    pub(crate) fn put_back(&mut self, position: u64) {
        if self.watermark.is_open(position) {
            self.released.insert(position);
        }
    }

    /// A position is lost: it is not waited for any more.
    pub(crate) fn give_up(&mut self, position: u64) {
        self.watermark.settle(position);
    }

    /// Notes who waits for a release or for the end of the group.
    pub(crate) fn wait(&mut self, waker: &Waker) {
        self.waiting = Some(waker.clone());
    }

    fn settle_one(&mut self, position: u64, action: SettleAction) -> Result<(), SettleError> {
        let was_open = match action {
            SettleAction::Ack => {
                self.released.remove(&position);
                self.watermark.settle(position)
            }
            SettleAction::Release => {
                let open = self.watermark.is_open(position);
                if open {
                    self.released.insert(position);
                }
                open
            }
            // Nobody else works for the group while the lease is held.
            SettleAction::Extend(_) => self.watermark.is_open(position),
        };
        was_open.then_some(()).ok_or(SettleError::Unknown)
    }
}
