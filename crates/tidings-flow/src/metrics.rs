//! Figures as plain data, and the text in which Prometheus reads them. Whoever has figures makes families of them; whoever serves them renders.

use hdrhistogram::Histogram;
use std::fmt::{self, Write as _};
use std::time::Duration;

/// The media type of what [`render`] answers.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the buckets that a distribution of durations is rendered with, in seconds.
const BUCKETS_SECS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
    600.0, 3600.0,
];

/// The longest duration that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Durations, counted so that any percentile can be asked for; a few kilobytes, however many there are.
///
/// **Units**: microseconds inside, three significant digits; more than seven days counts as seven days.
#[derive(Clone)]
pub struct Distribution {
    micros: Histogram<u64>,
    sum: Duration,
}

impl Default for Distribution {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Distribution")
            .field("count", &self.count())
            .field("p50", &self.percentile(50.0))
            .field("p99", &self.percentile(99.0))
            .field("max", &self.max())
            .finish()
    }
}

impl Distribution {
    /// No durations yet.
    pub fn new() -> Self {
        Self {
            micros: Histogram::new_with_bounds(1, micros_of(LONGEST), 3)
                .expect("the bounds are valid: 1 < the longest, and 3 digits are allowed"),
            sum: Duration::ZERO,
        }
    }

    /// Adds a duration.
    pub fn record(&mut self, duration: Duration) {
        self.micros.saturating_record(micros_of(duration));
        self.sum = self.sum.saturating_add(duration);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.micros.len()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The duration that so many percent of them do not exceed; zero without any.
    pub fn percentile(&self, percent: f64) -> Duration {
        Duration::from_micros(self.micros.value_at_percentile(percent))
    }

    /// The longest one; zero without any.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.micros.max())
    }

    /// How many do not exceed a duration.
    pub fn count_up_to(&self, duration: Duration) -> u64 {
        self.micros.count_between(0, micros_of(duration))
    }
}

fn micros_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// How a figure behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows, from the start of the process.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It is a distribution of durations, in seconds.
    Histogram,
}

/// What a figure is.
#[derive(Debug, Clone)]
pub enum MetricValue {
    /// A number.
    Number(f64),
    /// Durations.
    Durations(Box<Distribution>),
}

/// One figure of a family.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What tells it from the others of its family: names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The figure.
    pub value: MetricValue,
}

/// Figures of one name.
#[derive(Debug, Clone)]
pub struct MetricFamily {
    /// The name: letters, digits and underscores, with the unit last.
    pub name: &'static str,
    /// What it says, in a sentence.
    pub help: &'static str,
    /// How it behaves.
    pub kind: MetricKind,
    /// The figures.
    pub samples: Vec<Sample>,
}

impl MetricFamily {
    /// A family without figures.
    pub fn new(name: &'static str, kind: MetricKind, help: &'static str) -> Self {
        Self {
            name,
            help,
            kind,
            samples: Vec::new(),
        }
    }

    /// Adds a number.
    #[must_use]
    pub fn with(mut self, labels: &[(&'static str, &str)], number: f64) -> Self {
        self.samples.push(Sample {
            labels: owned(labels),
            value: MetricValue::Number(number),
        });
        self
    }

    /// Adds a distribution.
    #[must_use]
    pub fn with_durations(
        mut self,
        labels: &[(&'static str, &str)],
        durations: &Distribution,
    ) -> Self {
        self.samples.push(Sample {
            labels: owned(labels),
            value: MetricValue::Durations(Box::new(durations.clone())),
        });
        self
    }
}

fn owned(labels: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let labels = labels.iter();
    labels
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect()
}

/// The figures in the text format of Prometheus. A family without figures is left out; families of one name are the caller's to join.
///
/// **Source**: Prometheus exposition format, version 0.0.4.
///
/// ```
/// use tidings_flow::metrics::{MetricFamily, MetricKind, render};
///
/// let family = MetricFamily::new("tidings_outbox_pending_rows", MetricKind::Gauge, "Events that wait.");
///
/// let text = render(&[family.with(&[("outbox", "shop")], 3.0)]);
/// let lines: Vec<&str> = text.lines().collect();
/// assert_eq!(lines, [
///     "\x23 HELP tidings_outbox_pending_rows Events that wait.",
///     "\x23 TYPE tidings_outbox_pending_rows gauge",
///     "tidings_outbox_pending_rows{outbox=\"shop\"} 3",
/// ]);
/// ```
pub fn render(families: &[MetricFamily]) -> String {
    let mut text = String::new();
    for family in families.iter().filter(|one| !one.samples.is_empty()) {
        let kind = match family.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let (name, help) = (family.name, escaped(family.help, false));
        // Writing into a string does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for sample in &family.samples {
            match &sample.value {
                MetricValue::Number(number) => line(&mut text, name, "", &sample.labels, *number),
                MetricValue::Durations(durations) => {
                    histogram(&mut text, name, &sample.labels, durations);
                }
            }
        }
    }
    text
}

fn histogram(
    text: &mut String,
    name: &str,
    labels: &[(&'static str, String)],
    durations: &Distribution,
) {
    let count = durations.count();
    let bucket = |text: &mut String, bound: String, count: u64| {
        let mut labels = labels.to_vec();
        labels.push(("le", bound));
        line(text, name, "_bucket", &labels, count as f64);
    };
    for bound in BUCKETS_SECS {
        let up_to = durations.count_up_to(Duration::from_secs_f64(*bound));
        bucket(text, bound.to_string(), up_to);
    }
    bucket(text, "+Inf".to_owned(), count);
    line(text, name, "_sum", labels, durations.sum().as_secs_f64());
    line(text, name, "_count", labels, count as f64);
}

fn line(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: &[(&'static str, String)],
    number: f64,
) {
    text.push_str(name);
    text.push_str(suffix);
    for (index, (label, value)) in labels.iter().enumerate() {
        let opening = if index == 0 { '{' } else { ',' };
        // Writing into a string does not fail.
        let _ = write!(text, "{opening}{label}=\"{}\"", escaped(value, true));
    }
    if !labels.is_empty() {
        text.push('}');
    }
    let number = match number {
        number if number == f64::INFINITY => "+Inf".to_owned(),
        number if number == f64::NEG_INFINITY => "-Inf".to_owned(),
        number => number.to_string(),
    };
    let _ = writeln!(text, " {number}");
}

/// A backslash and a line feed are escaped everywhere, a quotation mark in the value of a label.
fn escaped(value: &str, in_label: bool) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if in_label => text.push_str("\\\""),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads the value of the one label back, as the format says.
    fn unescaped(line: &str) -> String {
        let start = line.find('"').unwrap() + 1;
        let mut value = String::new();
        let mut letters = line[start..].chars();
        loop {
            match letters.next().unwrap() {
                '"' => return value,
                '\\' => match letters.next().unwrap() {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                other => value.push(other),
            }
        }
    }

    proptest! {
        #[test]
        fn any_label_can_be_read_back_and_stays_on_its_line(value in "(?s).{0,40}") {
            let family = MetricFamily::new("a_total", MetricKind::Counter, "A.").with(&[("l", &value)], 1.0);

            let text = render(&[family]);

            let lines: Vec<&str> = text.split_terminator('\n').collect();
            prop_assert_eq!(lines.len(), 3);
            prop_assert_eq!(unescaped(lines[2]), value);
            prop_assert_eq!(lines[2].rsplit(" ").next(), Some("1"));
        }
    }

    #[test]
    fn quotation_marks_backslashes_and_line_feeds_are_escaped() {
        let family = MetricFamily::new("a", MetricKind::Gauge, "It \"is\" a\\b\nc.")
            .with(&[("path", "C:\\new \"x\"\n"), ("other", "ü")], 0.5);

        assert_eq!(
            render(&[family]),
            "# HELP a It \"is\" a\\\\b\\nc.\n# TYPE a gauge\na{path=\"C:\\\\new \\\"x\\\"\\n\",other=\"ü\"} 0.5\n"
        );
    }

    #[test]
    fn numbers_without_labels_and_without_end_are_written_as_the_format_wants() {
        let family = MetricFamily::new("a", MetricKind::Gauge, "A.")
            .with(&[], 12_000_000_000.0)
            .with(&[], f64::INFINITY)
            .with(&[], f64::NEG_INFINITY)
            .with(&[], f64::NAN);

        let text = render(&[family]);

        let values: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(values, ["a 12000000000", "a +Inf", "a -Inf", "a NaN"]);
    }

    #[test]
    fn a_family_without_figures_is_left_out() {
        assert_eq!(
            render(&[MetricFamily::new("a", MetricKind::Gauge, "A.")]),
            ""
        );
    }

    #[test]
    fn the_buckets_of_a_histogram_add_up() {
        let mut durations = Distribution::new();
        for micros in [1, 900, 1_000, 40_000, 9_000_000, 900_000_000_000_000] {
            durations.record(Duration::from_micros(micros));
        }
        let family = MetricFamily::new("lag_seconds", MetricKind::Histogram, "Lag.")
            .with_durations(&[("outbox", "o")], &durations);

        let text = render(&[family]);

        assert!(
            text.contains("lag_seconds_bucket{outbox=\"o\",le=\"0.001\"} 3\n"),
            "{text}"
        );
        assert!(
            text.contains("lag_seconds_bucket{outbox=\"o\",le=\"0.05\"} 4\n"),
            "{text}"
        );
        assert!(
            text.contains("lag_seconds_bucket{outbox=\"o\",le=\"3600\"} 5\n"),
            "{text}"
        );
        assert!(
            text.contains("lag_seconds_bucket{outbox=\"o\",le=\"+Inf\"} 6\n"),
            "{text}"
        );
        assert!(
            text.contains("lag_seconds_count{outbox=\"o\"} 6\n"),
            "{text}"
        );
        assert_eq!(durations.count(), 6);
    }

    #[test]
    fn percentiles_are_within_a_thousandth() {
        let mut durations = Distribution::new();
        for millis in 1..=1_000 {
            durations.record(Duration::from_millis(millis));
        }

        let p99 = durations.percentile(99.0).as_secs_f64();

        assert!((p99 - 0.99).abs() < 0.002, "{p99}");
        assert!(durations.max() >= Duration::from_secs(1));
        assert_eq!(Distribution::new().percentile(99.0), Duration::ZERO);
    }
}
