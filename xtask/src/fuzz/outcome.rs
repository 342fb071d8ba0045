//! `Outcome`: what a target found, read from what libFuzzer prints.

use crate::failure::Failure;
use crate::fuzz::Ended;

/// Lines of the end of an unhappy run that are shown.
const STORY_LINES: usize = 40;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    name: String,
    executions: u64,
    per_second: u64,
    /// Edges of the code that were reached.
    coverage: u64,
    is_clean: bool,
    /// The input that broke a promise.
    pub(super) input: Option<String>,
    /// The end of what was printed, if it is worth reading.
    pub(super) story: String,
}

impl Outcome {
    pub(super) fn read(name: &str, succeeded: bool, said: &str) -> Outcome {
        let figure = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0)
        };
        let coverage = said.lines().rev().find_map(|line| {
            let (_, rest) = line.split_once(" cov: ")?;
            rest.split_whitespace().next()?.parse().ok()
        });
        let input = said.lines().find_map(|line| {
            let (_, path) = line.split_once("Test unit written to ")?;
            Some(path.to_owned())
        });
        let executions = figure("stat::number_of_executed_units:");
        // A run that did nothing proves nothing.
        let is_clean = succeeded && input.is_none() && executions > 0;
        let lines: Vec<&str> = said.lines().collect();
        let story = lines[lines.len().saturating_sub(STORY_LINES)..].join("\n");
        Outcome {
            name: name.to_owned(),
            executions,
            per_second: figure("stat::average_exec_per_sec:"),
            coverage: coverage.unwrap_or(0),
            is_clean,
            input,
            story,
        }
    }

    fn row(&self) -> String {
        format!(
            "{:<18} {:>12} {:>10} {:>9}  {}",
            self.name,
            self.executions,
            self.per_second,
            self.coverage,
            if self.is_clean {
                "ok"
            } else {
                "FOUND SOMETHING"
            }
        )
    }
}

pub(super) fn table(outcomes: &[Outcome]) -> String {
    let head = format!(
        "{:<18} {:>12} {:>10} {:>9}  result",
        "target", "executions", "each s", "edges"
    );
    let total: u64 = outcomes.iter().map(|outcome| outcome.executions).sum();
    let rows = outcomes.iter().map(Outcome::row);
    [head]
        .into_iter()
        .chain(rows)
        .chain([format!("{:<18} {total:>12}", "total")])
        .collect::<Vec<_>>()
        .join("\n")
}

pub(super) fn failure(outcomes: &[Outcome]) -> Result<Ended, Failure> {
    let unclean = outcomes.iter().filter(|outcome| !outcome.is_clean);
    let names: Vec<&str> = unclean.map(|outcome| outcome.name.as_str()).collect();
    if names.is_empty() {
        return Ok(Ended::Ran);
    }
    Err(Failure::new(format!(
        "fuzzing found something in: {}",
        names.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: &str = "#2\tINITED cov: 7 ft: 7\n#99\tDONE   cov: 12 ft: 12 corp: 5/24b\nDone 8318896 runs in 11 second(s)\nstat::number_of_executed_units: 8318896\nstat::average_exec_per_sec:     756263\n";

    #[test]
    fn figures_are_read_from_the_closing_lines() {
        let outcome = Outcome::read("frame", true, CLEAN);

        assert_eq!(
            (outcome.executions, outcome.per_second, outcome.coverage),
            (8_318_896, 756_263, 12)
        );
        assert!(failure(&[outcome]).is_ok());
    }

    #[test]
    fn a_kept_input_is_a_finding_even_if_the_process_says_all_is_well() {
        let said = format!("{CLEAN}artifact_prefix='a/'; Test unit written to a/crash-1\n");
        let outcome = Outcome::read("frame", true, &said);

        assert_eq!(outcome.input.as_deref(), Some("a/crash-1"));
        assert!(failure(&[outcome]).is_err());
    }

    #[test]
    fn a_run_that_did_nothing_is_no_success() {
        assert!(failure(&[Outcome::read("frame", true, "")]).is_err());
    }
}
