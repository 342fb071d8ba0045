//! Which calls of a disk fail, when, and how.

use std::collections::HashMap;
use std::io;

/// A call of the disk seam.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is named after its call")]
pub enum Operation {
    CreateDirectories,
    List,
    Info,
    MakePrivate,
    Open,
    Rename,
    Remove,
    SyncDirectory,
    FreeBytes,
    Lock,
    Read,
    Write,
    SyncData,
    Bytes,
    SetBytes,
    Reserve,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// `EIO`.
    Io,
    /// `ENOSPC`.
    Full,
    /// `EROFS`.
    ReadOnly,
    /// `EOPNOTSUPP`.
    Unsupported,
}

impl DiskFault {
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Io => io::Error::from_raw_os_error(5),
            Self::Full => io::ErrorKind::StorageFull.into(),
            Self::ReadOnly => io::ErrorKind::ReadOnlyFilesystem.into(),
            Self::Unsupported => io::ErrorKind::Unsupported.into(),
        }
    }
}

/// How often a plan strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// Once.
    Once,
    /// From then on, each time.
    ForEver,
}

/// Calls that are to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultPlan {
    /// Which kind of call; `None` for any.
    pub operation: Option<Operation>,
    /// How many of them still succeed.
    pub after: u64,
    /// How often the plan strikes.
    pub times: Times,
    /// How the call fails.
    pub fault: DiskFault,
}

/// The plans, and what was called.
#[derive(Debug, Default)]
pub(super) struct Faults {
    plans: Vec<FaultPlan>,
    calls: HashMap<Operation, u64>,
}

impl Faults {
    pub(super) fn plan(&mut self, plan: FaultPlan) {
        self.plans.push(plan);
    }

    pub(super) fn heal(&mut self) {
        self.plans.clear();
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.values().sum()
    }

    pub(super) fn calls_of(&self, operation: Operation) -> u64 {
        self.calls.get(&operation).copied().unwrap_or(0)
    }

    /// Counts a call and says whether it fails.
    pub(super) fn step(&mut self, operation: Operation) -> io::Result<()> {
        *self.calls.entry(operation).or_default() += 1;
        let mut strikes = None;
        self.plans.retain_mut(|plan| {
            if plan.operation.is_some_and(|of| of != operation) {
                return true;
            }
            if plan.after > 0 {
                plan.after -= 1;
                return true;
            }
            strikes = strikes.or(Some(plan.fault));
            plan.times == Times::ForEver
        });
        strikes.map_or(Ok(()), |fault| Err(fault.error()))
    }
}
