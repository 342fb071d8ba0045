//! The flags that say what a group does when handling fails, and where it keeps that.

use crate::store_arguments::SharedStore;
use crate::when::Length;
use clap::Args;
use std::str::FromStr;
use tidings::limits::{BREAKER_OUTCOMES_MAX, PARKED_DEFAULT, PARKED_OF_KEY_DEFAULT};
use tidings::{Breaker, OnOpen};

/// What happens when handling fails.
#[derive(Debug, Args)]
#[command(mut_arg("store", |store| store.help("Keep attempts, waiting events and dead letters in this database instead of the data folder: postgres://USER@HOST/NAME, mysql://… or sqlite:///FILE. On a broker, several instances need one that they share")))]
pub(crate) struct Failing {
    /// Attempts in place at one event, before it is tried later or is a dead letter
    #[arg(long, default_value_t = tidings::limits::ATTEMPTS_DEFAULT, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(tidings::limits::ATTEMPTS_MAX)))]
    pub(crate) attempts: u32,
    /// Then try it again after each of these waits, for example 1m,10m,1h; meanwhile it and what is behind it of its key wait in the store, and other keys go on
    #[arg(long, value_name = "D,D,…", value_delimiter = ',')]
    pub(crate) later: Vec<Length>,
    /// What happens to later events of a key whose event became a dead letter: hold, unless the group is unordered or has no store. On a broker that lets a group have several instances, hold needs --store or --single-instance
    #[arg(long, value_enum, value_name = "POLICY")]
    pub(crate) on_failure: Option<OnFailure>,
    /// Wait when so many of the last handlings failed, as FAILURES/OF: no attempt is counted meanwhile, and nothing is parked or given up. A key that fails counts once, an error of the event itself not at all. 9/10 is a rule for many keys, 3/3 one for few
    #[arg(long, value_name = "N/M")]
    pub(crate) break_after: Option<BreakAfter>,
    /// Then try one event after this long; the wait doubles up to 5m, or up to this if it is longer, while what is tried fails
    #[arg(
        long,
        default_value = "30s",
        value_name = "DURATION",
        requires = "break_after"
    )]
    pub(crate) probe_after: Length,
    /// What happens then: wait until an event that is tried succeeds, or stop with exit code 69, for a supervisor that starts the command again later
    #[arg(long, value_enum, default_value_t = OnBreak::Wait, value_name = "WHAT", requires = "break_after")]
    pub(crate) on_break: OnBreak,
    /// Start so many handlings a second at most in this process, retries included: N or N/s; each further instance of the group has a limit of its own
    #[arg(long, value_name = "N/s", value_parser = rate)]
    pub(crate) rate: Option<u32>,
    /// Stop when more events of the group wait in the store, for a later attempt or behind a dead letter
    #[arg(long, default_value_t = PARKED_DEFAULT, value_name = "N")]
    pub(crate) parked_max: u64,
    /// Stop when more events of one key wait there
    #[arg(long, default_value_t = PARKED_OF_KEY_DEFAULT, value_name = "N")]
    pub(crate) parked_of_key_max: u64,
    #[command(flatten)]
    pub(crate) store: SharedStore,
}

impl Failing {
    /// The circuit breaker that the flags ask for, if any.
    pub(crate) fn breaker(&self) -> Option<Breaker> {
        let BreakAfter { failures, of } = self.break_after?;
        let otherwise = Breaker::default();
        Some(Breaker {
            failures,
            of,
            probe_after: self.probe_after.0,
            probe_max: otherwise.probe_max.max(self.probe_after.0),
            on_open: match self.on_break {
                OnBreak::Wait => OnOpen::Wait,
                OnBreak::Stop => OnOpen::Stop,
            },
        })
    }
}

/// How many of how many newest outcomes must be failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BreakAfter {
    failures: usize,
    of: usize,
}

impl FromStr for BreakAfter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(failures, of)| {
            let (failures, of) = (failures.parse().ok()?, of.parse().ok()?);
            let fits = (1..=of).contains(&failures) && of <= BREAKER_OUTCOMES_MAX;
            fits.then_some(Self { failures, of })
        });
        numbers.ok_or_else(|| {
            format!("{text:?} is no rule; write it like 9/10, of {BREAKER_OUTCOMES_MAX} at most")
        })
    }
}

/// What a group does when nearly everything fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnBreak {
    /// It waits and tries one event now and then
    Wait,
    /// The command ends with exit code 69
    Stop,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_so_many_failures_of_so_many_outcomes() {
        for (text, failures, of) in [("9/10", 9, 10), ("1/1", 1, 1), ("3/3", 3, 3)] {
            assert_eq!(text.parse(), Ok(BreakAfter { failures, of }));
        }
    }

    #[test]
    fn a_rule_that_cannot_be_is_refused_with_the_way_out() {
        for text in ["", "9", "0/10", "11/10", "9/", "-1/3", "1/1001", "Never"] {
            let refused = text.parse::<BreakAfter>().unwrap_err();
            assert!(
                refused.contains("9/10") && refused.contains(text),
                "{refused}"
            );
        }
    }
}
