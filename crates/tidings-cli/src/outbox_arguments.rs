//! Commands and flags for outboxes in databases and for the relay, with their help.

use crate::health::Address;
use crate::when::{Length, When};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use tidings::Pattern;
use tidings::core::store::Shard;
use tidings::flow::outbox::KeyPolicy;
use tidings::limits::{RELAY_ATTEMPTS_DEFAULT, RELAY_BATCH_ROWS_DEFAULT, RELAY_BATCH_ROWS_MAX};
use tidings::sql;

#[derive(Debug, Subcommand)]
pub(crate) enum RelayCommand {
    /// Carry events from an outbox table to a data folder, to a broker or to standard output, until stopped
    Run(RelayRun),
    /// Make the tables that a relay keeps beside an outbox: leases, attempts, events given up
    Init(RelayInit),
    /// Look whether a relay could work: table, privileges, destination; exit 4 if not
    Check(RelayCheck),
    /// Compare an outbox with its destination: gaps, duplicates and disorder of each key; exit 4 if something is missing
    Verify(RelayVerify),
}

/// Which outbox.
#[derive(Debug, Clone, Args)]
pub(crate) struct Source {
    /// The database: sqlite:///FILE, postgres://USER@HOST/NAME or mysql://USER@HOST/NAME
    #[arg(
        long,
        env = "TIDINGS_RELAY_FROM",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) from: String,
    /// The outbox table, with its schema where it is not found without
    #[arg(
        long,
        env = "TIDINGS_RELAY_TABLE",
        default_value = "outbox",
        value_name = "TABLE"
    )]
    pub(crate) table: String,
    /// The table's shape; found out unless given
    #[arg(long, env = "TIDINGS_RELAY_SHAPE", value_enum, value_name = "SHAPE")]
    pub(crate) shape: Option<Shape>,
    /// Another database for leases, attempts and events given up; a SQLite file declares that there is one relay
    #[arg(
        long,
        env = "TIDINGS_RELAY_STATE",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) state: Option<String>,
    /// Do not promise order: for tables whose rows nothing puts in order
    #[arg(long, env = "TIDINGS_RELAY_UNORDERED")]
    pub(crate) unordered: bool,
    /// Mark rows as sent instead of deleting them; a table that somebody else made with a column `sent` is always marked
    #[arg(long, env = "TIDINGS_RELAY_MARK")]
    pub(crate) mark: bool,
    /// The configuration with the mapping of columns; tidings.toml of this folder unless given
    #[arg(long, env = "TIDINGS_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// The shape of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shape {
    /// That of `tidings outbox ddl`
    Tidings,
    /// id, event_type, payload, created_at, sent, and whatever else is there
    Seed,
    /// id, aggregatetype, aggregateid, type, payload, as Debezium's outbox router expects it
    Debezium,
}

impl Shape {
    /// The shape as the store knows it.
    pub(crate) fn known(self) -> sql::Shape {
        match self {
            Self::Tidings => sql::Shape::Tidings,
            Self::Seed => sql::Shape::Seed,
            Self::Debezium => sql::Shape::Debezium,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RelayRun {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Where to: a data folder (DIR or file:///DIR), a broker (kafka://HOST:PORT?topic=NAME, amqp://…, nats://…, sns+sqs://… or eventbridge://…), or - for standard output, one event a line
    #[arg(long, env = "TIDINGS_RELAY_TO", value_name = "URL")]
    pub(crate) to: String,
    /// Which part of the keys, for example 0/2; every relay of an outbox says the same count
    #[arg(long, env = "TIDINGS_RELAY_SHARD", default_value = "0/1", value_name = "I/N", value_parser = shard)]
    pub(crate) shard: Shard,
    /// What happens to later events of a key of which one was given up
    #[arg(long, env = "TIDINGS_RELAY_POLICY", value_enum, default_value_t = Policy::Block, value_name = "POLICY")]
    pub(crate) policy: Policy,
    /// Attempts at an event that the destination refuses; while the destination itself is in trouble none is counted
    #[arg(long, env = "TIDINGS_RELAY_ATTEMPTS", default_value_t = RELAY_ATTEMPTS_DEFAULT, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(tidings::limits::ATTEMPTS_MAX)))]
    pub(crate) attempts: u32,
    /// Rows read at once
    #[arg(long, env = "TIDINGS_RELAY_BATCH", default_value_t = RELAY_BATCH_ROWS_DEFAULT, value_name = "N", value_parser = batch)]
    pub(crate) batch: usize,
    /// The longest wait between two looks at an idle table
    #[arg(
        long,
        env = "TIDINGS_RELAY_POLL_MAX",
        default_value = "250ms",
        value_name = "DURATION"
    )]
    pub(crate) poll_max: Length,
    /// Listen for hints of writers too; PostgreSQL only, and not through a pooler
    #[arg(long, env = "TIDINGS_RELAY_LISTEN_NOTIFY")]
    pub(crate) listen_notify: bool,
    /// Stop once nothing is left that could be sent
    #[arg(long, env = "TIDINGS_RELAY_UNTIL_EMPTY")]
    pub(crate) until_empty: bool,
    /// Serve /metrics, /livez and /readyz here: PORT (of this machine alone) or ADDRESS:PORT
    #[arg(long, env = "TIDINGS_RELAY_LISTEN", value_name = "ADDR")]
    pub(crate) listen: Option<Address>,
    /// How long what is on its way may take when the relay is asked to stop
    #[arg(
        long,
        env = "TIDINGS_RELAY_DRAIN_TIMEOUT",
        default_value = "10s",
        value_name = "DURATION"
    )]
    pub(crate) drain_timeout: Length,
}

/// What happens to a key of which an event was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Policy {
    /// They wait until a person retries or discards it: the order of the key is kept
    Block,
    /// They go on without it
    Skip,
}

impl Policy {
    /// The policy as the relay knows it.
    pub(crate) fn known(self) -> KeyPolicy {
        match self {
            Self::Block => KeyPolicy::Block,
            Self::Skip => KeyPolicy::Skip,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RelayInit {
    /// The database that gets the tables
    #[arg(
        long,
        env = "TIDINGS_RELAY_FROM",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) from: String,
    /// Another database for them
    #[arg(
        long,
        env = "TIDINGS_RELAY_STATE",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) state: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RelayCheck {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Where to: a data folder, a broker, or - for standard output
    #[arg(long, env = "TIDINGS_RELAY_TO", value_name = "URL")]
    pub(crate) to: String,
}

/// What is compared is what the relay carried here: name types or a source where others publish to the destination too.
#[derive(Debug, Args)]
pub(crate) struct RelayVerify {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Where to: the data folder that the relay carries to
    #[arg(long, env = "TIDINGS_RELAY_TO", value_name = "URL")]
    pub(crate) to: String,
    /// The attribute that counts the events of a key by one each: its name, or /POINTER into the payload; shows gaps where rows are deleted
    #[arg(long, value_name = "NAME")]
    pub(crate) sequence: Option<String>,
    /// Only events of these types at the destination
    #[arg(long = "type", value_name = "PATTERN", num_args = 1..)]
    pub(crate) types: Vec<Pattern>,
    /// Only events of this source at the destination; not to be mixed up with --from
    #[arg(long = "event-source", value_name = "NAME")]
    pub(crate) event_source: Option<String>,
    /// Exit with 4 also if there are more duplicates, which a relay may make after a crash
    #[arg(long, value_name = "N")]
    pub(crate) max_duplicates: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OutboxCommand {
    /// Print the statements that make an outbox table, for migrations of your own
    Ddl(OutboxDdl),
    /// Make the outbox table and the relay's tables, or bring them to the newest version
    Migrate(OutboxMigrate),
    /// Show how many events wait, since when, and who relays them
    Status(OutboxStatus),
    /// List events that wait, or that were given up
    Ls(OutboxLs),
    /// Send events again that were given up
    Retry(OutboxRetry),
    /// Remove events that were given up, for good; what waits behind them goes on
    Discard(OutboxDiscard),
    /// Remove rows that were sent; tables that somebody else made are left as they are
    Prune(OutboxPrune),
}

#[derive(Debug, Args)]
pub(crate) struct OutboxDdl {
    /// Of which database; mysql is MariaDB too
    #[arg(long, value_enum, default_value_t = Dialect::Sqlite, value_name = "DIALECT")]
    pub(crate) dialect: Dialect,
    /// Which shape
    #[arg(long, value_enum, default_value_t = Shape::Tidings, value_name = "SHAPE")]
    pub(crate) style: Shape,
    /// Also the tables that a relay keeps beside it, where it may not make them itself
    #[arg(long)]
    pub(crate) with_relay: bool,
}

/// A database's language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Dialect {
    /// SQLite
    Sqlite,
    /// PostgreSQL
    Postgres,
    /// MySQL and MariaDB
    Mysql,
}

impl Dialect {
    /// The database as the store knows it.
    pub(crate) fn known(self) -> sql::Kind {
        match self {
            Self::Sqlite => sql::Kind::Sqlite,
            Self::Postgres => sql::Kind::Postgres,
            Self::Mysql => sql::Kind::MySql,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct OutboxMigrate {
    /// The database; a SQLite file is made if it does not exist
    #[arg(
        long,
        env = "TIDINGS_RELAY_FROM",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) from: String,
}

#[derive(Debug, Args)]
pub(crate) struct OutboxStatus {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Exit with 4 if more events wait
    #[arg(long, value_name = "N")]
    pub(crate) max: Option<u64>,
    /// Exit with 4 if the oldest event waits longer, for example 1m
    #[arg(long, value_name = "DURATION")]
    pub(crate) max_age: Option<Length>,
}

#[derive(Debug, Args)]
pub(crate) struct OutboxLs {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Those that were given up, with the reason
    #[arg(long)]
    pub(crate) dead: bool,
    /// At most so many events
    #[arg(short = 'n', long = "limit", default_value_t = 100, value_name = "N")]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["ids", "all"])))]
pub(crate) struct OutboxRetry {
    /// Which: row ids or event ids, as `outbox ls --dead` shows them
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// All that were given up
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) source: Source,
}

#[derive(Debug, Args)]
pub(crate) struct OutboxDiscard {
    /// Which: row ids or event ids, as `outbox ls --dead` shows them
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<String>,
    #[command(flatten)]
    pub(crate) source: Source,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OutboxPrune {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Rows that were sent before: a time, or how long ago (30d)
    #[arg(long, value_name = "WHEN")]
    pub(crate) older: When,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

fn shard(text: &str) -> Result<Shard, String> {
    let numbers = text
        .split_once('/')
        .and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
    match numbers {
        Some((index, count)) if index < count => Ok(Shard { index, count }),
        _ => Err(format!(
            "{text:?} is no shard; write the part, from 0, and how many there are: 0/2"
        )),
    }
}

fn batch(text: &str) -> Result<usize, String> {
    let rows = text.parse().ok();
    rows.filter(|rows| (1..=RELAY_BATCH_ROWS_MAX).contains(rows))
        .ok_or_else(|| format!("{text:?} is not in 1..={RELAY_BATCH_ROWS_MAX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_one_of_those_that_there_are() {
        assert_eq!(shard("1/2"), Ok(Shard { index: 1, count: 2 }));
        for wrong in ["2/2", "1", "a/b", "1/0", "-1/2", ""] {
            assert!(shard(wrong).is_err(), "{wrong}");
        }
    }
}
