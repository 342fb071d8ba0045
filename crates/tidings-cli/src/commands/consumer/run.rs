//! `tidings consumer run`: a group whose handler is a command of any language.

use crate::arguments::Global;
use crate::consumer_arguments::ConsumerRun;
use crate::failure::Failure;
use crate::health::{Health, Listening, during};
use crate::interrupt::{Interrupt, interrupted};
use crate::output::{json, object, talk};
use serde::Serialize;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidings::flow::consumer::process::{ExecHandler, PipeHandler, ProcessConfig, ProcessError};
use tidings::flow::consumer::{CircuitState, ConsumerStats, Notice, Observer};
use tidings::flow::metrics::{MetricFamily, MetricKind};
use tidings::handler::DeliveryHandler;
use tidings::sql::{Database, DatabaseOptions, Failures};
use tidings::{ConsumerHandle, Tidings};

/// How long a process may take to end after its input was closed.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What the group did in this run.
#[derive(Debug, Serialize)]
struct Summary {
    consumer: String,
    handled: u64,
    retried: u64,
    put_off: u64,
    dead_lettered: u64,
    circuit_openings: u64,
    parked: u64,
    held_keys: usize,
    emitted: u64,
}

pub(crate) async fn run(global: &Global, arguments: ConsumerRun) -> Result<ExitCode, Failure> {
    let handler = Process::new(&arguments)?;
    let tidings = arguments.place.open().await?;
    let failing = &arguments.failing;
    let mut builder = tidings
        .consumer(arguments.group.to_string())
        .handler(handler.delivery_handler())
        .attempts(failing.attempts)
        .retry_later(failing.later.iter().map(|wait| wait.0))
        .parked_max(failing.parked_max, failing.parked_of_key_max)
        .parallel(arguments.parallel)
        .start_at(arguments.from.0)
        .observer(Arc::new(Teller {
            quiet: global.quiet,
        }));
    if let Some(rate) = failing.rate {
        builder = builder.rate_max(rate);
    }
    if let Some(breaker) = failing.breaker() {
        builder = builder.breaker(breaker);
    }
    if let Some(policy) = failing.on_failure {
        builder = builder.on_failure(policy.into());
    }
    if let Some(version) = &arguments.code_version {
        builder = builder.code_version(version);
    }
    if let Some(url) = &failing.store.url {
        let database = Database::open(url, &DatabaseOptions::default()).await?;
        builder = builder.failures(Failures::open(&database).await?);
    }
    if arguments.until_end {
        builder = builder.until_end();
    }
    if arguments.unordered {
        builder = builder.unordered();
    }
    if arguments.single_instance {
        builder = builder.single_instance();
    }
    let consumer = builder.start().await?;
    let is_draining = Arc::new(AtomicBool::new(false));
    let listening = listen(global, &arguments, &tidings, &consumer, &is_draining).await?;
    let work = async {
        let ended = tokio::select! {
            finished = consumer.finished() => finished.map(|()| None),
            interrupt = interrupted() => Ok(Some(interrupt)),
        };
        is_draining.store(true, Ordering::Relaxed);
        let stopped = tidings.shutdown().await;
        handler.stop().await;
        print(global, &arguments, &consumer.stats())?;
        let interrupt = ended?;
        stopped?;
        Ok::<_, Failure>(interrupt)
    };
    let interrupt = during(listening, work).await?;
    Ok(interrupt.map_or(ExitCode::SUCCESS, |interrupt: Interrupt| {
        ExitCode::from(interrupt.exit_code())
    }))
}

async fn listen(
    global: &Global,
    arguments: &ConsumerRun,
    tidings: &Tidings,
    consumer: &ConsumerHandle,
    is_draining: &Arc<AtomicBool>,
) -> Result<Option<Listening>, Failure> {
    let Some(address) = arguments.listen else {
        return Ok(None);
    };
    let (observed, asked, tidings) = (consumer.clone(), consumer.clone(), tidings.clone());
    let is_draining = Arc::clone(is_draining);
    let health = Health {
        metrics: Box::new(move || {
            let (consumer, tidings) = (observed.clone(), tidings.clone());
            Box::pin(async move {
                let mut families = figures(&consumer).await;
                families.extend(tidings.log_metrics());
                families
            })
        }),
        unready: Box::new(move || {
            let stats = asked.stats();
            match stats.trouble {
                _ if is_draining.load(Ordering::Relaxed) => Some("draining".to_owned()),
                Some(trouble) => Some(format!("paused: {trouble}")),
                None if stats.paused_by.is_some() => {
                    let why = stats.paused_by.unwrap_or_default();
                    Some(format!("paused: {why}"))
                }
                None => match stats.circuit {
                    Some(circuit) => Some(format!("everything fails: {}", circuit.reason)),
                    None => stats.paused.then(|| "paused".to_owned()),
                },
            }
        }),
    };
    let listening = Listening::open(address, health).await?;
    talk(global.quiet, format_args!("metrics {}", listening.url()));
    Ok(Some(listening))
}

/// The figures of the group. Those of the log are left out while it does not answer.
pub(crate) async fn figures(consumer: &ConsumerHandle) -> Vec<MetricFamily> {
    let stats = consumer.stats();
    let group = consumer.group().to_string();
    let labels = [("consumer", group.as_str())];
    let gauge =
        |name, help, number| MetricFamily::new(name, MetricKind::Gauge, help).with(&labels, number);
    let counter = |name, help, number: u64| {
        MetricFamily::new(name, MetricKind::Counter, help).with(&labels, number as f64)
    };
    let mut handled = MetricFamily::new(
        "tidings_events_handled_total",
        MetricKind::Counter,
        "Handlings that ended, by their outcome.",
    );
    let outcomes = [
        ("ok", stats.handled),
        ("retry", stats.retried),
        ("later", stats.put_off),
        ("dead", stats.dead_lettered),
        ("skipped", stats.skipped),
        ("duplicate", stats.deduplicated),
    ];
    for (outcome, number) in outcomes {
        let labels = [("consumer", group.as_str()), ("outcome", outcome)];
        handled = handled.with(&labels, number as f64);
    }
    let is_paused = stats.paused
        || stats.paused_by.is_some()
        || stats.trouble.is_some()
        || stats.circuit.is_some();
    let mut families = vec![
        handled,
        counter(
            "tidings_dead_letters_total",
            "Events that this run gave up.",
            stats.dead_lettered,
        ),
        counter(
            "tidings_inbox_duplicates_total",
            "Events whose effect the inbox knew.",
            stats.deduplicated,
        ),
        gauge(
            "tidings_consumer_paused",
            "1 while the group waits: it was paused, what it needs is in trouble, or its circuit is open.",
            f64::from(u8::from(is_paused)),
        ),
        gauge(
            "tidings_consumer_in_flight_events",
            "Events received and not settled.",
            stats.in_flight as f64,
        ),
    ];
    families.extend(circuit_figures(&group, &stats));
    families.extend(parked_figures(&group, &stats));
    if let Ok(lag) = consumer.lag().await {
        families.push(gauge(
            "tidings_consumer_lag_events",
            "Events of the group's patterns that it has not settled.",
            lag.events as f64,
        ));
        families.push(gauge(
            "tidings_consumer_lag_seconds",
            "How long ago the oldest of them was appended; 0 without any.",
            lag.age.as_secs_f64(),
        ));
    }
    families
}

/// The figures of the circuit breaker.
fn circuit_figures(group: &str, stats: &ConsumerStats) -> [MetricFamily; 3] {
    let now = stats.circuit.as_ref().map(|circuit| circuit.state);
    let mut state = MetricFamily::new(
        "tidings_consumer_circuit_state",
        MetricKind::Gauge,
        "1 for the state that the circuit breaker of the group is in.",
    );
    let states = [
        ("closed", now.is_none()),
        ("open", now == Some(CircuitState::Open)),
        ("half_open", now == Some(CircuitState::HalfOpen)),
    ];
    for (name, is_now) in states {
        let labels = [("consumer", group), ("state", name)];
        state = state.with(&labels, f64::from(u8::from(is_now)));
    }
    let counter = |name, help, number: u64| {
        MetricFamily::new(name, MetricKind::Counter, help)
            .with(&[("consumer", group)], number as f64)
    };
    [
        state,
        counter(
            "tidings_consumer_circuit_openings_total",
            "How often the circuit opened because nearly everything failed.",
            stats.circuit_openings,
        ),
        counter(
            "tidings_consumer_attempts_excused_total",
            "Attempts that failed and do not count, because the circuit was open or opened with them.",
            stats.excused,
        ),
    ]
}

/// The figures of what waits in the store.
fn parked_figures(group: &str, stats: &ConsumerStats) -> [MetricFamily; 4] {
    let gauge = |name, help, number| {
        MetricFamily::new(name, MetricKind::Gauge, help).with(&[("consumer", group)], number)
    };
    [
        gauge(
            "tidings_parked_events",
            "Events that wait in the store: for a later attempt, or behind one.",
            stats.parked as f64,
        ),
        gauge(
            "tidings_parked_keys",
            "Keys with parked events.",
            stats.parked_keys as f64,
        ),
        gauge(
            "tidings_held_keys",
            "Keys that wait for a person's decision about a dead letter.",
            stats.held_keys as f64,
        ),
        gauge(
            "tidings_parked_oldest_age_seconds",
            "How long ago the oldest of the parked events was parked; 0 without any.",
            stats.oldest_parked.unwrap_or_default().as_secs_f64(),
        ),
    ]
}

fn print(global: &Global, arguments: &ConsumerRun, stats: &ConsumerStats) -> Result<(), Failure> {
    let summary = Summary {
        consumer: arguments.group.to_string(),
        handled: stats.handled,
        retried: stats.retried,
        put_off: stats.put_off,
        dead_lettered: stats.dead_lettered,
        circuit_openings: stats.circuit_openings,
        parked: stats.parked,
        held_keys: stats.held_keys,
        emitted: stats.emitted,
    };
    let mut text = format!(
        "{}: {} handled, {} attempts failed, {} dead letters, {} emitted",
        summary.consumer, summary.handled, summary.retried, summary.dead_lettered, summary.emitted
    );
    if summary.put_off > 0 || summary.parked > 0 {
        text += &format!(
            "; {} put off until later, {} events parked, {} keys held",
            summary.put_off, summary.parked, summary.held_keys
        );
    }
    if summary.circuit_openings > 0 {
        text += &format!("; the circuit opened {} times", summary.circuit_openings);
    }
    if global.format().is_table() {
        talk(global.quiet, text);
        return Ok(());
    }
    object(global.format(), &json(&summary), || text)
}

/// The handler's process, one for each event or one for all.
enum Process {
    Exec(Arc<ExecHandler>),
    Pipe(Arc<PipeHandler>),
}

impl Process {
    fn new(arguments: &ConsumerRun) -> Result<Self, Failure> {
        let config = |command: &str| ProcessConfig {
            parallel: arguments.parallel,
            time_limit: arguments.time_limit.0,
            ..ProcessConfig::new(
                command,
                arguments.group.to_string(),
                arguments.types.clone(),
            )
        };
        let refused = |error: ProcessError| Failure::new(error.code(), error.to_string());
        match (&arguments.exec, &arguments.pipe) {
            (Some(command), _) => Ok(Self::Exec(Arc::new(
                ExecHandler::new(config(command)).map_err(refused)?,
            ))),
            (None, Some(command)) => Ok(Self::Pipe(Arc::new(
                PipeHandler::new(config(command)).map_err(refused)?,
            ))),
            (None, None) => Err(Failure::usage("give --exec CMD or --pipe CMD")),
        }
    }

    fn delivery_handler(&self) -> Arc<dyn DeliveryHandler> {
        match self {
            Self::Exec(handler) => handler.clone(),
            Self::Pipe(handler) => handler.clone(),
        }
    }

    async fn stop(&self) {
        if let Self::Pipe(handler) = self {
            handler.stop(STOP_GRACE).await;
        }
    }
}

/// Tells the person what goes wrong; what goes well is only counted.
struct Teller {
    quiet: bool,
}

impl Teller {
    fn tell_circuit(&self, notice: &Notice<'_>) {
        match notice {
            Notice::CircuitOpened {
                reason,
                probe_in: Some(probe_in),
                again,
            } => {
                let what = match again {
                    false => "circuit open  nearly everything fails, no attempt is counted",
                    true => "circuit open  the event that was tried failed",
                };
                talk(
                    self.quiet,
                    format_args!("{what}; one event is tried in {probe_in:.1?}: {reason}"),
                );
            }
            // A group that stops says so itself.
            Notice::CircuitClosed { open_for } => talk(
                self.quiet,
                format_args!("circuit closed  after {open_for:.1?}, going on"),
            ),
            _ => {}
        }
    }

    fn tell_failure(&self, notice: &Notice<'_>) {
        match notice {
            Notice::RetryScheduled {
                envelope,
                attempt,
                reason,
                delay,
                ..
            } => {
                talk(
                    self.quiet,
                    format_args!(
                        "retry  {} attempt {attempt} failed, again in {delay:?}: {reason}",
                        envelope.event_id()
                    ),
                );
            }
            Notice::RetryLater {
                envelope,
                attempt,
                reason,
                delay,
                ..
            } => {
                talk(
                    self.quiet,
                    format_args!(
                        "later  {} attempt {attempt} failed, its key waits, again in {delay:?}: {reason}",
                        envelope.event_id()
                    ),
                );
            }
            Notice::DeadLettered {
                envelope,
                attempts,
                reason,
                holds,
                ..
            } => {
                let held = if *holds { ", its key is held" } else { "" };
                talk(
                    self.quiet,
                    format_args!(
                        "dead letter  {} given up after {attempts} attempts{held}: {reason}",
                        envelope.event_id()
                    ),
                );
            }
            _ => {}
        }
    }
}

impl Observer for Teller {
    fn notice(&self, notice: Notice<'_>) {
        match notice {
            Notice::RetryScheduled { .. }
            | Notice::RetryLater { .. }
            | Notice::DeadLettered { .. } => self.tell_failure(&notice),
            Notice::PassedOver { envelope } => talk(
                self.quiet,
                format_args!("passed over  {} was discarded", envelope.event_id()),
            ),
            Notice::Replaced { envelope, copy } => talk(
                self.quiet,
                format_args!(
                    "replaced  {} by its edited copy {}",
                    envelope.event_id(),
                    copy.event_id()
                ),
            ),
            Notice::StoreFailed { error, delay } => talk(
                self.quiet,
                format_args!("warning: {error}; again in {delay:?}"),
            ),
            Notice::CircuitOpened { .. } | Notice::CircuitClosed { .. } => {
                self.tell_circuit(&notice);
            }
            Notice::Paused { reason } => talk(self.quiet, format_args!("paused  {reason}")),
            Notice::Resumed => talk(self.quiet, "resumed"),
            Notice::Damaged { error } => {
                talk(false, format_args!("warning: {error}; going on behind it"))
            }
            Notice::BrokerFailed { error, delay } => talk(
                self.quiet,
                format_args!("warning: {error}; again in {delay:?}"),
            ),
            Notice::Stopped { reason } => talk(false, format_args!("stopped  {reason}")),
            _ => {}
        }
    }
}
