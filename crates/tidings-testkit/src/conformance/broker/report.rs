//! What came of a run: a verdict for each property, for a person, for the test and, when asked, as lines of JSON for the matrix.

use serde::Serialize;
use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;

/// What a property came to when nothing failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Pass,
    /// It does not apply, or cannot be judged here, for this reason. Where the reason says that something is refused, it was seen to be.
    Declared(String),
}

/// The result of one property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PropertyResult {
    /// The adapter.
    pub broker: String,
    /// What carried the events, with its version.
    pub version: String,
    /// The name of the property, for example `A1`.
    pub property: &'static str,
    /// What it claims.
    pub title: &'static str,
    /// How it ended.
    pub result: Ending,
    /// Why it is declared or has failed; empty otherwise.
    pub reason: String,
}

/// How a property ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// It holds.
    Pass,
    /// It is declared not to hold, or not to be judged, with a reason.
    Declared,
    /// It does not hold.
    Fail,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Declared => "declared",
            Self::Fail => "FAIL",
        })
    }
}

impl fmt::Display for PropertyResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            broker,
            property,
            title,
            result,
            reason,
            ..
        } = self;
        write!(f, "{broker:<13} {property:<4} {result:<9} {title}")?;
        if !reason.is_empty() {
            write!(f, ": {reason}")?;
        }
        Ok(())
    }
}

/// Puts together what was declared before and what was found.
///
/// A property that is declined runs all the same: if it holds, the declaration is out of date, and that is a failure.
pub(super) fn judge(declined: Option<&str>, found: Result<Verdict, String>) -> (Ending, String) {
    match (declined, found) {
        (None, Ok(Verdict::Pass)) => (Ending::Pass, String::new()),
        (_, Ok(Verdict::Declared(reason))) => (Ending::Declared, reason),
        (None, Err(reason)) => (Ending::Fail, reason),
        (Some(declined), Err(_)) => (Ending::Declared, declined.to_owned()),
        (Some(declined), Ok(Verdict::Pass)) => {
            let reason =
                format!("it is declared not to hold ({declined}), but it does: take that away");
            (Ending::Fail, reason)
        }
    }
}

/// Everything that a run found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// By property.
    pub results: Vec<PropertyResult>,
}

impl Report {
    /// Panics if a property failed.
    ///
    /// # Panics
    /// With the properties that failed.
    pub fn assert_holds(&self) {
        let failed: Vec<String> = self
            .results
            .iter()
            .filter(|result| result.result == Ending::Fail)
            .map(PropertyResult::to_string)
            .collect();
        assert!(failed.is_empty(), "\n{}", failed.join("\n"));
    }

    /// Adds the results to the file that `TIDINGS_CONFORMANCE_RESULTS` names, a line of JSON each.
    pub(super) fn write(&self) {
        let Some(path) = variable("TIDINGS_CONFORMANCE_RESULTS").map(PathBuf::from) else {
            return;
        };
        let mut lines = Vec::new();
        for result in &self.results {
            serde_json::to_writer(&mut lines, result).unwrap();
            lines.push(b'\n');
        }
        let mut options = std::fs::OpenOptions::new();
        let file = options.create(true).append(true).open(&path);
        // One write, so that adapters that end at the same time do not tear each other's lines.
        file.and_then(|mut file| file.write_all(&lines))
            .unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the environment is how a test run tells its tests what is wanted"
)]
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declined_must_not_hold() {
        let holds = || Ok(Verdict::Pass);

        assert_eq!(judge(None, holds()).0, Ending::Pass);
        assert_eq!(judge(Some("why"), holds()).0, Ending::Fail);
        let broken = judge(Some("why"), Err("broken".to_owned()));
        assert_eq!(broken, (Ending::Declared, "why".to_owned()));
        let failed = judge(None, Err("broken".to_owned()));
        assert_eq!(failed, (Ending::Fail, "broken".to_owned()));
    }

    #[test]
    fn a_line_of_json_has_what_the_matrix_needs() {
        let result = PropertyResult {
            broker: "memory".to_owned(),
            version: "1".to_owned(),
            property: "A1",
            title: "what is published arrives",
            result: Ending::Declared,
            reason: "because".to_owned(),
        };

        assert_eq!(
            serde_json::to_string(&result).unwrap(),
            r#"{"broker":"memory","version":"1","property":"A1","title":"what is published arrives","result":"declared","reason":"because"}"#
        );
    }
}
