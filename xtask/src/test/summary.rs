//! `Summary`: what every gate said, as a table and as the closing line that machines read.

use std::time::Duration;

use crate::failure::Failure;
use crate::stopwatch;
use crate::test::tally::Tally;

/// One gate and how it ended.
#[derive(Debug)]
pub(crate) struct Entry {
    gate: &'static str,
    took: Duration,
    /// Nothing when the gate failed without counting tests.
    tally: Option<Tally>,
}

impl Entry {
    pub(crate) fn new(gate: &'static str, took: Duration, tally: Option<Tally>) -> Entry {
        Entry { gate, took, tally }
    }

    fn is_passed(&self) -> bool {
        self.tally
            .is_some_and(|tally| tally.failed == 0 && !tally.broken)
    }

    fn is_skipped(&self) -> bool {
        self.is_passed() && self.tally.is_some_and(|tally| tally.skipped)
    }

    /// A gate counts as one, beside its tests; one that fails by its tests alone counts those.
    fn counts(&self) -> (usize, usize) {
        let tally = self.tally.unwrap_or_default();
        if self.is_skipped() {
            (tally.passed, 0)
        } else if self.is_passed() {
            (tally.passed + 1, 0)
        } else {
            (tally.passed, tally.failed.max(1))
        }
    }

    fn row(&self) -> String {
        let verdict = match (self.is_skipped(), self.is_passed()) {
            (true, _) => "SKIPPED",
            (false, true) => "ok",
            (false, false) => "FAILED",
        };
        let tests = match self.tally {
            Some(Tally {
                passed: 0,
                failed: 0,
                ignored: 0,
                ..
            })
            | None => String::new(),
            Some(tally) => {
                format!(
                    "{} passed, {} failed, {} ignored",
                    tally.passed, tally.failed, tally.ignored
                )
            }
        };
        let row = format!(
            "{:<12} {verdict:<7} {:>12}  {tests}",
            self.gate,
            stopwatch::readable(self.took)
        );
        row.trim_end().to_owned()
    }
}

/// All gates that ran, in order.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    entries: Vec<Entry>,
}

impl Summary {
    pub(crate) fn add(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    pub(crate) fn table(&self, took: Duration) -> String {
        let rows = self.entries.iter().map(Entry::row);
        let total = format!(
            "{:<12} {:<7} {:>12}",
            "total",
            "",
            stopwatch::readable(took)
        );
        rows.chain([total]).collect::<Vec<_>>().join("\n")
    }

    /// `N passed, N failed`: tests, and one for each gate; gates that could not run are told behind.
    pub(crate) fn closing_line(&self) -> String {
        let (passed, failed) = self
            .entries
            .iter()
            .map(Entry::counts)
            .fold((0, 0), |(passed, failed), (p, f)| (passed + p, failed + f));
        let skipped = self.entries.iter().filter(|entry| entry.is_skipped());
        match skipped.count() {
            0 => format!("{passed} passed, {failed} failed"),
            skipped => format!("{passed} passed, {failed} failed, {skipped} skipped"),
        }
    }

    pub(crate) fn failure(&self) -> Result<(), Failure> {
        let failed: Vec<&str> = self
            .entries
            .iter()
            .filter(|entry| !entry.is_passed())
            .map(|entry| entry.gate)
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "these gates failed: {}",
            failed.join(", ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(tallies: &[Option<Tally>]) -> Summary {
        let entries = tallies
            .iter()
            .map(|tally| Entry::new("gate", Duration::ZERO, *tally))
            .collect();
        Summary { entries }
    }

    fn tally(passed: usize, failed: usize) -> Option<Tally> {
        Some(Tally {
            passed,
            failed,
            ..Tally::default()
        })
    }

    #[test]
    fn gates_count_beside_their_tests() {
        let summary = summary(&[tally(0, 0), tally(12, 0)]);

        assert_eq!(summary.closing_line(), "14 passed, 0 failed");
        assert!(summary.failure().is_ok());
    }

    #[test]
    fn a_failing_gate_counts_its_failing_tests_or_one() {
        assert_eq!(
            summary(&[tally(12, 3)]).closing_line(),
            "12 passed, 3 failed"
        );
        assert_eq!(summary(&[None]).closing_line(), "0 passed, 1 failed");
    }

    #[test]
    fn a_command_that_broke_fails_even_when_its_tests_passed() {
        let broken = summary(&[Some(Tally {
            passed: 5,
            broken: true,
            ..Tally::default()
        })]);

        assert_eq!(broken.closing_line(), "5 passed, 1 failed");
        assert!(broken.failure().is_err());
    }

    #[test]
    fn a_skipped_gate_counts_as_neither() {
        let skipped = Some(Tally {
            skipped: true,
            ..Tally::default()
        });
        let summary = summary(&[tally(12, 0), skipped]);

        assert_eq!(summary.closing_line(), "13 passed, 0 failed, 1 skipped");
        assert!(summary.table(Duration::ZERO).contains("SKIPPED"));
        assert!(summary.failure().is_ok());
    }

    #[test]
    fn the_table_names_every_gate_with_its_verdict() {
        let table = summary(&[tally(12, 3)]).table(Duration::from_secs(61));

        assert!(table.contains("gate         FAILED"), "{table}");
        assert!(table.contains("12 passed, 3 failed, 0 ignored"), "{table}");
        assert!(table.ends_with("1 min 01 s"), "{table}");
    }
}
