//! What every benchmark shares: interleaved rounds, medians with their spread, the table and the JSON. No figure is measured here.

use serde::Serialize;
use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;
use tidings_core::seam::Clock;
use tidings_flow::runtime::SystemClock;

/// What can go wrong while measuring; it ends the benchmark.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What the benchmark was asked for.
#[derive(Debug, Default)]
pub(crate) struct Request {
    json: bool,
    /// Long figures are shrunk; what comes out is marked and says nothing about speed.
    pub(crate) quick: bool,
    /// Figures by the beginning of their names; none given means all.
    names: Vec<String>,
    /// What a child process of the benchmark is to do.
    pub(crate) child: Option<Vec<String>>,
    /// For how long a snapshot is held where that is measured.
    pub(crate) pinned_secs: Option<u64>,
}

impl Request {
    /// Reads the arguments of the process; what cargo adds of its own is passed over.
    pub(crate) fn read() -> Self {
        let mut request = Self::default();
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "-o" | "--output" => request.json = arguments.next().as_deref() == Some("json"),
                "--quick" => request.quick = true,
                "--pinned-secs" => {
                    request.pinned_secs = arguments.next().and_then(|secs| secs.parse().ok());
                }
                "--child" => request.child = Some(arguments.by_ref().collect()),
                flag if flag.starts_with('-') => {}
                name => request.names.push(name.to_owned()),
            }
        }
        request
    }

    /// Whether a figure was asked for.
    pub(crate) fn wants(&self, figure: &str) -> bool {
        self.names.is_empty()
            || self
                .names
                .iter()
                .any(|name| figure.starts_with(name.as_str()))
    }

    /// Whether a figure was asked for by its name; for those that do not run unasked.
    pub(crate) fn names(&self, figure: &str) -> bool {
        !self.names.is_empty() && self.wants(figure)
    }

    /// The full number, or the one of a quick run.
    pub(crate) fn full_or_quick<N>(&self, full: N, quick: N) -> N {
        if self.quick { quick } else { full }
    }
}

/// A median and what it lies between.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// The median of values, and the lowest and highest of them.
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        Self {
            low: at(0),
            median: at(sorted.len() / 2),
            high: at(sorted.len().saturating_sub(1)),
        }
    }
}

/// Measured side by side, round by round: ours and the bare loop.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) ours: Vec<f64>,
    pub(crate) bare: Vec<f64>,
    /// Seconds of processor time of each round.
    pub(crate) ours_processor: Vec<f64>,
    pub(crate) bare_processor: Vec<f64>,
}

impl Rounds {
    /// Measures both in each round, and in turn which of them comes first, so that neither has the better moments of a busy machine.
    pub(crate) fn measure(
        count: usize,
        mut ours: impl FnMut() -> Outcome<f64>,
        mut bare: impl FnMut() -> Outcome<f64>,
    ) -> Outcome<Self> {
        let mut rounds = Self::default();
        for round in 0..count {
            if round % 2 == 0 {
                take(&mut bare, &mut rounds.bare, &mut rounds.bare_processor)?;
                take(&mut ours, &mut rounds.ours, &mut rounds.ours_processor)?;
            } else {
                take(&mut ours, &mut rounds.ours, &mut rounds.ours_processor)?;
                take(&mut bare, &mut rounds.bare, &mut rounds.bare_processor)?;
            }
        }
        Ok(rounds)
    }

    /// Ours by the bare loop's, each pair from one round.
    fn ratios(&self) -> Vec<f64> {
        let pairs = self.ours.iter().zip(&self.bare);
        pairs.map(|(ours, bare)| ours / bare).collect()
    }
}

/// Measures once, with the processor time that it took.
fn take(
    measure: &mut impl FnMut() -> Outcome<f64>,
    values: &mut Vec<f64>,
    processor: &mut Vec<f64>,
) -> Outcome<()> {
    let before = processor_time()?;
    values.push(measure()?);
    processor.push((processor_time()? - before).as_secs_f64());
    Ok(())
}

/// What a figure should reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// The ratio to the bare loop.
    RatioMin(f64),
    /// The ratio to the bare loop, and the value.
    RatioAndValueMin(f64, f64),
    /// The value.
    ValueMax(f64),
    /// Nothing; it is told for comparison.
    None,
}

/// One figure with everything that belongs to it.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    figure: String,
    value: f64,
    unit: &'static str,
    baseline: Option<f64>,
    ratio: Option<f64>,
    goal: Option<String>,
    met: Option<bool>,
    value_spread: [f64; 2],
    baseline_spread: Option<[f64; 2]>,
    ratio_spread: Option<[f64; 2]>,
    rounds: usize,
    /// Measured with fewer or shorter rounds than the figure needs.
    quick: bool,
}

/// Takes figures as they are measured and prints them.
#[derive(Debug)]
pub(crate) struct Report {
    json: bool,
    quick: bool,
    figures: Vec<Figure>,
}

impl Report {
    pub(crate) fn new(request: &Request) -> Self {
        Self {
            json: request.json,
            quick: request.quick,
            figures: Vec::new(),
        }
    }

    /// A figure that is compared with its bare loop round by round; the ratio is the median of the rounds' ratios.
    pub(crate) fn compared(&mut self, name: &str, unit: &'static str, rounds: &Rounds, goal: Goal) {
        let bare = Spread::of(&rounds.bare);
        let ratio = Spread::of(&rounds.ratios());
        self.add(name, unit, &rounds.ours, Some((bare, ratio)), goal);
    }

    /// A figure that there is nothing to compare with.
    pub(crate) fn alone(&mut self, name: &str, unit: &'static str, values: &[f64]) {
        self.add(name, unit, values, None, Goal::None);
    }

    /// A figure that is compared with nothing but its goal.
    pub(crate) fn valued(&mut self, name: &str, unit: &'static str, values: &[f64], goal: Goal) {
        self.add(name, unit, values, None, goal);
    }

    /// Processor time an event of rounds of so many events, ours and the bare loop's, for comparison.
    pub(crate) fn processor(&mut self, name: &str, events: (usize, usize), rounds: &Rounds) {
        let nanos = |seconds: &Vec<f64>, events: usize| -> Vec<f64> {
            let each = seconds.iter().map(|seconds| seconds * 1e9 / events as f64);
            each.collect()
        };
        let per_event = Rounds {
            ours: nanos(&rounds.ours_processor, events.0),
            bare: nanos(&rounds.bare_processor, events.1),
            ..Rounds::default()
        };
        self.compared(
            &format!("{name}.processor"),
            "ns/event",
            &per_event,
            Goal::None,
        );
    }

    /// A figure that is what is left once the bare loop's was taken off: a ratio of the two says nothing, so that the one shown is of the whole to the bare loop's.
    pub(crate) fn beyond(&mut self, name: &str, unit: &'static str, rounds: &Rounds, goal: Goal) {
        let whole = |(ours, bare): (&f64, &f64)| (ours + bare) / bare;
        let ratios: Vec<f64> = rounds.ours.iter().zip(&rounds.bare).map(whole).collect();
        let against = (Spread::of(&rounds.bare), Spread::of(&ratios));
        self.add(name, unit, &rounds.ours, Some(against), goal);
    }

    fn add(
        &mut self,
        name: &str,
        unit: &'static str,
        values: &[f64],
        against: Option<(Spread, Spread)>,
        goal: Goal,
    ) {
        let value = Spread::of(values);
        let ratio = against.map(|(_, ratio)| ratio.median);
        let reached = |least: f64| ratio.is_some_and(|ratio| ratio >= least);
        let (goal, met) = match goal {
            Goal::RatioMin(least) => (Some(format!("ratio >= {least}")), Some(reached(least))),
            Goal::RatioAndValueMin(least, value_min) => (
                Some(format!("ratio >= {least}, value >= {value_min}")),
                Some(reached(least) && value.median >= value_min),
            ),
            Goal::ValueMax(most) => (Some(format!("<= {most}")), Some(value.median <= most)),
            Goal::None => (None, None),
        };
        let figure = Figure {
            figure: name.to_owned(),
            value: rounded(value.median),
            unit,
            baseline: against.map(|(bare, _)| rounded(bare.median)),
            ratio: ratio.map(rounded),
            goal,
            met,
            value_spread: [rounded(value.low), rounded(value.high)],
            baseline_spread: against.map(|(bare, _)| [rounded(bare.low), rounded(bare.high)]),
            ratio_spread: against.map(|(_, ratio)| [rounded(ratio.low), rounded(ratio.high)]),
            rounds: values.len(),
            quick: self.quick,
        };
        if !self.json {
            if self.figures.is_empty() {
                println!("{}", head(self.quick));
            }
            println!("{}", row(&figure));
        }
        self.figures.push(figure);
    }

    /// Prints what was gathered, where JSON was asked for.
    pub(crate) fn finish(self) -> Outcome<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(&self.figures)?);
        }
        Ok(())
    }
}

fn head(quick: bool) -> String {
    let mut head = String::new();
    if quick {
        head.push_str("a quick run: too short to say anything about speed\n");
    }
    let _written = write!(
        head,
        "{:<36} {:>12} {:<11} {:>23} {:>12} {:>7} {:>15}  {:<34} met",
        "figure", "value", "unit", "lowest to highest", "bare", "ratio", "low to high", "goal"
    );
    head
}

fn row(figure: &Figure) -> String {
    let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), short);
    let pair = |[low, high]: [f64; 2]| format!("{} to {}", short(low), short(high));
    let met = match figure.met {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "-",
    };
    format!(
        "{:<36} {:>12} {:<11} {:>23} {:>12} {:>7} {:>15}  {:<34} {met}",
        figure.figure,
        short(figure.value),
        figure.unit,
        pair(figure.value_spread),
        optional(figure.baseline),
        optional(figure.ratio),
        figure.ratio_spread.map_or_else(|| "-".to_owned(), pair),
        figure.goal.as_deref().unwrap_or("-"),
    )
}

/// Three digits behind the point, or none for what is large.
fn rounded(value: f64) -> f64 {
    if value.abs() >= 1_000.0 {
        value.round()
    } else {
        (value * 1_000.0).round() / 1_000.0
    }
}

fn short(value: f64) -> String {
    if value.abs() >= 1_000.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}

/// How often something happens in a second.
pub(crate) fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// How long something takes.
pub(crate) fn timed<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<(T, Duration)> {
    let clock = SystemClock::new();
    let done = work()?;
    Ok((done, clock.elapsed()))
}

/// Processor time of this process so far, all threads together; unlike the time on the wall it does not depend on what else the machine does.
pub(crate) fn processor_time() -> Outcome<Duration> {
    // The 14th and 15th field, counted behind the program's name, in hundredths of a second.
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// The value of a sample below which so many per cent of it lie.
pub(crate) fn percentile(samples: &mut [f64], percent: usize) -> f64 {
    samples.sort_by(f64::total_cmp);
    let at = (samples.len() * percent / 100).min(samples.len().saturating_sub(1));
    samples.get(at).copied().unwrap_or(f64::NAN)
}

/// Tells on stderr what is under way, so that a long run does not look stuck.
pub(crate) fn progress(what: &str) {
    eprintln!("measuring {what}");
}
