//! Flags of `tidings bridge` and `tidings broker`, with their help.

use crate::when::When;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use tidings::Pattern;
use tidings::broker::GroupName;

#[derive(Debug, Subcommand)]
pub(crate) enum BrokerCommand {
    /// Look whether everything is there, with the command for what is not; exit 4 if something is missing or wrong
    Check(BrokerCheck),
    /// Make what is missing
    Ensure(BrokerCheck),
}

#[derive(Debug, Args)]
pub(crate) struct BrokerCheck {
    /// The broker
    #[arg(long, env = "TIDINGS_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) url: String,
    /// Also what this group needs
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<GroupName>,
    /// What the group handles
    #[arg(long = "type", value_name = "PATTERN", num_args = 1.., requires = "group")]
    pub(crate) types: Vec<Pattern>,
}

#[derive(Debug, Args)]
pub(crate) struct Bridge {
    /// Where the events are: a data folder, or the URL of a broker
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// Where they go: a data folder, or the URL of a broker
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// The group on the source that remembers how far the bridge is: started again, it goes on there
    #[arg(long, default_value = "bridge", value_name = "GROUP")]
    pub(crate) group: GroupName,
    /// Only these types: segments by dots, * for one segment, ** at the end for the rest
    #[arg(long = "type", value_name = "PATTERN", num_args = 1..)]
    pub(crate) types: Vec<Pattern>,
    /// Copy tidings' own facts too
    #[arg(long)]
    pub(crate) internal: bool,
    /// Where a new group begins: earliest, latest, @POSITION, a time, or how long ago (15m)
    #[arg(long, default_value = "earliest", value_name = "WHEN")]
    pub(crate) since: When,
    /// Stop when everything that is there was copied
    #[arg(long)]
    pub(crate) until_end: bool,
    /// Append messages that are no events to this file, as JSON lines with the reason, and go on; without it they end the bridge
    #[arg(long, value_name = "FILE")]
    pub(crate) rejects: Option<PathBuf>,
}
