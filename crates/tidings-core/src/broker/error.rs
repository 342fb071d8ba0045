//! Errors of everything that a broker does but publishing.

use super::Position;
use crate::{Code, ErrorClass, codes};
use std::io;
use std::path::PathBuf;

/// Why a broker could not be opened, read, subscribed to or administrated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The data folder does not exist.
    #[error(
        "there is no data folder at {path}; name an existing one, or publish an event to make it"
    )]
    FolderMissing {
        /// The folder.
        path: PathBuf,
    },
    /// Another process owns the data folder for writing.
    #[error(
        "the data folder {path} is owned by {owner}; stop that process, or work beside it: emit, event import, consumer run and every command that reads do"
    )]
    FolderOwned {
        /// The folder.
        path: PathBuf,
        /// Who owns it: process id, program, since when.
        owner: String,
    },
    /// The data folder was written by a newer version.
    #[error(
        "the data folder {path} has format {found}, this program reads up to {supported}; use the newer program that wrote it"
    )]
    FormatNewer {
        /// The folder or file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format read here.
        supported: u32,
    },
    /// Others may read or write the data folder.
    #[error(
        "the data folder {path} has mode {mode:03o}, so others may open it; run: chmod 700 {path}"
    )]
    FolderNotPrivate {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The directory is not empty and no data folder.
    #[error(
        "{path} holds other things and is no data folder; name an empty or a new directory, or the data folder itself"
    )]
    FolderForeign {
        /// The directory.
        path: PathBuf,
    },
    /// The data folder keeps state beside a broker elsewhere, and has no events of its own.
    #[error(
        "the events of the data folder {path} are on {url}; work there with --url, or remove {path}/broker to keep events in the folder itself"
    )]
    EventsElsewhere {
        /// The folder.
        path: PathBuf,
        /// The broker, without a password.
        url: String,
    },
    /// The data folder cannot be written.
    #[error(
        "the data folder {path} is read-only; reading goes on, to publish or consume make it writable"
    )]
    ReadOnly {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The disk has no room.
    #[error("the disk that holds {path} is full; free some space, it goes on by itself")]
    DiskFull {
        /// The folder.
        path: PathBuf,
    },
    /// A flush failed earlier.
    #[error(
        "the log {path} is poisoned since a flush failed ({reason}); nothing further is accepted until it is opened again"
    )]
    Poisoned {
        /// The folder.
        path: PathBuf,
        /// The first failure.
        reason: String,
    },
    /// Part of the log is damaged.
    #[error(
        "the log {path} is damaged at byte {offset} (positions {from} to {to}): {reason}; run: tidings verify --data DIR"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// First position that may be lost.
        from: Position,
        /// Last position that may be lost.
        to: Position,
        /// What is wrong.
        reason: String,
    },
    /// A position is not in the log any more.
    #[error(
        "position {position} was removed by retention, the oldest kept is {oldest}; start at {oldest} or at earliest"
    )]
    Removed {
        /// The position asked for.
        position: Position,
        /// The oldest position kept.
        oldest: Position,
    },
    /// Retention removed events that a group had not settled.
    #[error(
        "the group {group:?} stood at position {position}, and retention removed everything before {oldest}; to go on without what is lost: tidings consumer reset {group} --to earliest"
    )]
    GroupPassed {
        /// The group.
        group: String,
        /// The first position that it has not settled.
        position: Position,
        /// The oldest position kept.
        oldest: Position,
    },
    /// The rule of retention cannot be read.
    #[error(
        "the rule of retention {path} cannot be read: {reason}; nothing is removed until it is set again by tidings log retention"
    )]
    RetentionInvalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another process works for the group.
    #[error(
        "the group {group:?} is in use by {owner}; one process works for a group of the embedded log at a time"
    )]
    GroupLeased {
        /// The group.
        group: String,
        /// Who has it.
        owner: String,
    },
    /// There is no such group.
    #[error("there is no consumer group {group:?}{}", did_you_mean(.similar.as_deref()))]
    GroupUnknown {
        /// The group.
        group: String,
        /// A group with a similar name.
        similar: Option<String>,
    },
    /// The broker lacks what is asked for.
    #[error("{broker} cannot {what}")]
    Unsupported {
        /// The broker.
        broker: &'static str,
        /// What it cannot do.
        what: String,
    },
    /// The URL of a broker cannot be used.
    #[error("the broker URL {url} cannot be used: {reason}")]
    UrlInvalid {
        /// The URL, without its password.
        url: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The broker does not answer.
    #[error("{broker} at {address} cannot be reached: {reason}; it is tried again")]
    Unreachable {
        /// The broker.
        broker: &'static str,
        /// Host and port.
        address: String,
        /// What the client said.
        reason: String,
    },
    /// The broker does not let us in, or not do this.
    #[error(
        "{broker} at {address} refuses: {reason}; check user, password, certificate and rights"
    )]
    Unauthorised {
        /// The broker.
        broker: &'static str,
        /// Host and port.
        address: String,
        /// What the broker said.
        reason: String,
    },
    /// Something that must exist on the broker does not.
    #[error("{what} does not exist on {broker}; make it: {command}")]
    TopologyMissing {
        /// The broker.
        broker: &'static str,
        /// Kind and name.
        what: String,
        /// The command that makes it.
        command: String,
    },
    /// Something on the broker is not as it must be.
    #[error("{what} on {broker} cannot be used: {reason}; {way_out}")]
    TopologyWrong {
        /// The broker.
        broker: &'static str,
        /// Kind and name.
        what: String,
        /// What was found, and what must be.
        reason: String,
        /// What to do.
        way_out: String,
    },
    /// The broker answered with a failure, or not at all.
    #[error("{broker} failed to {action}: {reason}")]
    Remote {
        /// The broker.
        broker: &'static str,
        /// What was tried.
        action: &'static str,
        /// What the broker or its client said.
        reason: String,
        /// Whether trying again can help.
        class: ErrorClass,
    },
    /// The broker was closed.
    #[error("the broker is closed; open it again")]
    Closed,
    /// The disk failed.
    #[error("{action} {path} failed: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A task or thread of ours ended unexpectedly.
    #[error("{what} ended unexpectedly; this is a defect of tidings, please report it")]
    Bug {
        /// Which.
        what: &'static str,
    },
}

fn did_you_mean(similar: Option<&str>) -> String {
    similar.map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
}

impl BrokerError {
    /// What the error means for the caller.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::FolderOwned { .. }
            | Self::DiskFull { .. }
            | Self::GroupLeased { .. }
            | Self::Io { .. } => ErrorClass::Transient,
            Self::Unreachable { .. } => ErrorClass::Transient,
            Self::Remote { class, .. } => *class,
            Self::Poisoned { .. } | Self::Closed => ErrorClass::Poison,
            Self::Bug { .. } => ErrorClass::Bug,
            Self::FolderMissing { .. }
            | Self::FormatNewer { .. }
            | Self::FolderNotPrivate { .. }
            | Self::FolderForeign { .. }
            | Self::EventsElsewhere { .. }
            | Self::ReadOnly { .. }
            | Self::Damaged { .. }
            | Self::Removed { .. }
            | Self::GroupPassed { .. }
            | Self::RetentionInvalid { .. }
            | Self::GroupUnknown { .. }
            | Self::UrlInvalid { .. }
            | Self::Unauthorised { .. }
            | Self::TopologyMissing { .. }
            | Self::TopologyWrong { .. }
            | Self::Unsupported { .. } => ErrorClass::Permanent,
        }
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::FolderMissing { .. } => codes::FOLDER_MISSING,
            Self::FolderOwned { .. } => codes::FOLDER_OWNED,
            Self::FormatNewer { .. } => codes::FORMAT_NEWER,
            Self::FolderNotPrivate { .. } => codes::FOLDER_NOT_PRIVATE,
            Self::FolderForeign { .. } => codes::FOLDER_FOREIGN,
            Self::EventsElsewhere { .. } => codes::EVENTS_ELSEWHERE,
            Self::ReadOnly { .. } => codes::FOLDER_READ_ONLY,
            Self::DiskFull { .. } => codes::DISK_FULL,
            Self::Poisoned { .. } => codes::LOG_POISONED,
            Self::Damaged { .. } => codes::LOG_DAMAGED,
            Self::Removed { .. } => codes::POSITION_REMOVED,
            Self::GroupPassed { .. } => codes::GROUP_PASSED,
            Self::RetentionInvalid { .. } => codes::RETENTION_INVALID,
            Self::GroupLeased { .. } => codes::GROUP_LEASED,
            Self::GroupUnknown { .. } => codes::GROUP_UNKNOWN,
            Self::Unsupported { .. } => codes::CAPABILITY_MISSING,
            Self::UrlInvalid { .. } => codes::BROKER_URL_INVALID,
            Self::Unreachable { .. } => codes::BROKER_UNREACHABLE,
            Self::Unauthorised { .. } => codes::BROKER_UNAUTHORISED,
            Self::TopologyMissing { .. } => codes::TOPOLOGY_MISSING,
            Self::TopologyWrong { .. } => codes::TOPOLOGY_WRONG,
            Self::Remote { .. } => codes::BROKER_FAILED,
            Self::Closed => codes::CLOSED,
            Self::Io { .. } => codes::IO,
            Self::Bug { .. } => codes::BUG,
        }
    }

    /// Whether what was asked for may have happened all the same.
    pub fn may_have_happened(&self) -> bool {
        matches!(
            self,
            Self::Io { .. } | Self::Poisoned { .. } | Self::Remote { .. } | Self::Bug { .. }
        )
    }
}
