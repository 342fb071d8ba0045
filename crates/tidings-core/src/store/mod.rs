//! The ports of a store: what the behaviour needs of somebody's database. An adapter implements these; statements and drivers stay there.

mod alert;
mod dead_letter;
mod error;
mod failure;
mod inbox;
mod outbox;
mod schedule;
mod unit_of_work;

pub use alert::{AlertStore, Backlog, Kept, KeptChange, KeptKind, LetterBacklog, ParkedBacklog};
pub use dead_letter::{
    DeadLetterStore, ForeignLetter, Letter, LetterCluster, LetterFilter, LetterStatus, LetterTally,
    Operator, OperatorAction, PausedGroup, RedriveOutcome, Verdict, Waiting, WaitingFilter,
};
pub use error::StoreError;
pub use failure::{
    DeathCause, DeathRecord, Decision, Due, FailedAttempt, FailureChange, FailureState,
    FailureStore, LaneId, OpenCircuit, ParkedDelivery, ParkedId, ParkedLane, ParkedRow,
};
pub use inbox::{InboxStatus, InboxStore};
pub use outbox::{
    BlockedKey, Burial, DeadRow, DeadTuples, Failure, HeldLease, Horizon, LeaseAnswer,
    LeaseRequest, OutboxRow, OutboxStatus, OutboxStore, RowContent, RowFault, RowId, RowSeen,
    RowState, Settlement, Shard, SnapshotHolder, UnsentQuery, UnsentRows, Wake,
};
pub use schedule::{DueEvents, Firing, Recurrence, ScheduleStore, ScheduledEvent};
pub use unit_of_work::{Admission, FinishedWork, UnitOfWork, WorkSlot};
