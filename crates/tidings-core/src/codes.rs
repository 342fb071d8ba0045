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
/// Everything failed, and the group is told to stop then.
pub const CIRCUIT_OPEN: Code = code("TD0036", "everything fails, so that the group stopped");
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
/// Retention removed events that a group had not settled.
pub const GROUP_PASSED: Code = code("TD0064", "retention removed events of the group");
/// The rule of retention cannot be read.
pub const RETENTION_INVALID: Code = code("TD0065", "the rule of retention cannot be read");
/// Events of an import say something else than those with the same id that are there.
pub const EVENTS_CONFLICT: Code = code("TD0066", "events of an import differ from those there");
/// The database of a store cannot be reached.
pub const STORE_UNAVAILABLE: Code = code("TD0070", "the database cannot be reached");
/// The connection broke while a change was on its way.
pub const STORE_AMBIGUOUS: Code =
    code("TD0071", "it is unknown whether the database made a change");
/// A deadlock, a serialisation failure or a lock timeout.
pub const STORE_CONFLICT: Code = code("TD0072", "another transaction was in the way");
/// A table of a store does not exist.
pub const STORE_TABLE_MISSING: Code = code("TD0073", "a table is missing");
/// A table, a column, a sequence or a setting of the database is wrong.
pub const STORE_SHAPE_WRONG: Code = code("TD0074", "a table or a setting is not as it must be");
/// A newer program made the tables.
pub const STORE_SCHEMA_NEWER: Code = code("TD0075", "the tables have a newer version");
/// The database user may not do it.
pub const STORE_PRIVILEGE_MISSING: Code = code("TD0076", "a privilege is missing in the database");
/// The URL of a database breaks a rule.
pub const STORE_URL_INVALID: Code = code("TD0077", "the URL of a database cannot be used");
/// A value breaks a rule of the store.
pub const STORE_REFUSED: Code = code("TD0078", "the store refused a value");
/// The outbox holds as many unsent events as it may.
pub const OUTBOX_FULL: Code = code("TD0079", "the outbox is full");
/// The database is full or read-only.
pub const STORE_NOT_WRITABLE: Code = code("TD0080", "the database does not accept changes");
/// The database reports something that no other code covers.
pub const STORE_DATABASE: Code = code("TD0081", "the database reported an error");
/// A relay was not done when the time to drain was over.
pub const RELAY_UNFINISHED: Code = code("TD0085", "a relay was not done at the deadline");
/// The configuration file has a name or a value that is not known.
pub const CONFIG_INVALID: Code = code("TD0090", "the configuration cannot be used");
/// The address to listen on cannot be had.
pub const ADDRESS_TAKEN: Code = code("TD0091", "the address to listen on cannot be had");
/// A destination cannot be asked what it holds.
pub const DESTINATION_WITHOUT_HISTORY: Code =
    code("TD0092", "the destination keeps no history to compare with");
/// The URL of a broker cannot be used.
pub const BROKER_URL_INVALID: Code = code("TD0100", "the broker URL cannot be used");
/// The broker does not answer.
pub const BROKER_UNREACHABLE: Code = code("TD0101", "the broker cannot be reached");
/// The broker does not let us in, or not do this.
pub const BROKER_UNAUTHORISED: Code = code("TD0102", "the broker refuses the user");
/// A topic, a queue or a stream is missing.
pub const TOPOLOGY_MISSING: Code = code("TD0103", "something is missing on the broker");
/// A topic, a queue or a stream is not as it must be.
pub const TOPOLOGY_WRONG: Code = code("TD0104", "something on the broker is not as it must be");
/// The broker answered with a failure.
pub const BROKER_FAILED: Code = code("TD0105", "the broker failed");
/// A message is no event.
pub const MESSAGE_UNREADABLE: Code = code("TD0106", "a message is no event");
/// The data folder keeps state for a broker elsewhere.
pub const EVENTS_ELSEWHERE: Code = code("TD0111", "the events of the folder are on another broker");
/// The URL of a webhook cannot be used.
pub const WEBHOOK_URL_INVALID: Code = code("TD0150", "the URL of a webhook cannot be used");
/// The secret of a webhook is missing or is none.
pub const WEBHOOK_SECRET_INVALID: Code = code("TD0151", "the secret of a webhook cannot be used");
/// A webhook leads to an address inside of a network.
pub const WEBHOOK_ADDRESS_REFUSED: Code = code("TD0152", "a webhook leads where it may not");
/// A channel did not accept an alert.
pub const ALERT_NOT_ACCEPTED: Code = code("TD0153", "a channel did not accept an alert");
/// This program was built without webhooks.
pub const WEBHOOK_NOT_BUILT_IN: Code = code("TD0154", "this program was built without webhooks");

/// A group has parked more than it may.
pub const PARKED_FULL: Code = code("TD0120", "too much is parked");
/// What a group asks for needs a store of failures.
pub const FAILURE_STORE_MISSING: Code = code("TD0121", "retry later and holding keys need a store");
/// The store of failures is local, and the group may have instances elsewhere.
pub const FAILURE_STORE_LOCAL: Code =
    code("TD0122", "a local store cannot serve several instances");
/// There is no such dead letter.
pub const LETTER_UNKNOWN: Code = code("TD0130", "there is no such dead letter");
/// A dead letter was decided on already.
pub const LETTER_DECIDED: Code = code("TD0131", "the dead letter was decided on already");
/// An edited copy of a dead letter cannot be.
pub const LETTER_EDIT_INVALID: Code = code("TD0132", "the edited copy cannot be");
/// A redrive stopped before its end.
pub const REDRIVE_ABORTED: Code = code("TD0133", "the redrive stopped before its end");
/// A message is no dead letter of a product that is known.
pub const FOREIGN_LETTER_UNREADABLE: Code =
    code("TD0134", "a message is no dead letter that is known");

/// The program met a state that it rules out.
pub const BUG: Code = code("TD0099", "a defect of tidings");

/// A cron expression, a time zone or a time of a schedule cannot be used.
pub const SCHEDULE_INVALID: Code = code("TD0140", "a schedule cannot be used");
/// No scheduled event has this name.
pub const SCHEDULE_UNKNOWN: Code = code("TD0141", "there is no such scheduled event");

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
    CIRCUIT_OPEN,
    COMMAND_MISSING,
    EVENT_UNKNOWN,
    START_INVALID,
    LINES_REJECTED,
    FILE,
    USAGE,
    INTERRUPTED,
    GROUP_PASSED,
    RETENTION_INVALID,
    EVENTS_CONFLICT,
    STORE_UNAVAILABLE,
    STORE_AMBIGUOUS,
    STORE_CONFLICT,
    STORE_TABLE_MISSING,
    STORE_SHAPE_WRONG,
    STORE_SCHEMA_NEWER,
    STORE_PRIVILEGE_MISSING,
    STORE_URL_INVALID,
    STORE_REFUSED,
    OUTBOX_FULL,
    STORE_NOT_WRITABLE,
    STORE_DATABASE,
    RELAY_UNFINISHED,
    CONFIG_INVALID,
    ADDRESS_TAKEN,
    DESTINATION_WITHOUT_HISTORY,
    BUG,
    BROKER_URL_INVALID,
    BROKER_UNREACHABLE,
    BROKER_UNAUTHORISED,
    TOPOLOGY_MISSING,
    TOPOLOGY_WRONG,
    BROKER_FAILED,
    MESSAGE_UNREADABLE,
    SCHEDULE_INVALID,
    SCHEDULE_UNKNOWN,
    EVENTS_ELSEWHERE,
    WEBHOOK_URL_INVALID,
    WEBHOOK_SECRET_INVALID,
    WEBHOOK_ADDRESS_REFUSED,
    ALERT_NOT_ACCEPTED,
    WEBHOOK_NOT_BUILT_IN,
    PARKED_FULL,
    FAILURE_STORE_MISSING,
    FAILURE_STORE_LOCAL,
    LETTER_UNKNOWN,
    LETTER_DECIDED,
    LETTER_EDIT_INVALID,
    REDRIVE_ABORTED,
    FOREIGN_LETTER_UNREADABLE,
];
