//! A database in memory with effects, an inbox and an outbox, whose transactions a consumer commits or loses at any step.

use std::collections::{HashSet, VecDeque};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard};
use tidings_core::extract::{HandlerContext, HandlerError};
use tidings_core::store::{Admission, StoreError, UnitOfWork, WorkSlot};
use tidings_core::{BoxFuture, DedupeKey, Envelope};

/// What a transaction does one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Begin,
    Emit,
    Commit,
    RollBack,
}

/// What goes wrong at a step.
#[derive(Debug, Clone)]
pub(crate) struct DatabaseFault {
    pub(crate) step: Step,
    pub(crate) error: StoreError,
    /// Whether a commit happens all the same.
    pub(crate) applied: bool,
}

pub(crate) fn down() -> StoreError {
    StoreError::Unavailable {
        database: "fake".to_owned(),
        reason: "connection refused".to_owned(),
    }
}

pub(crate) fn collision() -> StoreError {
    StoreError::Conflict {
        reason: "deadlock".to_owned(),
    }
}

pub(crate) fn unanswered_commit() -> StoreError {
    StoreError::Ambiguous {
        database: "fake".to_owned(),
        reason: "connection reset".to_owned(),
    }
}

/// An error as a driver gives it, which only the transaction can read.
#[derive(Debug, thiserror::Error)]
#[error("driver code {0}")]
pub(crate) struct DriverError(pub(crate) u32);

/// The driver's code of a lost connection.
pub(crate) const CONNECTION_LOST: u32 = 8006;

#[derive(Default)]
pub(crate) struct DatabaseState {
    inbox: HashSet<DedupeKey>,
    pub(crate) effects: Vec<String>,
    pub(crate) outbox: Vec<Envelope>,
    pub(crate) begun: usize,
    pub(crate) rolled_back: usize,
    faults: VecDeque<DatabaseFault>,
    broken: Option<DatabaseFault>,
}

/// Several handles share one database.
#[derive(Clone, Default)]
pub(crate) struct FakeDatabase {
    state: Arc<Mutex<DatabaseState>>,
    /// Yields between any two steps, so that a consumer can be dropped there.
    pub(crate) yields: bool,
}

impl FakeDatabase {
    pub(crate) fn lock(&self) -> MutexGuard<'_, DatabaseState> {
        self.state.lock().unwrap()
    }

    /// The next matching step meets this, once.
    pub(crate) fn fail_next(&self, step: Step, error: StoreError, applied: bool) {
        self.lock().faults.push_back(DatabaseFault {
            step,
            error,
            applied,
        });
    }

    /// Every such step meets this until it is taken away.
    pub(crate) fn fail_always(&self, fault: Option<(Step, StoreError)>) {
        self.lock().broken = fault.map(|(step, error)| DatabaseFault {
            step,
            error,
            applied: false,
        });
    }

    /// Opens the transaction of a handling, as an extractor does.
    pub(crate) async fn begin(&self, context: &HandlerContext) -> Result<FakeTx, HandlerError> {
        let (tx, admissions) = self.open(std::slice::from_ref(context)).await?;
        if admissions.contains(&Admission::HandledBefore) {
            context.work.withdraw();
            return Err(HandlerError::handled_before());
        }
        Ok(tx)
    }

    /// Opens the transaction of a batch, as an extractor does.
    pub(crate) async fn begin_batch(
        &self,
        contexts: &[HandlerContext],
    ) -> Result<FakeTx, HandlerError> {
        let (tx, admissions) = self.open(contexts).await?;
        if !admissions.contains(&Admission::New) {
            contexts[0].work.withdraw();
            return Err(HandlerError::handled_before());
        }
        contexts[0].work.admit(admissions);
        Ok(tx)
    }

    async fn open(
        &self,
        contexts: &[HandlerContext],
    ) -> Result<(FakeTx, Vec<Admission>), HandlerError> {
        let slot = contexts[0].work.clone();
        slot.lend()?;
        self.pause().await;
        if let Some(fault) = self.fault_at(Step::Begin) {
            slot.withdraw();
            return Err(fault.error.into());
        }
        let (work, admissions) = self.admit(contexts);
        let tx = FakeTx {
            work: Some(Box::new(work)),
            slot: Some(slot),
        };
        self.pause().await;
        Ok((tx, admissions))
    }

    fn admit(&self, contexts: &[HandlerContext]) -> (FakeWork, Vec<Admission>) {
        let mut work = FakeWork {
            database: self.clone(),
            keys: Vec::new(),
            effects: Vec::new(),
            emitted: Vec::new(),
        };
        let mut admissions = Vec::new();
        let mut state = self.lock();
        state.begun += 1;
        for context in contexts {
            let key = DedupeKey::of(&context.envelope);
            if state.inbox.contains(&key) || work.keys.contains(&key) {
                admissions.push(Admission::HandledBefore);
            } else {
                work.keys.push(key);
                admissions.push(Admission::New);
            }
        }
        (work, admissions)
    }

    fn fault_at(&self, step: Step) -> Option<DatabaseFault> {
        let mut state = self.lock();
        if state.faults.front().is_some_and(|fault| fault.step == step) {
            return state.faults.pop_front();
        }
        state.broken.clone().filter(|fault| fault.step == step)
    }

    async fn pause(&self) {
        if self.yields {
            tokio::task::yield_now().await;
        }
    }
}

/// The transaction in the hands of a handler; dropped, it goes back into its slot.
pub(crate) struct FakeTx {
    work: Option<Box<FakeWork>>,
    slot: Option<WorkSlot>,
}

impl FakeTx {
    /// Writes an effect.
    pub(crate) fn write(&mut self, effect: &str) {
        self.work.as_mut().unwrap().effects.push(effect.to_owned());
    }
}

impl Drop for FakeTx {
    fn drop(&mut self) {
        if let (Some(work), Some(slot)) = (self.work.take(), self.slot.take()) {
            slot.give_back(work);
        }
    }
}

struct FakeWork {
    database: FakeDatabase,
    keys: Vec<DedupeKey>,
    effects: Vec<String>,
    emitted: Vec<Envelope>,
}

impl UnitOfWork for FakeWork {
    fn emit<'a>(&'a mut self, events: &'a [Envelope]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.database.pause().await;
            match self.database.fault_at(Step::Emit) {
                Some(fault) => Err(fault.error),
                None => {
                    self.emitted.extend_from_slice(events);
                    Ok(())
                }
            }
        })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async move {
            self.database.pause().await;
            let fault = self.database.fault_at(Step::Commit);
            if fault.as_ref().is_none_or(|fault| fault.applied) {
                let mut state = self.database.lock();
                state.inbox.extend(self.keys);
                state.effects.extend(self.effects);
                state.outbox.extend(self.emitted);
            }
            self.database.pause().await;
            fault.map_or(Ok(()), |fault| Err(fault.error))
        })
    }

    fn roll_back(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async move {
            self.database.pause().await;
            self.database.lock().rolled_back += 1;
            match self.database.fault_at(Step::RollBack) {
                Some(fault) => Err(fault.error),
                None => Ok(()),
            }
        })
    }

    fn diagnose(&self, error: &(dyn Error + 'static)) -> Option<StoreError> {
        let driver = error.downcast_ref::<DriverError>()?;
        (driver.0 == CONNECTION_LOST).then(down)
    }
}
