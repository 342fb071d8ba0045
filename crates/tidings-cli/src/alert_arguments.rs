//! Commands and flags of alerting and of checks for monitoring, with their help.

use crate::arguments::Data;
use crate::health::Address;
use crate::place::Place;
use crate::store_arguments::SharedStore;
use crate::when::{Length, When};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use tidings::broker::GroupName;

#[derive(Debug, Subcommand)]
pub(crate) enum AlertCommand {
    /// Watch dead letters, groups, outboxes and parked keys, and tell people
    #[command(after_help = "Examples:
  tidings alert run --webhook https://hooks.example.com/T0/B0 --webhook-secret-file secret
  tidings alert run --exec './page.sh' --stalled-after 10m
  tidings alert run --url kafka://localhost:9092 --store postgres://app@db/shop --exec ./page.sh

It is a consumer like any other, of the group tidings-alert, and needs no change elsewhere. It never becomes the owner of a data folder. What it told survives its
end: nothing is told twice but a message on its way when it was killed, which goes out again under the same webhook-id.")]
    Run(Box<AlertRun>),
    /// Send a test through each channel and say what came back
    Test(AlertTest),
    /// Print rules for Prometheus that fire on the figures of `consumer run`, `relay run` and `alert run --listen`
    Rules,
}

/// Where alerts go, beside standard error.
#[derive(Debug, Clone, Args)]
pub(crate) struct Channels {
    /// Post alerts to this URL, signed as Standard Webhooks says; may be repeated
    #[arg(
        long,
        env = "TIDINGS_WEBHOOK",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) webhook: Vec<String>,
    /// The file with the secret of webhooks, whsec_… and nothing else; or the secret itself in the variable TIDINGS_WEBHOOK_SECRET
    #[arg(long, env = "TIDINGS_WEBHOOK_SECRET_FILE", value_name = "FILE")]
    pub(crate) webhook_secret_file: Option<PathBuf>,
    /// Webhooks may lead to this machine and to private networks; never to link-local addresses
    #[arg(long, env = "TIDINGS_WEBHOOK_ALLOW_PRIVATE")]
    pub(crate) allow_private: bool,
    /// A file of certificates (PEM) to trust instead of the system's, for receivers with an authority of their own
    #[arg(long, env = "TIDINGS_WEBHOOK_CA", value_name = "FILE")]
    pub(crate) webhook_ca: Option<PathBuf>,
    /// Run this command for each alert: JSON on standard input, exit code 0 means accepted; may be repeated
    #[arg(long, value_name = "CMD")]
    pub(crate) exec: Vec<String>,
    /// Time limit of that command; it is killed at it and run again later
    #[arg(long, default_value = "30s", value_name = "DURATION")]
    pub(crate) exec_time_limit: Length,
}

/// Where alerting keeps what it told.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("store", |store| store.help("The database of the groups' dead letters instead of the data folder's: postgres://USER@HOST/NAME, mysql://… or sqlite:///FILE")))]
pub(crate) struct Store {
    #[command(flatten)]
    pub(crate) shared: SharedStore,
}

#[derive(Debug, Args)]
pub(crate) struct AlertRun {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) store: Store,
    #[command(flatten)]
    pub(crate) channels: Channels,
    /// The group; watchers of different groups tell apart from each other
    #[arg(long, default_value = "tidings-alert", value_name = "GROUP")]
    pub(crate) group: GroupName,
    /// Where a new group begins: earliest, latest, @POSITION, a time, or how long ago (15m)
    #[arg(long, default_value = "latest", value_name = "WHEN")]
    pub(crate) from: When,
    /// Dead letters of one failure are told in one message in so long a time
    #[arg(long, default_value = "10m", value_name = "DURATION")]
    pub(crate) window: Length,
    /// A group that is behind and has not moved for so long is stalled
    #[arg(long, default_value = "5m", value_name = "DURATION")]
    pub(crate) stalled_after: Length,
    /// Tell an outbox whose oldest event waits longer
    #[arg(long, default_value = "2m", value_name = "DURATION")]
    pub(crate) outbox_after: Length,
    /// Tell a group whose events are parked, or whose keys are held, for longer
    #[arg(long, default_value = "15m", value_name = "DURATION")]
    pub(crate) parked_after: Length,
    /// Tell again what lasts; 0s for never
    #[arg(long, default_value = "4h", value_name = "DURATION")]
    pub(crate) remind_after: Length,
    /// How often groups and outboxes are looked at
    #[arg(long, default_value = "15s", value_name = "DURATION")]
    pub(crate) every: Length,
    /// Look at this group, too: for a broker that cannot list its groups, which is RabbitMQ; may be repeated
    #[arg(long, value_name = "GROUP")]
    pub(crate) consumer: Vec<GroupName>,
    /// Watch the table `outbox` of this database, too; may be repeated
    #[arg(long, value_name = "URL")]
    pub(crate) outbox: Vec<String>,
    /// Stop once every fact is counted, one look is over and every message is accepted
    #[arg(long)]
    pub(crate) until_end: bool,
    /// Serve /metrics, /livez and /readyz here: PORT (of this machine alone) or ADDRESS:PORT
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<Address>,
}

#[derive(Debug, Args)]
pub(crate) struct AlertTest {
    #[command(flatten)]
    pub(crate) channels: Channels,
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(flatten)]
    pub(crate) store: Store,
    /// The group of the watcher whose channels are tried: one that a receiver closed is opened again if it accepts
    #[arg(long, default_value = "tidings-alert", value_name = "GROUP")]
    pub(crate) group: GroupName,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CheckCommand {
    /// How far groups are behind; without limits it warns at 5 minutes and is critical at 30
    Lag(CheckLag),
    /// How many dead letters wait for a person; without limits it warns at the first
    Dlq(CheckDlq),
    /// How long events wait in an outbox; without limits it warns at 1 minute and is critical at 10
    Outbox(CheckOutbox),
}

/// From where on a check warns, and from where on it is critical.
#[derive(Debug, Clone, Args)]
pub(crate) struct Thresholds {
    /// Warn if there are more
    #[arg(long, value_name = "N")]
    pub(crate) warn: Option<u64>,
    /// Critical if there are more
    #[arg(long, value_name = "N")]
    pub(crate) crit: Option<u64>,
    /// Warn if the oldest is older, for example 5m
    #[arg(long, value_name = "DURATION")]
    pub(crate) warn_age: Option<Length>,
    /// Critical if the oldest is older
    #[arg(long, value_name = "DURATION")]
    pub(crate) crit_age: Option<Length>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = CheckFormat::Nagios, value_name = "FORMAT")]
    pub(crate) format: CheckFormat,
}

impl Thresholds {
    /// Whether none was given.
    pub(crate) fn are_unset(&self) -> bool {
        self.warn.is_none()
            && self.crit.is_none()
            && self.warn_age.is_none()
            && self.crit_age.is_none()
    }
}

/// How the result of a check is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CheckFormat {
    /// One line with figures behind a bar, as Nagios, Icinga and their kin read it
    Nagios,
    /// Figures for a text file collector
    Prometheus,
    /// One JSON object
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct CheckLag {
    /// Only this group
    #[arg(value_name = "GROUP")]
    pub(crate) group: Option<GroupName>,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) thresholds: Thresholds,
}

#[derive(Debug, Args)]
pub(crate) struct CheckDlq {
    /// Only of this group
    #[arg(long, value_name = "GROUP")]
    pub(crate) consumer: Option<GroupName>,
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(flatten)]
    pub(crate) store: Store,
    #[command(flatten)]
    pub(crate) thresholds: Thresholds,
}

#[derive(Debug, Args)]
pub(crate) struct CheckOutbox {
    /// The database of the outbox; that of the data folder unless given
    #[arg(
        long,
        env = "TIDINGS_RELAY_FROM",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) from: Option<String>,
    /// The outbox table
    #[arg(
        long,
        env = "TIDINGS_RELAY_TABLE",
        default_value = "outbox",
        value_name = "TABLE"
    )]
    pub(crate) table: String,
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(flatten)]
    pub(crate) thresholds: Thresholds,
}
