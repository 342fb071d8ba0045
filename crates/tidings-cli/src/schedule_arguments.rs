//! Commands and flags for scheduled events, with their help.

use crate::dlq_arguments::Signature;
use crate::event_arguments::NewEvent;
use crate::outbox_arguments::Dialect;
use crate::store_arguments::SharedStore;
use crate::when::{Length, Moment};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Show what waits, and when it comes
    Ls(ScheduleLs),
    /// Publish an event at a time, after a while, or again and again
    Add(ScheduleAdd),
    /// Forget a scheduled event; what has fired is published
    Cancel(ScheduleCancel),
    /// Change when a scheduled event comes next
    Move(ScheduleMove),
    /// Fire what is due in a database, and carry its outbox to where the events go
    #[command(after_help = "Examples:
  tidings schedule run --store postgres://app@db/shop --to nats://nats:4222

As many as like may run: an event fires once, and one of them at a time carries the outbox. The owner of a data folder fires what is in it by itself.")]
    Run(ScheduleRun),
    /// Print the statements that make the table, for migrations of your own
    Ddl(ScheduleDdl),
    /// Make the table, or bring it to the newest version
    Migrate(ScheduleMigrate),
}

/// Where scheduled events are kept.
#[derive(Debug, Args)]
#[command(mut_arg("store", |store| store.help("A database instead: sqlite:///FILE, postgres://USER@HOST/NAME or mysql://USER@HOST/NAME; tidings schedule run fires the events")))]
pub(crate) struct ScheduleStore {
    /// The data folder
    #[arg(
        long = "data",
        env = "TIDINGS_DATA",
        default_value = ".tidings",
        value_name = "DIR"
    )]
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) shared: SharedStore,
}

#[derive(Debug, Args)]
pub(crate) struct ScheduleLs {
    #[command(flatten)]
    pub(crate) store: ScheduleStore,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("time").required(true).args(["at", "after", "every"])))]
pub(crate) struct ScheduleAdd {
    #[command(flatten)]
    pub(crate) event: NewEvent,
    #[command(flatten)]
    pub(crate) store: ScheduleStore,
    /// At this time: 2026-12-24T18:00:00Z; a time that is past comes at once
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<Moment>,
    /// After this long: 30s, 15m, 2h30m, 14d
    #[arg(long = "in", value_name = "DURATION")]
    pub(crate) after: Option<Length>,
    /// Again and again, by a cron expression: "30 9 * * MON-FRI", or with seconds first
    #[arg(long, value_name = "CRON")]
    pub(crate) every: Option<String>,
    /// The time zone of --every: an IANA name such as Europe/Berlin
    #[arg(long, requires = "every", default_value = "UTC", value_name = "ZONE")]
    pub(crate) zone: String,
    /// A name of your own, by which it is cancelled; the event's id unless given. A name that is taken changes nothing
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ScheduleCancel {
    /// Its name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) store: ScheduleStore,
    #[command(flatten)]
    pub(crate) signature: Signature,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("time").required(true).args(["at", "after"])))]
pub(crate) struct ScheduleMove {
    /// Its name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) store: ScheduleStore,
    /// To this time: 2026-12-24T18:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<Moment>,
    /// To so long from now: 30s, 15m, 2h30m, 14d
    #[arg(long = "in", value_name = "DURATION")]
    pub(crate) after: Option<Length>,
    #[command(flatten)]
    pub(crate) signature: Signature,
}

#[derive(Debug, Args)]
#[command(mut_arg("store", |store| store.required(true).help("The database: postgres://USER@HOST/NAME, mysql://USER@HOST/NAME or sqlite:///FILE")))]
pub(crate) struct ScheduleRun {
    #[command(flatten)]
    pub(crate) store: SharedStore,
    /// Where to: the URL of a broker, a data folder (DIR or file:///DIR), or - for standard output, one event a line
    #[arg(
        long,
        env = "TIDINGS_RELAY_TO",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) to: String,
    /// How long what is on its way may take when the command is asked to stop
    #[arg(long, default_value = "10s", value_name = "DURATION")]
    pub(crate) drain_timeout: Length,
}

#[derive(Debug, Args)]
pub(crate) struct ScheduleDdl {
    /// Of which database; mysql is MariaDB too
    #[arg(long, value_enum, default_value_t = Dialect::Sqlite, value_name = "DIALECT")]
    pub(crate) dialect: Dialect,
}

#[derive(Debug, Args)]
pub(crate) struct ScheduleMigrate {
    #[command(flatten)]
    pub(crate) store: ScheduleStore,
}
