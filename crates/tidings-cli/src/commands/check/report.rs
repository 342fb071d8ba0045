//! The result of a check, in the forms that monitoring systems read.

use crate::alert_arguments::{CheckFormat, Thresholds};
use crate::failure::Failure;
use crate::output::{Output, json};
use serde::Serialize;
use std::time::Duration;
use tidings::flow::metrics::{MetricFamily, MetricKind, render};

/// How things stand; the number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// Limits of one figure: what is above is too much.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Limits {
    warn: Option<f64>,
    crit: Option<f64>,
}

impl Limits {
    /// The limits of counts and those of ages; `fallback` where none of either was given.
    pub(super) fn of(thresholds: &Thresholds, fallback: (Self, Self)) -> (Self, Self) {
        if thresholds.are_unset() {
            return fallback;
        }
        let count = Self {
            warn: thresholds.warn.map(|count| count as f64),
            crit: thresholds.crit.map(|count| count as f64),
        };
        let age = Self::ages(
            thresholds.warn_age.map(|age| age.0),
            thresholds.crit_age.map(|age| age.0),
        );
        (count, age)
    }

    /// Limits of an age.
    pub(super) fn ages(warn: Option<Duration>, crit: Option<Duration>) -> Self {
        Self {
            warn: warn.map(|age| age.as_secs_f64()),
            crit: crit.map(|age| age.as_secs_f64()),
        }
    }

    /// Warns above a count.
    pub(super) fn warn_above(count: f64) -> Self {
        Self {
            warn: Some(count),
            crit: None,
        }
    }

    fn state(self, value: f64) -> State {
        if self.crit.is_some_and(|crit| value > crit) {
            State::Critical
        } else if self.warn.is_some_and(|warn| value > warn) {
            State::Warning
        } else {
            State::Ok
        }
    }
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Measure {
    /// Whose it is: a group or an outbox.
    subject: String,
    /// What it says, the name of a figure for Prometheus.
    metric: &'static str,
    value: f64,
    warn: Option<f64>,
    crit: Option<f64>,
    state: State,
    /// `s` for seconds.
    #[serde(skip)]
    unit: &'static str,
    /// What it says, for Prometheus.
    #[serde(skip)]
    help: &'static str,
}

/// What figures of one name have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figure {
    pub(super) metric: &'static str,
    pub(super) help: &'static str,
    /// `s` for seconds.
    pub(super) unit: &'static str,
}

impl Figure {
    /// The figure of a subject.
    pub(super) fn of(self, subject: &str, value: f64, limits: Limits) -> Measure {
        Measure {
            subject: subject.to_owned(),
            metric: self.metric,
            value,
            warn: limits.warn,
            crit: limits.crit,
            state: limits.state(value),
            unit: self.unit,
            help: self.help,
        }
    }
}

/// The result of a check.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    check: &'static str,
    state: State,
    exit_code: u8,
    summary: String,
    measures: Vec<Measure>,
}

impl Report {
    /// The state is the worst of the figures'; what is too much is told before the summary.
    pub(super) fn new(check: &'static str, summary: String, measures: Vec<Measure>) -> Self {
        let state = measures.iter().map(|measure| measure.state).max();
        let state = state.unwrap_or(State::Ok);
        let over: Vec<String> = measures
            .iter()
            .filter(|measure| measure.state != State::Ok)
            .map(|measure| {
                format!(
                    "{} {} {}{}",
                    measure.subject,
                    label_of(measure.metric),
                    number(measure.value),
                    measure.unit
                )
            })
            .collect();
        let summary = if over.is_empty() {
            summary
        } else {
            format!("{}; {summary}", over.join(", "))
        };
        Self {
            check,
            state,
            exit_code: state as u8,
            summary,
            measures,
        }
    }

    /// Nothing could be learnt.
    pub(super) fn unknown(check: &'static str, summary: String) -> Self {
        Self {
            check,
            state: State::Unknown,
            exit_code: State::Unknown as u8,
            summary,
            measures: Vec::new(),
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn print(&self, format: CheckFormat) -> Result<(), Failure> {
        let mut output = Output::new();
        match format {
            CheckFormat::Nagios => output.line(&self.nagios())?,
            CheckFormat::Prometheus => output.bytes(self.prometheus().as_bytes())?,
            CheckFormat::Json => output.line(&json(self))?,
        }
        output.flush()
    }

    /// `TIDINGS LAG OK - summary | 'label'=value;warn;crit;0`
    fn nagios(&self) -> String {
        // A bar begins the figures wherever it stands.
        let summary = self.summary.replace('|', "/");
        let mut line = format!(
            "TIDINGS {} {} - {summary}",
            self.check.to_uppercase(),
            self.state.word()
        );
        for (index, measure) in self.measures.iter().enumerate() {
            line.push_str(if index == 0 { " | " } else { " " });
            line.push_str(&perfdata(measure));
        }
        line
    }

    fn prometheus(&self) -> String {
        let mut families = vec![
            MetricFamily::new(
                "tidings_check_state",
                MetricKind::Gauge,
                "How things stand: 0 ok, 1 warning, 2 critical, 3 unknown.",
            )
            .with(&[("check", self.check)], f64::from(self.exit_code)),
        ];
        for measure in &self.measures {
            let labels = [("subject", measure.subject.as_str())];
            let known = families
                .iter()
                .position(|family| family.name == measure.metric);
            let family = match known {
                Some(index) => families.remove(index),
                None => MetricFamily::new(measure.metric, MetricKind::Gauge, measure.help),
            };
            families.push(family.with(&labels, measure.value));
        }
        render(&families)
    }
}

/// What a figure is called beside its subject.
fn label_of(metric: &str) -> &str {
    metric.strip_prefix("tidings_check_").unwrap_or(metric)
}

fn perfdata(measure: &Measure) -> String {
    let label = format!("{} {}", measure.subject, label_of(measure.metric));
    // A quotation mark is written twice; an equals sign may not be in a label.
    let label = label.replace('\'', "''").replace('=', "_");
    let limit = |limit: Option<f64>| limit.map(number).unwrap_or_default();
    format!(
        "'{label}'={}{};{};{};0",
        number(measure.value),
        measure.unit,
        limit(measure.warn),
        limit(measure.crit)
    )
}

/// At most three digits behind the point, and no zeros at the end.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: Figure = Figure {
        metric: "tidings_check_lag_events",
        help: "Events.",
        unit: "",
    };

    fn limits(warn: f64, crit: f64) -> Limits {
        Limits {
            warn: Some(warn),
            crit: Some(crit),
        }
    }

    #[test]
    fn the_worst_figure_is_the_state_and_the_line_has_its_figures() {
        let report = Report::new(
            "lag",
            "2 groups".to_owned(),
            vec![
                EVENTS.of("mailer", 12.0, limits(10.0, 100.0)),
                EVENTS.of("it's=a|b", 3.5, Limits::default()),
            ],
        );

        assert_eq!(report.state(), State::Warning);
        assert_eq!(
            report.nagios(),
            "TIDINGS LAG WARNING - mailer lag_events 12; 2 groups | 'mailer lag_events'=12;10;100;0 'it''s_a|b lag_events'=3.5;;;0"
        );
        let text = report.prometheus();
        assert!(
            text.contains("tidings_check_state{check=\"lag\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("tidings_check_lag_events{subject=\"mailer\"} 12\n"),
            "{text}"
        );
        assert_eq!(text.matches("# TYPE tidings_check_lag_events").count(), 1);
    }

    #[test]
    fn what_is_at_the_limit_is_well_and_what_is_above_is_not() {
        let limits = limits(10.0, 20.0);

        assert_eq!(limits.state(10.0), State::Ok);
        assert_eq!(limits.state(10.5), State::Warning);
        assert_eq!(limits.state(20.0), State::Warning);
        assert_eq!(limits.state(21.0), State::Critical);
        assert_eq!(Limits::default().state(1e9), State::Ok);
    }

    #[test]
    fn nothing_known_is_a_state_of_its_own() {
        let report = Report::unknown("dlq", "TD0009: no folder".to_owned());

        assert_eq!(report.state() as u8, 3);
        assert_eq!(report.nagios(), "TIDINGS DLQ UNKNOWN - TD0009: no folder");
    }
}
