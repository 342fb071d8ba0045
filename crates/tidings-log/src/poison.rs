//! What state a log is in. After a failed flush the kernel may have dropped the pages and will say that all is well the next time: so nothing is written or acknowledged any more until the log is opened again.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use tidings_core::broker::BrokerError;

/// What state a log is in, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogState {
    /// Events are accepted.
    Open,
    /// The disk has no room: events are refused, everything else goes on. It ends by itself when there is room again.
    DiskFull,
    /// The folder became read-only: events are refused, reading goes on.
    ReadOnly,
    /// A flush or a write failed: nothing is accepted until the log is opened again.
    Poisoned {
        /// The first failure.
        reason: String,
    },
    /// It was closed.
    Closed,
}

/// The state of a log, shared by its writer and those who ask. Poison stays.
#[derive(Debug)]
pub(crate) struct StateCell {
    path: PathBuf,
    /// Guards the state: held for a look or a change.
    state: Mutex<LogState>,
}

impl StateCell {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            state: Mutex::new(LogState::Open),
        }
    }

    pub(crate) fn get(&self) -> LogState {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes the state unless it is poisoned.
    pub(crate) fn set(&self, to: LogState) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*state, LogState::Poisoned { .. }) && *state != to {
            tracing::info!(path = %self.path.display(), from = ?*state, to = ?to, "the state of the log changed");
            *state = to;
        }
    }

    /// The error of everything that is asked of a poisoned log.
    pub(crate) fn poisoned(&self) -> Option<BrokerError> {
        match self.get() {
            LogState::Poisoned { reason } => Some(BrokerError::Poisoned {
                path: self.path.clone(),
                reason,
            }),
            LogState::Open | LogState::DiskFull | LogState::ReadOnly | LogState::Closed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poison_stays_with_its_first_reason() {
        let cell = StateCell::new("log".into());
        cell.set(LogState::DiskFull);
        cell.set(LogState::Poisoned {
            reason: "first".into(),
        });
        cell.set(LogState::Poisoned {
            reason: "second".into(),
        });
        cell.set(LogState::Closed);

        assert_eq!(
            cell.get(),
            LogState::Poisoned {
                reason: "first".into()
            }
        );
        assert!(cell.poisoned().unwrap().to_string().contains("first"));
    }
}
