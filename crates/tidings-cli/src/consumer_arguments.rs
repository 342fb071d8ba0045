//! The commands about groups and what they take.

use crate::dlq_arguments::{ConsumerPause, ConsumerResume, ConsumerSkip, Signature};
use crate::failing_arguments::Failing;
use crate::health::Address;
use crate::place::Place;
use crate::store_arguments::SharedStore;
use crate::when::{Length, When};
use clap::{Args, Subcommand};
use tidings::Pattern;
use tidings::broker::GroupName;

#[derive(Debug, Subcommand)]
pub(crate) enum ConsumerCommand {
    /// List groups
    Ls(ConsumerLs),
    /// Show how far groups are behind
    Lag(ConsumerLag),
    /// Move a group to another place
    Reset(ConsumerReset),
    /// Forget a group
    Rm(ConsumerRm),
    /// Handle events by a command of any language
    Run(ConsumerRun),
    /// Let a group rest; a consumer that runs obeys within a second or so
    Pause(ConsumerPause),
    /// Let a group go on that was paused
    Resume(ConsumerResume),
    /// Let a group pass over an event for good; what waits behind it goes on
    Skip(ConsumerSkip),
}

/// What the shared store is for where groups are listed.
const PAUSES_AND_CIRCUITS: &str = "Where pauses and open circuits are told of, if not in the data folder: postgres://USER@HOST/NAME, mysql://… or sqlite:///FILE";

#[derive(Debug, Args)]
#[command(mut_arg("store", |store| store.help(PAUSES_AND_CIRCUITS)))]
pub(crate) struct ConsumerLs {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) store: SharedStore,
}

#[derive(Debug, Args)]
#[command(mut_arg("store", |store| store.help(PAUSES_AND_CIRCUITS)))]
pub(crate) struct ConsumerLag {
    /// Only this group
    #[arg(value_name = "GROUP")]
    pub(crate) group: Option<GroupName>,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) store: SharedStore,
    /// Exit with 4 if a group is more events behind
    #[arg(long, value_name = "N")]
    pub(crate) max: Option<u64>,
    /// Exit with 4 if the oldest event that a group has not settled is older, for example 5m
    #[arg(long, value_name = "DURATION")]
    pub(crate) max_age: Option<Length>,
}

/// What the shared store is for where a group is changed on its broker.
const RECORDED: &str = "Where it is recorded who did it and why, if not in the data folder: postgres://USER@HOST/NAME, mysql://… or sqlite:///FILE";

#[derive(Debug, Args)]
#[command(mut_arg("store", |store| store.help(RECORDED)))]
pub(crate) struct ConsumerReset {
    /// The group
    #[arg(value_name = "GROUP")]
    pub(crate) group: GroupName,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) store: SharedStore,
    /// Where to: earliest, latest, @POSITION, a time, or how long ago (15m)
    #[arg(long, value_name = "WHEN")]
    pub(crate) to: When,
    /// Show what would happen
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) signature: Signature,
}

#[derive(Debug, Args)]
#[command(mut_arg("store", |store| store.help(RECORDED)))]
pub(crate) struct ConsumerRm {
    /// The group
    #[arg(value_name = "GROUP")]
    pub(crate) group: GroupName,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) store: SharedStore,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) signature: Signature,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("handler").required(true).args(["exec", "pipe"])))]
pub(crate) struct ConsumerRun {
    /// The group; a new one is made
    #[arg(value_name = "GROUP")]
    pub(crate) group: GroupName,
    #[command(flatten)]
    pub(crate) place: Place,
    /// What it handles: segments by dots, * for one segment, ** at the end for the rest
    #[arg(long = "type", value_name = "PATTERN", num_args = 1.., required = true)]
    pub(crate) types: Vec<Pattern>,
    /// Run this command once for each event: envelope on standard input; exit 0 done, 75 try again, anything else a dead letter; ended by a signal, not found or not to be executed is tried again
    #[arg(long, value_name = "CMD")]
    pub(crate) exec: Option<String>,
    /// Keep this command running: an envelope a line in, an outcome a line out
    #[arg(long, value_name = "CMD")]
    pub(crate) pipe: Option<String>,
    #[command(flatten)]
    pub(crate) failing: Failing,
    /// Events that are handled at the same time, each of another key
    #[arg(long, default_value_t = tidings::limits::PROCESS_PARALLEL_DEFAULT, value_name = "N", value_parser = parallel)]
    pub(crate) parallel: usize,
    /// Where a new group begins: earliest, latest, @POSITION, a time, or how long ago (15m)
    #[arg(long, default_value = "earliest", value_name = "WHEN")]
    pub(crate) from: When,
    /// Stop when nothing is left for the group but dead letters and what they hold
    #[arg(long)]
    pub(crate) until_end: bool,
    /// The order of keys does not matter: needed on a broker that does not keep it
    #[arg(long)]
    pub(crate) unordered: bool,
    /// One process at a time works for this group: needed for order on a broker that keeps it within one instance alone
    #[arg(long)]
    pub(crate) single_instance: bool,
    /// The version of the handler's code, a release or a commit, which `dlq show` tells of its dead letters
    #[arg(long, env = "TIDINGS_CODE_VERSION", value_name = "TEXT")]
    pub(crate) code_version: Option<String>,
    /// Time limit of one handling; the process is killed at it
    #[arg(long, default_value = "30s", value_name = "DURATION")]
    pub(crate) time_limit: Length,
    /// Serve /metrics, /livez and /readyz here: PORT (of this machine alone) or ADDRESS:PORT
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<Address>,
}

fn parallel(text: &str) -> Result<usize, String> {
    let most = tidings::limits::PARALLEL_MAX;
    text.parse()
        .ok()
        .filter(|count| (1..=most).contains(count))
        .ok_or_else(|| format!("{text:?} is not in 1..={most}"))
}
