//! `tidings schedule run`: fires what is due in a database, and carries the outbox of that database to where its events go.

use crate::arguments::Global;
use crate::commands::outbox::source;
use crate::commands::relay::destination::{Open, Target};
use crate::commands::relay::run::tell;
use crate::failure::Failure;
use crate::interrupt::{Interrupt, interrupted};
use crate::output::{json, object, talk};
use crate::schedule_arguments::ScheduleRun;
use serde::Serialize;
use std::process::ExitCode;
use std::sync::Arc;
use tidings::core::codes;
use tidings::flow::outbox::{Relay, RelayOptions};
use tidings::flow::runtime::{SystemChance, SystemClock};
use tidings::flow::schedule::Scheduler;
use tidings::sql::{Outbox, OutboxConfig, OutboxOptions, Schedules, SqlOutbox};

/// What was done in this run.
#[derive(Debug, Serialize)]
struct Summary {
    store: String,
    fired: u64,
    relayed: u64,
    dead: u64,
}

pub(super) async fn run(global: &Global, arguments: ScheduleRun) -> Result<ExitCode, Failure> {
    let target = Target::parse(&arguments.to)?;
    let url = arguments.store.url.as_deref().unwrap_or_default();
    let database = source::database(url, false).await?;
    let schedules = Schedules::open(&database).await?;
    let clock = Arc::new(SystemClock::new());
    let options = OutboxOptions::default();
    let outbox = SqlOutbox::open(database.clone(), options, clock.clone(), &SystemChance).await?;
    let destination = Open::new(&target).await?;
    let quiet = global.quiet;
    let ready = format!("schedule ready  {} -> {}", database.name(), target.name());
    let relay = Relay::new(
        Arc::new(outbox),
        destination.destination(),
        clock.clone(),
        Arc::new(SystemChance),
        RelayOptions {
            label: format!("schedule run, process {}", std::process::id()),
            ..RelayOptions::default()
        },
    );
    let relay = relay
        .observe(move |notice| tell(quiet, &ready, notice))
        .start();
    let config = OutboxConfig {
        wakes: vec![relay.wake()],
        ..OutboxConfig::default()
    };
    let outbox = Outbox::new(config, clock.clone(), Arc::new(SystemChance))?;
    let scheduler = Scheduler::start(Arc::new(schedules.with_outbox(outbox)), clock);
    let ended = tokio::select! {
        broken = relay.finished() => broken.map(|_| None).map_err(Failure::from),
        interrupt = interrupted() => Ok(Some(interrupt)),
        reason = destination.gone() => Err(Failure::new(
            codes::FILE,
            format!(
                "the destination, {}, is gone: {reason}; what has fired stays in the outbox",
                target.name()
            ),
        )),
    };
    scheduler.stop();
    let drained = relay.drain(arguments.drain_timeout.0).await;
    destination.close().await?;
    let interrupt = ended?;
    let metrics = drained?;
    let summary = Summary {
        store: database.name().to_owned(),
        fired: scheduler.stats().fired,
        relayed: metrics.relayed(),
        dead: metrics.dead,
    };
    let text = format!(
        "{}: {} events fired, {} relayed, {} given up",
        summary.store, summary.fired, summary.relayed, summary.dead
    );
    // Standard output holds the events then, and nothing else.
    if global.format().is_table() || target == Target::StandardOutput {
        talk(quiet, text);
    } else {
        object(global.format(), &json(&summary), || text)?;
    }
    Ok(interrupt.map_or(ExitCode::SUCCESS, |interrupt: Interrupt| {
        ExitCode::from(interrupt.exit_code())
    }))
}
