//! `Stopwatch`: how long a chore took. The only place of xtask that reads the clock.

use std::time::Duration;

/// Started once, read as often as needed.
#[derive(Debug)]
pub(crate) struct Stopwatch(std::time::Instant);

impl Stopwatch {
    #[expect(
        clippy::disallowed_methods,
        reason = "xtask depends on nothing of ours, so it has no Clock; times are only shown"
    )]
    pub(crate) fn start() -> Stopwatch {
        Stopwatch(std::time::Instant::now())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "xtask depends on nothing of ours, so it has no Clock; times are only shown"
    )]
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// `0.4 s`, `12.0 s`, `3 min 05 s`: as short as it stays readable.
pub(crate) fn readable(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_in_the_unit_that_fits() {
        assert_eq!(readable(Duration::from_millis(420)), "0.4 s");
        assert_eq!(readable(Duration::from_secs(185)), "3 min 05 s");
    }
}
