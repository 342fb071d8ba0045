//! The stable code of every error that a user can meet; each has a page `docs/errors/TD####.md`.

use std::fmt;

/// A stable error code, printed with every error of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code {
    text: &'static str,
    title: &'static str,
}

impl Code {
    /// The code as printed, for example `TD0001`.
    pub fn as_str(self) -> &'static str {
        self.text
    }

    /// What the code stands for, in a few words.
    pub fn title(self) -> &'static str {
        self.title
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

const fn code(text: &'static str, title: &'static str) -> Code {
    Code { text, title }
}

/// Another process owns the data folder for writing.
pub const FOLDER_OWNED: Code = code("TD0001", "the data folder is owned by another process");
/// The data folder was written by a newer version.
pub const FORMAT_NEWER: Code = code("TD0002", "the data folder has a newer format");
/// Others than the owner may read or write the data folder.
pub const FOLDER_NOT_PRIVATE: Code = code("TD0003", "others may read or write the data folder");
/// The data folder cannot be written.
pub const FOLDER_READ_ONLY: Code = code("TD0004", "the data folder is read-only");
/// The disk has no room for further events.
pub const DISK_FULL: Code = code("TD0005", "the disk is full");
/// The log stopped itself after a failed flush.
pub const LOG_POISONED: Code = code("TD0006", "the log is poisoned after a failed flush");
/// Part of the log is damaged.
pub const LOG_DAMAGED: Code = code("TD0007", "the log is damaged");
/// A position is not in the log any more.
pub const POSITION_REMOVED: Code = code("TD0008", "the position was removed by retention");
/// The disk failed.
pub const IO: Code = code("TD0009", "the disk reported an error");
/// There is no data folder at the path.
pub const FOLDER_MISSING: Code = code("TD0010", "there is no data folder");
/// A declared event type breaks the naming rules.
pub const EVENT_TYPE_INVALID: Code = code("TD0011", "an event type breaks the naming rules");
/// An attribute, a payload or a batch is over its limit.
pub const LIMIT_EXCEEDED: Code = code("TD0012", "a limit is exceeded");
/// A line is no envelope.
pub const ENVELOPE_INVALID: Code = code("TD0013", "the JSON is not an envelope");
/// A line is no CloudEvent.
pub const CLOUDEVENT_INVALID: Code = code("TD0014", "the JSON is not a CloudEvent");
/// A payload cannot be turned into bytes, or bytes into a payload.
pub const PAYLOAD_INVALID: Code = code("TD0015", "the payload does not fit its type");
/// A pattern breaks the rules.
pub const PATTERN_INVALID: Code = code("TD0016", "a pattern is not valid");
/// The name of a group breaks the rules.
pub const GROUP_NAME_INVALID: Code = code("TD0017", "the name of a group is not valid");
/// A directory is no data folder.
pub const FOLDER_FOREIGN: Code = code("TD0018", "the directory is no data folder");
/// Publishing took longer than its time limit.
pub const PUBLISH_TIMEOUT: Code = code("TD0020", "publishing timed out");
/// It is not known whether an event was written.
pub const PUBLISH_AMBIGUOUS: Code = code("TD0021", "it is unknown whether the event was written");
/// An event was not tried because an earlier one of its batch failed.
pub const PUBLISH_NOT_ATTEMPTED: Code = code("TD0022", "the event was not attempted");
/// The broker was closed.
pub const CLOSED: Code = code("TD0023", "the broker is closed");
/// The broker refused an event before writing it.
pub const PUBLISH_REFUSED: Code = code("TD0024", "the broker refused the event");
/// Another process works for the group.
pub const GROUP_LEASED: Code = code("TD0030", "another process works for the group");
/// There is no such group.
pub const GROUP_UNKNOWN: Code = code("TD0031", "there is no such group");
/// The broker lacks what a group asks for.
pub const CAPABILITY_MISSING: Code = code("TD0032", "the broker lacks what the group asks for");
/// A consumer cannot start as it is built.
pub const CONSUMER_INVALID: Code = code("TD0033", "the consumer cannot start as it is built");
/// Handlers were still busy when the time to drain was over.
pub const DRAIN_TIMEOUT: Code = code("TD0035", "handlers were still busy at the deadline");
/// The command of a handler does not exist.
pub const COMMAND_MISSING: Code = code("TD0040", "the handler's command does not exist");
/// There is no such event.
pub const EVENT_UNKNOWN: Code = code("TD0050", "there is no such event");
/// An argument is not a position or a time.
pub const START_INVALID: Code = code("TD0051", "the start is neither a position nor a time");
/// Some lines of an import were rejected.
pub const LINES_REJECTED: Code = code("TD0060", "some lines were rejected");
/// A file cannot be read or written.
pub const FILE: Code = code("TD0061", "a file cannot be read or written");
/// The arguments of a command do not fit together.
pub const USAGE: Code = code("TD0062", "the arguments do not fit together");
/// A command was interrupted.
pub const INTERRUPTED: Code = code("TD0063", "interrupted");
/// The program met a state that it rules out.
pub const BUG: Code = code("TD0099", "a defect of tidings");

/// Every code, in order.
pub const ALL: &[Code] = &[
    FOLDER_OWNED,
    FORMAT_NEWER,
    FOLDER_NOT_PRIVATE,
    FOLDER_READ_ONLY,
    DISK_FULL,
    LOG_POISONED,
    LOG_DAMAGED,
    POSITION_REMOVED,
    IO,
    FOLDER_MISSING,
    EVENT_TYPE_INVALID,
    LIMIT_EXCEEDED,
    ENVELOPE_INVALID,
    CLOUDEVENT_INVALID,
    PAYLOAD_INVALID,
    PATTERN_INVALID,
    GROUP_NAME_INVALID,
    FOLDER_FOREIGN,
    PUBLISH_TIMEOUT,
    PUBLISH_AMBIGUOUS,
    PUBLISH_NOT_ATTEMPTED,
    CLOSED,
    PUBLISH_REFUSED,
    GROUP_LEASED,
    GROUP_UNKNOWN,
    CAPABILITY_MISSING,
    CONSUMER_INVALID,
    DRAIN_TIMEOUT,
    COMMAND_MISSING,
    EVENT_UNKNOWN,
    START_INVALID,
    LINES_REJECTED,
    FILE,
    USAGE,
    INTERRUPTED,
    BUG,
];
