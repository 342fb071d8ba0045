//! `tidings alert run`: watches until it is stopped.

use super::{channels, sight};
use crate::alert_arguments::AlertRun;
use crate::arguments::Global;
use crate::failure::Failure;
use crate::health::{Health, Listening, during};
use crate::interrupt::{Interrupt, interrupted};
use crate::output::{json, object, talk};
use serde::Serialize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tidings::core::store::AlertStore;
use tidings::flow::alert::{AlertOptions, RunningWatch, Watch, WatchNotice, WatchStats};
use tidings::flow::runtime::{SystemChance, SystemClock};
use tidings::limits::PARALLEL_MAX;
use tidings::sql::schema::{Part, migrate};
use tidings::sql::{Alerts, Database};
use tidings::{ConsumerHandle, Location, Tidings};

/// How long messages on their way may take when the watcher is asked to stop.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What the watcher did in this run.
#[derive(Debug, Serialize)]
struct Summary {
    dead_letters: u64,
    firing: usize,
    accepted: u64,
    failed: u64,
    given_up: u64,
    waiting: usize,
}

pub(crate) async fn run(global: &Global, arguments: AlertRun) -> Result<ExitCode, Failure> {
    let channels = channels::open(&arguments.channels, global.quiet)?;
    let tidings = open(&arguments).await?;
    let database = super::store(&arguments.store, &arguments.place.data).await?;
    migrate(&database, &[Part::Alert]).await?;
    let store: Arc<dyn AlertStore> = Arc::new(Alerts::open(&database).await?);
    let eyes = sight::Eyes::open(tidings.clone(), Arc::clone(&store), &database, &arguments);
    let quiet = global.quiet;
    let mut watch = Watch::new(
        store,
        Arc::new(eyes.await?),
        Arc::new(SystemClock::new()),
        Arc::new(SystemChance),
        options(&arguments),
    )
    .observe(move |notice| tell(quiet, notice));
    let names: Vec<String> = channels.iter().map(|one| one.name().to_owned()).collect();
    for channel in channels {
        watch = watch.channel(channel);
    }
    let watch = watch.start().await?;
    let consumer = consumer(&tidings, &watch, &arguments).await?;
    talk(
        quiet,
        format_args!(
            "alerting  {}  to {}",
            arguments.place.location()?,
            if names.is_empty() {
                "nobody".to_owned()
            } else {
                names.join(", ")
            }
        ),
    );
    let listening = listen(&arguments, &watch, &consumer, quiet).await?;
    let work = work(global, &arguments, &tidings, watch, &consumer, &database);
    let interrupt = during(listening, work).await?;
    Ok(interrupt.map_or(ExitCode::SUCCESS, |interrupt: Interrupt| {
        ExitCode::from(interrupt.exit_code())
    }))
}

async fn work(
    global: &Global,
    arguments: &AlertRun,
    tidings: &Tidings,
    watch: RunningWatch,
    consumer: &ConsumerHandle,
    database: &Database,
) -> Result<Option<Interrupt>, Failure> {
    let end = async {
        consumer.finished().await?;
        if !arguments.until_end {
            // Without an end it ends only where something is wrong, which was just told.
            return Ok::<_, Failure>(());
        }
        watch.settled().await;
        Ok(())
    };
    let interrupt = tokio::select! {
        ended = end => {
            ended?;
            None
        }
        interrupt = interrupted() => Some(interrupt),
    };
    // The consumer first: what it has in its hands is counted by the watcher.
    let stopped = tidings.shutdown().await;
    let stats = watch.watch_stats();
    watch.stop(STOP_GRACE).await;
    let stats = stats.borrow().clone();
    database.close().await;
    print(global, &stats)?;
    stopped?;
    Ok(interrupt)
}

/// The broker, or the folder beside its owner: who only tells people must not keep others from owning it. The group needs no store of failures: what cannot be counted now is not settled.
async fn open(arguments: &AlertRun) -> Result<Tidings, Failure> {
    let builder = Tidings::builder().program("tidings alert");
    Ok(match arguments.place.location()? {
        #[cfg(feature = "sqlite")]
        Location::Folder(folder) => builder.open_beside(&folder).await?,
        #[cfg(not(feature = "sqlite"))]
        Location::Folder(folder) => builder.open(&folder).await?,
        Location::Broker(url) => builder.connect(&url).await?,
    })
}

async fn consumer(
    tidings: &Tidings,
    watch: &RunningWatch,
    arguments: &AlertRun,
) -> Result<ConsumerHandle, Failure> {
    let mut builder = tidings
        .consumer(arguments.group.to_string())
        .handler(watch.handler())
        .parallel(PARALLEL_MAX.min(tidings::limits::ALERT_FACTS_PER_STEP_MAX))
        .start_at(arguments.from.0)
        // A fact counts whatever other facts were counted before.
        .unordered()
        .single_instance();
    if arguments.until_end {
        builder = builder.until_end();
    }
    Ok(builder.start().await?)
}

fn options(arguments: &AlertRun) -> AlertOptions {
    AlertOptions {
        window: arguments.window.0,
        stalled_after: arguments.stalled_after.0,
        outbox_age: arguments.outbox_after.0,
        parked_age: arguments.parked_after.0,
        remind_after: arguments.remind_after.0,
        look_every: arguments.every.0,
        ..AlertOptions::new(arguments.group.to_string())
    }
}

async fn listen(
    arguments: &AlertRun,
    watch: &RunningWatch,
    consumer: &ConsumerHandle,
    quiet: bool,
) -> Result<Option<Listening>, Failure> {
    let Some(address) = arguments.listen else {
        return Ok(None);
    };
    let (figures, ready) = (watch.watch_stats(), watch.watch_stats());
    let (observed, asked) = (consumer.clone(), consumer.clone());
    let health = Health {
        metrics: Box::new(move || {
            let (stats, consumer) = (figures.clone(), observed.clone());
            Box::pin(async move {
                let mut families = crate::commands::consumer::run::figures(&consumer).await;
                families.extend(stats.borrow().families());
                families
            })
        }),
        unready: Box::new(move || ready.borrow().trouble.clone().or(asked.stats().trouble)),
    };
    let listening = Listening::open(address, health).await?;
    talk(quiet, format_args!("metrics {}", listening.url()));
    Ok(Some(listening))
}

/// Tells the person what happens beside the alerts themselves, which are a channel's to tell.
fn tell(quiet: bool, notice: &WatchNotice<'_>) {
    match notice {
        WatchNotice::Failed {
            channel,
            reason,
            delay,
        } => talk(
            quiet,
            format_args!(
                "warning: {channel} did not accept an alert: {reason}; again in {delay:?}"
            ),
        ),
        WatchNotice::GivenUp { channel, reason } => talk(
            false,
            format_args!("warning: an alert is given up that {channel} did not accept: {reason}"),
        ),
        WatchNotice::Closed { channel, reason } => talk(
            false,
            format_args!(
                "warning: {channel} gets no alerts any more: {reason}; tidings alert test opens it again once it accepts"
            ),
        ),
        WatchNotice::Unseen { reason } => {
            talk(quiet, format_args!("warning: cannot look at {reason}"));
        }
        WatchNotice::StoreFailed { reason, delay } => talk(
            quiet,
            format_args!(
                "warning: what was concluded cannot be kept: {reason}; again in {delay:?}"
            ),
        ),
        // Counted.
        _ => {}
    }
}

fn print(global: &Global, stats: &WatchStats) -> Result<(), Failure> {
    let sum =
        |of: fn(&tidings::flow::alert::ChannelStats) -> u64| stats.channels.values().map(of).sum();
    let summary = Summary {
        dead_letters: stats.dead_letters,
        firing: stats.firing,
        accepted: sum(|channel| channel.accepted),
        failed: sum(|channel| channel.failed),
        given_up: sum(|channel| channel.given_up),
        waiting: stats.waiting(),
    };
    let text = format!(
        "{} dead letters counted, {} alerts not over, {} messages accepted, {} attempts failed, {} given up, {} wait",
        summary.dead_letters,
        summary.firing,
        summary.accepted,
        summary.failed,
        summary.given_up,
        summary.waiting
    );
    if global.format().is_table() {
        talk(global.quiet, text);
        return Ok(());
    }
    object(global.format(), &json(&summary), || text)
}
