//! The flags that say what a group does when handling fails, and where it keeps that.

use crate::when::Length;
use clap::Args;

/// What happens when handling fails.
#[derive(Debug, Args)]
pub(crate) struct Failing {
    /// Attempts in place at one event, before it is tried later or is a dead letter
    #[arg(long, default_value_t = tidings::limits::ATTEMPTS_DEFAULT, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(tidings::limits::ATTEMPTS_MAX)))]
    pub(crate) attempts: u32,
    /// Then try it again after each of these waits, for example 1m,10m,1h; meanwhile it and what is behind it of its key wait in the store, and other keys go on
    #[arg(long, value_name = "D,D,…", value_delimiter = ',')]
    pub(crate) later: Vec<Length>,
    /// What happens to later events of a key whose event became a dead letter: hold, unless the group is unordered or has no store
    #[arg(long, value_enum, value_name = "POLICY")]
    pub(crate) on_failure: Option<OnFailure>,
    /// Start so many handlings a second at most, retries included: N or N/s
    #[arg(long, value_name = "N/s", value_parser = rate)]
    pub(crate) rate: Option<u32>,
    /// Keep attempts, waiting events and dead letters in this database instead of the data folder: postgres://USER@HOST/NAME, mysql://… or sqlite:///FILE. On a broker, several instances need one that they share
    #[arg(
        long,
        env = "TIDINGS_STORE",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) store: Option<String>,
}

/// What happens to later events of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnFailure {
    /// They wait until a person decides
    Hold,
    /// They are handled
    Continue,
}

impl From<OnFailure> for tidings::OnFailure {
    fn from(policy: OnFailure) -> Self {
        match policy {
            OnFailure::Hold => Self::Hold,
            OnFailure::Continue => Self::Continue,
        }
    }
}

fn rate(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    let max = tidings::limits::RATE_MAX;
    match number.parse() {
        Ok(rate) if (1..=max).contains(&rate) => Ok(rate),
        _ => Err(format!(
            "{text:?} is no rate; write it like 20/s, from 1 to {max} a second"
        )),
    }
}
