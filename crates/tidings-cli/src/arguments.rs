//! Every command and flag of the command line, with its help; man pages, completions and the reference derive from these.

use crate::alert_arguments::{AlertCommand, CheckCommand};
use crate::bridge_arguments::{Bridge, BrokerCommand};
use crate::consumer_arguments::ConsumerCommand;
use crate::dlq_arguments::{Dlq, RetryCommand};
use crate::event_arguments::NewEvent;
use crate::inbox_arguments::InboxCommand;
use crate::outbox_arguments::{OutboxCommand, RelayCommand};
use crate::output::Format;
use crate::place::{Place, Typed};
use crate::quantity::{NoLimit, Size};
use crate::schedule_arguments::ScheduleCommand;
use crate::store_arguments::SharedStore;
use crate::when::{Length, When};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use tidings::Pattern;
use tidings::broker::GroupName;

/// Event-driven architecture in one binary: an embedded durable log, consumers in any language, dead letters.
#[derive(Debug, Parser)]
#[command(
    name = "tidings",
    version,
    propagate_version = true,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = "Examples:
  tidings demo
  tidings emit order.placed --key order-123 --payload '{\"total\":59.98}'
  tidings tail 'order.*' --from-start
  tidings consumer run mailer --type order.placed --exec ./mail.py
  tidings dlq
  tidings dlq redrive --consumer mailer --dry-run
  tidings relay run --from postgres://app@db/shop --to ./data

Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 condition false, 5 conflict, 6 denied, 7 unreachable, 69 everything fails, 124 timeout, 130 interrupted")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// How data is printed
    #[arg(short = 'o', long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub(crate) output: Format,
    /// Short for --output json
    #[arg(long, global = true, conflicts_with = "output")]
    pub(crate) json: bool,
    /// No progress, no hints, no warnings
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// More about what happens and why; twice for still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Leave out the header row of tables
    #[arg(long, global = true)]
    pub(crate) no_headers: bool,
    /// Times in UTC, also on a terminal
    #[arg(long, global = true)]
    pub(crate) utc: bool,
    /// Never ask; what would need an answer fails
    #[arg(long, global = true)]
    pub(crate) no_input: bool,
}

impl Global {
    /// The format asked for.
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the order flow of five services for real, with failures, and show where to look
    #[cfg(feature = "sqlite")]
    Demo(Demo),
    /// Publish one event
    Emit(Emit),
    /// Show events as they are published
    Tail(Tail),
    /// Look events up, count, import and export them
    #[command(subcommand)]
    Event(EventCommand),
    /// Run consumers in any language, see how far groups are
    #[command(subcommand)]
    Consumer(ConsumerCommand),
    /// Events that a group gave up: see them, hand them back, edit or discard them
    Dlq(Dlq),
    /// Events that wait to be retried
    #[command(subcommand)]
    Retry(RetryCommand),
    /// Events that are published later: once, or again and again
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// The log as a whole: how much of it is kept
    #[command(subcommand)]
    Log(LogCommand),
    /// Events that wait in a database for their relay
    #[command(subcommand)]
    Outbox(OutboxCommand),
    /// Carry events from an outbox in a database to where they go
    #[command(subcommand)]
    Relay(RelayCommand),
    /// What must exist on a broker: topics, queues, streams, rules
    #[command(subcommand)]
    Broker(BrokerCommand),
    /// Copy events from one broker, or data folder, to another
    Bridge(Bridge),
    /// What consumers in a database remember, so that an event has its effect once
    #[command(subcommand)]
    Inbox(InboxCommand),
    /// Tell people of dead letters, stalled groups, late outboxes and parked keys
    #[command(subcommand)]
    Alert(AlertCommand),
    /// For monitoring: one line and exit code 0 ok, 1 warning, 2 critical, 3 unknown
    #[command(subcommand)]
    Check(CheckCommand),
    /// Look through a whole data folder for damage; exit 4 if there is any
    Verify(Verify),
    /// Copy a whole data folder while everything runs
    Backup(Backup),
    /// Print a completion script for a shell
    Completion(Completion),
    /// Write the man pages
    Man(Man),
    /// Print the version
    Version,
    /// Print a chapter of the reference documentation
    #[command(hide = true)]
    Reference(Reference),
}

/// The data folder unless one is named.
pub(crate) const DATA_DEFAULT: &str = ".tidings";

/// Where the data is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Data {
    /// The data folder
    #[arg(
        long = "data",
        env = "TIDINGS_DATA",
        default_value = DATA_DEFAULT,
        value_name = "DIR"
    )]
    pub(crate) folder: PathBuf,
}

#[cfg(feature = "sqlite")]
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Orders to place
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) orders: u64,
    /// The data folder; a new temporary one unless given. Run it again on the same folder and it goes on
    #[arg(long = "data", value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// Carry the events by this broker: kafka://…, amqp://…, nats://…, sns+sqs://… or eventbridge://…; the data folder then keeps the services' own state
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The order of keys does not matter: needed on a broker that does not keep it
    #[arg(long)]
    pub(crate) unordered: bool,
    /// One demo at a time works on this broker: needed where the order of keys is kept within one instance alone
    #[arg(long)]
    pub(crate) single_instance: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Emit {
    #[command(flatten)]
    pub(crate) event: NewEvent,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Which events.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Filter {
    /// Only these types: segments by dots, * for one segment, ** at the end for the rest
    #[arg(long = "type", value_name = "PATTERN", num_args = 1..)]
    pub(crate) types: Vec<Pattern>,
    /// Only this key (aggregate id)
    #[arg(long, visible_alias = "subject", value_name = "ID")]
    pub(crate) key: Option<String>,
    /// Only this correlation id
    #[arg(long = "corr", value_name = "ID")]
    pub(crate) correlation_id: Option<String>,
    /// Only this source
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// From here on, by the time of appending: earliest, latest, @POSITION, a time, or how long ago (15m)
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<When>,
    /// Up to here, exclusive
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<When>,
    /// Show tidings' own facts too
    #[arg(long)]
    pub(crate) internal: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Only these types; may be repeated
    #[arg(value_name = "PATTERN")]
    pub(crate) patterns: Vec<Pattern>,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Begin here instead of now: earliest, @POSITION, a time, or how long ago (15m)
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<When>,
    /// Begin at the oldest event
    #[arg(long, conflicts_with = "since")]
    pub(crate) from_start: bool,
    /// Stop at what is the end when the command starts
    #[arg(long)]
    pub(crate) until_end: bool,
    /// Stop after so many events
    #[arg(short = 'n', long = "limit", value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Print CloudEvents
    #[arg(long)]
    pub(crate) cloudevents: bool,
    /// Show tidings' own facts too
    #[arg(long)]
    pub(crate) internal: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// List events in the order of the log
    Ls(EventLs),
    /// Show one event by its id
    Get(EventGet),
    /// Say where an event is in each group, and why: handled, waiting, retried, parked, given up
    Explain(EventExplain),
    /// Count events
    Count(EventCount),
    /// Publish the events of a file of JSON lines: envelopes or CloudEvents, plain or gzip
    Import(EventImport),
    /// Print events as JSON lines, loss-free
    Export(EventExport),
}

#[derive(Debug, Args)]
pub(crate) struct EventLs {
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// At most so many events
    #[arg(short = 'n', long = "limit", value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Print CloudEvents
    #[arg(long)]
    pub(crate) cloudevents: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EventGet {
    /// The event id
    #[arg(value_name = "ID")]
    pub(crate) event_id: String,
    #[command(flatten)]
    pub(crate) data: Data,
    /// Print the payload's bytes and nothing else
    #[arg(long)]
    pub(crate) raw: bool,
    /// Print a CloudEvent
    #[arg(long, conflicts_with = "raw")]
    pub(crate) cloudevents: bool,
}

/// One event, or what is open of a key.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Explained {
    /// The event id
    #[arg(value_name = "ID")]
    pub(crate) event_id: Option<String>,
    /// A key, for example order-123: each of its newest hundred events that a group is not done with
    #[arg(long, visible_alias = "subject", value_name = "KEY")]
    pub(crate) key: Option<String>,
}

#[derive(Debug, Args)]
#[command(mut_arg("store", |store| store.help("Where retries and dead letters are kept, if not in the data folder: postgres://USER@HOST/NAME, mysql://… or sqlite:///FILE")))]
pub(crate) struct EventExplain {
    #[command(flatten)]
    pub(crate) typed: Typed,
    #[command(flatten)]
    pub(crate) what: Explained,
    /// With --key: also what groups are done with
    #[arg(long, conflicts_with = "event_id")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) store: SharedStore,
    /// Only in this group
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<GroupName>,
}

#[derive(Debug, Args)]
pub(crate) struct EventCount {
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

#[derive(Debug, Args)]
pub(crate) struct EventImport {
    /// The file, or - for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Leave out events that are in the log already or on their way there, by id and source, so that an import can be repeated
    #[arg(long)]
    pub(crate) skip_existing: bool,
    /// Write the lines that are no events to this file, as they are
    #[arg(long, value_name = "FILE")]
    pub(crate) rejects: Option<PathBuf>,
    /// When an event counts as accepted
    #[arg(long, value_enum, default_value_t = AcknowledgedOnce::Synced, value_name = "WHEN")]
    pub(crate) durability: AcknowledgedOnce,
}

/// What has to have happened to an event before its receipt is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AcknowledgedOnce {
    /// It is flushed to the disk: it survives a power cut
    Synced,
    /// It is handed to the operating system: faster on slow disks, and a power cut may lose it
    Written,
}

#[derive(Debug, Args)]
pub(crate) struct EventExport {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// Print CloudEvents
    #[arg(long)]
    pub(crate) cloudevents: bool,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Show or set how much of the history is kept, by age and by size; works beside the owner
    Retention(LogRetention),
}

#[derive(Debug, Args)]
pub(crate) struct LogRetention {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Remove segments whose newest event was appended longer ago, for example 30d; none for no limit
    #[arg(long, value_name = "DURATION")]
    pub(crate) max_age: Option<NoLimit<Length>>,
    /// Remove the oldest segments while the log takes more, for example 10GiB; none for no limit
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_size: Option<NoLimit<Size>>,
    /// Which groups keep what they have not handled from being removed
    #[arg(long, value_enum, value_name = "GROUPS")]
    pub(crate) held_by: Option<HeldBy>,
    /// A group is abandoned when nobody has worked for it for so long, while events came
    #[arg(long, value_name = "DURATION")]
    pub(crate) abandoned_after: Option<Length>,
    /// Keep everything from now on
    #[arg(long, conflicts_with_all = ["max_age", "max_size", "held_by", "abandoned_after"])]
    pub(crate) off: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

impl LogRetention {
    /// Whether the rule is to be set, not only shown.
    pub(crate) fn changes_anything(&self) -> bool {
        self.off
            || self.max_age.is_some()
            || self.max_size.is_some()
            || self.held_by.is_some()
            || self.abandoned_after.is_some()
    }
}

/// Which groups retention waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum HeldBy {
    /// Every group, however long nobody has worked for it
    All,
    /// Every group that is not abandoned; an abandoned one loses events
    Active,
    /// No group: who is slower than the limits loses events
    None,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The data folder
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Where the copy goes: a folder that is new or empty
    #[arg(value_name = "TO")]
    pub(crate) to: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) data: Data,
}

#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The folder for one page a command; without it the main page goes to standard output
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Reference {
    /// Which chapter
    #[arg(value_enum)]
    pub(crate) chapter: Chapter,
}

/// Chapters of the generated reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Chapter {
    /// Every command with its flags
    Cli,
    /// Every error code
    Errors,
    /// Every limit
    Limits,
}
