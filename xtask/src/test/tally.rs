//! `Tally`: how many tests passed, failed and were ignored, read from what cargo prints.

/// A line of the test harness that closes one test binary begins so.
const RESULT: &str = "test result: ";

/// Counted tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) ignored: usize,
    /// The command itself failed, with or without a failing test: it did not compile, it crashed.
    pub(crate) broken: bool,
    /// The gate could not do its work on this machine: it has not passed, and not failed.
    pub(crate) skipped: bool,
}

impl Tally {
    /// Adds what another gate or another run of the same one counted.
    pub(crate) fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.broken |= other.broken;
        self.skipped |= other.skipped;
    }

    /// Adds what a line of output says; most lines say nothing.
    pub(crate) fn read(&mut self, line: &str) {
        let Some((_, counts)) = line
            .strip_prefix(RESULT)
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split(';') {
            let mut words = count.split_whitespace();
            let number = words
                .next()
                .and_then(|word| word.parse::<usize>().ok())
                .unwrap_or(0);
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                Some("ignored") => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_of_several_binaries_add_up() {
        let mut tally = Tally::default();

        tally.read("test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        tally
            .read("test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 7 filtered out");

        assert_eq!(
            tally,
            Tally {
                passed: 7,
                failed: 3,
                ignored: 1,
                broken: false,
                skipped: false
            }
        );
    }

    #[test]
    fn other_lines_count_nothing() {
        let mut tally = Tally::default();

        tally.read("test it::relay ... ok");
        tally.read("9 passed; 9 failed");

        assert_eq!(tally, Tally::default());
    }
}
