//! The transaction that a handler shares with the runtime: effect, inbox row and emitted events become true together, or not at all.

use super::StoreError;
use crate::{BoxFuture, Envelope};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An open transaction of a handling, whatever the database.
///
/// **Guarantee**: dropped without [`commit`](Self::commit) it is rolled back.
pub trait UnitOfWork: Send {
    /// Puts what the handling emitted into the outbox of the same transaction.
    fn emit<'a>(&'a mut self, events: &'a [Envelope]) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Makes effect, inbox rows and emitted events true together.
    ///
    /// **Errors**: an [ambiguous](StoreError::may_have_happened) one is safe to answer by handling the event again: the inbox row tells whether the first time counted.
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Undoes everything. Dropping does the same without telling when.
    ///
    /// **Errors**: the connection is gone, and the transaction with it; whatever the handler met then was no fault of its event.
    fn roll_back(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>>;

    /// What an error that the handler met in this transaction says about the database; `None` if it is about the handler's own statement or about something else.
    fn diagnose(&self, error: &(dyn Error + 'static)) -> Option<StoreError>;
}

/// What the inbox said of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is new: its row is in the transaction now.
    New,
    /// It was handled before; its effect is there and must not be made again.
    HandledBefore,
}

/// Where an extractor leaves the transaction of a handling, so that the runtime commits it once the handler has succeeded.
///
/// The handler holds the transaction while it runs; what it holds goes back into the slot when it is dropped. A handler that
/// [claims](crate::extract::DeliveryGuarantee) at least once has a closed slot, which takes nothing.
#[derive(Clone, Default)]
pub struct WorkSlot {
    /// Guards the state of one handling; held to move a pointer.
    state: Option<Arc<Mutex<SlotState>>>,
}

#[derive(Default)]
struct SlotState {
    held: Held,
    admissions: Vec<Admission>,
}

#[derive(Default)]
enum Held {
    /// No extractor has opened a transaction.
    #[default]
    Nothing,
    /// The handler has it.
    Lent,
    /// It waits for its commit.
    Returned(Box<dyn UnitOfWork>),
}

/// What the runtime finds in the slot after a handler has ended.
pub enum FinishedWork {
    /// The handler took no transaction: its effect is at least once.
    None,
    /// Commit it.
    Open(Box<dyn UnitOfWork>),
    /// The handler still holds the transaction somewhere: it cannot be committed.
    Kept,
}

impl fmt::Debug for FinishedWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Open(_) => "Open",
            Self::Kept => "Kept",
        })
    }
}

impl WorkSlot {
    /// A slot that takes one transaction.
    pub fn open() -> Self {
        Self {
            state: Some(Arc::default()),
        }
    }

    /// Whether it takes no transaction.
    pub fn is_closed(&self) -> bool {
        self.state.is_none()
    }

    /// Notes that a transaction is with the handler. Call it before opening one.
    ///
    /// **Errors**: the handling has a transaction already, or its handler does not claim to take one; permanent.
    pub fn lend(&self) -> Result<(), StoreError> {
        let refused = |reason: &str| {
            Err(StoreError::Refused {
                reason: reason.to_owned(),
            })
        };
        let Some(mut state) = self.lock() else {
            return refused(
                "the handler claims at least once and takes a transaction all the same; its delivery() must answer EffectOnce",
            );
        };
        match state.held {
            Held::Nothing => {
                state.held = Held::Lent;
                Ok(())
            }
            Held::Lent | Held::Returned(_) => {
                refused("a handler takes one transaction; remove the second from its arguments")
            }
        }
    }

    /// Takes the transaction back from the handler.
    pub fn give_back(&self, work: Box<dyn UnitOfWork>) {
        if let Some(mut state) = self.lock() {
            state.held = Held::Returned(work);
        }
    }

    /// Notes that what was lent came to nothing: it could not be opened, or the inbox says that everything was handled before.
    pub fn withdraw(&self) {
        if let Some(mut state) = self.lock()
            && matches!(state.held, Held::Lent)
        {
            state.held = Held::Nothing;
        }
    }

    /// Notes what the inbox says of each delivery of a batch.
    pub fn admit(&self, admissions: Vec<Admission>) {
        if let Some(mut state) = self.lock() {
            state.admissions = admissions;
        }
    }

    /// What the inbox says of each delivery of a batch; empty if no inbox was asked.
    pub fn admissions(&self) -> Vec<Admission> {
        self.lock()
            .map(|state| state.admissions.clone())
            .unwrap_or_default()
    }

    /// Takes what there is to finish, and leaves the slot empty for another run of the handler.
    pub fn finish(&self) -> FinishedWork {
        let taken = self.lock().map(|mut state| std::mem::take(&mut *state));
        match taken.map(|state| state.held) {
            None | Some(Held::Nothing) => FinishedWork::None,
            Some(Held::Lent) => FinishedWork::Kept,
            Some(Held::Returned(work)) => FinishedWork::Open(work),
        }
    }

    fn lock(&self) -> Option<MutexGuard<'_, SlotState>> {
        let state = self.state.as_ref()?;
        Some(state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for WorkSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock().map(|state| match state.held {
            Held::Nothing => "empty",
            Held::Lent => "lent",
            Held::Returned(_) => "returned",
        });
        f.debug_tuple("WorkSlot")
            .field(&state.unwrap_or("closed"))
            .finish()
    }
}
