//! Commands and flags for dead letters and for what waits to be retried, with their help.

use crate::arguments::Data;
use crate::outbox_arguments::Dialect;
use crate::store_arguments::SharedStore;
use crate::when::When;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use tidings::broker::GroupName;
use tidings::core::event_type::EventTypeError;
use tidings::core::store::LetterStatus;
use tidings::limits::{LETTER_ACTIONS_MAX, REDRIVES_MAX_DEFAULT};
use tidings::{EventType, Pattern};

/// Without a command: dead letters that are alike, the newest death first.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Dlq {
    #[command(subcommand)]
    pub(crate) command: Option<DlqCommand>,
    #[command(flatten)]
    pub(crate) clusters: DlqClusters,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List dead letters, the oldest first
    Ls(DlqLs),
    /// Show one dead letter with its attempts, its history and the raw event; or what is known of a cluster
    Show(DlqShow),
    /// Hand dead letters back to the groups that gave them up, and to them only
    #[command(after_help = "Examples:
  tidings dlq redrive evt-1
  tidings dlq redrive dlq-7f3a --limit 1
  tidings dlq redrive dlq-7f3a --rate 20 --max-failure-ratio 0.05 --reason INC-4711
  tidings dlq redrive --consumer shipping --since 2h --dry-run -o json

It may be issued twice and broken off: what was handed back is not handed back again, and the same command goes on with the rest.")]
    Redrive(DlqRedrive),
    /// Hand an edited copy to the group in the place of the event; both are kept
    #[command(after_help = "Examples:
  tidings dlq edit evt-1 --set /warehouse_id='\"w-7\"' --dry-run
  tidings dlq edit evt-1 --payload @fixed.json --reason INC-4711")]
    Edit(DlqEdit),
    /// Give dead letters up for good; what waits behind them goes on
    Discard(DlqDiscard),
    /// Print the events of dead letters as JSON lines, with who gave them up and why as attributes tdg…
    Export(DlqExport),
    /// Count dead letters by group and status
    Stats(DlqStats),
    /// Show what persons did, the newest last: redrives, edits, discards, retries, pauses, resets, and changes of scheduled events
    Actions(DlqActions),
    /// Take over dead letters of other products: Spring for Kafka, Kafka Connect, RabbitMQ, Watermill
    #[command(
        after_help = "Each line is one message as a JSON object, or a list of them: headers (an object, or a list of [name, value]), key, and payload or payload_base64; or what kcat -J, rpk and rabbitmqadmin print.

Examples:
  rabbitmqadmin get queue=orders.dead count=1000 -f raw_json | tidings dlq import - --consumer shipping
  kcat -C -e -J -t orders.DLT -b localhost:9092 | tidings dlq import - --consumer shipping
  tidings dlq import dead.jsonl --consumer shipping --dry-run"
    )]
    Import(DlqImport),
    /// Print the statements that make the tables, for migrations of your own
    Ddl(DlqDdl),
    /// Make the tables in a shared store, or bring them to the newest version
    Migrate(DlqMigrate),
}

/// Where dead letters are kept.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("store", |store| store.help("A store of its own instead of the data folder's: postgres://USER@HOST/NAME, mysql://… or sqlite:///FILE")))]
pub(crate) struct LetterPlace {
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(flatten)]
    pub(crate) store: SharedStore,
}

/// Which dead letters.
#[derive(Debug, Clone, Args)]
pub(crate) struct LetterFilters {
    /// Only of this group
    #[arg(long, value_name = "GROUP")]
    pub(crate) consumer: Option<GroupName>,
    /// Only these types: segments by dots, * for one segment, ** at the end for the rest
    #[arg(long = "type", value_name = "PATTERN", num_args = 1..)]
    pub(crate) types: Vec<Pattern>,
    /// Only this error cluster
    #[arg(long, value_name = "CLUSTER")]
    pub(crate) cluster: Option<String>,
    /// Only this key (aggregate id)
    #[arg(long, visible_alias = "subject", value_name = "ID")]
    pub(crate) key: Option<String>,
    /// Only those that died from here on: a time, or how long ago (15m)
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<When>,
    /// Only those that died before, exclusive
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<When>,
    /// Only those that stand so: open, redriven, resolved, discarded or edited
    #[arg(long = "status", value_name = "STATUS", num_args = 1..)]
    pub(crate) statuses: Vec<LetterStatus>,
}

/// Who decides, and why.
#[derive(Debug, Clone, Args)]
pub(crate) struct Signature {
    /// Why, for those who look later
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Who decides; the user of this machine unless given
    #[arg(long, env = "TIDINGS_ACTOR", value_name = "NAME")]
    pub(crate) actor: Option<String>,
    /// The user, as the machine knows him
    #[arg(
        long,
        env = "USER",
        hide = true,
        hide_env = true,
        default_value = "unknown"
    )]
    pub(crate) user: String,
}

#[derive(Debug, Args)]
pub(crate) struct DlqClusters {
    #[command(flatten)]
    pub(crate) place: LetterPlace,
    #[command(flatten)]
    pub(crate) filters: LetterFilters,
}

#[derive(Debug, Args)]
pub(crate) struct DlqLs {
    #[command(flatten)]
    pub(crate) place: LetterPlace,
    #[command(flatten)]
    pub(crate) filters: LetterFilters,
    /// Also those that are settled: resolved, discarded and edited ones
    #[arg(long)]
    pub(crate) all: bool,
    /// At most so many
    #[arg(short = 'n', long = "limit", value_name = "N")]
    pub(crate) limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct DlqShow {
    /// The id of the event that was given up, of its dead letter, or a cluster
    #[arg(value_name = "EVENT|LETTER|CLUSTER")]
    pub(crate) which: String,
    #[command(flatten)]
    pub(crate) place: LetterPlace,
    /// Only of this group
    #[arg(long, value_name = "GROUP")]
    pub(crate) consumer: Option<GroupName>,
}

#[derive(Debug, Args)]
pub(crate) struct DlqRedrive {
    /// Which: ids of events or of dead letters, or one cluster; without, what the filters mean
    #[arg(value_name = "EVENT|LETTER|CLUSTER")]
    pub(crate) which: Vec<String>,
    #[command(flatten)]
    pub(crate) place: LetterPlace,
    #[command(flatten)]
    pub(crate) filters: LetterFilters,
    /// All that are open
    #[arg(long)]
    pub(crate) all: bool,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// So many a second, for example 20 or 20/s; as fast as the store takes them unless given
    #[arg(long, value_name = "N/s", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Stop when a larger share of those that were handled fails again, for example 0.05, and wait for the last ones; the consumer must be running, or the command ends with exit code 4 when nothing becomes of them for 60 s
    #[arg(long, value_name = "RATIO", value_parser = ratio)]
    pub(crate) max_failure_ratio: Option<f64>,
    /// Leave alone what was handed back so often and died again
    #[arg(long, default_value_t = REDRIVES_MAX_DEFAULT, value_name = "N")]
    pub(crate) max_redrives: u32,
    /// Hand back also what was handed back too often
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) signature: Signature,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("change").required(true).multiple(true).args(["payload", "set", "event_type", "event_version"])))]
pub(crate) struct DlqEdit {
    /// The id of the event that was given up, or of its dead letter
    #[arg(value_name = "EVENT|LETTER")]
    pub(crate) which: String,
    #[command(flatten)]
    pub(crate) place: LetterPlace,
    /// Only of this group; needed where several gave the event up
    #[arg(long, value_name = "GROUP")]
    pub(crate) consumer: Option<GroupName>,
    /// Another payload: JSON, @FILE or - for standard input
    #[arg(long, value_name = "JSON")]
    pub(crate) payload: Option<String>,
    /// Another value within the payload, its place as a JSON pointer: /customer/name='"Anna"'; may be repeated
    #[arg(long, value_name = "/POINTER=JSON", conflicts_with = "payload")]
    pub(crate) set: Vec<String>,
    /// Another event type
    #[arg(long, value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// Another version of the payload's schema
    #[arg(long, value_name = "N")]
    pub(crate) event_version: Option<u32>,
    /// Show the difference, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) signature: Signature,
}

#[derive(Debug, Args)]
pub(crate) struct DlqDiscard {
    /// Which: ids of events or of dead letters, or one cluster; without, what the filters mean
    #[arg(value_name = "EVENT|LETTER|CLUSTER")]
    pub(crate) which: Vec<String>,
    #[command(flatten)]
    pub(crate) place: LetterPlace,
    #[command(flatten)]
    pub(crate) filters: LetterFilters,
    /// All that are open
    #[arg(long)]
    pub(crate) all: bool,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Discard also what was handed back and is not handled yet
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) signature: Signature,
    /// Do not ask; needed for a cluster or a filter where nobody can be asked
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DlqExport {
    #[command(flatten)]
    pub(crate) place: LetterPlace,
    #[command(flatten)]
    pub(crate) filters: LetterFilters,
    /// Also those that are settled
    #[arg(long)]
    pub(crate) all: bool,
    /// Print CloudEvents
    #[arg(long)]
    pub(crate) cloudevents: bool,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DlqStats {
    #[command(flatten)]
    pub(crate) place: LetterPlace,
    #[command(flatten)]
    pub(crate) filters: LetterFilters,
}

#[derive(Debug, Args)]
pub(crate) struct DlqActions {
    #[command(flatten)]
    pub(crate) place: LetterPlace,
    /// Only what was done to this group
    #[arg(long, value_name = "GROUP")]
    pub(crate) consumer: Option<GroupName>,
    /// So many at most, the newest
    #[arg(short = 'n', long = "limit", default_value_t = LETTER_ACTIONS_MAX, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(LETTER_ACTIONS_MAX)))]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct DlqImport {
    /// A file of JSON lines, or - for standard input; plain or gzip
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) place: LetterPlace,
    /// The group that gets the events when they are redriven; taken from the messages where they tell it
    #[arg(long, value_name = "GROUP")]
    pub(crate) consumer: Option<GroupName>,
    /// The type of the events that say none, for example order.placed; unless given it is foreign.received, or the routing key on RabbitMQ. A group handles only the types that it asks for
    #[arg(long, value_name = "TYPE", value_parser = event_type)]
    pub(crate) event_type: Option<EventType>,
    /// Say what would be taken over, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) signature: Signature,
}

#[derive(Debug, Args)]
pub(crate) struct DlqDdl {
    /// Of which database; mysql is MariaDB too
    #[arg(long, value_enum, default_value_t = Dialect::Postgres, value_name = "DIALECT")]
    pub(crate) dialect: Dialect,
}

#[derive(Debug, Args)]
pub(crate) struct DlqMigrate {
    #[command(flatten)]
    pub(crate) place: LetterPlace,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RetryCommand {
    /// List events that wait to be retried, and those parked behind them
    Ls(RetryLs),
    /// Retry now what waits for a time
    Now(RetryNow),
}

/// Which events that wait.
#[derive(Debug, Clone, Args)]
pub(crate) struct WaitingFilters {
    /// Only these events
    #[arg(value_name = "EVENT")]
    pub(crate) ids: Vec<String>,
    /// Only of this group
    #[arg(long, value_name = "GROUP")]
    pub(crate) consumer: Option<GroupName>,
    /// Only this key (aggregate id)
    #[arg(long, visible_alias = "subject", value_name = "ID")]
    pub(crate) key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RetryLs {
    #[command(flatten)]
    pub(crate) filters: WaitingFilters,
    #[command(flatten)]
    pub(crate) place: LetterPlace,
    /// Only the first of each key, which waits for a time
    #[arg(long)]
    pub(crate) due_only: bool,
    /// At most so many
    #[arg(short = 'n', long = "limit", value_name = "N")]
    pub(crate) limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct RetryNow {
    #[command(flatten)]
    pub(crate) filters: WaitingFilters,
    #[command(flatten)]
    pub(crate) place: LetterPlace,
    #[command(flatten)]
    pub(crate) signature: Signature,
}

#[derive(Debug, Args)]
pub(crate) struct ConsumerPause {
    /// The group
    #[arg(value_name = "GROUP")]
    pub(crate) group: GroupName,
    #[command(flatten)]
    pub(crate) place: LetterPlace,
    /// Pause a group that is not known yet: it has not begun, or a shared store has not heard of it
    #[arg(long)]
    pub(crate) new_group: bool,
    #[command(flatten)]
    pub(crate) signature: Signature,
}

#[derive(Debug, Args)]
pub(crate) struct ConsumerResume {
    /// The group
    #[arg(value_name = "GROUP")]
    pub(crate) group: GroupName,
    #[command(flatten)]
    pub(crate) place: LetterPlace,
    #[command(flatten)]
    pub(crate) signature: Signature,
}

#[derive(Debug, Args)]
pub(crate) struct ConsumerSkip {
    /// The group
    #[arg(value_name = "GROUP")]
    pub(crate) group: GroupName,
    /// The event that the group passes over: one that it could not handle, or one of the data folder's log that it has not reached
    #[arg(value_name = "EVENT")]
    pub(crate) event_id: String,
    #[command(flatten)]
    pub(crate) place: LetterPlace,
    #[command(flatten)]
    pub(crate) signature: Signature,
}

fn event_type(text: &str) -> Result<EventType, EventTypeError> {
    EventType::carried(text)
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    let rate = number.parse::<f64>().ok();
    rate.filter(|rate| rate.is_finite() && *rate > 0.0)
        .ok_or_else(|| format!("{text:?} is no rate; write how many a second: 20 or 20/s"))
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse::<f64>().ok();
    ratio
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| format!("{text:?} is no share; write a number from 0 to 1: 0.05"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_shares_say_what_they_should_be() {
        assert_eq!(rate("20/s"), Ok(20.0));
        assert_eq!(rate("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "fast", "inf", "20/m"] {
            assert!(
                rate(wrong).is_err_and(|message| message.contains("20/s")),
                "{wrong}"
            );
        }
        assert_eq!(ratio("0.05"), Ok(0.05));
        for wrong in ["1.5", "-0.1", "5%", "nan"] {
            assert!(
                ratio(wrong).is_err_and(|message| message.contains("0.05")),
                "{wrong}"
            );
        }
    }
}
