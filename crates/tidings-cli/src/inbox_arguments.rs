//! Commands and flags for inboxes in databases, with their help.

use crate::outbox_arguments::Dialect;
use crate::when::Length;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use tidings::inbox::InboxRetention;
use tidings::limits::INBOX_ROWS_DEFAULT;

#[derive(Debug, Subcommand)]
pub(crate) enum InboxCommand {
    /// Show what each group remembers, and whether that is enough
    Status(InboxStatus),
    /// Forget what need not be remembered; never what can still be delivered again, unless you insist
    Prune(InboxPrune),
    /// Print the statements that make an inbox table, for migrations of your own
    Ddl(InboxDdl),
    /// Make the inbox table, or bring it to the newest version
    Migrate(InboxMigrate),
}

/// Which inbox.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("where").required(true).args(["from", "folder"])))]
pub(crate) struct Inbox {
    /// The database: sqlite:///FILE, postgres://USER@HOST/NAME or mysql://USER@HOST/NAME
    #[arg(
        long,
        env = "TIDINGS_INBOX_FROM",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) from: Option<String>,
    /// The database of a data folder instead
    #[arg(long = "data", value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
}

/// How long an inbox remembers: say what the consumers' programs say, which the database does not know.
#[derive(Debug, Args)]
pub(crate) struct Keep {
    /// An event is remembered for so long after it was handled
    #[arg(
        long,
        env = "TIDINGS_INBOX_KEEP",
        default_value = "14d",
        value_name = "DURATION"
    )]
    pub(crate) keep: Length,
    /// Events remembered of one group at most
    #[arg(long, env = "TIDINGS_INBOX_ROWS_MAX", default_value_t = INBOX_ROWS_DEFAULT, value_name = "N")]
    pub(crate) rows_max: u64,
    /// For so long after it was handled an event may be delivered again: the longest of what the broker keeps, what a relay may send twice, and when people redrive
    #[arg(
        long,
        env = "TIDINGS_INBOX_REDELIVERED_WITHIN",
        default_value = "7d",
        value_name = "DURATION"
    )]
    pub(crate) redelivered_within: Length,
}

impl Keep {
    /// As the keeper of inboxes knows it.
    pub(crate) fn known(&self, forget_early: bool) -> InboxRetention {
        InboxRetention {
            keep: self.keep.0,
            rows_max: self.rows_max,
            redelivered_within: self.redelivered_within.0,
            forget_early,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct InboxStatus {
    #[command(flatten)]
    pub(crate) inbox: Inbox,
    #[command(flatten)]
    pub(crate) keep: Keep,
}

#[derive(Debug, Args)]
pub(crate) struct InboxPrune {
    #[command(flatten)]
    pub(crate) inbox: Inbox,
    #[command(flatten)]
    pub(crate) keep: Keep,
    /// Only these groups; may be repeated
    #[arg(long = "group", value_name = "GROUP")]
    pub(crate) groups: Vec<String>,
    /// Believe --keep and --rows-max even where an event can still be delivered again; it is handled a second time then
    #[arg(long)]
    pub(crate) forget_early: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InboxDdl {
    /// Of which database; mysql is MariaDB too
    #[arg(long, value_enum, default_value_t = Dialect::Sqlite, value_name = "DIALECT")]
    pub(crate) dialect: Dialect,
}

#[derive(Debug, Args)]
pub(crate) struct InboxMigrate {
    #[command(flatten)]
    pub(crate) inbox: Inbox,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        keep: Keep,
    }

    #[test]
    fn what_flags_leave_out_is_what_the_library_does() {
        let keep = Alone::parse_from(["alone"]).keep;

        assert_eq!(keep.known(false), InboxRetention::default());
    }
}
